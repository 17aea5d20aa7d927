//! Is a task stale, and why: one walk over the wanted tasks that yields verdict and reason together
//! (design §4). It reads files and the log and changes nothing; how anything is made, it does not know.

use std::collections::{HashMap, HashSet};

use camino::Utf8PathBuf;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    log::{Facts, FileRecord, Log, TaskRecord},
    recipe::Recipe,
};
use crate::{
    action::{
        manifest,
        pki::{self, Digest},
    },
    graph::{Action, FileId, Graph, Owner, Task, TaskId},
    host::{Disk, Kind},
    plan::model::{CaSpec, Plan, RootCa},
    report::event::{Verdict, Why},
};

/// What the user asked for beyond the plan.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// `-B`: everything but keys and the root.
    pub always: bool,
    /// `--force`: these, whatever they are.
    pub force: HashSet<TaskId>,
    /// `--allow rekey`: a private key may be replaced.
    pub allow_rekey: bool,
    /// `--allow root-reissue`: the root certificate may be replaced.
    pub allow_root_reissue: bool,
}

/// A task's verdict with all that carrying it out needs.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it is in.
    pub verdict: Verdict,
    /// Why; the first reason is the decisive one.
    pub why: Vec<Why>,
    /// Why it cannot be carried out, such as a folder in its output's place.
    pub obstacle: Option<String>,
    /// Move what has the output's name to the archive first.
    pub archive: bool,
    /// Bring back these bytes instead of making new ones.
    pub restore: Option<Utf8PathBuf>,
    /// A key that others may read, to be narrowed to its owner.
    pub narrow: bool,
    /// What to note in the log of a task that does not run.
    pub record: Option<TaskRecord>,
}

impl Judged {
    fn new(verdict: Verdict, code: &'static str, text: impl Into<String>) -> Self {
        let why = vec![Why { code, text: text.into() }];
        Self { verdict, why, obstacle: None, archive: false, restore: None, narrow: false, record: None }
    }

    fn current() -> Self {
        Self::new(Verdict::Current, "current", "nothing it depends on has changed")
    }

    fn stale(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Stale, code, text)
    }

    fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Refused, code, text)
    }

    fn obstacle(text: String) -> Self {
        Self { obstacle: Some(text.clone()), ..Self::stale("obstacle", text) }
    }
}

/// Something to tell that decides nothing.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Stable word.
    pub code: &'static str,
    /// What is the case.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// What one walk found.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Verdicts of the wanted tasks.
    pub tasks: HashMap<TaskId, Judged>,
    /// Things to tell.
    pub notices: Vec<Notice>,
    /// Files whose identity or content the log does not know as they are now.
    pub seen: Vec<(String, FileRecord)>,
}

/// A look at one file.
#[derive(Debug, Clone)]
enum Seen {
    Missing,
    /// Not a regular file, or not readable: what to say of it.
    Odd(String),
    /// A file that does not hold what its name promises: why.
    Broken(String),
    Sound(FileRecord),
}

/// The walk.
pub struct Judge<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    log: &'a Log,
    disk: &'a dyn Disk,
    ask: &'a Ask,
    now: OffsetDateTime,
    /// The CA brought along, loaded; `None` for a root made here, or one that a task is yet to bring.
    given: Option<&'a pki::Issuer>,
    seen: HashMap<FileId, Seen>,
    found: Judgement,
}

/// Judges the tasks of `order` (each after all it needs).
pub fn judge<'a>(
    plan: &'a Plan,
    graph: &'a Graph,
    log: &'a Log,
    disk: &'a dyn Disk,
    ask: &'a Ask,
    now: OffsetDateTime,
    given: Option<&'a pki::Issuer>,
    order: &[TaskId],
) -> Judgement {
    let found = Judgement::default();
    let mut walk = Judge { plan, graph, log, disk, ask, now, given, seen: HashMap::new(), found };
    for &id in order {
        let judged = walk.task(id);
        walk.found.tasks.insert(id, judged);
    }
    walk.root_end();
    walk.found
}

