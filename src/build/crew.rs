//! The threads of a run, and what they do with one task: make a file and stage it, or run a child. They
//! know nothing of other tasks, nor of what is published.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use camino::Utf8Path;
use zeroize::Zeroizing;

use super::{
    Site,
    fleet::Fleet,
    freshness::{self, Verdicts},
    lane,
    log::Facts,
    publish::{Publisher, Staged, ToSync},
    scheduler::Lane,
    steps::{self, StepDone},
};
use crate::{
    action::{
        self, Bytes, Content, Trust,
        cluster::Allowed,
        pki::{self, Digest},
    },
    graph::{Action, FileId, TaskId},
    host::{Core, lock::Lock, process},
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
}

/// A key that takes long. A worker that has nothing else to do makes one too, and the first that is there is
/// taken: how long an RSA key takes is chance, and the last of a run would leave all cores but one idle.
#[derive(Default)]
struct Race {
    since: OnceLock<Instant>,
    over: AtomicBool,
}

/// What a worker is given.
struct Job {
    task: TaskId,
    began_at: i64,
    race: Option<Arc<Race>>,
    /// Another one is at it.
    helps: bool,
}

/// A built-in file, made and staged.
pub(super) struct Product {
    pub(super) staged: Staged,
    pub(super) digest: Digest,
    pub(super) facts: Facts,
    /// What decides about the output later (see `TaskRecord::inputs`).
    pub(super) inputs: Vec<Digest>,
}

/// What a task came to.
pub(super) enum Done {
    File(Product),
    Command { output: String, started: i64 },
    Step(StepDone),
}

/// What reaches the owner of the run.
pub(super) enum Message {
    /// Something about a task.
    Task {
        task: TaskId,
        at: Instant,
        news: News,
    },
    /// The group of that number is durable, or why it is not.
    Synced(u64, io::Result<()>),
}

/// What a worker tells.
pub(super) enum News {
    /// The worker of that number, from 0 on among its pool's, begins it.
    Begins(usize),
    /// It waits for this.
    Waits(String),
    /// Another worker made it first.
    Lost,
    /// It ended.
    Ended {
        took: Duration,
        result: Box<Result<Done, Failure>>,
    },
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

/// Threads that take tasks from a queue: some for this machine's cores, some for clusters. There is a thread
/// more while there is more to do than threads, up to a limit.
pub(super) struct Crew {
    shared: Arc<Shared>,
    results: Sender<Vec<Message>>,
    here: Pool,
    clusters: Pool,
    children: HashSet<TaskId>,
    /// Small files of one cluster, for one worker: two would wait for each other at its folder.
    batch: Vec<Job>,
    /// With the number of workers that are at each.
    races: HashMap<TaskId, (usize, Arc<Race>)>,
}

struct Pool {
    jobs: Sender<Vec<Job>>,
    queue: Arc<Mutex<Receiver<Vec<Job>>>>,
    threads: usize,
    limit: usize,
    at_work: usize,
}

impl Pool {
    fn new(limit: usize) -> Self {
        let (jobs, queue) = mpsc::channel();
        Self {
            jobs,
            queue: Arc::new(Mutex::new(queue)),
            threads: 0,
            limit: limit.max(1),
            at_work: 0,
        }
    }
}

impl Crew {
    /// At most `jobs` threads work here, and `cluster_jobs` on clusters.
    pub(super) fn new(
        shared: Arc<Shared>,
        results: Sender<Vec<Message>>,
        jobs: usize,
        cluster_jobs: usize,
    ) -> Self {
        Self {
            shared,
            results,
            here: Pool::new(jobs),
            clusters: Pool::new(cluster_jobs),
            children: HashSet::new(),
            batch: Vec::new(),
            races: HashMap::new(),
        }
    }

    fn pool(&mut self, lane: Lane) -> &mut Pool {
        match lane {
            Lane::Cluster => &mut self.clusters,
            Lane::File | Lane::Local => &mut self.here,
        }
    }

    pub(super) fn give(&mut self, id: TaskId, lane: Lane, began_at: i64, child: bool) {
        let race = self.shared.takes_long(id).then(Arc::default);
        if let Some(race) = &race {
            self.races.insert(id, (1, Arc::clone(race)));
        }
        if child {
            self.children.insert(id);
        }
        let cluster = |job: &Job| self.shared.site.graph.task(job.task).action.cluster();
        let job = Job {
            task: id,
            began_at,
            race,
            helps: false,
        };
        if lane != Lane::File || job.race.is_some() || cluster(&job).is_none() {
            return self.hand(lane, vec![job]);
        }
        let other = |first: &Job| cluster(first) != cluster(&job);
        if self.batch.first().is_some_and(other) {
            self.flush();
        }
        self.batch.push(job);
    }

