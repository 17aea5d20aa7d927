//! Children of a run: cluster steps with the files they push, and how any child is started so that an
//! interrupt reaches it and a later run knows of it.

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use time::OffsetDateTime;

use super::{
    Site,
    worker::{Failure, Shared},
};
use crate::{
    action::{
        Bytes,
        cluster::{self, Absent, Allowed, Cacerts, Kind, Live, Machine, StepError, Target, Wanted},
        pki,
    },
    graph::{Action, FileId, Step, TaskId},
    host::{
        self, environment, lock, path_variable,
        process::{self, Command, Finished},
    },
};

/// What a step did.
pub(super) struct StepDone {
    pub(super) changed: bool,
    pub(super) did: String,
}

/// Clusters of these tasks that no tool or context can reach. Looks at this machine's kubeconfigs, or asks its
/// kubectl about them, and no cluster for anything.
pub(super) fn preflight(site: &Site, tasks: &[TaskId]) -> Vec<Absent> {
    let tasks = tasks.iter().map(|id| site.graph.task(*id));
    let steps = tasks.filter(|task| task.undone.is_none());
    let clusters: BTreeSet<usize> = steps.filter_map(|task| step_of(task.action)).collect();
    let targets: Vec<_> = clusters
        .into_iter()
        .filter_map(|c| Target::new(&site.plan, c, Allowed::default()))
        .collect();
    let path = path_variable();
    let mut machine = Machine {
        found: &|program| process::path_lookup(program, &path).is_some(),
        kubeconfig: &|path| kubeconfig(site, path),
        run: &mut |command| process::run(command, &site.interrupt, &mut |_| {}),
    };
    cluster::preflight(&targets, &site.tools, &mut machine)
}

/// What can be read of a kubeconfig, or of the user's own, which kubectl takes from `KUBECONFIG`'s list or
/// `~/.kube/config` (`kubectl config --help`). A relative path in the list is kubectl's to find.
fn kubeconfig(site: &Site, own: Option<&Utf8Path>) -> Vec<cluster::Kubeconfig> {
    let listed = || {
        let list = environment("KUBECONFIG").filter(|list| !list.is_empty());
        let home = || Some(environment("HOME")? + "/.kube/config");
        let list = list.or_else(home).unwrap_or_default();
        list.split(':').map(Utf8PathBuf::from).collect()
    };
    let paths = own.map_or_else(listed, |path| vec![path.to_owned()]);
    let read = |path: Utf8PathBuf| {
        // A pipe can be read only once.
        let kind = site.disk.kind(&path).ok()??;
        matches!(kind, host::Kind::File | host::Kind::Link).then(|| site.disk.read(&path).ok())?
    };
    let paths = paths.into_iter().filter(|path| path.is_absolute());
    paths
        .filter_map(read)
        .map(cluster::Kubeconfig::new)
        .collect()
}

/// The first step of each absent cluster, with the reason.
pub(super) fn absent(site: &Site, absent: &[Absent], tasks: &[TaskId]) -> Vec<(TaskId, String)> {
    let first = |name: &str| {
        let step = |id: &&TaskId| {
            let cluster = step_of(site.graph.task(**id).action);
            cluster.is_some_and(|c| site.plan.clusters[c].name == name)
        };
        tasks.iter().find(step).copied()
    };
    let absent = absent.iter();
    absent
        .filter_map(|a| Some((first(&a.cluster)?, format!("{}: {}", a.why, a.how))))
        .collect()
}

fn step_of(action: Action) -> Option<usize> {
    match action {
        Action::Step(cluster, _) => Some(cluster),
        _ => None,
    }
}

/// All that a step of a cluster is about.
pub(super) struct Matter<'a> {
    pub(super) target: Target<'a>,
    /// For a remote: its primary, where that is in reach.
    primary: Option<Target<'a>>,
    /// The cluster that is read.
    other: Option<Target<'a>>,
    step: Step,
    install: Option<&'a Utf8Path>,
    files: Vec<Bytes>,
    ends: OffsetDateTime,
}

