//! Keys and the root: what keeps a mesh's trust alive is judged by content, and nothing that would replace
//! it is stale without leave. A workload's key needs none: nothing but its own certificate hangs on it.

use std::fmt;

use camino::Utf8PathBuf;

use super::{
    Judge,
    look::{Seen, Sound},
    verdict::Judged,
};
use crate::{
    action::{key_algorithm, pki},
    build::{
        archive_dir,
        log::{Facts, FileRecord, Inputs},
        recipe::Recipe,
    },
    graph::{FileId, Owner, TaskId},
    host::Kind,
    plan::{
        files::FileNames,
        model::{Plan, RootCa, Scope},
    },
    report::event::Verdict,
};

/// Why a key or the root would be replaced.
pub(super) enum Cause {
    /// What is there is no use any more.
    Lost(String),
    /// The plan asks for another one.
    Changed(String),
    /// The command line does.
    Forced,
    /// What it comes from is replaced.
    Follows(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(text) | Self::Changed(text) | Self::Follows(text) => f.write_str(text),
            Self::Forced => f.write_str("asked for by --force"),
        }
    }
}

impl Cause {
    /// The first half of a choice, whose second begins with "(a)llow it".
    fn instead(&self, name: &str) -> String {
        match self {
            Self::Lost(_) => format!("Restore {name} from a backup, or a"),
            Self::Changed(_) => "Take that change back, or a".to_owned(),
            Self::Forced => "Leave --force out, or a".to_owned(),
            Self::Follows(_) => "A".to_owned(),
        }
    }
}

/// How a file of a cluster or a workload is called.
type Named = fn(&FileNames, &str) -> String;

/// Copies of the root certificate that the plan has made.
fn root_copies(plan: &Plan) -> impl Iterator<Item = String> {
    let clusters = plan.clusters.iter().map(|c| &c.name);
    let names = clusters.chain(plan.workloads.iter().map(|w| &w.name));
    names.map(|name| plan.files.root_copy(name))
}