    /// Hands out what was kept to be handed out together.
    pub(super) fn flush(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.hand(Lane::File, batch);
        }
    }

    /// Has workers that would be idle help with what takes long.
    pub(super) fn help(&mut self) {
        while self.here.at_work < self.here.limit
            && let Some((&task, (racers, race))) = self.races.iter_mut().min_by_key(|(_, r)| r.0)
        {
            *racers += 1;
            let job = Job {
                task,
                began_at: 0,
                race: Some(race.clone()),
                helps: true,
            };
            self.hand(Lane::File, vec![job]);
        }
    }

    fn hand(&mut self, lane: Lane, jobs: Vec<Job>) {
        let (shared, results) = (self.shared.clone(), self.results.clone());
        let pool = self.pool(lane);
        pool.at_work += jobs.len();
        if pool.at_work > pool.threads && pool.threads < pool.limit {
            let (number, queue) = (pool.threads, pool.queue.clone());
            pool.threads += 1;
            let core = Core::current();
            std::thread::spawn(move || {
                core.leave();
                let mouth = Mouth {
                    results,
                    unsaid: Vec::new(),
                };
                work(&shared, mouth, &queue, number);
            });
            Core::give_turn();
        }
        // The queue's other end lives in this very struct, so it takes everything.
        let _ = pool.jobs.send(jobs);
    }

    pub(super) fn ended(&mut self, id: TaskId) {
        self.children.remove(&id);
        self.races.remove(&id);
        self.lost(id);
    }

    /// Somebody else was first.
    pub(super) fn lost(&mut self, id: TaskId) {
        let lane = lane(&self.shared.site.graph, id);
        self.pool(lane).at_work -= 1;
    }

    /// Makes a group durable while others work on.
    pub(super) fn sync(&self, group: u64, what: ToSync) {
        let (shared, results) = (self.shared.clone(), self.results.clone());
        std::thread::spawn(move || {
            let _ = results.send(vec![Message::Synced(
                group,
                shared.publisher.sync_all(&what),
            )]);
        });
    }

    /// Children must end before this process does; a key being made need not.
    pub(super) fn has_children(&self) -> bool {
        !self.children.is_empty()
    }
}

/// Tells what a worker did. Small files are told of several at a time: each word wakes the owner of the run,
/// which takes about as long as one of them.
struct Mouth {
    results: Sender<Vec<Message>>,
    unsaid: Vec<Message>,
}

/// So long a message may wait for others.
const PATIENCE: Duration = Duration::from_millis(5);

impl Mouth {
    /// False where nobody listens any more.
    fn say_all(&mut self) -> bool {
        self.unsaid.is_empty() || self.results.send(std::mem::take(&mut self.unsaid)).is_ok()
    }

    fn tell(&mut self, task: TaskId, at: Instant, news: News, now: bool) -> bool {
        let message = Message::Task { task, at, news };
        self.unsaid.push(message);
        let first = match self.unsaid.first() {
            Some(Message::Task { at, .. }) => *at,
            _ => at,
        };
        !(now || at - first > PATIENCE) || self.say_all()
    }
}

fn work(shared: &Shared, mut mouth: Mouth, queue: &Mutex<Receiver<Vec<Job>>>, number: usize) {
    let mut jobs = Vec::new().into_iter();
    // Whoever listens no more has ended the run.
    while let Some(job) = next(queue, &mut jobs, &mut mouth) {
        let task = job.task;
        let action = shared.site.graph.task(task).action;
        // Nothing is begun after an interrupt. A child that was given is waited for, and ends at once.
        if shared.site.interrupt.is_set() && action.is_built_in_file() {
            mouth.say_all();
            return;
        }
        let race = job.race.as_deref();
        let at = race.map_or_else(Instant::now, |r| *r.since.get_or_init(Instant::now));
        // A key may take seconds.
        let is_small = action.is_built_in_file() && !matches!(action, Action::Key(_));
        if !job.helps && !mouth.tell(task, at, News::Begins(number), !is_small) {
            return;
        }
        let result = match action {
            Action::Step(..) => {
                let mut waits = |on| {
                    mouth.tell(task, Instant::now(), News::Waits(on), true);
                };
                steps::run(shared, task, &mut waits).map(Done::Step)
            }
            Action::Command(_) => command(shared, task).map(|output| Done::Command {
                output,
                started: job.began_at,
            }),
            _ => {
                let made = make(shared, task);
                if race.is_some_and(|race| race.over.swap(true, Ordering::Relaxed)) {
                    if !mouth.tell(task, Instant::now(), News::Lost, true) {
                        return;
                    }
                    continue;
                }
                let staged = made.and_then(|(inputs, bytes)| stage(shared, task, &inputs, bytes));
                staged.map(Done::File).map_err(Failure::from)
            }
        };
        let end = Instant::now();
        let (took, result) = (end - at, Box::new(result));
        let now = !action.is_built_in_file();
        if !mouth.tell(task, end, News::Ended { took, result }, now) {
            return;
        }
    }
}

