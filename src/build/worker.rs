//! What a worker does with one task: it makes a file and stages it, or runs a command. It knows nothing of other
//! tasks, nor of what is published.

use std::{
    fmt::Display,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::HashMap;
use zeroize::Zeroizing;

use super::{
    Site,
    fleet::Fleet,
    freshness::{self, Verdicts},
    lane,
    log::{Facts, Inputs},
    publish::{Publisher, Staged},
    scheduler::Lane,
    steps::{self, StepDone},
};
use crate::{
    action::{self, Bytes, Content, Trust, cluster::Allowed, pki::Digest},
    graph::{Action, FileId, TaskId},
    host::{lock::Lock, process},
    plan::model::{KeyAlgorithm, RootCa},
};

/// What workers share. They read it; files go out only through the publisher's stage.
pub(super) struct Shared {
    pub(super) site: Site,
    pub(super) lock: Lock,
    pub(super) publisher: Publisher,
    pub(super) trust: Trust,
    /// Files made in this run and not published yet, and those that many read.
    pub(super) made: Mutex<HashMap<FileId, Bytes>>,
    pub(super) judged: Verdicts,
    pub(super) fleet: Fleet,
    /// What may be replaced in a cluster.
    pub(super) allowed: Allowed,
    /// Cluster steps at once.
    pub(super) cluster_jobs: usize,
    /// After a failure, what does not need it is done all the same.
    pub(super) keep_going: bool,
    /// No file is begun any more, nor a command.
    pub(super) stopped: AtomicBool,
}

/// A built-in file, made and staged.
pub(super) struct Product {
    pub(super) staged: Staged,
    pub(super) digest: Digest,
    pub(super) facts: Facts,
    /// What decides about the output later (see `TaskRecord::inputs`).
    pub(super) inputs: Inputs,
}

/// What a task came to.
pub(super) enum Done {
    File(Product),
    Command { output: String, started: i64 },
    Step(StepDone),
}

/// Why a task failed.
pub(super) struct Failure {
    pub(super) cause: String,
    /// It would break something: not a failure, a refusal.
    pub(super) refused: bool,
    /// The tail of its child's standard error.
    pub(super) stderr: String,
}

impl From<String> for Failure {
    fn from(cause: String) -> Self {
        Self {
            cause,
            refused: false,
            stderr: String::new(),
        }
    }
}

impl Shared {
    /// Has a failure stop what workers were given and have not begun. One of a cluster stops no file.
    pub(super) fn failed(&self, id: TaskId) {
        if !self.keep_going && lane(&self.site.graph, id) != Lane::Cluster {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether it is a key whose making is long, and how long a matter of chance: two large primes.
    pub(super) fn takes_long(&self, id: TaskId) -> bool {
        let Action::Key(owner) = self.site.graph.task(id).action else {
            return false;
        };
        let algorithm = action::key_algorithm(&self.site.plan, owner);
        matches!(
            algorithm,
            Some(KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096)
        )
    }

    /// The file that a built-in task makes.
    pub(super) fn output(&self, id: TaskId) -> FileId {
        self.site.graph.task(id).outputs[0]
    }

    fn made(&self) -> MutexGuard<'_, HashMap<FileId, Bytes>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a task made for others to read.
    pub(super) fn keep(&self, id: TaskId, bytes: Bytes) {
        self.made().insert(self.output(id), bytes);
    }

    /// Lets go of what a task made, once it has its name. What thousands read stays.
    pub(super) fn let_go(&self, id: TaskId) {
        if !self.is_shared(self.output(id)) {
            self.made().remove(&self.output(id));
        }
    }

    /// A file as this run has it: made and not yet published, or from disk.
    pub(super) fn read(&self, file: FileId) -> Result<Bytes, String> {
        if let Some(bytes) = self.made().get(&file) {
            return Ok(bytes.clone());
        }
        let path = &self.site.graph.file_at(file).path;
        let bytes = self
            .site
            .disk
            .read(path)
            .map_err(|e| format!("cannot read {path}: {e}"))?;
        let bytes = Arc::new(Content::new(Zeroizing::new(bytes)));
        if self.is_shared(file) {
            self.made().insert(file, bytes.clone());
        }
        Ok(bytes)
    }

    /// True for what thousands of clusters read: the root's files.
    fn is_shared(&self, file: FileId) -> bool {
        let graph = &self.site.graph;
        let maker = graph.file_at(file).producer.map(|p| graph.task(p).action);
        maker.is_some_and(|action| {
            let owned = action.cluster().is_some() || action.workload().is_some();
            action.is_built_in_file() && !owned
        })
    }
}

/// What a worker made of what it was handed over together, where nobody else asks for it. Most of a fleet's files
/// are read by their neighbours alone: so their bytes are taken and given back by one thread.
pub(super) type AtHand = Vec<(FileId, Bytes)>;

/// What a file is made from, and its bytes.
pub(super) fn make(
    shared: &Shared,
    id: TaskId,
    at_hand: &AtHand,
) -> Result<(Vec<Bytes>, Bytes), String> {
    let Site {
        plan,
        graph,
        disk,
        clock,
        ..
    } = &shared.site;
    let task = graph.task(id);
    let output = graph.file_at(task.outputs[0]);
    let judged = shared.judged.get(id);
    let inputs: Vec<_> = task
        .inputs
        .iter()
        .map(|f| match at_hand.iter().find(|(file, _)| file == f) {
            Some((_, bytes)) => Ok(bytes.clone()),
            None => shared.read(*f),
        })
        .collect::<Result<_, _>>()?;
    let made = match judged.and_then(|j| j.restore.as_deref()) {
        Some(copy) => {
            let bytes = disk.read(copy);
            let bytes = bytes.map_err(|e| format!("cannot read {copy}: {e}"))?;
            Arc::new(Content::new(Zeroizing::new(bytes)))
        }
        None => {
            let previous = (task.action == Action::RootCert)
                .then(|| disk.read(&output.path).ok())
                .flatten();
            action::make(
                plan,
                task,
                &inputs,
                previous.as_deref(),
                &shared.trust,
                clock.now(),
            )?
        }
    };
    Ok((inputs, made))
}

/// Stages what was made.
pub(super) fn stage(
    shared: &Shared,
    id: TaskId,
    inputs: &[Bytes],
    bytes: &Content,
) -> Result<Product, String> {
    let Site { plan, graph, .. } = &shared.site;
    let task = graph.task(id);
    let output = graph.file_at(task.outputs[0]);
    let facts = freshness::facts(graph, task.outputs[0], bytes)?;
    let staged = shared.publisher.stage(
        &output.path,
        task.action.mode(),
        task.action.makes_key(),
        bytes,
    );
    let staged = staged.map_err(|e| cannot_write(&output.path, &e))?;
    let deciding = match task.action {
        Action::CaCert(_) | Action::WorkloadCert(_) => {
            let brought = matches!(plan.root, RootCa::Given(_));
            let issuer = match task.action {
                Action::CaCert(_) if brought => 2,
                _ => 1,
            };
            let Facts::Cert { public, .. } = facts else {
                return Err("what was signed is no certificate".to_owned());
            };
            Inputs::from([public, inputs[issuer].digest()])
        }
        Action::Chain(_) => inputs[1..].iter().map(|i| i.digest()).collect(),
        Action::WorkloadChain(_) => inputs.iter().map(|i| i.digest()).collect(),
        _ => Inputs::new(),
    };
    Ok(Product {
        staged,
        digest: bytes.digest(),
        facts,
        inputs: deciding,
    })
}

/// That something could not be written, and what to do about it.
pub(super) fn cannot_write(what: impl Display, e: &io::Error) -> String {
    let hint = match e.kind() {
        io::ErrorKind::StorageFull => ": free room, then run again; nothing half-written is left",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": make its folder writable, or choose another work directory with -C"
        }
        _ => "",
    };
    format!("cannot write {what} ({e}){hint}")
}

/// Runs a command of the plan.
pub(super) fn command(shared: &Shared, id: TaskId) -> Result<String, Failure> {
    let Site {
        plan, graph, disk, ..
    } = &shared.site;
    let task = graph.task(id);
    let Action::Command(index) = task.action else {
        return Err("not a command".to_owned().into());
    };
    let user = &plan.tasks[index];
    for (path, _) in &user.outputs {
        let dir = path.parent().unwrap_or(path);
        disk.make_dir(dir, 0o755)
            .map_err(|e| format!("cannot make the folder {dir} of an output: {e}"))?;
    }
    // A path of a program starts where the command runs, as in a shell.
    let program = &user.run[0];
    let program = if program.contains('/') {
        user.dir.join(program).into_string()
    } else {
        program.clone()
    };
    let command = process::Command {
        program,
        args: user.run[1..].to_vec(),
        dir: Some(user.dir.clone().into()),
        env: user.env.clone(),
        timeout: user.timeout,
        ..process::Command::default()
    };
    let ended = steps::child(shared, &task.name, &command)
        .map_err(|e| format!("cannot run `{}`: {e}", user.run[0]))?;
    let failed = |cause: String| Failure {
        cause,
        refused: false,
        stderr: ended.tail.clone(),
    };
    match ended.status {
        process::Exit::Code(0) => {}
        process::Exit::Code(code) => {
            return Err(failed(format!(
                "`{}` ended with exit code {code}",
                user.run[0]
            )));
        }
        process::Exit::Signal(signal) => {
            return Err(failed(format!(
                "`{}` was ended by signal {signal}",
                user.run[0]
            )));
        }
        process::Exit::TimedOut => {
            return Err(failed(format!(
                "`{}` ran into its timeout and was ended",
                user.run[0]
            )));
        }
        process::Exit::Interrupted => {
            return Err(failed(format!("`{}` was interrupted", user.run[0])));
        }
    }
    for (path, _) in &user.outputs {
        let there = disk
            .stat(path)
            .map_err(|e| format!("cannot look at output {path}: {e}"))?;
        if there.is_none() {
            return Err(failed(format!(
                "`{}` ended well, but did not write {path}: correct its command, or the plan's `output`",
                user.run[0]
            )));
        }
    }
    Ok(ended.tail)
}