impl<'a> Matter<'a> {
    /// Of the task's step; `read` gives its files.
    pub(super) fn of(
        site: &'a Site,
        id: TaskId,
        allowed: Allowed,
        read: &dyn Fn(FileId) -> Result<Bytes, String>,
    ) -> Result<Self, String> {
        let (plan, task) = (&site.plan, site.graph.task(id));
        let Action::Step(cluster, step) = task.action else {
            return Err(format!("{} is no step of a cluster", task.name));
        };
        let place = |place| {
            let target = Target::new(plan, place, allowed);
            target.ok_or_else(|| format!("cluster {} has no context", plan.clusters[place].name))
        };
        let target = place(cluster)?;
        let primary = target
            .primary
            .and_then(|p| plan.clusters.iter().position(|c| c.name == p));
        let files: Vec<_> = task
            .inputs
            .iter()
            .map(|f| read(*f))
            .collect::<Result<_, _>>()?;
        let ends = match step {
            Step::Secret => {
                pki::read_cert(&files[2])
                    .map_err(|e| e.to_string())?
                    .not_after
            }
            _ => OffsetDateTime::UNIX_EPOCH,
        };
        Ok(Self {
            primary: primary.and_then(|p| Target::new(plan, p, allowed)),
            other: match step {
                Step::Reads(other) => Some(place(other)?),
                _ => None,
            },
            install: task
                .inputs
                .first()
                .map(|f| site.graph.file_at(*f).path.as_path()),
            target,
            step,
            files,
            ends,
        })
    }

    /// What the step wants the cluster to be.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        let files = &self.files;
        match (self.step, &self.other, self.install) {
            (Step::Secret, ..) => Wanted::Secret(Cacerts {
                ca_cert: &files[0],
                ca_key: &files[1],
                cert_chain: &files[2],
                root_cert: &files[3],
                ends: self.ends,
            }),
            (Step::Install, _, Some(file)) => Wanted::Install {
                file,
                yaml: &files[0],
                primary: self.primary.as_ref(),
            },
            (Step::Gateway, ..) => Wanted::Gateway,
            (Step::Ready, ..) => Wanted::Ready {
                root_cert: &files[0],
            },
            (Step::Reads(_), Some(other), _) => Wanted::Reads(other),
            (Step::Synced, ..) => Wanted::Synced,
            _ => Wanted::Namespace,
        }
    }
}

/// Takes a cluster one step further. `waits` is told what takes time.
pub(super) fn run(
    shared: &Shared,
    id: TaskId,
    waits: &mut dyn FnMut(String),
) -> Result<StepDone, Failure> {
    let matter = Matter::of(&shared.site, id, shared.allowed, &|f| shared.read(f))?;
    let task = &shared.site.graph.task(id).name;
    let mut hands = Hands {
        shared,
        task,
        waits,
    };
    match cluster::perform(
        &matter.wanted(),
        &matter.target,
        &shared.site.tools,
        &mut hands,
    ) {
        Ok(outcome) => Ok(StepDone {
            changed: outcome.changed,
            did: outcome.did,
        }),
        Err(e) => Err(Failure {
            refused: e.kind == Kind::Refused,
            cause: e.cause,
            stderr: e.stderr,
        }),
    }
}

/// What a step of this run has of the world.
struct Hands<'a> {
    shared: &'a Shared,
    task: &'a str,
    waits: &'a mut dyn FnMut(String),
}

impl cluster::Hands for Hands<'_> {
    fn run(&mut self, command: &Command) -> io::Result<Finished> {
        child(self.shared, self.task, command)
    }

    fn wait(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.shared.site.interrupt.is_set() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(100).min(pause));
        }
    }

    fn look(&mut self, target: &Target<'_>) -> Result<Arc<Live>, StepError> {
        let (shared, task) = (self.shared, self.task);
        shared
            .fleet
            .look(target, &shared.site.tools, &mut |c| child(shared, task, c))
    }

    fn forget(&mut self, target: &Target<'_>) {
        self.shared.fleet.forget(target);
    }

    fn may_change(&mut self, target: &Target<'_>, first: bool) -> Result<(), StepError> {
        let (shared, task) = (self.shared, self.task);
        shared
            .fleet
            .fit(target, shared, &|c| child(shared, task, c))?;
        // Before the namespace there is no place for a Lease.
        match first {
            true => Ok(()),
            false => shared.fleet.hold(target, &shared.site.tools, self),
        }
    }

    fn waits(&mut self, on: &str) {
        (self.waits)(on.to_owned());
    }

    fn now(&self) -> OffsetDateTime {
        self.shared.site.clock.now()
    }

    fn holder(&self) -> String {
        lock::holder()
    }

    fn has_ended(&self, holder: &str) -> bool {
        lock::has_ended(holder)
    }
}

/// Runs a child of task `name`, noted in the lock file while it lives.
pub(super) fn child(shared: &Shared, name: &str, command: &Command) -> io::Result<Finished> {
    let mut pid = None;
    let ended = process::run(command, &shared.site.interrupt, &mut |started| {
        pid = Some(started);
        // A note that cannot be written keeps nothing from being built; only a later run knows less.
        let _ = shared.lock.child_started(started, name);
    });
    if let Some(pid) = pid {
        let _ = shared.lock.child_ended(pid);
    }
    ended
}
