//! Goals as people type them: which target of which Makefile each is, and whose root it signs with. It
//! looks at no file.

use super::generation::Generation;
use crate::plan::suggest;

/// What a goal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The list of targets.
    Help,
    /// Away with the root's files.
    Clean,
    /// Key and certificate of a root made here.
    RootCa,
    /// Key and certificate of a cluster's root.
    FetchRootCa,
    /// The CA files of the cluster of that name.
    Cluster(String),
    /// A workload certificate in the folder of that name, under a CA of its own there.
    Workload {
        /// Its folder.
        name: String,
        /// The cluster's files beside it are wanted too (1.6's `-certs-wl`).
        cluster: bool,
    },
    /// One file of a folder, or of the root.
    File {
        /// Its folder; `None` for the root's.
        folder: Option<String>,
        /// Its path as typed.
        path: String,
    },
}

impl Goal {
    /// The folder that it is about.
    pub fn folder(&self) -> Option<&str> {
        match self {
            Self::Cluster(name) | Self::Workload { name, .. } => Some(name),
            Self::File { folder, .. } => folder.as_deref(),
            _ => None,
        }
    }
}

/// Whose root signs, and what files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// `root-key.pem` here.
    Own,
    /// The same, with 1.7's `selfSigned-` before a folder's files.
    OwnPrefixed,
    /// The root that a cluster has.
    Fetched,
}

/// A goal with what it was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// As typed.
    pub word: String,
    /// What it asks for.
    pub goal: Goal,
    /// Whose root signs.
    pub flow: Flow,
    /// Whose Makefile it is a target of.
    pub generation: Generation,
    /// Which meaning was taken, where the word has another one elsewhere.
    pub note: Option<String>,
}

impl Meant {
    /// Whether it asks for a workload's files in that folder.
    pub fn wants_workload(&self, name: &str) -> bool {
        let wanted = match &self.goal {
            Goal::Workload { .. } => true,
            Goal::File { path, .. } => path.ends_with("/key.pem") || path.contains("workload-"),
            _ => false,
        };
        wanted && self.goal.folder() == Some(name)
    }
}

