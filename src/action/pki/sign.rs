//! Certificates as they are made (design §3, facts §1.4): for a root by its own key, for a cluster and a
//! workload by an issuer. Of a subject, only the public key is asked.

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SigningKey, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

use super::{
    PkiError,
    issuer::Issuer,
    key, key_identifier, pem,
    read::{self, Carried},
};
use crate::plan::model::{CaSpec, Mesh, Subject, Validity, Workload};

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Request {
    /// O and CN.
    pub subject: Subject,
    /// L: the name of the cluster or the workload.
    pub locality: Option<String>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// How long it lasts.
    pub validity: Validity,
    /// What may be done with it.
    pub role: Role,
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To sign others.
    Ca {
        /// CAs that may stand below it; `None` sets no limit.
        pathlen: Option<u8>,
    },
    /// To serve and to call as the workload that its names tell.
    Workload,
}

impl Request {
    /// A root as the plan describes it.
    pub fn root(spec: &CaSpec) -> Self {
        Self::ca(spec, None, None)
    }

    /// A cluster's CA as the plan describes it.
    pub fn cluster(spec: &CaSpec, name: &str) -> Self {
        Self::ca(spec, Some(name.to_owned()), Some(0))
    }

    fn ca(spec: &CaSpec, locality: Option<String>, pathlen: Option<u8>) -> Self {
        Self {
            subject: spec.subject.clone(),
            locality,
            dns: spec.dns.clone(),
            uris: spec.uris.clone(),
            validity: spec.validity,
            role: Role::Ca { pathlen },
        }
    }

    /// A workload's certificate as the plan describes it.
    pub fn workload(workload: &Workload, mesh: &Mesh) -> Self {
        Self {
            subject: workload.subject.clone(),
            locality: Some(workload.name.clone()),
            dns: Vec::new(),
            uris: vec![workload.spiffe_id(mesh)],
            validity: workload.validity,
            role: Role::Workload,
        }
    }