impl Judge<'_> {
    fn task(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        if let Some(undone) = &task.undone {
            return Judged::new(Verdict::Undone, "undone", undone.why.clone());
        }
        if let Some(odd) = self.odd_output(task) {
            return Judged::obstacle(odd);
        }
        let judged = match task.action {
            Action::Key(owner) => self.key(id, owner),
            Action::RootCert => self.root_cert(id),
            Action::Anchor => self.anchor(id),
            Action::CaCert(c) => self.ca_cert(id, c),
            Action::Chain(c) => self.chain(id, c),
            Action::RootCopy(_) => self.root_copy(id),
            Action::Install(c) => self.install(id, c),
            Action::Step(..) => Judged::stale("looks-first", "looks at the cluster, changes what differs"),
            Action::Command(_) => self.command(id),
        };
        let judged = self.forced(id, judged);
        self.blocked(id, judged)
    }

    /// A file that is current stays so whatever happens upstream; one that must be made waits for it.
    fn blocked(&self, id: TaskId, judged: Judged) -> Judged {
        if judged.verdict != Verdict::Stale {
            return judged;
        }
        let stopped = self.graph.before(id).find(|b| {
            let upstream = self.found.tasks.get(b).map(|j| j.verdict);
            matches!(upstream, Some(Verdict::Refused | Verdict::Blocked))
        });
        match stopped {
            Some(other) => Judged::new(Verdict::Blocked, "blocked", format!("needs {}", self.graph.task(other).name)),
            None => judged,
        }
    }

    fn forced(&self, id: TaskId, judged: Judged) -> Judged {
        if !matches!(judged.verdict, Verdict::Current | Verdict::Adopted) {
            return judged;
        }
        let action = self.graph.task(id).action;
        if self.ask.force.contains(&id) {
            return match action {
                Action::Key(owner) => self.rekey(id, owner, "forced".to_owned()),
                Action::RootCert => self.reissue_root("forced".to_owned()),
                Action::Anchor => judged,
                _ => Judged::stale("forced", "asked for by --force"),
            };
        }
        let root = matches!(action, Action::Key(_) | Action::RootCert | Action::Anchor);
        if self.ask.always && !root { Judged::stale("forced", "asked for by -B") } else { judged }
    }

    /// The wanted task that makes `file` in this run, if one does.
    fn rebuilt(&self, file: FileId) -> bool {
        let producer = self.graph.file_at(file).producer;
        producer.and_then(|p| self.found.tasks.get(&p)).is_some_and(|judged| {
            let anew = matches!(judged.verdict, Verdict::Stale | Verdict::Refused | Verdict::Blocked);
            anew && judged.restore.is_none()
        })
    }

    fn rebuilt_input(&self, task: &Task, inputs: &[FileId]) -> Option<Judged> {
        let file = inputs.iter().find(|f| self.rebuilt(**f))?;
        let consequence = consequence(task.action);
        Some(Judged::stale("input-rebuilt", format!("{} is made anew: {consequence}", self.graph.file_at(*file).name)))
    }

    // ---- files

    fn odd_output(&mut self, task: &Task) -> Option<String> {
        let Some(&output) = task.outputs.first().filter(|_| task.action.is_built_in_file()) else {
            let folder = task.outputs.iter().find(|f| {
                let stat = self.disk.stat(&self.graph.file_at(**f).path);
                stat.is_ok_and(|s| s.is_some_and(|s| s.kind == Kind::Folder))
            })?;
            return Some(format!("output {} is a folder; outputs are files", self.graph.file_at(*folder).name));
        };
        // A folder of a cluster that is a link leads out of the work directory.
        let path = &self.graph.file_at(output).path;
        if let Some(dir) = path.parent().filter(|d| *d != self.plan.work_dir) {
            match self.disk.stat(dir) {
                Ok(Some(stat)) if stat.kind == Kind::Link => {
                    return Some(format!("{dir} is a symbolic link; keys would be written elsewhere: make it a folder"));
                }
                Ok(Some(stat)) if stat.kind != Kind::Folder => {
                    return Some(format!("{dir} is not a folder: move it away"));
                }
                Ok(_) => {}
                Err(e) => return Some(format!("cannot look at {dir}: {e}")),
            }
        }
        match self.look(output) {
            Seen::Odd(text) => Some(text),
            _ => None,
        }
    }

    fn look(&mut self, file: FileId) -> Seen {
        if let Some(seen) = self.seen.get(&file) {
            return seen.clone();
        }
        let seen = self.look_now(file);
        self.seen.insert(file, seen.clone());
        seen
    }

    fn look_now(&mut self, file: FileId) -> Seen {
        let entry = self.graph.file_at(file);
        let stat = match self.disk.stat(&entry.path) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Seen::Missing,
            Err(e) => return Seen::Odd(format!("cannot look at {}: {e}", entry.path)),
        };
        let ours = entry.producer.is_some();
        match stat.kind {
            Kind::File => {}
            Kind::Folder => return Seen::Odd(format!("{} is a folder, and a file belongs there: move it away", entry.path)),
            Kind::Link if !ours => {}
            Kind::Link => return Seen::Odd(format!("{} is a symbolic link; meshplan writes through none: move it away", entry.path)),
            Kind::Other => return Seen::Odd(format!("{} is not a regular file: move it away", entry.path)),
        }
        if let Some(record) = self.log.file(&entry.name).filter(|r| r.identity == stat.identity && ours) {
            return Seen::Sound(record.clone());
        }
        let bytes = match self.disk.read(&entry.path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) => return Seen::Odd(format!("cannot read {}: {e}", entry.path)),
        };
        let facts = match facts(self.graph, file, &bytes) {
            Ok(facts) => facts,
            Err(why) => return Seen::Broken(why),
        };
        let record = FileRecord { identity: stat.identity, digest: pki::digest(&bytes), facts };
        if ours {
            self.found.seen.push((entry.name.clone(), record.clone()));
        }
        Seen::Sound(record)
    }

    fn bytes(&self, file: FileId) -> Option<Zeroizing<Vec<u8>>> {
        self.disk.read(&self.graph.file_at(file).path).ok().map(Zeroizing::new)
    }

    fn digest_of(&mut self, file: FileId) -> Option<Digest> {
        match self.look(file) {
            Seen::Sound(record) => Some(record.digest),
            _ => None,
        }
    }

    fn public_of(&mut self, file: FileId) -> Option<Digest> {
        match self.look(file) {
            Seen::Sound(FileRecord { facts: Facts::Key { public } | Facts::Cert { public, .. }, .. }) => Some(public),
            _ => None,
        }
    }

    // ---- keys

    fn key(&mut self, id: TaskId, owner: Owner) -> Judged {
        let task = self.graph.task(id);
        let output = task.outputs[0];
        match self.look(output) {
            Seen::Missing => match self.came_from_key(owner) {
                Some(cert) => self.rekey(id, owner, format!("it is missing, and {cert} was made with it")),
                None => Judged::stale("output-missing", "there is none yet: make"),
            },
            Seen::Broken(why) => self.rekey(id, owner, why),
            Seen::Odd(text) => Judged::obstacle(text),
            Seen::Sound(record) => self.key_found(id, owner, &record),
        }
    }

    fn key_found(&mut self, id: TaskId, owner: Owner, file: &FileRecord) -> Judged {
        let task = self.graph.task(id);
        let recipe = Recipe::of(self.plan, task);
        let known = self.log.task(&task.name);
        let open = file.identity.mode & 0o077 != 0;
        let ours = self.log.unfinished(&task.name) || known.is_some_and(|k| k.made && k.output == Some(file.digest));
        if open && !ours {
            let mode = file.identity.mode;
            return Judged::refused(
                "key-open",
                format!("it was made elsewhere and others may read it (mode {mode:04o}): if nobody did, `chmod 600` it"),
            );
        }
        let mut judged = match known {
            Some(known) if known.output == Some(file.digest) => {
                if known.recipe != recipe {
                    let changes = recipe.changes_since(&known.recipe).join(", ");
                    return self.rekey(id, owner, changes);
                }
                Judged::current()
            }
            _ => {
                let wanted = self.ca_spec(owner).map(|s| s.key);
                let found = self.bytes(task.outputs[0]).and_then(|b| pki::read_key(&b).ok());
                if let (Some(wanted), Some(found)) = (wanted, found) {
                    if found.algorithm != Some(wanted) {
                        self.differs(&task.name, &[format!("key {} (plan: {wanted})", found.describe)], "--allow rekey ");
                    }
                }
                self.taken(task, file.digest, vec![])
            }
        };
        judged.narrow = open;
        judged
    }

    fn ca_spec(&self, owner: Owner) -> Option<&CaSpec> {
        match (owner, &self.plan.root) {
            (Owner::Cluster(c), _) => Some(&self.plan.clusters[c].ca),
            (Owner::Root, RootCa::Made(spec)) => Some(spec),
            (Owner::Root, RootCa::Given(_)) => None,
        }
    }

    /// A file that was made with a key and would be worth nothing with another.
    fn came_from_key(&mut self, owner: Owner) -> Option<String> {
        let plan = self.plan;
        let names: Vec<String> = match owner {
            Owner::Cluster(c) => {
                let name = &plan.clusters[c].name;
                vec![format!("{name}/ca-cert.pem"), format!("{name}/cert-chain.pem")]
            }
            Owner::Root => {
                let copies = plan.clusters.iter().flat_map(|c| [format!("{}/root-cert.pem", c.name), format!("{}/ca-cert.pem", c.name)]);
                std::iter::once("root-cert.pem".to_owned()).chain(copies).collect()
            }
        };
        let is_file = |name: &String| {
            let stat = self.disk.stat(&plan.work_dir.join(name));
            stat.is_ok_and(|s| s.is_some_and(|s| s.kind == Kind::File))
        };
        names.into_iter().find(is_file)
    }

    fn rekey(&self, id: TaskId, owner: Owner, cause: String) -> Judged {
        let name = &self.graph.task(id).name;
        if self.ask.allow_rekey {
            let text = format!("{cause}: make a new key, the old one goes to the archive");
            return Judged { archive: true, ..Judged::stale("rekey", text) };
        }
        let text = match owner {
            Owner::Cluster(c) => format!(
                "{cause}. A new key means a new CA certificate for {}, and workload certificates of the old one live on until they end. \
                 Restore {name} from a backup, or allow it with --allow rekey",
                self.plan.clusters[c].name
            ),
            Owner::Root => format!(
                "{cause}. A new root key means a new root: no cluster that holds the old one trusts what it signs, until every cluster has it. \
                 Restore {name} from a backup, or allow it with --allow rekey,root-reissue"
            ),
        };
        Judged::refused("rekey", text)
    }

    // ---- certificates

    fn root_cert(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let (key, output) = (task.inputs[0], task.outputs[0]);
        if self.rebuilt(key) {
            return match self.look(output) {
                Seen::Missing if self.came_from_key(Owner::Root).is_none() => Judged::stale("output-missing", "there is none yet: sign"),
                _ => self.reissue_root(format!("{} is made anew", self.graph.file_at(key).name)),
            };
        }
        let cause = match self.look(output) {
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
            self.seen.insert(output, Seen::Sound(record));
            let text = format!("{cause}: bring back {copy}, which fits the root key");
            return Judged { restore: Some(copy), archive: true, ..Judged::stale("restore", text) };
        }
        // Whatever was here, a copy or a certificate under it says that this root was in use.
        match self.came_from_key(Owner::Root) {
            Some(_) => self.reissue_root(cause),
            None => Judged::stale("output-missing", "there is none yet: sign"),
        }
    }

    fn root_sound(&mut self, id: TaskId, file: &FileRecord) -> Result<(), String> {
        let task = self.graph.task(id);
        let key = self.public_of(task.inputs[0]);
        if !matches!(&file.facts, Facts::Cert { public, .. } if Some(*public) == key) {
            let key_name = &self.graph.file_at(task.inputs[0]).name;
            return Err(format!("it does not carry the key of {key_name}"));
        }
        if self.log.task(&task.name).is_some_and(|k| k.output == Some(file.digest)) {
            return Ok(());
        }
        let bytes = self.bytes(task.outputs[0]).unwrap_or_default();
        pki::signed_by(&bytes, &bytes).map_err(|e| format!("it is not signed by its own key ({e})"))
    }

    fn root_found(&mut self, id: TaskId, file: &FileRecord) -> Judged {
        let task = self.graph.task(id);
        let recipe = Recipe::of(self.plan, task);
        match self.log.task(&task.name) {
            Some(known) if known.output == Some(file.digest) => {
                if known.recipe != recipe {
                    let changes = recipe.changes_since(&known.recipe).join(", ");
                    return self.reissue_root(changes);
                }
                Judged::current()
            }
            _ => {
                if let RootCa::Made(spec) = &self.plan.root {
                    let wanted = pki::Request::root(spec);
                    let found = self.bytes(task.outputs[0]).and_then(|b| pki::read_cert(&b).ok());
                    let differences = found.map(|f| pki::differences(&f, &wanted, spec.key)).unwrap_or_default();
                    self.differs(&task.name, &differences, "--allow root-reissue ");
                }
                self.taken(task, file.digest, vec![])
            }
        }
    }

    /// A sound file that is not the one on record: noted as it is. Adopted where no log knows its name;
    /// one that meshplan began and could not note any more is its own.
    fn taken(&self, task: &Task, digest: Digest, inputs: Vec<Digest>) -> Judged {
        let known = self.log.task(&task.name);
        let begun = self.log.unfinished(&task.name);
        let made = begun || known.is_some_and(|k| k.made);
        let recipe = Recipe::of(self.plan, task);
        let record = TaskRecord { made, output: Some(digest), inputs, recipe, started: 0 };
        let judged = if known.is_none() && !begun {
            Judged::new(Verdict::Adopted, "adopted", "made elsewhere, sound: taken over as it is")
        } else {
            Judged::current()
        };
        Judged { record: Some(record), ..judged }
    }

    /// True where a file of that name was never ours.
    fn is_foreign(&self, name: &str) -> bool {
        self.log.task(name).is_none() && !self.log.unfinished(name)
    }

    fn reissue_root(&self, cause: String) -> Judged {
        if self.ask.allow_root_reissue {
            let text = format!("{cause}: sign a new root certificate, the old one goes to the archive");
            return Judged { archive: true, ..Judged::stale("root-reissue", text) };
        }
        Judged::refused(
            "root-reissue",
            format!(
                "{cause}. Another root certificate must reach every cluster of the mesh, and istiod takes it only after a restart or with multi-root on. \
                 Restore root-cert.pem from a backup or a cluster, or allow it with --allow root-reissue"
            ),
        )
    }

    /// A root certificate in a cluster's folder or the archive that carries the root key.
    fn root_copy_that_fits(&mut self, key: FileId) -> Option<(Utf8PathBuf, FileRecord)> {
        let key = self.public_of(key)?;
        let archive = super::archive_dir(self.plan);
        let mut archived = self.disk.list(&archive).unwrap_or_default();
        // Names begin with their time: the newest first.
        archived.sort_unstable_by(|a, b| b.cmp(a));
        let archived = archived.into_iter().filter(|n| n.ends_with("root-cert.pem")).map(|n| archive.join(n));
        let copies = self.plan.clusters.iter().map(|c| self.plan.work_dir.join(&c.name).join("root-cert.pem"));
        copies.chain(archived).find_map(|path| {
            let bytes = self.disk.read(&path).ok()?;
            let cert = pki::read_cert(&bytes).ok().filter(|c| c.public_key == key && c.is_ca)?;
            pki::signed_by(&bytes, &bytes).ok()?;
            let facts = Facts::Cert { public: cert.public_key, not_after: cert.not_after.unix_timestamp() };
            let identity = self.disk.stat(&path).ok()??.identity;
            Some((path, FileRecord { identity, digest: pki::digest(&bytes), facts }))
        })
    }

    fn anchor(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let Some(given) = self.given else {
            return Judged::stale("input-rebuilt", "the CA brought along is yet to be made");
        };
        let output = task.outputs[0];
        let replaced = match self.look(output) {
            Seen::Missing if self.came_from_key(Owner::Root).is_none() => return Judged::stale("output-missing", "there is none yet: copy"),
            Seen::Missing => {
                let clusters_root = self.plan.clusters.iter().map(|c| self.plan.work_dir.join(&c.name).join("root-cert.pem"));
                let other = clusters_root.filter_map(|p| self.disk.read(&p).ok()).any(|b| !given.path().is_root(&b));
                if !other {
                    return Judged::stale("output-missing", "it is missing: copy");
                }
                "it is missing, and the clusters' is another".to_owned()
            }
            Seen::Broken(why) => why,
            Seen::Odd(text) => return Judged::obstacle(text),
            Seen::Sound(file) => match self.bytes(output) {
                Some(bytes) if given.path().is_root(&bytes) => return self.same_bytes_record(task, file.digest),
                _ => "it is not the root of the CA that the plan brings along".to_owned(),
            },
        };
        self.reissue_root(replaced)
    }

    fn ca_cert(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let (key, root) = (task.inputs[0], task.inputs[1]);
        let spec = &self.plan.clusters[cluster].ca;
        // The certificate that signs: the root's own, or the issuing one of a CA brought along.
        let issuer = if self.given_issuer_file(task) { task.inputs[2] } else { root };
        if let Seen::Missing = self.look(task.outputs[0]) {
            return Judged::stale("output-missing", "there is none yet: sign");
        }
        if let Some(judged) = self.rebuilt_input(task, &[key, issuer, root]) {
            return judged;
        }
        let file = match self.look(task.outputs[0]) {
            Seen::Broken(why) => return Judged::stale("output-broken", format!("{why}: {RESIGN}")),
            Seen::Sound(file) => file,
            Seen::Missing | Seen::Odd(_) => return Judged::stale("output-missing", "there is none yet: sign"),
        };
        let (Some(key_now), Some(issuer_now)) = (self.public_of(key), self.digest_of(issuer)) else {
            // Only while the key or the issuer waits for a gate.
            return Judged::stale("input-broken", format!("its key or issuer is not sound: {RESIGN}"));
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
                return Judged::stale("issuer-changed", format!("its issuer is not the one that signed it: {RESIGN}"));
            }
        }
        if let Some(known) = known.filter(|k| k.recipe != recipe) {
            let changes = recipe.changes_since(&known.recipe).join(", ");
            return Judged::stale("recipe-changed", format!("{changes}: {RESIGN}"));
        }
        if !same {
            let wanted = pki::Request::cluster(spec, &self.plan.clusters[cluster].name);
            let found = self.bytes(task.outputs[0]).and_then(|b| pki::read_cert(&b).ok());
            let differences = found.map(|f| pki::differences(&f, &wanted, spec.key)).unwrap_or_default();
            // Where the log knows another file, this is an older or a half-noted one: the plan decides.
            if !differences.is_empty() && !self.is_foreign(&task.name) {
                return Judged::stale("recipe-changed", format!("{}: {RESIGN}", differences.join(", ")));
            }
            self.differs(&task.name, &differences, "");
        }
        let issuer_end = match self.look(issuer) {
            Seen::Sound(FileRecord { facts: Facts::Cert { not_after, .. }, .. }) => Some(not_after),
            _ => None,
        };
        if let Facts::Cert { not_after, .. } = file.facts {
            let left = not_after - self.now.unix_timestamp();
            let cut_short = issuer_end.is_some_and(|end| not_after >= end);
            if left <= spec.renew_before.as_secs() as i64 && !cut_short {
                return Judged::stale("renew", format!("{}: {RESIGN}", ends(left)));
            }
        }
        if same { Judged::current() } else { self.taken(task, file.digest, inputs) }
    }

    fn given_issuer_file(&self, task: &Task) -> bool {
        matches!(self.plan.root, RootCa::Given(_)) && task.inputs.len() > 2
    }

    fn ca_cert_sound(&mut self, task: &Task, issuer: FileId) -> Result<(), String> {
        let read = |file| self.bytes(file).ok_or_else(|| format!("{} cannot be read", self.graph.file_at(file).name));
        let (cert, key, issuer_cert) = (read(task.outputs[0])?, read(task.inputs[0])?, read(issuer)?);
        let key_name = &self.graph.file_at(task.inputs[0]).name;
        pki::carries_key(&cert, &key).map_err(|_| format!("it does not carry the key of {key_name}"))?;
        let issuer_name = &self.graph.file_at(issuer).name;
        pki::signed_by(&cert, &issuer_cert).map_err(|e| format!("it was not signed by {issuer_name} ({e})"))
    }

    // ---- derived files

    fn chain(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let output = task.outputs[0];
        let file = match self.derived(task) {
            Ok(file) => file,
            Err(judged) => return judged,
        };
        let mut inputs = Vec::new();
        for &input in &task.inputs[1..] {
            inputs.extend(self.digest_of(input));
        }
        let recipe = Recipe::of(self.plan, task);
        let known = self.log.task(&task.name);
        if known.is_some_and(|k| k.output == Some(file.digest) && k.inputs == inputs && k.recipe == recipe) {
            return Judged::current();
        }
        let read = |f: FileId| self.bytes(f).unwrap_or_default();
        let (key, cert, root, chain) = (read(task.inputs[0]), read(task.inputs[1]), read(task.inputs[2]), read(output));
        let between = self.given.map(|g| g.path().intermediates_pem()).unwrap_or_default();
        let expected = pki::chain(&cert, &between, &root, self.plan.clusters[cluster].ca.chain);
        let bundle = pki::Bundle { ca_cert: &cert, ca_key: &key, cert_chain: &chain, root_cert: &root };
        let findings = pki::judge(&bundle, self.now);
        let wrong = findings.iter().find(|f| f.is_error()).map(|f| format!("{} ({})", f.message, f.rule));
        if wrong.is_none() {
            if expected.is_ok_and(|e| e == *chain) {
                return self.taken(task, file.digest, inputs);
            }
            if self.is_foreign(&task.name) {
                let form = findings.iter().filter(|f| f.rule == "C10" || f.rule == "C11");
                let differences: Vec<_> = form.map(|f| f.message.clone()).collect();
                self.differs(&task.name, &differences, "");
                return self.taken(task, file.digest, inputs);
            }
        }
        let why = wrong.unwrap_or_else(|| "its bytes are not what its certificates make".to_owned());
        Judged::stale("output-broken", format!("{why}: rebuild"))
    }

    fn root_copy(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        match self.derived(task) {
            Err(judged) => judged,
            Ok(file) if Some(file.digest) == self.digest_of(task.inputs[0]) => self.same_bytes_record(task, file.digest),
            Ok(_) => self.rewritten(task, "it is not the mesh's root certificate: rebuild"),
        }
    }

    fn install(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let file = match self.derived(task) {
            Ok(file) => file,
            Err(judged) => return judged,
        };
        match manifest::install_yaml(&self.plan.mesh, &self.plan.clusters[cluster], &self.plan.clusters) {
            Ok(bytes) if pki::digest(&bytes) == file.digest => self.same_bytes_record(task, file.digest),
            Ok(_) => self.rewritten(task, "it is not what the plan makes of it: rebuild"),
            Err(e) => Judged::obstacle(e.to_string()),
        }
    }

    /// What a derived file is, or why it must be made whatever it holds.
    fn derived(&mut self, task: &Task) -> Result<FileRecord, Judged> {
        match self.look(task.outputs[0]) {
            Seen::Missing => return Err(Judged::stale("output-missing", "there is none yet: write")),
            Seen::Odd(text) => return Err(Judged::obstacle(text)),
            Seen::Broken(why) => return Err(Judged::stale("output-broken", format!("{why}: rebuild"))),
            Seen::Sound(file) => match self.rebuilt_input(task, &task.inputs) {
                Some(judged) => Err(judged),
                None => Ok(file),
            },
        }
    }

    /// A file that no log knows is somebody's: it is kept in the archive when it is replaced.
    fn rewritten(&self, task: &Task, text: &str) -> Judged {
        Judged { archive: self.is_foreign(&task.name), ..Judged::stale("output-differs", text) }
    }

    fn same_bytes_record(&self, task: &Task, digest: Digest) -> Judged {
        let known = self.log.task(&task.name);
        if known.is_some_and(|k| k.output == Some(digest)) {
            return Judged::current();
        }
        // Whoever wrote these very bytes, they are what would be written.
        Judged { verdict: Verdict::Current, ..self.taken(task, digest, vec![]) }
    }

    // ---- the user's own tasks

    /// As ninja judges: newer inputs by mtime, equal is up to date; also against the start of the last
    /// run, since an input may have changed while it ran.
    fn command(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let mut newest: Option<(i64, FileId)> = None;
        for &input in &task.inputs {
            let entry = self.graph.file_at(input);
            let made = entry.producer.is_some();
            if made && self.rebuilt(input) {
                continue;
            }
            match self.disk.stat(&entry.path) {
                // A link's own time says nothing of what it leads to; the content's owner is asked.
                Ok(Some(stat)) => {
                    if newest.is_none_or(|(t, _)| stat.identity.mtime > t) {
                        newest = Some((stat.identity.mtime, input));
                    }
                }
                Ok(None) if made => {}
                Ok(None) => return Judged::obstacle(format!("input {} is missing, and nothing in the plan makes it", entry.path)),
                Err(e) => return Judged::obstacle(format!("cannot look at input {}: {e}", entry.path)),
            }
        }
        if task.outputs.is_empty() {
            return Judged::stale("no-outputs", "it has no outputs: run");
        }
        let mut oldest: Option<(i64, FileId)> = None;
        for &output in &task.outputs {
            match self.disk.stat(&self.graph.file_at(output).path) {
                Ok(Some(stat)) => {
                    if oldest.is_none_or(|(t, _)| stat.identity.mtime < t) {
                        oldest = Some((stat.identity.mtime, output));
                    }
                }
                _ => return Judged::stale("output-missing", format!("output {} is missing: run", self.graph.file_at(output).name)),
            }
        }
        if let Some(judged) = self.rebuilt_input(task, &task.inputs) {
            return judged;
        }
        if self.log.unfinished(&task.name) {
            return Judged::stale("unfinished", "its last run began and did not end: run");
        }
        let Some(known) = self.log.task(&task.name) else {
            return Judged::stale("no-record", "no run of it is on record: run");
        };
        let changes = Recipe::of(self.plan, task).changes_since(&known.recipe);
        if !changes.is_empty() {
            return Judged::stale("recipe-changed", format!("{}: run", changes.join(", ")));
        }
        if let (Some((input_time, input)), Some((output_time, output))) = (newest, oldest) {
            let input = &self.graph.file_at(input).name;
            if input_time > output_time {
                let output = &self.graph.file_at(output).name;
                return Judged::stale("input-newer", format!("input {input} is newer than output {output}: run"));
            }
            if input_time > known.started {
                return Judged::stale("input-newer", format!("input {input} changed since its last run began: run"));
            }
        }
        Judged::current()
    }

    // ---- notices

    fn differs(&mut self, name: &str, differences: &[String], allow: &str) {
        if differences.is_empty() {
            return;
        }
        self.found.notices.push(Notice {
            code: "adopted-differs",
            message: format!("{name} was made elsewhere and is kept, though it differs from the plan: {}", differences.join(", ")),
            help: format!("to apply the plan: meshplan run {} {allow}--force {name}", self.plan.file),
        });
    }

    /// A root is never stale by age; near its end, it is told.
    fn root_end(&mut self) {
        let renew = match &self.plan.root {
            RootCa::Made(spec) => spec.renew_before,
            RootCa::Given(_) => std::time::Duration::from_secs(365 * 86_400),
        };
        let Some(file) = self.graph.find_file(&self.plan.work_dir.join("root-cert.pem")) else { return };
        if !self.seen.contains_key(&file) || self.rebuilt(file) {
            return;
        }
        if let Seen::Sound(FileRecord { facts: Facts::Cert { not_after, .. }, .. }) = self.look(file) {
            let left = not_after - self.now.unix_timestamp();
            if left <= renew.as_secs() as i64 {
                let (code, help) = if left <= 0 {
                    ("root-expired", "nothing under it verifies any more: it needs a new root in every cluster (--allow root-reissue)")
                } else {
                    ("root-expires", "plan its replacement: every cluster's CA ends with it")
                };
                let message = format!("root-cert.pem {}", ends(left));
                self.found.notices.push(Notice { code, message, help: help.to_owned() });
            }
        }
    }
}

