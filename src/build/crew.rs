//! The threads of a run, and what they are given and tell. They know nothing of which task needs which, nor of
//! what is published.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::{
    lane,
    publish::ToSync,
    scheduler::{Lane, Scheduler},
    steps,
    worker::{AtHand, Done, Failure, Shared, command, make, stage},
};
use crate::{
    graph::{Action, Few, TaskId},
    host::Core,
};

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
    /// What it makes is read by nobody but those that are handed over with it.
    private: bool,
}

/// What reaches the owner of the run. In a box a result would be memory that one thread takes and another gives
/// back, for which they wait for each other.
#[allow(clippy::large_enum_variant)]
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
#[allow(clippy::large_enum_variant)]
pub(super) enum News {
    /// The worker of that number, from 0 on among its pool's, begins it.
    Begins(usize),
    /// It waits for this.
    Waits(String),
    /// Another worker made it first.
    Lost,
    /// It was not begun: the run stops, or what it needs was not made.
    Left,
    /// It ended. The worker's number is there where nothing told yet that it began.
    Ended {
        began: Option<usize>,
        took: Duration,
        result: Result<Done, Failure>,
    },
}

/// Threads that take tasks from a queue: some for this machine's cores, some for clusters. There is a thread
/// more while there is more to do than threads, up to a limit.
pub(super) struct Crew {
    shared: Arc<Shared>,
    results: Sender<Vec<Message>>,
    here: Pool,
    clusters: Pool,
    children: HashSet<TaskId>,
    /// Small files of one cluster, each after what it needs, for one worker: two would wait for each other at
    /// its folder.
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

    pub(super) fn give(&mut self, id: TaskId, began_at: i64, child: bool, scheduler: &Scheduler) {
        let lane = lane(&self.shared.site.graph, id);
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
            private: false,
        };
        if lane != Lane::File || job.race.is_some() || cluster(&job).is_none() {
            return self.hand(lane, vec![job]);
        }
        let other = |first: &Job| cluster(first) != cluster(&job);
        if self.batch.first().is_some_and(other) {
            self.flush(scheduler);
        }
        self.batch.push(job);
    }

    /// What is kept to be handed out together.
    pub(super) fn kept(&self) -> Vec<TaskId> {
        self.batch.iter().map(|job| job.task).collect()
    }

    /// True of what would be handed out with what is kept.
    pub(super) fn joins(&self, id: TaskId) -> bool {
        let graph = &self.shared.site.graph;
        let cluster = |id| graph.task(id).action.cluster();
        lane(graph, id) == Lane::File
            && !self.shared.takes_long(id)
            && (self.batch.first()).is_some_and(|first| cluster(first.task) == cluster(id))
    }

    /// Hands out what was kept to be handed out together.
    pub(super) fn flush(&mut self, scheduler: &Scheduler) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let tasks: Few<TaskId> = batch.iter().map(|job| job.task).collect();
        for job in &mut batch {
            job.private = scheduler.serves_only(job.task, |next| tasks.contains(&next));
        }
        self.hand(Lane::File, batch);
    }

    /// Has workers that would be idle help with what takes long.
    pub(super) fn help(&mut self) {
        if self.shared.is_stopped() {
            return;
        }
        while self.here.at_work < self.here.limit
            && let Some((&task, (racers, race))) = self.races.iter_mut().min_by_key(|(_, r)| r.0)
        {
            *racers += 1;
            let job = Job {
                task,
                began_at: 0,
                race: Some(race.clone()),
                helps: true,
                private: false,
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
    // Of what was handed over together.
    let (mut unmade, mut at_hand) = (Vec::new(), AtHand::new());
    // Whoever listens no more has ended the run.
    loop {
        if jobs.as_slice().is_empty() {
            unmade.clear();
            at_hand.clear();
        }
        let Some(job) = next(queue, &mut jobs, &mut mouth) else {
            return;
        };
        let task = job.task;
        let action = shared.site.graph.task(task).action;
        // Nothing is begun after an interrupt. A child that was given is waited for, and ends at once.
        if shared.site.interrupt.is_set() && action.is_built_in_file() {
            mouth.say_all();
            return;
        }
        let race = job.race.as_deref();
        let stopped = shared.is_stopped() && !matches!(action, Action::Step(..));
        if stopped || shared.site.graph.before(task).any(|b| unmade.contains(&b)) {
            unmade.push(task);
            let begun = job.helps || race.is_some_and(|r| r.over.swap(true, Ordering::Relaxed));
            let news = if begun { News::Lost } else { News::Left };
            if !mouth.tell(task, Instant::now(), news, false) {
                return;
            }
            continue;
        }
        let at = race.map_or_else(Instant::now, |r| *r.since.get_or_init(Instant::now));
        let is_small = action.is_built_in_file() && race.is_none();
        // Of what ends at once that is told with its end.
        if !(job.helps || is_small || mouth.tell(task, at, News::Begins(number), true)) {
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
                let made = make(shared, task, &at_hand);
                if race.is_some_and(|race| race.over.swap(true, Ordering::Relaxed)) {
                    if !mouth.tell(task, Instant::now(), News::Lost, true) {
                        return;
                    }
                    continue;
                }
                let staged = made.and_then(|(inputs, bytes)| {
                    let product = stage(shared, task, &inputs, &bytes)?;
                    match job.private {
                        true => at_hand.push((shared.output(task), bytes)),
                        false => shared.keep(task, bytes),
                    }
                    Ok(Done::File(product))
                });
                staged.map_err(Failure::from)
            }
        };
        if result.is_err() {
            unmade.push(task);
            shared.failed(task);
        }
        let end = Instant::now();
        let news = News::Ended {
            began: is_small.then_some(number),
            took: end - at,
            result,
        };
        let now = !action.is_built_in_file();
        if !mouth.tell(task, end, news, now) {
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
