//! Which root signs where a goal takes it from a cluster: the cluster's, one that lies in the folder, or one
//! to be made. It decides on what was found and asks nothing itself (facts B11, B13, F0.2).

use super::folder::{FETCHED, Member, Root};
use crate::action::{cluster::root::Held, pki};

/// What the cluster had to say.
pub enum Answer {
    /// The context that was asked, and the CAs in its secrets, the one that signs first; none before
    /// istiod's first start.
    Holds(String, Vec<Held>),
    /// No context is named, nor is one current: why.
    NoCluster(String),
}

/// Which root it is to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one in the folder whose files begin so.
    Here(String),
    /// The cluster's: the CA at this place of the answer, under this name.
    Fetched(usize, String),
    /// A new one, `root-key.pem`.
    Made,
}

/// The folder of a context, as the Makefiles name it.
pub fn folder_of(context: &str) -> String {
    context.replace('/', "-")
}

/// What a context's root is called in the folder.
pub fn name_of(context: &str) -> String {
    format!("{}/{FETCHED}", folder_of(context))
}

fn short(cert: &pki::CertFacts) -> String {
    let print: String = cert.fingerprint[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("`{}` ({print}…)", cert.subject)
}

/// Whether the folder's own root may sign: not beside clusters that are under a fetched one.
///
/// # Errors
/// What stands in the way, and the ways on.
pub fn own(roots: &[Root], members: &[Member]) -> Result<(), String> {
    let (own, fetched): (Vec<_>, Vec<_>) = roots
        .iter()
        .cloned()
        .partition(|r| !r.name.ends_with(FETCHED));
    match members
        .iter()
        .find(|m| own.is_empty() && m.is_under(&fetched))
    {
        None => Ok(()),
        Some(member) => Err(format!(
            "{} in this folder is under a root that was fetched from a cluster, and a root made here would be another: clusters of one mesh need one root. \
             Sign with that one (-f Makefile.k8s.mk), work in another folder (-C), or allow it with --allow other-root",
            member.name
        )),
    }
}

/// Chooses, with a sentence on why. `other_root` is the user's leave for clusters under several roots.
///
/// # Errors
/// What stands in the way, and the ways on.
pub fn choose(
    answer: &Answer,
    roots: &[Root],
    members: &[Member],
    other_root: bool,
) -> Result<(Choice, String), String> {
    let has_members = |root: &&Root| {
        members
            .iter()
            .any(|m| m.is_under(std::slice::from_ref(*root)))
    };
    let usable = || roots.iter().filter(|r| r.has_key);
    let (context, held) = match answer {
        Answer::Holds(context, held) => (context.as_str(), held.as_slice()),
        Answer::NoCluster(_) => ("", &[][..]),
    };
    // The root is here where a cluster was given its CA from here.
    let signed = |root: &&Root| {
        held.iter().any(|h| {
            h.facts.public_key != root.cert.public_key && pki::signed_by(&h.cert, &root.pem).is_ok()
        })
    };
    if let Some(root) = usable().find(signed) {
        let name = &root.name;
        return Ok((
            Choice::Here(name.clone()),
            format!(
                "context {context}: its cluster signs with a CA below {name}-cert.pem of this folder, which signs here too"
            ),
        ));
    }
    // istio-ca-secret stays behind where a CA was plugged in since, and istiod signs with that (facts §2.2).
    let left_behind = matches!(held, [own, plugged]
        if own.facts.public_key != plugged.facts.public_key
            && pki::signed_by(&plugged.cert, &own.cert).is_err());
    let live = usize::from(left_behind);
    if let Some(at) = (live..held.len()).find(|at| held[*at].is_root()) {
        let Held { facts, secret, .. } = &held[at];
        if let Some(other) = members.iter().find(|m| {
            m.root
                .as_ref()
                .is_some_and(|r| r.public_key != facts.public_key)
        }) && !other_root
        {
            let theirs = other.root.as_ref().map(short).unwrap_or_default();
            return Err(format!(
                "context {context} has the root {} in {secret}, and {} in this folder is under another, {theirs}: clusters of one mesh need one root. \
                 Name the context whose root they are under (--context), work in another folder (-C), or allow it with --allow other-root",
                short(facts),
                other.name
            ));
        }
        if let Some(here) = usable().find(|r| r.cert.public_key == facts.public_key) {
            let name = &here.name;
            return Ok((
                Choice::Here(name.clone()),
                format!("context {context}: the root in {secret} is the one in {name}-cert.pem"),
            ));
        }
        let name = name_of(context);
        return match roots.iter().find(|r| r.name == name) {
            Some(here) if here.cert.public_key != facts.public_key && !other_root => Err(format!(
                "context {context} has the root {} in {secret}, and {name}-cert.pem is another, {}: was the cluster made anew? \
                 The one here goes to the archive with --allow other-root",
                short(facts),
                short(&here.cert)
            )),
            _ => Ok((
                Choice::Fetched(at, name),
                format!(
                    "context {context}: the root is {} of {secret}",
                    short(facts)
                ),
            )),
        };
    }
    if let Some(ca) = held.get(live) {
        let limit = match ca.facts.pathlen {
            Some(0) => {
                " that may sign workloads only (pathlen:0): what a cluster signed below it would be refused by everybody"
            }
            _ => "",
        };
        return Err(format!(
            "context {context} holds no root: {} in {} is a CA below another{limit}. \
             Sign where its root's key is: in the folder that {} came from, or with a root made here (-f Makefile.selfsigned.mk)",
            short(&ca.facts),
            ca.secret,
            ca.secret
        ));
    }
    let nothing = match answer {
        Answer::Holds(context, _) => {
            format!("context {context} has no CA yet (neither istio-ca-secret nor cacerts)")
        }
        Answer::NoCluster(why) => why.clone(),
    };
    let mut here: Vec<_> = usable().filter(has_members).collect();
    if here.is_empty() {
        here = usable().collect();
    }
    match here.as_slice() {
        [] => Ok((
            Choice::Made,
            format!("{nothing}: the root of this folder is made, root-key.pem and root-cert.pem"),
        )),
        [one] => Ok((
            Choice::Here(one.name.clone()),
            format!("{nothing}: {}-cert.pem of this folder signs", one.name),
        )),
        several => {
            let names: Vec<_> = several
                .iter()
                .map(|r| format!("{}-cert.pem", r.name))
                .collect();
            Err(format!(
                "{nothing}, and this folder has several roots: {}. Name the context whose root signs (--context)",
                names.join(", ")
            ))
        }
    }
}