impl Judge<'_> {
    pub(super) fn key(&mut self, id: TaskId, owner: Owner) -> Judged {
        let task = self.graph.task(id);
        let output = task.outputs[0];
        match self.eyes.look(output) {
            Seen::Missing => match self.came_from_key(owner) {
                Some(cert) => self.rekey(
                    id,
                    owner,
                    &Cause::Lost(format!("it is missing, and {cert} was made with it")),
                ),
                None => Judged::stale("output-missing", "there is none yet: make"),
            },
            // What a tool that was cut off leaves is no key that anything hangs on (facts B5, B14).
            Seen::Broken(_) if self.is_empty(output) && self.came_from_key(owner).is_none() => {
                Judged {
                    archive: true,
                    ..Judged::stale("output-missing", "it is empty: make")
                }
            }
            Seen::Broken(why) => self.rekey(id, owner, &Cause::Lost(why)),
            Seen::Odd(text) => Judged::obstacle(text),
            Seen::Sound(file) => self.key_found(id, owner, &file),
        }
    }

    pub(super) fn key_found(&mut self, id: TaskId, owner: Owner, file: &Sound) -> Judged {
        let task = self.graph.task(id);
        let recipe = Recipe::of(self.plan, task);
        let known = self.log.task(&task.name);
        let known = known.as_ref();
        let open = file.mode & 0o077 != 0;
        let ours = self.log.unfinished(&task.name)
            || known.is_some_and(|k| k.made && k.output == Some(file.digest));
        if open && !ours {
            let mode = file.mode;
            return Judged::refused(
                "key-open",
                format!(
                    "it was made elsewhere and others may read it (mode {mode:04o}): if nobody did, `chmod 600` it"
                ),
            );
        }
        let mut judged = match known {
            Some(known) if known.output == Some(file.digest) => {
                if known.recipe != recipe {
                    let changes = recipe.changes_since(&known.recipe).join(", ");
                    return self.rekey(id, owner, &Cause::Changed(changes));
                }
                Judged::current()
            }
            _ => {
                let wanted = key_algorithm(self.plan, owner);
                let found = self
                    .eyes
                    .bytes(task.outputs[0])
                    .and_then(|b| pki::read_key(&b).ok());
                if let (Some(wanted), Some(found)) = (wanted, found)
                    && found.algorithm != Some(wanted)
                {
                    let allow = match owner {
                        Owner::Workload(_) => "",
                        _ => "--allow rekey ",
                    };
                    let difference = format!("key {} (wanted: {wanted})", found.describe);
                    self.differs(&task.name, &[difference], allow);
                }
                self.taken(task, file.digest, Inputs::new())
            }
        };
        judged.narrow = open;
        judged
    }

    fn is_empty(&self, file: FileId) -> bool {
        let stat = self.eyes.disk.stat(&self.graph.file_at(file).path);
        stat.is_ok_and(|s| s.is_some_and(|s| s.identity.size == 0))
    }

    /// A file that was made with a key and would be worth nothing with another.
    pub(super) fn came_from_key(&self, owner: Owner) -> Option<String> {
        let plan = self.plan;
        match owner {
            Owner::Cluster(c) => {
                let name = &plan.clusters[c].name;
                self.holds(name, &[FileNames::ca_cert, FileNames::cert_chain])
            }
            // Its certificate is signed again with a new key, and nothing else asks for the old one.
            Owner::Workload(_) => None,
            Owner::Root => {
                let root = plan.files.root_cert();
                if self.is_there(&root) {
                    return Some(root);
                }
                let copies: [Named; 2] = [FileNames::root_copy, FileNames::ca_cert];
                let mut clusters = plan.clusters.iter().map(|c| &c.name);
                let mut workloads = plan.workloads.iter().map(|w| &w.name);
                clusters
                    .find_map(|name| self.holds(name, &copies))
                    .or_else(|| workloads.find_map(|name| self.holds(name, &copies[..1])))
            }
        }
    }

    /// The first of these files that stands in the folder of a cluster or a workload.
    fn holds(&self, name: &str, files: &[Named]) -> Option<String> {
        if self.eyes.listing.lacks_name(name) {
            return None;
        }
        let mut names = files.iter().map(|file| file(&self.plan.files, name));
        names.find(|file| self.is_there(file))
    }

    /// True where a file of that name has something in it.
    fn is_there(&self, name: &str) -> bool {
        let stat = self.eyes.disk.stat(&self.plan.work_dir.join(name));
        stat.is_ok_and(|s| s.is_some_and(|s| s.kind == Kind::File && s.identity.size > 0))
    }

    /// A key that another one is to take the place of. A workload's needs no leave, also where the plan's
    /// `key` changed: whoever runs with the old key and certificate goes on until that ends, and a change
    /// of the plan that did nothing would be the Makefile's (facts B4).
    pub(super) fn rekey(&self, id: TaskId, owner: Owner, cause: &Cause) -> Judged {
        let risk = match owner {
            Owner::Workload(_) => None,
            Owner::Cluster(c) => Some((
                format!(
                    "A new key means a new CA certificate for {}, and workload certificates of the old one live on \
                     until they end",
                    self.plan.clusters[c].name
                ),
                "rekey",
            )),
            Owner::Root => Some((
                "A new root key means a new root: no cluster that holds the old one trusts what it signs, until \
                 every cluster has it"
                    .to_owned(),
                "rekey,root-reissue",
            )),
        };
        let Some((risk, flags)) = risk.filter(|_| !self.ask.allow_rekey) else {
            let text = format!("{cause}: make a new key, the old one goes to the archive");
            return Judged {
                archive: true,
                ..Judged::stale("rekey", text)
            };
        };
        let instead = cause.instead(&self.graph.task(id).name);
        Judged::refused(
            "rekey",
            format!("{cause}. {risk}. {instead}llow it with --allow {flags}"),
        )
    }

    pub(super) fn root_cert(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let (key, output) = (task.inputs[0], task.outputs[0]);
        // A key that only waits for its mode is the same key afterwards.
        let maker = self.graph.file_at(key).producer;
        let waits = maker
            .and_then(|m| self.found.tasks.get(m))
            .is_some_and(|judged| judged.verdict == Verdict::Refused && judged.code == "key-open");
        if waits {
            let text = format!("needs {}", self.graph.file_at(key).name);
            return Judged::new(Verdict::Blocked, "blocked", text);
        }
        if self.rebuilt(key) {
            return match self.eyes.look(output) {
                Seen::Missing | Seen::Broken(_) if self.came_from_key(Owner::Root).is_none() => {
                    Judged::stale("output-missing", "there is none yet: sign")
                }
                _ => self.reissue_root(&Cause::Follows(format!(
                    "{} is made anew",
                    self.graph.file_at(key).name
                ))),
            };
        }
        let cause = match self.eyes.look(output) {
            Seen::Missing => "it is missing".to_owned(),
            Seen::Broken(why) => why,
            Seen::Odd(text) => return Judged::obstacle(text),
            Seen::Sound(file) => match self.root_sound(id, &file) {
                Ok(()) => return self.root_found(id, &file),
                Err(why) => why,
            },
        };
        let public = self.eyes.public_of(key);
        let fits = |cert: &pki::CertFacts, _: &[u8]| Some(cert.public_key) == public;
        if let Some(copy) = self.root_copy_that_fits(&fits) {
            return self.brought_back(output, copy, &cause);
        }
        // Whatever was here, a copy or a certificate under it says that this root was in use.
        match self.came_from_key(Owner::Root) {
            Some(_) => self.reissue_root(&Cause::Lost(cause)),
            None => Judged::stale("output-missing", "there is none yet: sign"),
        }
    }

    pub(super) fn root_sound(&mut self, id: TaskId, file: &Sound) -> Result<(), String> {
        let task = self.graph.task(id);
        let key = self.eyes.public_of(task.inputs[0]);
        if !matches!(&file.facts, Facts::Cert { public, .. } if Some(*public) == key) {
            let key_name = &self.graph.file_at(task.inputs[0]).name;
            return Err(format!("it does not carry the key of {key_name}"));
        }
        if self
            .log
            .task(&task.name)
            .is_some_and(|k| k.output == Some(file.digest))
        {
            return Ok(());
        }
        let bytes = self.eyes.bytes(task.outputs[0]).unwrap_or_default();
        pki::signed_by(&bytes, &bytes).map_err(|e| format!("it is not signed by its own key ({e})"))
    }

    pub(super) fn root_found(&mut self, id: TaskId, file: &Sound) -> Judged {
        let task = self.graph.task(id);
        match self.log.task(&task.name) {
            Some(known) if known.output == Some(file.digest) => {
                let changes = Recipe::changes(self.plan, task, &known.recipe);
                if !changes.is_empty() {
                    return self.reissue_root(&Cause::Changed(changes.join(", ")));
                }
                Judged::current()
            }
            _ => {
                if let RootCa::Made(spec) = &self.plan.root
                    && !matches!(&self.plan.scope, Scope::Files(spoken) if spoken.root.is_empty())
                {
                    let wanted = pki::Request::root(spec);
                    let found = self
                        .eyes
                        .bytes(task.outputs[0])
                        .and_then(|b| pki::read_cert(&b).ok());
                    let differences = found
                        .map(|f| pki::differences(&f, &wanted, spec.key))
                        .unwrap_or_default();
                    self.differs(&task.name, &differences, "--allow root-reissue ");
                }
                self.taken(task, file.digest, Inputs::new())
            }
        }
    }

    pub(super) fn reissue_root(&self, cause: &Cause) -> Judged {
        if self.ask.allow_root_reissue {
            let text =
                format!("{cause}: sign a new root certificate, the old one goes to the archive");
            return Judged {
                archive: true,
                ..Judged::stale("root-reissue", text)
            };
        }
        let instead = cause.instead(&self.plan.files.root_cert());
        let text = format!(
            "{cause}. Another root certificate must reach every cluster of the mesh, and istiod takes it only after \
             a restart or with multi-root on. {instead}llow it with --allow root-reissue"
        );
        Judged::refused("root-reissue", text)
    }

    /// The same bytes come back, so what hangs on them is judged as if they were there.
    fn brought_back(
        &mut self,
        output: FileId,
        copy: (Utf8PathBuf, FileRecord),
        why: &str,
    ) -> Judged {
        let (path, record) = copy;
        self.eyes.seen.insert(output, Seen::Sound(record.into()));
        self.eyes.back.insert(output, path.clone());
        let text = format!("{why}: bring back {path}, a copy of it");
        Judged {
            restore: Some(path.into_boxed_path()),
            archive: true,
            ..Judged::stale("restore", text)
        }
    }

    /// A root certificate in a cluster's folder or the archive that fits.
    pub(super) fn root_copy_that_fits(
        &self,
        fits: &dyn Fn(&pki::CertFacts, &[u8]) -> bool,
    ) -> Option<(Utf8PathBuf, FileRecord)> {
        let archive = archive_dir(self.plan);
        let mut archived = self.eyes.disk.list(&archive).unwrap_or_default();
        // Names begin with their time: the newest first.
        archived.sort_unstable_by(|a, b| b.cmp(a));
        let archived = archived
            .into_iter()
            .filter(|n| self.plan.files.is_archived_root(n))
            .map(|n| archive.join(n));
        let copies = root_copies(self.plan).map(|name| self.plan.work_dir.join(name));
        copies.chain(archived).find_map(|path| {
            let bytes = self.eyes.disk.read(&path).ok()?;
            let cert = pki::read_cert(&bytes)
                .ok()
                .filter(|c| c.is_ca && fits(c, &bytes))?;
            pki::signed_by(&bytes, &bytes).ok()?;
            let facts = Facts::Cert {
                public: cert.public_key,
                not_after: cert.not_after.unix_timestamp(),
            };
            let identity = self.eyes.disk.stat(&path).ok()??.identity;
            Some((
                path,
                FileRecord {
                    identity,
                    digest: pki::digest(&bytes),
                    facts,
                },
            ))
        })
    }

    pub(super) fn anchor(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let remade = task.inputs.iter().any(|f| self.rebuilt(*f));
        let Some(given) = self.given.filter(|_| !remade) else {
            return match self.came_from_key(Owner::Root) {
                None => Judged::stale(
                    "input-rebuilt",
                    "the CA brought along is yet to be made: copy",
                ),
                Some(_) => self.reissue_root(&Cause::Follows(
                    "the CA brought along is made anew".to_owned(),
                )),
            };
        };
        let output = task.outputs[0];
        let replaced = match self.eyes.look(output) {
            Seen::Missing if self.came_from_key(Owner::Root).is_none() => {
                return Judged::stale("output-missing", "there is none yet: copy");
            }
            Seen::Missing => {
                let other = root_copies(self.plan)
                    .filter_map(|name| self.eyes.disk.read(&self.plan.work_dir.join(name)).ok())
                    .any(|b| !given.path().is_root(&b));
                if !other {
                    let fits = |_: &pki::CertFacts, bytes: &[u8]| given.path().is_root(bytes);
                    return match self.root_copy_that_fits(&fits) {
                        Some(copy) => self.brought_back(output, copy, "it is missing"),
                        None => Judged::stale("output-missing", "it is missing: copy"),
                    };
                }
                "it is missing, and the clusters' is another".to_owned()
            }
            Seen::Broken(why) => why,
            Seen::Odd(text) => return Judged::obstacle(text),
            Seen::Sound(file) => match self.eyes.bytes(output) {
                Some(bytes) if given.path().is_root(&bytes) => {
                    return self.same_bytes_record(task, file.digest);
                }
                _ => "it is not the root of the CA that the plan brings along".to_owned(),
            },
        };
        self.reissue_root(&Cause::Lost(replaced))
    }
}