const RESIGN: &str = "re-sign, same key, new serial";

fn consequence(action: Action) -> &'static str {
    match action {
        Action::CaCert(_) => RESIGN,
        Action::Command(_) => "run",
        _ => "rebuild",
    }
}

fn ends(left: i64) -> String {
    match left {
        i64::MIN..=0 => format!("ended {} days ago", -left / 86_400),
        1..86_400 => format!("ends in {} hours", left / 3_600),
        _ => format!("ends in {} days", left / 86_400),
    }
}

/// Reads what a file holds by what its maker would put there.
pub fn facts(graph: &Graph, file: FileId, bytes: &[u8]) -> Result<Facts, String> {
    let entry = graph.file_at(file);
    let action = entry.producer.map(|p| graph.task(p).action);
    match action {
        Some(Action::Key(_)) => {
            let key = pki::read_key(bytes).map_err(|e| format!("it is not a private key ({e})"))?;
            Ok(Facts::Key { public: key.public_key })
        }
        Some(Action::CaCert(_) | Action::RootCert | Action::Anchor) => {
            let cert = pki::read_cert(bytes).map_err(|e| format!("it is not a certificate ({e})"))?;
            Ok(Facts::Cert { public: cert.public_key, not_after: cert.not_after.unix_timestamp() })
        }
        // The issuing certificate of a CA brought along has no maker here, but an end that matters.
        None => Ok(match pki::read_cert(bytes) {
            Ok(cert) => Facts::Cert { public: cert.public_key, not_after: cert.not_after.unix_timestamp() },
            Err(_) => Facts::Plain,
        }),
        _ => Ok(Facts::Plain),
    }
}
