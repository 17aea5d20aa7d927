//! Keys and certificates: what keeps a mesh's trust alive is judged by content, and nothing that would
//! replace a key or the root is stale without leave.

use std::fmt;

use camino::Utf8PathBuf;

use super::{Judge, RESIGN, ends, look::Seen, verdict::Judged};
use crate::{
    action::pki,
    build::{
        archive_dir,
        log::{Facts, FileRecord},
        recipe::Recipe,
    },
    graph::{FileId, Owner, Task, TaskId},
    host::Kind,
    plan::model::{CaSpec, Plan, RootCa},
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
            Self::Changed(_) => "Take that change of the plan back, or a".to_owned(),
            Self::Forced => "Leave --force out, or a".to_owned(),
            Self::Follows(_) => "A".to_owned(),
        }
    }
}

/// Copies of the root certificate that the plan has made.
fn root_copies(plan: &Plan) -> impl Iterator<Item = String> {
    plan.clusters.iter().map(|c| plan.files.root_copy(&c.name))
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
            Seen::Broken(why) => self.rekey(id, owner, &Cause::Lost(why)),
            Seen::Odd(text) => Judged::obstacle(text),
            Seen::Sound(record) => self.key_found(id, owner, &record),
        }
    }

    pub(super) fn key_found(&mut self, id: TaskId, owner: Owner, file: &FileRecord) -> Judged {
        let task = self.graph.task(id);
        let recipe = Recipe::of(self.plan, task);
        let known = self.log.task(&task.name);
        let open = file.identity.mode & 0o077 != 0;
        let ours = self.log.unfinished(&task.name)
            || known.is_some_and(|k| k.made && k.output == Some(file.digest));
        if open && !ours {
            let mode = file.identity.mode;
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
                let wanted = self.ca_spec(owner).map(|s| s.key);
                let found = self
                    .eyes
                    .bytes(task.outputs[0])
                    .and_then(|b| pki::read_key(&b).ok());
                if let (Some(wanted), Some(found)) = (wanted, found)
                    && found.algorithm != Some(wanted)
                {
                    self.differs(
                        &task.name,
                        &[format!("key {} (plan: {wanted})", found.describe)],
                        "--allow rekey ",
                    );
                }
                self.taken(task, file.digest, vec![])
            }
        };
        judged.narrow = open;
        judged
    }

    pub(super) fn ca_spec(&self, owner: Owner) -> Option<&CaSpec> {
        match (owner, &self.plan.root) {
            (Owner::Cluster(c), _) => Some(&self.plan.clusters[c].ca),
            (Owner::Root, RootCa::Made(spec)) => Some(spec),
            (Owner::Root, RootCa::Given(_)) => None,
        }
    }

    /// A file that was made with a key and would be worth nothing with another.
    pub(super) fn came_from_key(&mut self, owner: Owner) -> Option<String> {
        let plan = self.plan;
        let names: Vec<String> = match owner {
            Owner::Cluster(c) => {
                let name = &plan.clusters[c].name;
                vec![plan.files.ca_cert(name), plan.files.cert_chain(name)]
            }
            Owner::Root => {
                let certs = plan.clusters.iter().map(|c| plan.files.ca_cert(&c.name));
                std::iter::once(plan.files.root_cert())
                    .chain(root_copies(plan))
                    .chain(certs)
                    .collect()
            }
        };
        let is_file = |name: &String| {
            let stat = self.eyes.disk.stat(&plan.work_dir.join(name));
            stat.is_ok_and(|s| s.is_some_and(|s| s.kind == Kind::File))
        };
        names.into_iter().find(is_file)
    }

    pub(super) fn rekey(&self, id: TaskId, owner: Owner, cause: &Cause) -> Judged {
        if self.ask.allow_rekey {
            let text = format!("{cause}: make a new key, the old one goes to the archive");
            return Judged {
                archive: true,
                ..Judged::stale("rekey", text)
            };
        }
        let instead = cause.instead(&self.graph.task(id).name);
        let text = match owner {
            Owner::Cluster(c) => format!(
                "{cause}. A new key means a new CA certificate for {}, and workload certificates of the old one \
                 live on until they end. {instead}llow it with --allow rekey",
                self.plan.clusters[c].name
            ),
            Owner::Root => format!(
                "{cause}. A new root key means a new root: no cluster that holds the old one trusts what it signs, \
                 until every cluster has it. {instead}llow it with --allow rekey,root-reissue"
            ),
        };
        Judged::refused("rekey", text)
    }

    pub(super) fn root_cert(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let (key, output) = (task.inputs[0], task.outputs[0]);
        if self.rebuilt(key) {
            return match self.eyes.look(output) {
                Seen::Missing if self.came_from_key(Owner::Root).is_none() => {
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
        if let Some((copy, record)) = self.root_copy_that_fits(key) {
            // The same bytes come back, so what hangs on them is judged as if they were there.
            self.eyes.seen.insert(output, Seen::Sound(record));
            let text = format!("{cause}: bring back {copy}, which fits the root key");
            return Judged {
                restore: Some(copy),
                archive: true,
                ..Judged::stale("restore", text)
            };
        }
        // Whatever was here, a copy or a certificate under it says that this root was in use.
        match self.came_from_key(Owner::Root) {
            Some(_) => self.reissue_root(&Cause::Lost(cause)),
            None => Judged::stale("output-missing", "there is none yet: sign"),
        }
    }

    pub(super) fn root_sound(&mut self, id: TaskId, file: &FileRecord) -> Result<(), String> {
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

    pub(super) fn root_found(&mut self, id: TaskId, file: &FileRecord) -> Judged {
        let task = self.graph.task(id);
        let recipe = Recipe::of(self.plan, task);
        match self.log.task(&task.name) {
            Some(known) if known.output == Some(file.digest) => {
                if known.recipe != recipe {
                    let changes = recipe.changes_since(&known.recipe).join(", ");
                    return self.reissue_root(&Cause::Changed(changes));
                }
                Judged::current()
            }
            _ => {
                if let RootCa::Made(spec) = &self.plan.root {
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
                self.taken(task, file.digest, vec![])
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

    /// A root certificate in a cluster's folder or the archive that carries the root key.
    pub(super) fn root_copy_that_fits(&mut self, key: FileId) -> Option<(Utf8PathBuf, FileRecord)> {
        let key = self.eyes.public_of(key)?;
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
                .filter(|c| c.public_key == key && c.is_ca)?;
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
                    return Judged::stale("output-missing", "it is missing: copy");
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

    pub(super) fn ca_cert(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let (key, root) = (task.inputs[0], task.inputs[1]);
        let spec = &self.plan.clusters[cluster].ca;
        // The certificate that signs: the root's own, or the issuing one of a CA brought along.
        let issuer = if self.given_issuer_file(task) {
            task.inputs[2]
        } else {
            root
        };
        if let Seen::Missing = self.eyes.look(task.outputs[0]) {
            return Judged::stale("output-missing", "there is none yet: sign");
        }
        if let Some(judged) = self.rebuilt_input(task, &[key, issuer, root]) {
            return judged;
        }
        let file = match self.eyes.look(task.outputs[0]) {
            Seen::Broken(why) => return Judged::stale("output-broken", format!("{why}: {RESIGN}")),
            Seen::Sound(file) => file,
            Seen::Missing | Seen::Odd(_) => {
                return Judged::stale("output-missing", "there is none yet: sign");
            }
        };
        let (Some(key_now), Some(issuer_now)) =
            (self.eyes.public_of(key), self.eyes.digest_of(issuer))
        else {
            // Only while the key or the issuer waits for a gate.
            return Judged::stale(
                "input-broken",
                format!("its key or issuer is not sound: {RESIGN}"),
            );
        };
        let recipe = Recipe::of(self.plan, task);
        let inputs = vec![key_now, issuer_now];
        let known = self.log.task(&task.name);
        let same = known.is_some_and(|k| k.output == Some(file.digest));
        if !(same && known.is_some_and(|k| k.inputs == inputs)) {
            if let Err(why) = self.ca_cert_sound(task, issuer) {
                return Judged::stale("output-broken", format!("{why}: {RESIGN}"));
            }
            if same {
                return Judged::stale(
                    "issuer-changed",
                    format!("its issuer is not the one that signed it: {RESIGN}"),
                );
            }
        }
        if let Some(known) = known.filter(|k| k.recipe != recipe) {
            let changes = recipe.changes_since(&known.recipe).join(", ");
            return Judged::stale("recipe-changed", format!("{changes}: {RESIGN}"));
        }
        if !same {
            let wanted = pki::Request::cluster(spec, &self.plan.clusters[cluster].name);
            let found = self
                .eyes
                .bytes(task.outputs[0])
                .and_then(|b| pki::read_cert(&b).ok());
            // One issuer, one serial number: Istio's Makefile of 1.6 and before gave its process's number
            // to every certificate of a run (facts B17, C09).
            if let Some(cert) = &found
                && let Some(other) = self.serials.insert(cert.serial.clone(), task.name.clone())
            {
                let text = format!("it has the serial number of {other}: {RESIGN}");
                return Judged::stale("serial-twice", text);
            }
            let differences = found
                .map(|f| pki::differences(&f, &wanted, spec.key))
                .unwrap_or_default();
            // Where the log knows another file, this is an older or a half-noted one: the plan decides.
            if !differences.is_empty() && !self.is_foreign(&task.name) {
                return Judged::stale(
                    "recipe-changed",
                    format!("{}: {RESIGN}", differences.join(", ")),
                );
            }
            self.differs(&task.name, &differences, "");
        }
        let issuer_end = match self.eyes.look(issuer) {
            Seen::Sound(FileRecord {
                facts: Facts::Cert { not_after, .. },
                ..
            }) => Some(not_after),
            _ => None,
        };
        if let Facts::Cert { not_after, .. } = file.facts {
            let left = not_after - self.now.unix_timestamp();
            let cut_short = issuer_end.is_some_and(|end| not_after >= end);
            if left <= spec.renew_before.as_secs() as i64 && !cut_short {
                return Judged::stale("renew", format!("{}: {RESIGN}", ends(left)));
            }
        }
        if same {
            Judged::current()
        } else {
            self.taken(task, file.digest, inputs)
        }
    }

    pub(super) fn given_issuer_file(&self, task: &Task) -> bool {
        matches!(self.plan.root, RootCa::Given(_)) && task.inputs.len() > 2
    }

    pub(super) fn ca_cert_sound(&mut self, task: &Task, issuer: FileId) -> Result<(), String> {
        let read = |file| {
            self.eyes
                .bytes(file)
                .ok_or_else(|| format!("{} cannot be read", self.graph.file_at(file).name))
        };
        let (cert, key, issuer_cert) =
            (read(task.outputs[0])?, read(task.inputs[0])?, read(issuer)?);
        let key_name = &self.graph.file_at(task.inputs[0]).name;
        pki::carries_key(&cert, &key)
            .map_err(|_| format!("it does not carry the key of {key_name}"))?;
        let issuer_name = &self.graph.file_at(issuer).name;
        pki::signed_by(&cert, &issuer_cert)
            .map_err(|e| format!("it was not signed by {issuer_name} ({e})"))
    }
}
