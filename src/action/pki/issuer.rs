//! Who signs a cluster's CA or a workload's certificate: a CA with the path up to its root, held to all
//! that rcgen does not check.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyIdMethod, KeyPair};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, oid_registry as oid, signature_algorithm::RsaSsaPssParams,
    x509::X509Name,
};

use super::{
    PkiError,
    climb::{Way, climb, dead_end},
    digest, key, key_identifier, pem, read,
};

/// Certificates from an issuing CA up to its root.
#[derive(Debug, Clone)]
pub struct Path {
    /// DER; the issuing CA first, the root last.
    ders: Vec<Vec<u8>>,
    steady_until: OffsetDateTime,
}

impl Path {
    /// Finds the path of the first certificate among all that the texts hold, in any order, and checks that
    /// every CA of it may stand where it does, with a cluster's CA below the first.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn build(texts: &[&[u8]], now: OffsetDateTime) -> Result<Self, Vec<PkiError>> {
        Self::with_below(texts, 1, now)
    }

    /// As `build`, with `below` CAs under the first certificate.
    fn with_below(
        texts: &[&[u8]],
        below: usize,
        now: OffsetDateTime,
    ) -> Result<Self, Vec<PkiError>> {
        let one = |e| vec![e];
        let mut pool = Vec::new();
        for text in texts {
            pool.extend(pem::certificates(text).map_err(one)?);
        }
        let certs: Vec<_> = pool
            .iter()
            .map(|der| read::parse(der))
            .collect::<Result<_, _>>()
            .map_err(one)?;
        let Some(cert) = certs.first() else {
            return Err(one(PkiError::Empty));
        };
        let (roots, between): (Vec<_>, Vec<_>) = certs
            .iter()
            .partition(|c| c.subject().as_raw() == c.issuer().as_raw());
        let unfit = |path: &Way| -> Vec<_> {
            path.iter()
                .enumerate()
                .flat_map(|(i, cert)| may_stand(cert, i + below, i + 1 == path.len(), now))
                .collect()
        };
        let (path, mut problems) = match climb(cert, &between, &roots, |w| unfit(w).is_empty()) {
            Some(path) => (path, Vec::new()),
            None => {
                let (path, problem) =
                    dead_end(cert, &between.into_iter().chain(roots).collect::<Vec<_>>());
                (path, one(problem))
            }
        };
        problems.extend(unfit(&path));
        if problems.is_empty() {
            let moments = certs.iter().map(read::facts);
            let moments = moments.flat_map(|facts| [facts.not_before, facts.not_after]);
            Ok(Self {
                ders: path.iter().map(|c| c.as_raw().to_vec()).collect(),
                steady_until: moments.filter(|moment| *moment > now).min().unwrap_or(now),
            })
        } else {
            Err(problems)
        }
    }

    /// Until then, the same certificates make the same path: none of them begins or ends before.
    pub fn steady_until(&self) -> OffsetDateTime {
        self.steady_until
    }

    /// The root certificate.
    pub fn root_pem(&self) -> Vec<u8> {
        pem::certificates_pem(self.ders.last().map(Vec::as_slice))
    }

    /// The issuing CA and what stands between it and the root; empty where the root itself signs.
    pub fn intermediates_pem(&self) -> Vec<u8> {
        pem::certificates_pem(self.ders[..self.ders.len() - 1].iter().map(Vec::as_slice))
    }

    /// True where the PEM text holds this very root and nothing else.
    pub fn is_root(&self, text: &[u8]) -> bool {
        pem::certificates(text)
            .is_ok_and(|certs| certs.len() == 1 && Some(&certs[0]) == self.ders.last())
    }
}

/// A name of the kind that meshplan and Istio's Makefile write: UTF-8 strings of well-known attributes.
fn plain_name(subject: &X509Name) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for attribute in subject.iter_attributes() {
        let kind = [
            (oid::OID_X509_ORGANIZATION_NAME, DnType::OrganizationName),
            (oid::OID_X509_COMMON_NAME, DnType::CommonName),
            (oid::OID_X509_LOCALITY_NAME, DnType::LocalityName),
        ];
        let kind = kind.into_iter().find(|(o, _)| o == attribute.attr_type());
        let text = attribute.attr_value().as_utf8string().ok()?;
        name.push(kind?.1, DnValue::Utf8String(text.string()));
    }
    name.iter().next().is_some().then_some(name)
}

