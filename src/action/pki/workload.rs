//! The chain of a workload's certificate: how it is joined, and whether a proxy can serve with it. It knows
//! nothing of who reads it, nor of the key beside it.

use time::OffsetDateTime;

use super::{
    Finding, PkiError, Severity, chain,
    climb::{Way, climb, dead_end},
    issuer, pem, read,
};
use crate::plan::model::ChainForm;

/// Joins `workload-cert-chain.pem`: the workload's certificate, its cluster's CA, what stands between that
/// and the root, and the root (facts §1.3; before Istio 1.11 the Makefile had them the other way round,
/// which no TLS library serves: istio#32140).
///
/// # Errors
/// Where one of the texts holds no certificate.
pub fn workload_chain(
    cert: &[u8],
    ca_cert: &[u8],
    between: &[u8],
    root: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let mut ders = pem::certificates(cert)?;
    ders.truncate(1);
    let above = chain(ca_cert, between, root, ChainForm::WithRoot)?;
    let mut text = pem::certificates_pem(ders.iter().map(Vec::as_slice));
    text.extend(above);
    Ok(text)
}

/// Holds a workload's chain to what a peer's handshake needs: it leads from `cert` over CAs that may stand
/// where they do to one of the roots, now, and holds nothing but certificates.
pub fn judge_chain(cert: &[u8], chain: &[u8], root: &[u8], now: OffsetDateTime) -> Vec<Finding> {
    match look(cert, chain, root, now) {
        Ok(in_order) => (!in_order)
            .then(|| Finding {
                rule: "C11",
                severity: Severity::Warning,
                message: "it does not go from the workload's certificate up to the root".to_owned(),
            })
            .into_iter()
            .collect(),
        Err(errors) => errors
            .iter()
            .map(|e| Finding {
                rule: "C03",
                severity: Severity::Error,
                message: e.to_string(),
            })
            .collect(),
    }
}

/// True where the chain is the way up and nothing else.
fn look(
    cert: &[u8],
    chain: &[u8],
    root: &[u8],
    now: OffsetDateTime,
) -> Result<bool, Vec<PkiError>> {
    let one = |e| vec![e];
    let read = |text| pem::certificates(text).map_err(one);
    let (cert, chain, roots) = (read(cert)?, read(chain)?, read(root)?);
    let parsed: Vec<_> = cert[..1]
        .iter()
        .chain(&chain)
        .chain(&roots)
        .map(|der| read::parse(der))
        .collect::<Result<_, _>>()
        .map_err(one)?;
    let (cert, rest) = parsed.split_at(1);
    let (chain, roots) = rest.split_at(chain.len());
    let cert = &cert[0];
    let between: Vec<_> = chain.iter().collect();
    let roots: Vec<_> = roots.iter().collect();
    // Under the workload's CA, the first above it, stands no other.
    let unfit = |way: &Way| -> Vec<_> {
        let above = way.iter().enumerate().skip(1);
        above
            .flat_map(|(i, ca)| issuer::may_stand(ca, i - 1, i + 1 == way.len(), now))
            .collect()
    };
    let Some(way) = climb(cert, &between, &roots, |w| unfit(w).is_empty()) else {
        let all: Vec<_> = between.into_iter().chain(roots).collect();
        return Err(one(dead_end(cert, &all).1));
    };
    let problems = unfit(&way);
    if !problems.is_empty() {
        return Err(problems);
    }
    // A chain without the workload's own certificate serves nobody.
    if !chain.iter().any(|c| c.as_raw() == cert.as_raw()) {
        return Err(one(PkiError::NotInChain(read::name_text(cert.subject()))));
    }
    let is_way = chain.len() == way.len();
    Ok(is_way
        && chain
            .iter()
            .zip(&way)
            .all(|(c, w)| c.as_raw() == w.as_raw()))
}
