//! Certificates as they are found: what they say, whose key they carry, who signed them.

use std::borrow::Cow;

use aws_lc_rs::signature;
use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::{Any, Tag},
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry as oid,
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Name},
};

use super::{Digest, PkiError, Request, Role, digest, issuer, key, pem};
use crate::plan::model::{KeyAlgorithm, Validity, duration_text};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFacts {
    /// Subject, such as `O=Istio, CN=Root CA`.
    pub subject: String,
    /// organizationName of the subject, the first one.
    pub organization: Option<String>,
    /// commonName of the subject, the first one.
    pub common_name: Option<String>,
    /// localityName of the subject: where a cluster's CA has the cluster's name.
    pub locality: Option<String>,
    /// Issuer, in the same form as the subject.
    pub issuer: String,
    /// Issuer and subject are the same bytes.
    pub self_issued: bool,
    /// Kind of key, where a plan could ask for it.
    pub algorithm: Option<KeyAlgorithm>,
    /// Kind of key in words.
    pub describe_key: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub public_key: Digest,
    /// Begin of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// basicConstraints CA.
    pub is_ca: bool,
    /// basicConstraints pathlen.
    pub pathlen: Option<u32>,
    /// keyUsage, in RFC 5280's words, where the extension is there.
    pub key_usage: Option<Vec<&'static str>>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// subjectKeyIdentifier.
    pub key_id: Option<Vec<u8>>,
    /// Serial number, DER's content octets.
    pub serial: Vec<u8>,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
}

/// What freshness asks of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub public_key: Digest,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

impl Carried {
    pub(super) fn by(cert: &X509Certificate) -> Self {
        Self {
            public_key: digest(cert.public_key().raw),
            not_after: cert.validity().not_after.to_datetime(),
        }
    }
}

/// Reads of the first certificate of a PEM text what freshness asks.
///
/// # Errors
/// As of [`read_cert`].
pub fn read_carried(text: &[u8]) -> Result<Carried, PkiError> {
    let ders = pem::certificates(text)?;
    Ok(Carried::by(&parse(&ders[0])?))
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// Where the text is empty, cut, not PEM, holds a private key, or the block is no certificate.
pub fn read_cert(text: &[u8]) -> Result<CertFacts, PkiError> {
    let ders = pem::certificates(text)?;
    Ok(facts(&parse(&ders[0])?))
}

/// True proof that a certificate carries a private key's public half.
///
/// # Errors
/// `OtherKey`, or that one of them cannot be read.
pub fn carries_key(cert: &[u8], private_key: &[u8]) -> Result<(), PkiError> {
    let cert = read_cert(cert)?;
    if key::read_key(private_key)?.public_key == cert.public_key {
        Ok(())
    } else {
        Err(PkiError::OtherKey(cert.subject))
    }
}

/// Proof that the first certificate of `cert` was signed by the first one of `issuer`: names, key
/// identifiers where both have one (RFC 5280 §4.2.1.1), signature.
///
/// # Errors
/// Which of these does not hold.
pub fn signed_by(cert: &[u8], issuer: &[u8]) -> Result<(), PkiError> {
    let (certs, issuers) = (pem::certificates(cert)?, pem::certificates(issuer)?);
    verify(&parse(&certs[0])?, &parse(&issuers[0])?)
}

/// What of an existing certificate is not as the plan would have it, in the plan's words.
pub fn differences(cert: &CertFacts, wanted: &Request, algorithm: KeyAlgorithm) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, is: String, plan: String| {
        if is != plan {
            found.push(format!("{what} {is} (wanted: {plan})"));
        }
    };
    differ("subject", cert.subject.clone(), wanted.subject_text());
    if cert.algorithm != Some(algorithm) {
        differ(
            "key",
            cert.describe_key.clone(),
            algorithm.name().to_owned(),
        );
    }
    differ("dns", names(&cert.dns), names(&wanted.dns));
    differ("uri", names(&cert.uris), names(&wanted.uris));
    let (is_ca, pathlen) = match wanted.role {
        Role::Ca { pathlen } => (true, pathlen),
        Role::Workload => (false, None),
    };
    if cert.is_ca && !is_ca {
        differ("CA", "TRUE".to_owned(), "FALSE".to_owned());
    }
    differ(
        "pathlen",
        none_or(&text(cert.pathlen)),
        none_or(&text(pathlen)),
    );
    // A minute of backdating, and the seconds between two commands of a script, are no difference.
    let slack = std::time::Duration::from_secs(300);
    let off = |a: OffsetDateTime, b: OffsetDateTime| (a - b).unsigned_abs() > slack;
    match wanted.validity {
        Validity::For(span) => {
            let end = cert
                .not_before
                .checked_add(span.try_into().unwrap_or_default());
            if end.is_some_and(|end| off(end, cert.not_after)) {
                let is = (cert.not_after - cert.not_before).unsigned_abs();
                let days =
                    std::time::Duration::from_secs((is.as_secs() + 43_200) / 86_400 * 86_400);
                differ("validity", duration_text(days), wanted.validity.to_string());
            }
        }
        Validity::Until(end) if off(end, cert.not_after) => {
            differ(
                "validity until",
                cert.not_after.date().to_string(),
                end.date().to_string(),
            );
        }
        Validity::Until(_) => {}
    }
    if let Some(usage) = &cert.key_usage
        && is_ca
        && !usage.contains(&"cRLSign")
    {
        // Without it a CA cannot be used with ca-crl.pem (facts F2.14).
        found.push("keyUsage has no cRLSign".to_owned());
    }
    found
}

