//! Private keys: made, and read in the three forms that istiod takes (facts F2.7). What is read in
//! another form than PKCS#8 is never written again.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData,
    RsaKeySize,
};
use x509_parser::{
    asn1_rs::{Any, FromDer, Oid, Tag},
    oid_registry as oid,
};
use zeroize::Zeroizing;

use super::{Digest, PkiError, digest};
use crate::plan::model::KeyAlgorithm;

/// Sizes of RSA keys that are for a mesh: Go refuses smaller ones (facts C08), aws-lc larger ones.
pub(super) const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What can be told of a private key without showing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its kind, where a plan could ask for it; an RSA key of 8192 bits is sound, and none of those.
    pub algorithm: Option<KeyAlgorithm>,
    /// Its kind in words, such as `RSA 4096`.
    pub describe: String,
    /// SHA-256 of its public half (SubjectPublicKeyInfo, DER).
    pub public_key: Digest,
}

/// A private key as it was made.
pub struct NewKey {
    /// PKCS#8 PEM.
    pub pem: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo (DER), as [`public_key`] would read it from the PEM, for about what it costs to make one.
    pub public_key: Vec<u8>,
}

/// Makes a private key.
///
/// # Errors
/// As of the library, which has none that a caller could cause.
pub fn generate_key(algorithm: KeyAlgorithm) -> Result<NewKey, PkiError> {
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
    let pair = match algorithm {
        KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
        KeyAlgorithm::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
    };
    let pair = pair.map_err(|e| PkiError::Signing(e.to_string()))?;
    let der = Zeroizing::new(pair.serialize_der());
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block = pem::Pem::new("PRIVATE KEY", der.to_vec());
    let text = pem::encode_config(&block, config);
    let mut inner = block.into_contents();
    zeroize::Zeroize::zeroize(&mut inner);
    Ok(NewKey {
        pem: Zeroizing::new(text.into_bytes()),
        public_key: pair.subject_public_key_info(),
    })
}

/// Reads a private key and tells what it is.
///
/// # Errors
/// One per mistake that people make with key files, with its remedy.
pub fn read_key(text: &[u8]) -> Result<KeyFacts, PkiError> {
    Ok(facts(&pair(text)?))
}

/// SubjectPublicKeyInfo (DER) of a private key: all of a subject that its issuer needs.
///
/// # Errors
/// As of [`read_key`].
pub fn public_key(text: &[u8]) -> Result<Vec<u8>, PkiError> {
    Ok(pair(text)?.subject_public_key_info())
}

/// The key pair of a PEM text.
pub(super) fn pair(text: &[u8]) -> Result<KeyPair, PkiError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(PkiError::Empty);
    }
    // Words around the block may be in any encoding.
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(PkiError::NoPem)?;
    let (label, body) = rest.split_once("-----").ok_or(PkiError::NoPem)?;
    match label {
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => return Err(PkiError::EncryptedKey),
        "EC PARAMETERS" => return Err(PkiError::EcParameters),
        "OPENSSH PRIVATE KEY" => return Err(PkiError::OpenSsh),
        other => return Err(PkiError::WrongBlock(other.to_owned())),
    }
    let (body, _) = body
        .split_once(&format!("-----END {label}-----"))
        .ok_or(PkiError::NoPem)?;
    // The header of OpenSSL's older encryption (RFC 1421).
    if body.contains("Proc-Type:") {
        return Err(PkiError::EncryptedKey);
    }
    let block = Zeroizing::new(format!(
        "-----BEGIN {label}-----{body}-----END {label}-----\n"
    ));
    let block = pem::parse(block.as_bytes()).map_err(|_| PkiError::BadKey)?;
    let der = Zeroizing::new(block.into_contents());
    known_kind(&der)
        .and_then(|kind| KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), kind).ok())
        .map_or_else(|| KeyPair::try_from(der.as_slice()), Ok)
        .map_err(|_| refused_kind(&der).map_or(PkiError::BadKey, PkiError::Algorithm))
}

/// The kind that a PKCS#8 key says it is of, where it is a common one: tried first, since the library would try
/// one kind after the other, each with all its checks.
fn known_kind(der: &[u8]) -> Option<&'static rcgen::SignatureAlgorithm> {
    let (_, whole) = Any::from_der(der).ok()?;
    let (rest, _version) = Any::from_der(whole.data).ok()?;
    let (_, algorithm) = Any::from_der(rest).ok()?;
    let (parameters, kind) = Oid::from_der(algorithm.data).ok()?;
    if kind == oid::OID_PKCS1_RSAENCRYPTION {
        return Some(&PKCS_RSA_SHA256);
    }
    let (_, curve) = Oid::from_der(parameters).ok()?;
    let curves = [
        (oid::OID_EC_P256, &PKCS_ECDSA_P256_SHA256),
        (oid::OID_NIST_EC_P384, &PKCS_ECDSA_P384_SHA384),
    ];
    let curve = curves.into_iter().find(|(known, _)| *known == curve)?.1;
    (kind == oid::OID_KEY_TYPE_EC_PUBLIC_KEY).then_some(curve)
}

/// Why the library takes a key for none: its kind, where that is the reason. PKCS#8 begins with a version
/// and an algorithm, PKCS#1 with a version and the modulus, SEC1 with a version, the key and its curve.
fn refused_kind(der: &[u8]) -> Option<String> {
    let (_, whole) = Any::from_der(der).ok()?;
    let (rest, _version) = Any::from_der(whole.data).ok()?;
    let (rest, second) = Any::from_der(rest).ok()?;
    match second.tag() {
        Tag::Integer => rsa_kind(second.data),
        Tag::OctetString => {
            let (_, parameters) = Any::from_der(rest).ok()?;
            curve_kind(Any::from_der(parameters.data).ok()?.1)
        }
        Tag::Sequence => {
            let (parameters, algorithm) = Oid::from_der(second.data).ok()?;
            if algorithm == oid::OID_PKCS1_RSAENCRYPTION {
                refused_kind(Any::from_der(rest).ok()?.1.data)
            } else if algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
                curve_kind(Any::from_der(parameters).ok()?.1)
            } else {
                (algorithm != oid::OID_SIG_ED25519).then(|| algorithm.to_string())
            }
        }
        _ => None,
    }
}

fn rsa_kind(modulus: &[u8]) -> Option<String> {
    let modulus = &modulus[modulus.iter().take_while(|b| **b == 0).count()..];
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    (!RSA_BITS.contains(&bits)).then(|| format!("RSA {bits}"))
}

fn curve_kind(curve: Any) -> Option<String> {
    let curve = curve.oid().ok()?;
    let known = [
        oid::OID_EC_P256,
        oid::OID_NIST_EC_P384,
        oid::OID_NIST_EC_P521,
    ];
    (!known.contains(&curve)).then(|| format!("EC on curve {curve}"))
}

fn facts(pair: &KeyPair) -> KeyFacts {
    let spki = pair.subject_public_key_info();
    let (algorithm, describe) = super::read::key_kind(&spki);
    KeyFacts {
        algorithm,
        describe: describe.into_owned(),
        public_key: digest(&spki),
    }
}
