//! The mesh's PKI: bytes in, PEM out. It reads no file and no clock, and knows nothing of plans' nodes
//! or of tasks.
//!
//! Keys and signatures are aws-lc's, by way of rcgen, on random bytes of the kernel (getrandom) mixed with the
//! processor's (RDRAND, RNDR): `.cargo/config.toml` leaves out the jitter entropy that aws-lc would gather itself
//! at a process's first random byte, for 42 to 63 ms. Vault, step-ca and OpenSSL draw from the kernel too; it gives
//! no byte before its pool is seeded (from jitter as well, since Linux 5.4), and seeds it anew in a cloned machine
//! (vmgenid, since 5.18). aws-lc itself does so where the system tells it of clones.

mod bundle;
mod climb;
mod error;
mod issuer;
mod key;
mod pem;
mod read;
mod sign;
mod workload;

use aws_lc_rs::digest as aws;

pub use bundle::{Bundle, Finding, Severity, chain, judge, judge_with};
pub use error::PkiError;
pub use issuer::{Issuer, Path};
pub use key::{KeyFacts, NewKey, generate_key, public_key, read_key};
pub use pem::{holds_cert, holds_key};
pub use read::{Carried, CertFacts, carries_key, differences, read_carried, read_cert, signed_by};
pub use sign::{Request, Role, Signed, self_sign};
pub use workload::{judge_chain, workload_chain};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(aws::digest(&aws::SHA256, bytes).as_ref());
    digest
}

/// Key identifier of a public key: SHA-1 of its BIT STRING, RFC 5280 §4.2.1.2 method 1. OpenSSL's `hash`,
/// and so Istio's Makefile, makes the same, so a CA re-issued here keeps the identifier it had there.
fn key_identifier(public_key_bits: &[u8]) -> Vec<u8> {
    aws::digest(&aws::SHA1_FOR_LEGACY_USE_ONLY, public_key_bits)
        .as_ref()
        .to_vec()
}
