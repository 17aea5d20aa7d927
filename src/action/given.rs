//! A CA brought along, looked at before anything is built: what is wrong with it is a mistake of the
//! plan that names it, told at the place that does.

use std::io;

use camino::Utf8Path;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::pki::{Issuer, PkiError};
use crate::{
    host::{Kind, Look},
    plan::{
        model::{GivenRoot, Plan, RootCa},
        problem::{Problem, Problems, Span},
    },
};

/// Loads the CA that the plan brings along. `None` where it brings none, or where a task of the plan is
/// yet to make one of its files (`is_made`).
///
/// # Errors
/// Problems of its files, at their places in the plan.
pub fn given(
    plan: &Plan,
    disk: &dyn Look,
    now: OffsetDateTime,
    is_made: &dyn Fn(&Utf8Path) -> bool,
) -> Result<Option<Issuer>, Problems> {
    let RootCa::Given(given) = &plan.root else {
        return Ok(None);
    };
    let files = [&given.cert, &given.key].into_iter().chain(&given.chain);
    for path in files {
        if is_made(path) && !disk.stat(path).is_ok_and(|s| s.is_some()) {
            return Ok(None);
        }
    }
    load(given, disk, now).map(Some).map_err(|list| Problems {
        list,
        sources: plan.sources.clone(),
    })
}

fn load(given: &GivenRoot, disk: &dyn Look, now: OffsetDateTime) -> Result<Issuer, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read = |path: &Utf8Path, span: Span, what: &str| match disk.read(path) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(e) => {
            let help = match e.kind() {
                io::ErrorKind::NotFound => "paths start from the plan's folder",
                _ => "make it readable for this user",
            };
            problems.push(
                Problem::error(
                    "root::unreadable",
                    format!("cannot read the {what} {path}: {e}"),
                )
                .label(span, "named here")
                .help(help),
            );
            None
        }
    };
    let cert = read(&given.cert, given.cert_span, "CA certificate");
    let key = read(&given.key, given.key_span, "CA key");
    let span = given.chain_span.unwrap_or(given.cert_span);
    let chain: Vec<_> = given
        .chain
        .iter()
        .map(|path| read(path, span, "chain file"))
        .collect();
    problems.extend(open_to_others(given, disk));
    let (Some(cert), Some(key), true) = (cert, key, problems.is_empty()) else {
        return Err(problems);
    };
    let texts: Vec<&[u8]> = std::iter::once(cert.as_slice())
        .chain(chain.iter().flatten().map(|c| c.as_slice()))
        .collect();
    Issuer::load(&texts, &key, now)
        .map_err(|errors| errors.into_iter().map(|e| problem(given, &e)).collect())
}

/// A key that is not ours to change, and not ours alone to read, is not used (facts B16).
fn open_to_others(given: &GivenRoot, disk: &dyn Look) -> Option<Problem> {
    let stat = disk.stat(&given.key).ok()??;
    let mode = stat.identity.mode;
    (stat.kind == Kind::File && mode & 0o077 != 0).then(|| {
        Problem::error(
            "root::key-open",
            format!("others can read the CA key {} (mode {mode:04o})", given.key),
        )
        .label(given.key_span, "named here")
        .help(format!("if nobody did: chmod 600 {}", given.key))
    })
}

fn problem(given: &GivenRoot, error: &PkiError) -> Problem {
    let (code, place) = match error {
        PkiError::EncryptedKey | PkiError::EcParameters | PkiError::OpenSsh | PkiError::BadKey => {
            ("root::key", "this key")
        }
        PkiError::OtherKey(_) => ("root::other-key", "this certificate"),
        PkiError::Expired { .. } | PkiError::NotYet { .. } => ("root::validity", "this CA"),
        PkiError::NoPath(..) | PkiError::OtherIssuer { .. } | PkiError::Signature(_) => {
            ("root::chain", "this CA")
        }
        _ => ("root::unfit", "this CA"),
    };
    let problem = Problem::error(
        code,
        format!("the CA brought along cannot be used: {error}"),
    );
    match code {
        "root::key" => problem
            .label(given.key_span, place)
            .help("the key must be PKCS#8, PKCS#1 or SEC1 PEM, without a passphrase"),
        "root::other-key" => problem
            .label(given.cert_span, place)
            .label(given.key_span, "and this key")
            .help("name the key that belongs to the certificate"),
        "root::chain" => problem
            .label(given.cert_span, place)
            .help("name every certificate up to the root: `chain \"FILE\" …`"),
        _ => problem
            .label(given.cert_span, place)
            .help("use a CA that may sign other CAs now, with room for one below it"),
    }
}