/// Target patterns: suffix, generation, flow, and how the stem becomes a goal. Longer suffixes first.
type Rule = (&'static str, Generation, Flow, fn(String) -> Goal);

const RULES: &[Rule] = &[
    (
        "-cacerts-selfSigned",
        Generation::Joint,
        Flow::OwnPrefixed,
        Goal::Cluster,
    ),
    (
        "-certs-selfSigned",
        Generation::Joint,
        Flow::OwnPrefixed,
        workload,
    ),
    (
        "-cacerts-k8s",
        Generation::Joint,
        Flow::Fetched,
        Goal::Cluster,
    ),
    ("-certs-k8s", Generation::Joint, Flow::Fetched, workload),
    (
        "-certs-wl",
        Generation::CitadelWorkloads,
        Flow::Own,
        |name| Goal::Workload {
            name,
            cluster: true,
        },
    ),
    ("-cacerts", Generation::SelfSigned, Flow::Own, Goal::Cluster),
    (
        "-cacerts",
        Generation::Kubernetes,
        Flow::Fetched,
        Goal::Cluster,
    ),
    ("-certs", Generation::SelfSigned, Flow::Own, workload),
    ("-certs", Generation::Kubernetes, Flow::Fetched, workload),
    (
        "-certs",
        Generation::CitadelWorkloads,
        Flow::Own,
        Goal::Cluster,
    ),
    ("-certs", Generation::Citadel, Flow::Own, Goal::Cluster),
];

fn workload(name: String) -> Goal {
    Goal::Workload {
        name,
        cluster: false,
    }
}

/// Files of a folder by the names that make knows them by.
const FILES: [&str; 10] = [
    "ca-key.pem",
    "ca-cert.pem",
    "cert-chain.pem",
    "key.pem",
    "workload-cert.pem",
    "workload-cert-chain.pem",
    "selfSigned-ca-key.pem",
    "selfSigned-ca-cert.pem",
    "selfSigned-ca-cert-chain.pem",
    "root-cert.pem",
];

/// What a word asks for. `generation` is the Makefile's, where it is settled.
///
/// # Errors
/// A sentence: no Makefile, or not this one, has such a target, or the name cannot be a folder's.
pub fn meant(word: &str, generation: Option<Generation>) -> Result<Meant, String> {
    let newest = generation.unwrap_or(Generation::SelfSigned);
    let plain = |goal, flow, generation| -> Result<Meant, String> {
        Ok(Meant {
            word: word.to_owned(),
            goal,
            flow,
            generation,
            note: None,
        })
    };
    let flow_of = |g| {
        if g == Generation::Kubernetes {
            Flow::Fetched
        } else {
            Flow::Own
        }
    };
    match word {
        "help" => return plain(Goal::Help, Flow::Own, newest),
        // Up to 1.6 there is none.
        "clean" if newest >= Generation::Joint => return plain(Goal::Clean, Flow::Own, newest),
        "root-ca" if newest != Generation::Kubernetes => {
            return plain(Goal::RootCa, Flow::Own, newest);
        }
        "fetch-root-ca" => match generation {
            None => return plain(Goal::FetchRootCa, Flow::Fetched, Generation::Kubernetes),
            Some(Generation::Joint | Generation::Kubernetes) => {
                return plain(Goal::FetchRootCa, Flow::Fetched, newest);
            }
            Some(_) => return Err(no_rule(word, generation)),
        },
        "root-key.pem" | "root-cert.pem" if newest != Generation::Kubernetes => {
            return plain(
                Goal::File {
                    folder: None,
                    path: word.to_owned(),
                },
                Flow::Own,
                newest,
            );
        }
        _ => {}
    }
    if word.ends_with(".csr") || word.ends_with(".conf") || word.ends_with(".srl") {
        return Err(format!(
            "`{word}` is not made here: nothing but openssl reads it"
        ));
    }
    if let Some((folder, file)) = word
        .rsplit_once('/')
        .filter(|(_, file)| FILES.contains(file))
    {
        name(folder, word)?;
        let flow = match file.starts_with("selfSigned-") {
            true => Flow::OwnPrefixed,
            false => flow_of(newest),
        };
        let folder = Some(folder.to_owned());
        let note = generation.is_none().then(|| {
            "files are made as Makefile.selfsigned.mk of Istio 1.8 and later has them (--istio names another)".to_owned()
        });
        let path = word.to_owned();
        let file = plain(Goal::File { folder, path }, flow, newest);
        return file.map(|meant| Meant { note, ..meant });
    }
    let by_spelling = |rule: &&Rule| word.ends_with(rule.0);
    let fits = |rule: &&Rule| generation.is_none_or(|g| g == rule.1) && by_spelling(rule);
    // The longest suffix decides, as make's shortest stem does.
    let Some((suffix, of, flow, goal)) = RULES.iter().find(fits) else {
        return Err(no_rule(word, generation));
    };
    let stem = &word[..word.len() - suffix.len()];
    name(stem, word)?;
    let goal = goal(stem.to_owned());
    let note = note(suffix, *of, *flow, generation);
    Ok(Meant {
        word: word.to_owned(),
        goal,
        flow: *flow,
        generation: *of,
        note,
    })
}

/// Which meaning a target was taken in that means something else in another Makefile.
fn note(suffix: &str, of: Generation, flow: Flow, settled: Option<Generation>) -> Option<String> {
    let whose = of.releases();
    match (suffix, of) {
        ("-certs", Generation::Citadel | Generation::CitadelWorkloads) => Some(format!(
            "NAME-certs is the CA of cluster NAME, as in {whose}; since 1.8 it is a VM's workload certificate (--istio 1.8)"
        )),
        ("-certs", _) => Some(format!(
            "NAME-certs is a workload certificate for VMs in namespace NAME, as in {whose}; up to 1.6 it was a cluster's CA (--istio 1.6)"
        )),
        ("-cacerts", _) if settled.is_none() && flow == Flow::Own => Some(
            "NAME-cacerts is signed by the root of this folder (Makefile.selfsigned.mk); -f Makefile.k8s.mk takes a cluster's".to_owned(),
        ),
        _ => None,
    }
}

fn name(name: &str, word: &str) -> Result<(), String> {
    folder_name(name).map_err(|why| format!("`{word}`: {why}"))
}

/// A name that make took: any one component of a path.
///
/// # Errors
/// Why it cannot be a folder's here.
pub fn folder_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("there is no name"),
        "." | ".." => Err("the name would lead out of this folder"),
        crate::build::STATE_DIR => Err("meshplan keeps its own state there"),
        _ if name.contains('/') => {
            Err("the name is one folder's, without `/`: go to the folder with -C")
        }
        _ if name.chars().any(char::is_control) => Err("the name has a control character"),
        // ub-locality-name (RFC 5280, appendix A.1); OpenSSL ends with an error there (facts B20).
        _ if name.chars().count() > 128 => {
            Err("the name becomes L= of the subject, which takes 128 characters")
        }
        _ => Ok(()),
    }
}

