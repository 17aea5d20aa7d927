//! The engine: judges the wanted tasks, runs the stale ones, publishes what they make and tells it all
//! as events. It knows nothing of terminals, nor of what is inside a certificate.

pub mod bring;
pub mod clean;
mod crew;
pub mod destroy;
mod fleet;
pub mod freshness;
pub mod index;
pub mod log;
mod publish;
mod recipe;
mod runner;
mod scheduler;
mod steps;
pub mod verify;
mod worker;

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use indexmap::IndexMap;

pub use publish::Publisher;
pub use recipe::Recipe;
pub use scheduler::{Lane, Scheduler, State};

use crate::{
    action::{
        cluster::{Allowed, Tools},
        pki,
    },
    graph::{Action, Graph, TaskId},
    host::{
        Clock, Disk, Look,
        lock::{Lock, LockError},
        process::Interrupt,
    },
    plan::model::Plan,
    report::{
        Reporter,
        event::{Event, Summary, Verdict},
    },
};
use freshness::{Ask, Judgement, Verdicts};
use index::{Memory, Slice};
use log::Log;

/// meshplan's own folder below the work directory.
pub const STATE_DIR: &str = ".meshplan";

/// Where replaced files go.
pub fn archive_dir(plan: &Plan) -> Utf8PathBuf {
    plan.state_dir().join("archive")
}

/// What a run works on and with.
#[derive(Clone)]
pub struct Site {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its graph.
    pub graph: Arc<Graph>,
    /// Files.
    pub disk: Arc<dyn Disk + Send + Sync>,
    /// Time of day.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// kubectl and istioctl.
    pub tools: Tools,
    /// Ctrl-C and its kin.
    pub interrupt: Interrupt,
    /// The CA brought along, where the plan has one and its files are there.
    pub given: Option<Arc<pki::Issuer>>,
}

/// What is asked of a run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names asked for; empty means `all`.
    pub targets: Vec<String>,
    /// Folder that target paths start from.
    pub cwd: Utf8PathBuf,
    /// Names of `--force`.
    pub force: Vec<String>,
    /// `-B`.
    pub always: bool,
    /// `--allow rekey`.
    pub allow_rekey: bool,
    /// `--allow root-reissue`.
    pub allow_root_reissue: bool,
    /// `--allow take-over`, `other-root` and `other-mesh`: what may be replaced in a cluster.
    pub allowed: Allowed,
    /// `--allow other-cluster`: a context may reach another cluster than last time.
    pub other_cluster: bool,
    /// `-n`: judge and tell, change nothing.
    pub dry_run: bool,
    /// Tell verdicts of current tasks too.
    pub explain: bool,
    /// `-k`.
    pub keep_going: bool,
    /// `-j`: tasks at once on this machine.
    pub jobs: usize,
    /// `--cluster-jobs`: cluster steps at once.
    pub cluster_jobs: usize,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such target: exit 2.
    #[error("{0}")]
    Target(String),
    /// Another run is at work: exit 6.
    #[error("{0}")]
    Locked(String),
    /// The work directory cannot be used: exit 1.
    #[error("{what}: {source}")]
    Host {
        /// What was being done to which path, and what to do.
        what: String,
        /// The system's word.
        source: io::Error,
    },
}