/// What forbids a CA its place with `below` CAs under it. A trust anchor's own signature proves nothing,
/// and nobody checks it.
pub(super) fn may_stand(
    cert: &X509Certificate,
    below: usize,
    anchor: bool,
    now: OffsetDateTime,
) -> Vec<PkiError> {
    // Nearly every certificate may stand: what is told of one that may not is made where it is told.
    let subject = || read::name_text(cert.subject());
    let validity = cert.validity();
    let (begin, end) = (
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    );
    let constraints = cert.basic_constraints().ok().flatten().map(|c| c.value);
    let mut problems = Vec::new();
    if end <= now {
        problems.push(PkiError::Expired {
            subject: subject(),
            end: end.date().to_string(),
        });
    }
    if begin > now {
        problems.push(PkiError::NotYet {
            subject: subject(),
            begin: begin.to_string(),
        });
    }
    if !constraints.is_some_and(|c| c.ca) {
        problems.push(PkiError::NotCa(subject()));
    }
    let pathlen = constraints.and_then(|c| c.path_len_constraint);
    if let Some(pathlen) = pathlen.filter(|p| (*p as usize) < below) {
        problems.push(PkiError::PathLength {
            subject: subject(),
            pathlen,
            below,
        });
    }
    let usage = cert.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        problems.push(PkiError::KeyUsage(subject()));
    }
    if let Ok(Some(usage)) = cert.extended_key_usage() {
        let usage = usage.value;
        if !(usage.any || usage.server_auth && usage.client_auth) {
            problems.push(PkiError::ExtendedKeyUsage(subject()));
        }
    }
    problems.extend(weak_key(cert).map(PkiError::Algorithm));
    if !anchor {
        problems.extend(
            weak_signature(cert).map(|algorithm| PkiError::WeakSignature {
                subject: subject(),
                algorithm,
            }),
        );
    }
    problems
}

/// A key that is not for a mesh (facts F2.8, C08): its kind.
pub(super) fn weak_key(cert: &X509Certificate) -> Option<String> {
    let (algorithm, kind) = read::key_kind(cert.public_key().raw);
    let bits = kind.strip_prefix("RSA ").and_then(|b| b.parse().ok());
    let fine = algorithm.is_some() || bits.is_some_and(|b| key::RSA_BITS.contains(&b));
    (!fine).then(|| kind.into_owned())
}

/// A signature that Go refuses, which knows SHA-256, SHA-384 and SHA-512 only: its algorithm.
pub(super) fn weak_signature(cert: &X509Certificate) -> Option<String> {
    let algorithm = &cert.signature_algorithm;
    let oid = &algorithm.algorithm;
    let fine = [
        oid::OID_PKCS1_SHA256WITHRSA,
        oid::OID_PKCS1_SHA384WITHRSA,
        oid::OID_PKCS1_SHA512WITHRSA,
        oid::OID_SIG_ECDSA_WITH_SHA256,
        oid::OID_SIG_ECDSA_WITH_SHA384,
        oid::OID_SIG_ECDSA_WITH_SHA512,
        oid::OID_SIG_ED25519,
    ];
    if fine.contains(oid) {
        return None;
    }
    if *oid == oid::OID_PKCS1_RSASSAPSS {
        let hashes = [
            oid::OID_NIST_HASH_SHA256,
            oid::OID_NIST_HASH_SHA384,
            oid::OID_NIST_HASH_SHA512,
        ];
        let fine = algorithm
            .parameters
            .as_ref()
            .and_then(|p| RsaSsaPssParams::try_from(p).ok())
            .is_some_and(|p| hashes.contains(p.hash_algorithm_oid()));
        return (!fine).then(|| "RSA-PSS without SHA-256 or better".to_owned());
    }
    let weak = [
        ("1.2.840.113549.1.1.5", "SHA-1 with RSA"),
        ("1.2.840.113549.1.1.4", "MD5 with RSA"),
        ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
    ];
    let id = oid.to_id_string();
    let name = weak.iter().find(|(weak, _)| *weak == id);
    Some(name.map_or(id.clone(), |(_, name)| (*name).to_owned()))
}