fn no_rule(word: &str, generation: Option<Generation>) -> String {
    let elsewhere = RULES.iter().find(|r| word.ends_with(r.0));
    match (generation, elsewhere) {
        (Some(this), Some((suffix, of, ..))) => {
            let release = match of {
                Generation::Citadel => "1.5",
                Generation::CitadelWorkloads => "1.6",
                Generation::Joint => "1.7",
                Generation::SelfSigned | Generation::Kubernetes => "1.8",
            };
            format!(
                "no rule to make target `{word}`: the Makefile of {} has no `*{suffix}`; that of {} has (--istio {release})",
                this.releases(),
                of.releases()
            )
        }
        _ => {
            let stem = word.rsplit_once("-c").map_or(word, |(stem, _)| stem);
            let spelled: Vec<_> = RULES.iter().map(|r| format!("{stem}{}", r.0)).collect();
            let fixed = ["help", "clean", "root-ca", "fetch-root-ca"];
            let names = spelled.iter().map(String::as_str).chain(fixed);
            let near =
                suggest(word, names).map_or(String::new(), |n| format!(": did you mean `{n}`?"));
            format!("no rule to make target `{word}`{near}; `meshplan make help` lists the targets")
        }
    }
}

/// Targets of a generation with what each makes, for `help`.
pub fn listed(generation: Generation) -> Vec<(String, &'static str)> {
    let mut lines = vec![("help".to_owned(), "this list")];
    if generation >= Generation::Joint {
        lines.push((
            "clean".to_owned(),
            "remove what openssl left, and a root that signed nothing here",
        ));
    }
    if generation != Generation::Kubernetes {
        lines.push((
            "root-ca".to_owned(),
            "root-key.pem and root-cert.pem in this folder",
        ));
    }
    if matches!(generation, Generation::Joint | Generation::Kubernetes) {
        lines.push((
            "fetch-root-ca".to_owned(),
            "key and certificate of a cluster's root, in a folder of its context",
        ));
    }
    for (suffix, of, flow, goal) in RULES.iter().filter(|r| r.1 == generation) {
        let does = match (goal(String::new()), flow, of) {
            (Goal::Cluster(_), Flow::Fetched, _) => {
                "the CA files of a cluster, signed by the root of a cluster"
            }
            (Goal::Cluster(_), ..) => {
                "the CA files of a cluster, signed by the root of this folder"
            }
            (_, Flow::Fetched, _) => "a VM's workload certificate, under the root of a cluster",
            (_, _, Generation::CitadelWorkloads) => {
                "the CA files of a cluster, and a VM's workload certificate"
            }
            _ => "a VM's workload certificate, under the root of this folder",
        };
        lines.push((format!("NAME{suffix}"), does));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_read_by_its_makefile_or_by_its_spelling() {
        let all = [
            (
                "c1-certs",
                Some(Generation::Citadel),
                Goal::Cluster("c1".into()),
                Flow::Own,
            ),
            ("c1-certs", None, workload("c1".into()), Flow::Own),
            (
                "c1-certs",
                Some(Generation::Kubernetes),
                workload("c1".into()),
                Flow::Fetched,
            ),
            ("c1-cacerts", None, Goal::Cluster("c1".into()), Flow::Own),
            (
                "c1-cacerts",
                Some(Generation::Kubernetes),
                Goal::Cluster("c1".into()),
                Flow::Fetched,
            ),
            (
                "c1-cacerts-k8s",
                None,
                Goal::Cluster("c1".into()),
                Flow::Fetched,
            ),
            (
                "Ä b.c_D-cacerts-selfSigned",
                None,
                Goal::Cluster("Ä b.c_D".into()),
                Flow::OwnPrefixed,
            ),
            ("all-cacerts", None, Goal::Cluster("all".into()), Flow::Own),
            (
                "a-cacerts-cacerts",
                None,
                Goal::Cluster("a-cacerts".into()),
                Flow::Own,
            ),
            (
                "vm-certs-wl",
                None,
                Goal::Workload {
                    name: "vm".into(),
                    cluster: true,
                },
                Flow::Own,
            ),
        ];
        for (word, generation, goal, flow) in all {
            let found = meant(word, generation).map(|m| (m.goal, m.flow));
            assert_eq!(found, Ok((goal, flow)), "{word} {generation:?}");
        }
    }

    #[test]
    fn what_no_makefile_has_is_told_with_what_is_near() {
        for (word, generation, says) in [
            ("c1-cacert", None, "did you mean `c1-cacerts`?"),
            ("build", None, "`meshplan make help` lists"),
            (
                "c1-cacerts-k8s",
                Some(Generation::CitadelWorkloads),
                "that of Istio 1.7 has (--istio 1.7)",
            ),
            ("../x-cacerts", None, "one folder's"),
            ("..-cacerts", None, "lead out"),
            ("-cacerts", None, "no name"),
            ("c1/intermediate.conf", None, "nothing but openssl"),
            ("root-ca", Some(Generation::Kubernetes), "no rule"),
        ] {
            let told = meant(word, generation).err().unwrap_or_default();
            assert!(told.contains(says), "{word}: {told}");
        }
    }
}