/// Judges what is asked for and, but for a dry run, does it. Returns the summary that the last event told.
/// With a memory, nothing to do is remembered.
///
/// # Errors
/// Where nothing could begin; what fails on the way is told as events.
pub fn run(
    site: &Site,
    request: &Request,
    memory: Option<Memory>,
    reporter: &mut dyn Reporter,
) -> Result<Summary, RunError> {
    let mut teller = Teller::new(reporter);
    let targets = if request.targets.is_empty() {
        vec!["all".to_owned()]
    } else {
        request.targets.clone()
    };
    let resolve = |names: &[String]| {
        let found: Result<Vec<_>, _> = names
            .iter()
            .map(|n| site.graph.resolve(n, &request.cwd))
            .collect();
        found.map_err(RunError::Target)
    };
    let by_name = resolve(&targets)?;
    let wanted: Vec<_> = by_name.iter().flatten().copied().collect();
    let forced = resolve(&request.force)?;
    let is_step = |id: &TaskId| matches!(site.graph.task(*id).action, Action::Step(..));
    if let Some((name, _)) = request
        .force
        .iter()
        .zip(&forced)
        .find(|(_, tasks)| tasks.iter().all(is_step))
    {
        return Err(RunError::Target(format!(
            "`{name}` cannot be forced: a cluster step looks at its cluster each time, and changes what differs"
        )));
    }
    let ask = Ask {
        always: request.always,
        force: forced.concat().into_iter().collect(),
        allow_rekey: request.allow_rekey,
        allow_root_reissue: request.allow_root_reissue,
    };
    let order = site.graph.cone(&wanted);
    let (memory, slice) = match memory {
        Some(Memory {
            question,
            witness,
            slice,
        }) => (Some((question, witness)), slice.map(Slice::open)),
        None => (None, None),
    };
    let (lock, log, renewal) = match slice {
        Some((lock, log, renewal)) => (Some(lock), Some(log), Some(renewal)),
        None if request.dry_run => (None, None, None),
        None => (Some(enter(site)?), None, None),
    };
    teller.tell(Event::RunStarted {
        plan: site.plan.file.to_string(),
        work_dir: site.plan.work_dir.to_string(),
        targets,
        version: env!("CARGO_PKG_VERSION"),
        dry_run: request.dry_run,
    });
    let log_path = site.plan.state_dir().join("log");
    let log = match log {
        Some(log) => log,
        None => {
            Log::open(site.disk.clone(), log_path.clone()).map_err(|source| RunError::Host {
                what: format!("cannot read the build log {log_path}"),
                source,
            })?
        }
    };
    if let Some(trouble) = log.trouble() {
        teller.tell(Event::Warning {
            code: "log-lost",
            message: format!("the build log {log_path} {trouble}"),
            help: "keys and certificates are judged by what they hold; `task` nodes run again"
                .to_owned(),
        });
    }
    let disk: &dyn Look = match (&memory, &renewal) {
        (Some((_, witness)), None) => witness,
        _ => &*site.disk,
    };
    let names = index::before_walk(site);
    if let Some((_, witness)) = &memory {
        let paths = site.graph.files.len() + site.plan.clusters.len();
        witness.enter(&site.plan.work_dir, paths);
    }
    // kubectl, where it is asked for its contexts, takes as long as a walk.
    let (mut judgement, absent) = thread::scope(|scope| {
        let absent = lock
            .as_ref()
            .map(|_| scope.spawn(|| steps::preflight(site, &order)));
        let judgement = freshness::judge(site, disk, &log, &ask, &order);
        (judgement, absent.map(thread::ScopedJoinHandle::join))
    });
    let absent = absent.and_then(Result::ok).unwrap_or_default();
    tell_judgement(site, request, &judgement, &order, &mut teller);
    // A name that was asked for and can only be left undone is a failure, not a note.
    let denied = by_name.iter().any(|tasks| {
        matches!(tasks.as_slice(), [one] if judgement.tasks.get(*one).is_some_and(|j| j.verdict == Verdict::Undone))
    });
    let mut summary = match lock {
        None => runner::rehearse(site, &judgement, &order, &mut teller),
        Some(lock) => {
            let publisher =
                Publisher::open(site.disk.clone(), &site.plan.state_dir(), site.clock.now());
            let publisher = publisher.map_err(|source| RunError::Host {
                what: format!(
                    "cannot prepare {} (free room, or make it writable)",
                    site.plan.state_dir()
                ),
                source,
            })?;
            let publisher = publisher.knowing(std::mem::take(&mut judgement.listing));
            let memory = memory.filter(|_| !denied);
            let after: Box<dyn FnOnce(&Log)> = match (memory, renewal) {
                (Some((_, witness)), Some(renewal)) => {
                    Box::new(|log| index::renew(site, renewal, witness, log))
                }
                (Some((question, witness)), None) => {
                    index::remember(site, question, witness, &log, names, &judgement, &order);
                    Box::new(|_| {})
                }
                (None, _) => Box::new(|_| {}),
            };
            runner::Runner::new(site, request, log, lock, publisher, judgement, order).run(
                &absent,
                &mut teller,
                after,
            )
        }
    };
    if denied && summary.exit_code == 0 {
        summary.exit_code = 1;
    }
    summary.dry_run = request.dry_run;
    summary.millis = teller.elapsed().as_millis() as u64;
    teller.tell(Event::RunFinished(summary.clone()));
    Ok(summary)
}