    /// The subject in the form of `CertFacts::subject`.
    pub fn subject_text(&self) -> String {
        let attributes = self.attributes();
        attributes
            .iter()
            .map(|(short, _, value)| format!("{short}={value}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn attributes(&self) -> Vec<(&'static str, DnType, &str)> {
        let all = [
            (
                "O",
                DnType::OrganizationName,
                self.subject.organization.as_str(),
            ),
            ("CN", DnType::CommonName, self.subject.common_name.as_str()),
            (
                "L",
                DnType::LocalityName,
                self.locality.as_deref().unwrap_or_default(),
            ),
        ];
        all.into_iter()
            .filter(|(.., value)| !value.is_empty())
            .collect()
    }
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, PEM.
    pub pem: Vec<u8>,
    /// Its issuer ends before the validity asked for, so it ends then too.
    pub cut_short: bool,
    /// As [`super::read_carried`] would read it from the PEM.
    pub carried: Carried,
}

/// Signs a root certificate with its own key. `key_id` is the subject key identifier of a certificate
/// that it follows: another one would make OpenSSL reject all that is signed below.
///
/// # Errors
/// Where the key cannot be read, or the validity asked for is over.
pub fn self_sign(
    private_key: &[u8],
    request: &Request,
    key_id: Option<Vec<u8>>,
    now: OffsetDateTime,
) -> Result<Vec<u8>, PkiError> {
    let pair = key::pair(private_key)?;
    let key_id = key_id.unwrap_or_else(|| key_identifier(pair.der_bytes()));
    let begin = begin(now);
    let end = end(request.validity, begin, now)?;
    let params = params(request, &pair, key_id, (begin, end))?;
    let cert = params.self_signed(&pair).map_err(signing)?;
    Ok(pem::certificate_pem(cert.der()).into_bytes())
}

impl Issuer {
    /// Signs a certificate for a public key (SubjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// Where the public key is of no kind for a mesh, validity or issuer are over, or a CA is asked of an
    /// issuer that was loaded for workloads.
    pub fn sign(
        &self,
        request: &Request,
        public_key: &[u8],
        now: OffsetDateTime,
    ) -> Result<Signed, PkiError> {
        let subject = SubjectPublicKeyInfo::from_der(public_key)
            .map_err(|_| PkiError::Algorithm(read::key_kind(public_key).1.into_owned()))?;
        if request.role != Role::Workload && !self.signs_cas() {
            return Err(PkiError::WorkloadsOnly(self.subject_text()));
        }
        let (issuer_begin, issuer_end) = self.validity();
        if issuer_end <= now {
            let (subject, end) = (self.subject_text(), issuer_end.date().to_string());
            return Err(PkiError::Expired { subject, end });
        }
        let begin = begin(now).max(issuer_begin);
        let wanted = end(request.validity, begin, now)?;
        let end = wanted.min(issuer_end);
        let mut params = params(
            request,
            &subject,
            key_identifier(subject.der_bytes()),
            (begin, end),
        )?;
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&subject, self.rcgen()).map_err(signing)?;
        let cert = read::parse(cert.der())?;
        let renamed = self.with_own_name(&cert)?;
        let der = renamed.as_deref().unwrap_or(cert.as_raw());
        Ok(Signed {
            pem: pem::certificate_pem(der).into_bytes(),
            cut_short: end < wanted,
            carried: Carried::by(&cert),
        })
    }

    /// rcgen drops repeated attributes of an issuer's name (two OU, DC=com,DC=example) and may write its
    /// strings in other types; then no verifier finds the issuer (RFC 5280 §6.1.3 compares the names). Where
    /// its bytes are not the issuer's own, they are put in and signed again.
    fn with_own_name(&self, cert: &X509Certificate) -> Result<Option<Vec<u8>>, PkiError> {
        let (is, wanted) = (cert.issuer().as_raw(), self.subject_raw());
        if is == wanted {
            return Ok(None);
        }
        let whole = cert.tbs_certificate.as_ref();
        let lost = || PkiError::Signing("the issuer's name is not where it belongs".to_owned());
        let content = sequence_content(whole).ok_or_else(lost)?;
        let at = content
            .windows(is.len())
            .position(|w| w == is)
            .ok_or_else(lost)?;
        let tbs = element(
            SEQUENCE,
            &[&content[..at], wanted, &content[at + is.len()..]].concat(),
        );
        let signature = self.key().sign(&tbs).map_err(signing)?;
        let rest = &sequence_content(cert.as_raw()).ok_or_else(lost)?[whole.len()..];
        let algorithm_len = header(rest)
            .map(|(head, length)| head + length)
            .ok_or_else(lost)?;
        // A BIT STRING begins with its count of unused bits.
        let bits = element(BIT_STRING, &[&[0], signature.as_slice()].concat());
        Ok(Some(element(
            SEQUENCE,
            &[&tbs, &rest[..algorithm_len], &bits].concat(),
        )))
    }
}

fn signing(e: rcgen::Error) -> PkiError {
    PkiError::Signing(e.to_string())
}

/// A minute back, for clusters whose clocks are behind.
fn begin(now: OffsetDateTime) -> OffsetDateTime {
    let now = now.to_offset(time::UtcOffset::UTC);
    now.replace_nanosecond(0).unwrap_or(now) - Duration::MINUTE
}

fn end(
    validity: Validity,
    begin: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, PkiError> {
    let end = match validity {
        Validity::For(span) => span
            .try_into()
            .ok()
            .and_then(|span: Duration| begin.checked_add(span)),
        // UTC: rcgen writes an offset's own year at the 2050 edge (RFC 5280 §4.1.2.5).
        Validity::Until(end) => Some(end.to_offset(time::UtcOffset::UTC)),
    };
    let end = end.ok_or_else(|| PkiError::Signing("the validity is too long".to_owned()))?;
    if end <= now {
        Err(PkiError::Over(end.date().to_string()))
    } else {
        Ok(end.replace_nanosecond(0).unwrap_or(end))
    }
}

fn params(
    request: &Request,
    public_key: &impl PublicKeyData,
    key_id: Vec<u8>,
    (begin, end): (OffsetDateTime, OffsetDateTime),
) -> Result<CertificateParams, PkiError> {
    let mut name = DistinguishedName::new();
    for (_, kind, value) in request.attributes() {
        name.push(kind, DnValue::Utf8String(value.to_owned()));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = begin;
    params.not_after = end;
    params.serial_number = Some(serial()?);
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
    match request.role {
        Role::Ca { pathlen } => {
            params.is_ca = IsCa::Ca(pathlen.map_or(
                BasicConstraints::Unconstrained,
                BasicConstraints::Constrained,
            ));
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::ContentCommitment,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
        }
        Role::Workload => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        }
    }
    // An elliptic curve key cannot encipher, and RFC 8813 §3 forbids to say so.
    if read::key_kind(&public_key.subject_public_key_info())
        .1
        .starts_with("RSA")
    {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    for dns in &request.dns {
        let dns = dns.clone().try_into().map_err(signing)?;
        params.subject_alt_names.push(SanType::DnsName(dns));
    }
    for uri in &request.uris {
        let uri = uri.clone().try_into().map_err(signing)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(params)
}

/// 20 octets, positive and without a leading zero (RFC 5280 §4.1.2.2): 158 random bits.
fn serial() -> Result<SerialNumber, PkiError> {
    let mut octets = [0; 20];
    rand::fill(&mut octets)
        .map_err(|_| PkiError::Signing("the system has no random bytes".to_owned()))?;
    octets[0] = octets[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

/// Lengths of a DER header and of its content.
fn header(der: &[u8]) -> Option<(usize, usize)> {
    let first = *der.get(1)?;
    if first < 0x80 {
        return Some((2, first.into()));
    }
    let count = usize::from(first & 0x7f);
    let length = der
        .get(2..2 + count)?
        .iter()
        .try_fold(0usize, |n, b| n.checked_mul(256)?.checked_add((*b).into()))?;
    Some((2 + count, length))
}

fn sequence_content(der: &[u8]) -> Option<&[u8]> {
    let (head, length) = header(der)?;
    der.get(head..head + length)
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// A DER element (X.690 §8.1).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    if content.len() < 0x80 {
        der.push(content.len() as u8);
    } else {
        let length = content.len().to_be_bytes();
        let length = &length[length.iter().take_while(|b| **b == 0).count()..];
        der.push(0x80 | length.len() as u8);
        der.extend_from_slice(length);
    }
    der.extend_from_slice(content);
    der
}
