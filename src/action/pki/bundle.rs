//! The four files of the secret `cacerts`: how the chain is joined, and whether istiod would take them
//! (facts F2.4, rules of §2.9).

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::{
    Digest, PkiError,
    climb::{Way, climb, dead_end},
    digest, issuer, key, pem, read,
};
use crate::plan::model::ChainForm;

/// Files by the names that istiod mounts.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// `ca-cert.pem`
    pub ca_cert: &'a [u8],
    /// `ca-key.pem`
    pub ca_key: &'a [u8],
    /// `cert-chain.pem`
    pub cert_chain: &'a [u8],
    /// `root-cert.pem`
    pub root_cert: &'a [u8],
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// istiod refuses the bundle, or workloads' handshakes fail.
    Error,
    /// It works, and should be looked at.
    Warning,
}

/// Something found in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule, such as `C03`.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is the case, and in which file.
    pub message: String,
}

impl Finding {
    /// True where the bundle must not be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Joins `cert-chain.pem`: the signing certificate, what stands between it and the root, and the root
/// where the plan asks for it (facts F2.10, F2.11).
///
/// # Errors
/// Where one of the texts holds no certificate.
pub fn chain(
    ca_cert: &[u8],
    between: &[u8],
    root: &[u8],
    form: ChainForm,
) -> Result<Vec<u8>, PkiError> {
    let mut ders = pem::certificates(ca_cert)?;
    ders.truncate(1);
    if !between.is_empty() {
        ders.extend(pem::certificates(between)?);
    }
    if form == ChainForm::WithRoot {
        ders.extend(pem::certificates(root)?);
    }
    Ok(pem::certificates_pem(ders.iter().map(Vec::as_slice)))
}

/// Holds a bundle to what istiod checks when it starts, and to what its workloads' handshakes need.
pub fn judge(bundle: &Bundle, now: OffsetDateTime) -> Vec<Finding> {
    let key = key::read_key(bundle.ca_key).map(|key| key.public_key);
    judge_with(bundle, key, now)
}

/// The same, where the bundle's key was read already: with SHA-256 of its public half.
pub fn judge_with(
    bundle: &Bundle,
    key: Result<Digest, PkiError>,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    let files = [
        ("ca-cert.pem", bundle.ca_cert),
        ("ca-key.pem", bundle.ca_key),
        ("cert-chain.pem", bundle.cert_chain),
        ("root-cert.pem", bundle.root_cert),
    ];
    for (name, bytes) in files {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            found.error("C01", format!("{name} is missing or empty"));
        } else if bytes.last() != Some(&b'\n') {
            found.error(
                "C17",
                format!(
                    "{name} does not end with a line break; joined to another file it would be cut"
                ),
            );
        }
    }
    let ders = found.read("ca-cert.pem", bundle.ca_cert);
    let ca = found.parse("ca-cert.pem", &ders);
    // Right below the root a signing certificate is all of its chain.
    let is_all = !ca.is_empty() && bundle.cert_chain == bundle.ca_cert;
    let ders = match is_all {
        true => Vec::new(),
        false => found.read("cert-chain.pem", bundle.cert_chain),
    };
    let more = found.parse("cert-chain.pem", &ders);
    let chain = if is_all { &ca } else { &more };
    let ders = found.read("root-cert.pem", bundle.root_cert);
    let roots = found.parse("root-cert.pem", &ders);
    if let Some(first) = ca.first() {
        found.key(key, first);
        found.path(first, chain, &roots, now);
        found.form(first, chain, &roots);
    }
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, rule: &'static str, message: String) {
        self.0.push(Finding {
            rule,
            severity: Severity::Error,
            message,
        });
    }

    fn warn(&mut self, rule: &'static str, message: String) {
        self.0.push(Finding {
            rule,
            severity: Severity::Warning,
            message,
        });
    }

    fn read(&mut self, name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
        match pem::certificates(bytes) {
            Ok(ders) => ders,
            // That was told.
            Err(PkiError::Empty) => Vec::new(),
            Err(e) => {
                self.error("C03", format!("{name}: {e}"));
                Vec::new()
            }
        }
    }

    fn parse<'a>(&mut self, name: &str, ders: &'a [Vec<u8>]) -> Vec<X509Certificate<'a>> {
        let certs: Result<_, _> = ders.iter().map(|der| read::parse(der)).collect();
        certs.unwrap_or_else(|e| {
            self.error("C03", format!("{name}: {e}"));
            Vec::new()
        })
    }

    fn key(&mut self, key: Result<Digest, PkiError>, ca: &X509Certificate) {
        match key {
            Err(PkiError::Empty) => {}
            Err(e) => self.error("C04", format!("ca-key.pem: {e}")),
            Ok(key) if key != digest(ca.public_key().raw) => {
                self.error(
                    "C04",
                    "ca-cert.pem does not carry the key of ca-key.pem".to_owned(),
                );
            }
            Ok(_) => {}
        }
    }

    fn path<'a>(
        &mut self,
        ca: &'a X509Certificate<'a>,
        chain: &'a [X509Certificate<'a>],
        roots: &'a [X509Certificate<'a>],
        now: OffsetDateTime,
    ) {
        let (between, anchors): (Vec<_>, Vec<_>) = (chain.iter().collect(), roots.iter().collect());
        // Under the signing certificate itself stand workloads only.
        let unfit = |path: &Way| -> Vec<_> {
            path.iter()
                .enumerate()
                .flat_map(|(i, cert)| issuer::may_stand(cert, i, i + 1 == path.len(), now))
                .collect()
        };
        let Some(path) = climb(ca, &between, &anchors, |w| unfit(w).is_empty()) else {
            let all: Vec<_> = between.into_iter().chain(anchors).collect();
            match dead_end(ca, &all).1 {
                weak @ (PkiError::Algorithm(_) | PkiError::WeakSignature { .. }) => {
                    self.error("C08", weak.to_string());
                }
                _ => {
                    let (subject, issuer) =
                        (read::name_text(ca.subject()), read::name_text(ca.issuer()));
                    self.error("C03", format!("`{subject}` of ca-cert.pem does not lead through cert-chain.pem to root-cert.pem (its issuer is `{issuer}`)"));
                }
            }
            return;
        };
        for problem in unfit(&path) {
            let rule = match problem {
                PkiError::NotCa(_) | PkiError::KeyUsage(_) => "C05",
                PkiError::PathLength { .. } => "C06",
                PkiError::ExtendedKeyUsage(_) => "C07",
                PkiError::Algorithm(_) | PkiError::WeakSignature { .. } => "C08",
                _ => "C03",
            };
            self.error(rule, problem.to_string());
        }
        for cert in &path {
            let serial = cert.raw_serial();
            let negative = serial.first().is_some_and(|b| b & 0x80 != 0);
            if negative || serial.len() > 20 || serial.iter().all(|b| *b == 0) {
                let subject = read::name_text(cert.subject());
                self.error("C09", format!("the serial number of `{subject}` is not a positive one of at most 20 octets"));
            }
        }
        let (end, root_end) = (
            ca.validity().not_after,
            path[path.len() - 1].validity().not_after,
        );
        if end > root_end {
            self.warn(
                "C12",
                "ca-cert.pem ends after its root, so it is worth nothing in its last days"
                    .to_owned(),
            );
        }
    }

    fn form(&mut self, ca: &X509Certificate, chain: &[X509Certificate], roots: &[X509Certificate]) {
        let same = |a: &X509Certificate, b: &X509Certificate| a.as_raw() == b.as_raw();
        if chain.iter().any(|c| roots.iter().any(|r| same(c, r))) {
            self.warn(
                "C10",
                "cert-chain.pem holds the root, which istiod then sends twice".to_owned(),
            );
        }
        let in_order = chain
            .windows(2)
            .all(|pair| pair[0].issuer().as_raw() == pair[1].subject().as_raw());
        if !chain.first().is_some_and(|first| same(first, ca)) || !in_order {
            self.warn(
                "C11",
                "cert-chain.pem does not go from the signing certificate upwards".to_owned(),
            );
        }
    }
}