/// Names in an order that their own does not matter to.
fn names(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    none_or(&names.join(" "))
}

fn text(number: Option<impl ToString>) -> String {
    number.map(|n| n.to_string()).unwrap_or_default()
}

fn none_or(text: &str) -> String {
    if text.is_empty() {
        "none".to_owned()
    } else {
        text.to_owned()
    }
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(PkiError::BadCert("bytes follow it".to_owned())),
        Err(e) => Err(PkiError::BadCert(e.to_string())),
    }
}

pub(super) fn verify(cert: &X509Certificate, issuer: &X509Certificate) -> Result<(), PkiError> {
    let subject = || name_text(cert.subject());
    if cert.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(PkiError::OtherIssuer {
            subject: subject(),
            issuer: name_text(cert.issuer()),
            found: name_text(issuer.subject()),
        });
    }
    if let (Some(named), Some(has)) = (authority_key_id(cert), subject_key_id(issuer))
        && named != has
    {
        return Err(PkiError::OtherKeyId(subject()));
    }
    if signature_holds(cert, issuer.public_key()) {
        return Ok(());
    }
    // What the library will not check is told for what it is.
    if let Some(kind) = issuer::weak_key(issuer) {
        return Err(PkiError::Algorithm(kind));
    }
    Err(match issuer::weak_signature(cert) {
        Some(algorithm) => PkiError::WeakSignature {
            subject: subject(),
            algorithm,
        },
        None => PkiError::Signature(subject()),
    })
}

fn signature_holds(cert: &X509Certificate, key: &SubjectPublicKeyInfo) -> bool {
    if cert.signature_algorithm.algorithm != oid::OID_SIG_ECDSA_WITH_SHA512 {
        return cert.verify_signature(Some(key)).is_ok();
    }
    // x509-parser does not know it; Go and BoringSSL do.
    let algorithm = match key_kind(key.raw).0 {
        Some(KeyAlgorithm::EcdsaP256) => &signature::ECDSA_P256_SHA512_ASN1,
        Some(KeyAlgorithm::EcdsaP384) => &signature::ECDSA_P384_SHA512_ASN1,
        _ => return false,
    };
    signature::UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(cert.tbs_certificate.as_ref(), &cert.signature_value.data)
        .is_ok()
}

pub(super) fn subject_key_id<'a>(cert: &'a X509Certificate) -> Option<&'a [u8]> {
    cert.iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

fn authority_key_id<'a>(cert: &'a X509Certificate) -> Option<&'a [u8]> {
    cert.iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
            _ => None,
        })
}