/// A CA that signs, with its key and its path. Threads share one.
pub struct Issuer {
    path: Path,
    rcgen: rcgen::Issuer<'static, KeyPair>,
    subject: Vec<u8>,
    subject_text: String,
    begin: OffsetDateTime,
    end: OffsetDateTime,
    /// CAs that may stand below it, as far as its path was checked.
    below: usize,
}

/// Shows whom it signs for, never the key.
impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("subject", &self.subject_text)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Loads the CA whose certificate is the first of the texts, with its private key.
    ///
    /// # Errors
    /// Everything that keeps it from signing a cluster's CA.
    pub fn load(
        texts: &[&[u8]],
        private_key: &[u8],
        now: OffsetDateTime,
    ) -> Result<Self, Vec<PkiError>> {
        Self::with_below(texts, private_key, 1, now)
    }

    /// As `load`, for a cluster's CA, which with its pathlen:0 signs workloads and no other CA.
    ///
    /// # Errors
    /// Everything that keeps it from signing a workload's certificate.
    pub fn for_workloads(
        texts: &[&[u8]],
        private_key: &[u8],
        now: OffsetDateTime,
    ) -> Result<Self, Vec<PkiError>> {
        Self::with_below(texts, private_key, 0, now)
    }

    fn with_below(
        texts: &[&[u8]],
        private_key: &[u8],
        below: usize,
        now: OffsetDateTime,
    ) -> Result<Self, Vec<PkiError>> {
        let pair = key::pair(private_key).map_err(|e| vec![e]);
        let (path, pair) = match (Path::with_below(texts, below, now), pair) {
            (Ok(path), Ok(pair)) => (path, pair),
            (path, pair) => {
                return Err([path.err(), pair.err()]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect());
            }
        };
        let der = path.ders[0].clone();
        let cert = read::parse(&der).map_err(|e| vec![e])?;
        let facts = read::facts(&cert);
        use rcgen::PublicKeyData;
        if digest(&pair.subject_public_key_info()) != facts.public_key {
            return Err(vec![PkiError::OtherKey(facts.subject)]);
        }
        // An issuer without an identifier of its own is named by what its key would have (RFC 5280 §4.2.1.1).
        let key_id = facts
            .key_id
            .unwrap_or_else(|| key_identifier(pair.der_bytes()));
        let mut params = CertificateParams::default();
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
        // rcgen's rendering of the name is replaced where it is not these bytes, which costs a second signature
        // (`with_own_name`); so that there is always something to replace, an empty name will not do.
        params.distinguished_name = plain_name(cert.subject()).unwrap_or_else(|| {
            let mut name = DistinguishedName::new();
            name.push(DnType::CommonName, facts.subject.clone());
            name
        });
        Ok(Self {
            rcgen: rcgen::Issuer::new(params, pair),
            subject: cert.subject().as_raw().to_vec(),
            subject_text: facts.subject,
            begin: facts.not_before,
            end: facts.not_after,
            below,
            path,
        })
    }

    /// Certificates from this CA up to its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn rcgen(&self) -> &rcgen::Issuer<'static, KeyPair> {
        &self.rcgen
    }

    pub(super) fn key(&self) -> &KeyPair {
        self.rcgen.key()
    }

    pub(super) fn subject_raw(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn subject_text(&self) -> String {
        self.subject_text.clone()
    }

    pub(super) fn signs_cas(&self) -> bool {
        self.below > 0
    }

    pub(super) fn validity(&self) -> (OffsetDateTime, OffsetDateTime) {
        (self.begin, self.end)
    }
}
