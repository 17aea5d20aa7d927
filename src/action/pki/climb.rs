//! The way from a certificate up to a root, as Go's `Verify` looks for it: by name, key identifier and
//! signature, over certificates in any order.

use x509_parser::certificate::X509Certificate;

use super::{PkiError, read};

/// From a certificate to one that signed it, and on; the root last.
pub(super) type Way<'a> = Vec<&'a X509Certificate<'a>>;

/// How many signatures are looked at (Go's `maxChainSignatureChecks`): certificates of one name and key
/// make more ways than can be walked.
const CHECKS: usize = 100;

/// The way from `cert` over `between` to one of `roots` that is `sound`, or else the first there is.
/// Beside a root that ended, another of the same name and key may stand.
pub(super) fn climb<'a>(
    cert: &'a X509Certificate<'a>,
    between: &[&'a X509Certificate<'a>],
    roots: &[&'a X509Certificate<'a>],
    sound: impl Fn(&Way<'a>) -> bool,
) -> Option<Way<'a>> {
    let (mut checks, mut first) = (0, None);
    let mut ways = vec![(vec![cert], false)];
    if roots.iter().any(|root| same(root, cert)) {
        ways.push((vec![cert], true));
    }
    while let Some((way, whole)) = ways.pop() {
        if whole {
            if sound(&way) {
                return Some(way);
            }
            first.get_or_insert(way);
            continue;
        }
        // The last one pushed is the first one tried: roots before others, each in its order.
        let steps = between.iter().rev().map(|c| (c, false));
        for (next, whole) in steps.chain(roots.iter().rev().map(|c| (c, true))) {
            if !is_next(&way, next) {
                continue;
            }
            if checks == CHECKS {
                return first;
            }
            checks += 1;
            if read::verify(way[way.len() - 1], next).is_ok() {
                let longer = way.iter().copied().chain([*next]).collect();
                ways.push((longer, whole));
            }
        }
    }
    first
}

/// How far up certificates lead that reach no root, and what is in the way there.
pub(super) fn dead_end<'a>(
    cert: &'a X509Certificate<'a>,
    others: &[&'a X509Certificate<'a>],
) -> (Way<'a>, PkiError) {
    let mut way = vec![cert];
    loop {
        let top = way[way.len() - 1];
        let mut wrong = None;
        let next = others.iter().filter(|c| is_next(&way, c)).find(|c| {
            let refused = read::verify(top, c).err();
            let fits = refused.is_none();
            wrong = wrong.take().or(refused);
            fits
        });
        let Some(next) = next else {
            let (subject, issuer) = (
                read::name_text(top.subject()),
                read::name_text(top.issuer()),
            );
            return (way, wrong.unwrap_or(PkiError::NoPath(subject, issuer)));
        };
        way.push(next);
    }
}

fn is_next(way: &Way, next: &X509Certificate) -> bool {
    way[way.len() - 1].issuer().as_raw() == next.subject().as_raw()
        && !way.iter().any(|c| same(c, next))
}

fn same(a: &X509Certificate, b: &X509Certificate) -> bool {
    a.as_raw() == b.as_raw()
}