pub(super) fn facts(cert: &X509Certificate) -> CertFacts {
    let constraints = cert.basic_constraints().ok().flatten().map(|c| c.value);
    let spki = cert.public_key().raw;
    let (algorithm, describe_key) = key_kind(spki);
    let names = cert.subject_alternative_name().ok().flatten();
    let names = || names.iter().flat_map(|n| &n.value.general_names);
    let attribute = |kind| {
        let mut found = cert.subject().iter_by_oid(kind);
        found.next().map(|a| attribute_text(a.attr_value()))
    };
    CertFacts {
        subject: name_text(cert.subject()),
        organization: attribute(&oid::OID_X509_ORGANIZATION_NAME),
        common_name: attribute(&oid::OID_X509_COMMON_NAME),
        locality: attribute(&oid::OID_X509_LOCALITY_NAME),
        issuer: name_text(cert.issuer()),
        self_issued: cert.subject().as_raw() == cert.issuer().as_raw(),
        algorithm,
        describe_key: describe_key.into_owned(),
        public_key: digest(spki),
        not_before: cert.validity().not_before.to_datetime(),
        not_after: cert.validity().not_after.to_datetime(),
        is_ca: constraints.is_some_and(|c| c.ca),
        pathlen: constraints.and_then(|c| c.path_len_constraint),
        key_usage: key_usage(cert),
        dns: names()
            .filter_map(|n| match n {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
        uris: names()
            .filter_map(|n| match n {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect(),
        key_id: subject_key_id(cert).map(<[u8]>::to_vec),
        serial: cert.raw_serial().to_vec(),
        fingerprint: digest(cert.as_raw()),
    }
}

fn key_usage(cert: &X509Certificate) -> Option<Vec<&'static str>> {
    let usage = cert.key_usage().ok().flatten()?.value;
    let bits = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
    ];
    Some(
        bits.into_iter()
            .filter_map(|(set, name)| set.then_some(name))
            .collect(),
    )
}

/// Kind of a public key (SubjectPublicKeyInfo, DER): the plan's, where it has one, and in words.
pub(super) fn key_kind(spki: &[u8]) -> (Option<KeyAlgorithm>, Cow<'static, str>) {
    let Ok((_, spki)) = SubjectPublicKeyInfo::from_der(spki) else {
        return (None, "unknown".into());
    };
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let algorithm = match rsa.key_size() {
                2048 => Some(KeyAlgorithm::Rsa2048),
                3072 => Some(KeyAlgorithm::Rsa3072),
                4096 => Some(KeyAlgorithm::Rsa4096),
                _ => None,
            };
            (algorithm, format!("RSA {}", rsa.key_size()).into())
        }
        Ok(PublicKey::EC(_)) => {
            let curve = spki
                .algorithm
                .parameters
                .as_ref()
                .and_then(|p| p.as_oid().ok());
            match curve {
                Some(curve) if curve == oid::OID_EC_P256 => {
                    (Some(KeyAlgorithm::EcdsaP256), "ECDSA P-256".into())
                }
                Some(curve) if curve == oid::OID_NIST_EC_P384 => {
                    (Some(KeyAlgorithm::EcdsaP384), "ECDSA P-384".into())
                }
                curve => (
                    None,
                    format!(
                        "EC on curve {}",
                        curve.map(|c| c.to_string()).unwrap_or_default()
                    )
                    .into(),
                ),
            }
        }
        _ => (None, spki.algorithm.algorithm.to_string().into()),
    }
}

/// A name in RFC 4514's attribute words, in the certificate's own order.
pub(super) fn name_text(name: &X509Name) -> String {
    let attributes = name.iter_attributes().map(|a| {
        let short = match a.attr_type() {
            t if *t == oid::OID_X509_COMMON_NAME => "CN".to_owned(),
            t if *t == oid::OID_X509_ORGANIZATION_NAME => "O".to_owned(),
            t if *t == oid::OID_X509_ORGANIZATIONAL_UNIT => "OU".to_owned(),
            t if *t == oid::OID_X509_LOCALITY_NAME => "L".to_owned(),
            t if *t == oid::OID_X509_STATE_OR_PROVINCE_NAME => "ST".to_owned(),
            t if *t == oid::OID_X509_COUNTRY_NAME => "C".to_owned(),
            t if *t == oid::OID_DOMAIN_COMPONENT => "DC".to_owned(),
            t => t.to_string(),
        };
        format!("{short}={}", attribute_text(a.attr_value()))
    });
    attributes.collect::<Vec<_>>().join(", ")
}

/// An attribute's text, in whichever of X.520's string types it was written.
fn attribute_text(value: &Any) -> String {
    let bytes = value.data;
    match value.tag() {
        // Written as Latin-1 by all that ever wrote it (RFC 5280 §4.1.2.4 keeps it for old names).
        Tag::TeletexString => bytes.iter().map(|b| char::from(*b)).collect(),
        Tag::BmpString => {
            let units: Vec<_> = bytes
                .chunks(2)
                .map(|u| u.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
                .collect();
            String::from_utf16_lossy(&units)
        }
        Tag::UniversalString => bytes
            .chunks(4)
            .map(|u| u.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
            .map(|u| char::from_u32(u).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