/// The next of what was handed over, or else of a queue; all is said before that is waited for.
fn next(
    queue: &Mutex<Receiver<Vec<Job>>>,
    jobs: &mut std::vec::IntoIter<Job>,
    mouth: &mut Mouth,
) -> Option<Job> {
    if let Some(job) = jobs.next() {
        return Some(job);
    }
    // Somebody who waits for the next holds the queue.
    let at_once = queue
        .try_lock()
        .ok()
        .and_then(|queue| queue.try_recv().ok());
    let more = at_once.or_else(|| {
        let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        mouth.say_all().then(|| queue().recv().ok())?
    });
    *jobs = more?.into_iter();
    jobs.next()
}

impl Shared {
    /// Whether it is a key whose making is long, and how long a matter of chance: two large primes.
    fn takes_long(&self, id: TaskId) -> bool {
        let Action::Key(owner) = self.site.graph.task(id).action else {
            return false;
        };
        let algorithm = action::key_algorithm(&self.site.plan, owner);
        matches!(
            algorithm,
            Some(KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096)
        )
    }

    /// A file as this run has it: made and not yet published, or from disk.
    pub(super) fn read(&self, file: FileId) -> Result<Bytes, String> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = made().get(&file) {
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
            made().insert(file, bytes.clone());
        }
        Ok(bytes)
    }

    /// True for what thousands of clusters read: the root's files.
    pub(super) fn is_shared(&self, file: FileId) -> bool {
        let graph = &self.site.graph;
        let maker = graph.file_at(file).producer.map(|p| graph.task(p).action);
        maker.is_some_and(|action| {
            let owned = action.cluster().is_some() || action.workload().is_some();
            action.is_built_in_file() && !owned
        })
    }
}

/// What a file is made from, and its bytes.
fn make(shared: &Shared, id: TaskId) -> Result<(Vec<Bytes>, Content), String> {
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
        .map(|f| shared.read(*f))
        .collect::<Result<_, _>>()?;
    let bytes = match judged.and_then(|j| j.restore.as_deref()) {
        Some(copy) => Zeroizing::new(
            disk.read(copy)
                .map_err(|e| format!("cannot read {copy}: {e}"))?,
        ),
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
    Ok((inputs, Content::new(bytes)))
}

fn stage(shared: &Shared, id: TaskId, inputs: &[Bytes], bytes: Content) -> Result<Product, String> {
    let Site { plan, graph, .. } = &shared.site;
    let task = graph.task(id);
    let output = graph.file_at(task.outputs[0]);
    let facts = match task.action {
        Action::Key(_) => {
            let public = bytes.public_key().map_err(|e| e.to_string())?;
            Facts::Key {
                public: pki::digest(public),
            }
        }
        _ => freshness::facts(graph, task.outputs[0], &bytes)?,
    };
    let staged = shared.publisher.stage(
        &output.path,
        task.action.mode(),
        task.action.makes_key(),
        &bytes,
    );
    let staged = staged.map_err(|e| stage_error(&output.path, &e))?;
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
            vec![public, pki::digest(&inputs[issuer])]
        }
        Action::Chain(_) => inputs[1..].iter().map(|i| pki::digest(i)).collect(),
        Action::WorkloadChain(_) => inputs.iter().map(|i| pki::digest(i)).collect(),
        _ => vec![],
    };
    let digest = pki::digest(&bytes);
    let mut made = shared.made.lock().unwrap_or_else(PoisonError::into_inner);
    made.insert(task.outputs[0], Arc::new(bytes));
    Ok(Product {
        staged,
        digest,
        facts,
        inputs: deciding,
    })
}

fn stage_error(path: &Utf8Path, e: &std::io::Error) -> String {
    let hint = match e.kind() {
        std::io::ErrorKind::StorageFull => {
            ": free room, then run again; nothing half-written is left"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ": make its folder writable, or choose another work directory with -C"
        }
        _ => "",
    };
    format!("cannot write {path} ({e}){hint}")
}

fn command(shared: &Shared, id: TaskId) -> Result<String, Failure> {
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
