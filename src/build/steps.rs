//! Children of a run: cluster steps with the files they push, and how any child is started so that an
//! interrupt reaches it and a later run knows of it.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Site,
    crew::{Failure, Shared},
};
use crate::{
    action::cluster::{self, Cacerts, Hands, Kind, Target, Wanted},
    graph::{Action, Step, TaskId},
    host::{
        path_variable,
        process::{self, Command, Finished},
    },
};

/// What a step did.
pub(super) struct StepDone {
    pub(super) changed: bool,
    pub(super) did: String,
}

/// First steps of clusters that no tool or context can reach, each with the reason. Asks this machine's
/// kubectl for its contexts, and no cluster for anything.
pub(super) fn preflight(site: &Site, tasks: &[TaskId]) -> Vec<(TaskId, String)> {
    let mut firsts: Vec<(usize, TaskId)> = Vec::new();
    for &id in tasks {
        if let Action::Step(cluster, _) = site.graph.task(id).action
            && !firsts.iter().any(|(c, _)| *c == cluster)
        {
            firsts.push((cluster, id));
        }
    }
    let plan = &site.plan;
    let targets: Vec<_> = firsts
        .iter()
        .filter_map(|(c, _)| Target::new(&plan.mesh, &plan.clusters[*c]))
        .collect();
    let path = path_variable();
    let found = |program: &str| process::path_lookup(program, &path).is_some();
    let mut run = |command: &Command| process::run(command, &site.interrupt, &mut |_| {});
    let absent = cluster::preflight(&targets, &site.tools, &found, &mut run);
    let task_of = |name: &str| {
        firsts
            .iter()
            .find(|(c, _)| plan.clusters[*c].name == name)
            .map(|(_, id)| *id)
    };
    absent
        .into_iter()
        .filter_map(|a| Some((task_of(&a.cluster)?, format!("{}: {}", a.why, a.how))))
        .collect()
}

/// Takes a cluster one step further.
pub(super) fn run(
    shared: &Shared,
    id: TaskId,
    cluster: usize,
    step: Step,
) -> Result<StepDone, Failure> {
    let Site {
        plan,
        graph,
        tools,
        interrupt,
        ..
    } = &shared.site;
    let task = graph.task(id);
    let target = Target::new(&plan.mesh, &plan.clusters[cluster]);
    let target = target.ok_or_else(|| Failure::from("its cluster has no context".to_owned()))?;
    let files: Vec<_> = task
        .inputs
        .iter()
        .map(|f| shared.read(*f))
        .collect::<Result<_, _>>()?;
    let wanted = match step {
        Step::Namespace => Wanted::Namespace,
        Step::Secret => Wanted::Secret(Cacerts {
            ca_cert: &files[0],
            ca_key: &files[1],
            cert_chain: &files[2],
            root_cert: &files[3],
        }),
        Step::Install => Wanted::Install {
            file: &graph.file_at(task.inputs[0]).path,
            yaml: &files[0],
        },
        Step::Ready => Wanted::Ready {
            root_cert: &files[0],
        },
    };
    let mut hands = Hands {
        run: &mut |command| child(shared, &task.name, command),
        wait: &mut |pause| {
            let end = Instant::now() + pause;
            while !interrupt.is_set() && Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(100).min(pause));
            }
        },
    };
    match cluster::perform(&wanted, &target, tools, &mut hands) {
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