/// Tells a run that is known to have nothing to do, and frees the work directory.
pub fn tell_known(known: index::Known, plan: &Utf8Path, reporter: &mut dyn Reporter) -> Summary {
    let mut teller = Teller::new(reporter);
    teller.tell(Event::RunStarted {
        plan: plan.to_string(),
        work_dir: known.work_dir.to_string(),
        targets: vec!["all".to_owned()],
        version: env!("CARGO_PKG_VERSION"),
        dry_run: false,
    });
    known
        .events
        .into_iter()
        .for_each(|event| teller.tell(event));
    known.lock.release();
    let summary = Summary {
        current: known.current,
        undone: known.undone,
        millis: teller.elapsed().as_millis() as u64,
        ..Summary::default()
    };
    teller.tell(Event::RunFinished(summary.clone()));
    summary
}

fn enter(site: &Site) -> Result<Lock, RunError> {
    let state = site.plan.state_dir();
    let work_dir = &site.plan.work_dir;
    let host = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "it, or a folder above it, is a file: move that away, or choose another with -C"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "it cannot be written to: choose another with -C"
            }
            io::ErrorKind::StorageFull => "the disk is full: free room, then run again",
            _ => "choose another with -C",
        };
        RunError::Host {
            what: format!("cannot use the work directory {work_dir} ({hint})"),
            source,
        }
    };
    site.disk.make_dir(work_dir, 0o755).map_err(host)?;
    site.disk.make_dir(&state, 0o700).map_err(host)?;
    Lock::take(&state.join("lock"), "meshplan run").map_err(|e| match e {
        LockError::Held(text) => RunError::Locked(format!("{work_dir}: {text}")),
        LockError::Io(e) => host(e),
    })
}

fn tell_judgement(
    site: &Site,
    request: &Request,
    judgement: &Judgement,
    order: &[TaskId],
    teller: &mut Teller,
) {
    for notice in &judgement.notices {
        let (message, help) = (notice.message.clone(), notice.help.clone());
        teller.tell(Event::Warning {
            code: notice.code,
            message,
            help,
        });
    }
    let mut shown = order.to_vec();
    shown.sort_unstable();
    for id in shown {
        let Some(judged) = judgement.tasks.get(id) else {
            continue;
        };
        if request.explain || judged.verdict != Verdict::Current {
            teller.tell(Event::verdict(
                site.graph.task(id).name.clone(),
                judged.verdict,
                judged.code,
                judged.why.clone(),
            ));
        }
    }
    teller.tell(Event::Planned {
        stale: judgement.tasks.count(&[Verdict::Stale]),
        current: judgement.tasks.count(&[Verdict::Current, Verdict::Adopted]),
    });
}

/// Passes events to the reporter with their time. A reader that went away ends no build.
pub struct Teller<'a> {
    reporter: &'a mut dyn Reporter,
    began: Instant,
}

impl<'a> Teller<'a> {
    /// Time starts now.
    pub fn new(reporter: &'a mut dyn Reporter) -> Self {
        Self {
            reporter,
            began: Instant::now(),
        }
    }

    /// Tells one event.
    pub fn tell(&mut self, event: Event) {
        self.tell_of(Instant::now(), event);
    }

    /// Tells what happened at that time.
    pub fn tell_of(&mut self, at: Instant, event: Event) {
        let _ = self
            .reporter
            .event(at.saturating_duration_since(self.began), &event);
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The lane a task runs in.
fn lane(graph: &Graph, id: TaskId) -> Lane {
    match graph.task(id).action {
        Action::Step(..) => Lane::Cluster,
        Action::Command(_) => Lane::Local,
        _ => Lane::File,
    }
}

/// Tells of tasks that are left undone, by the cluster, or task, they belong to.
fn undone<'a>(
    site: &'a Site,
    verdicts: &Verdicts,
    order: &[TaskId],
) -> impl Iterator<Item = Event> + use<'a> {
    let mut groups: IndexMap<[&'a str; 3], Vec<TaskId>, foldhash::fast::RandomState> =
        IndexMap::default();
    let mut order = order.to_vec();
    order.sort_unstable();
    for id in order {
        let task = site.graph.task(id);
        let left = verdicts
            .get(id)
            .is_some_and(|j| j.verdict == Verdict::Undone);
        let Some(undone) = task.undone.as_ref().filter(|_| left) else {
            continue;
        };
        let owner = task.action.cluster();
        let owner = owner.map_or(task.name.as_str(), |c| &site.plan.clusters[c].name);
        groups
            .entry([owner, &undone.why, &undone.how])
            .or_default()
            .push(id);
    }
    groups
        .into_iter()
        .map(|([cluster, why, how], steps)| Event::Undone {
            cluster: cluster.to_owned(),
            steps: steps
                .into_iter()
                .map(|id| site.graph.task(id).name.to_string())
                .collect(),
            why: why.to_owned(),
            how: how.to_owned(),
        })
}
