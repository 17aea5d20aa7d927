//! What the events of a run say of when: each task's start, ends and waits, and the worker it had. It
//! judges nothing.

use std::collections::HashMap;

use serde::Serialize;

use crate::report::event::Event;

/// What kind of work a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes a private key.
    Key,
    /// Signs a certificate.
    Sign,
    /// Joins a chain and checks it.
    Join,
    /// Copies a certificate.
    Copy,
    /// Writes a file from the plan.
    Write,
    /// Takes a cluster a step further.
    Step,
    /// Runs the user's command.
    Command,
}

impl Kind {
    /// All of them, in the order of a legend.
    pub(super) const ALL: [Self; 7] = [
        Self::Key,
        Self::Sign,
        Self::Join,
        Self::Copy,
        Self::Write,
        Self::Step,
        Self::Command,
    ];

    /// In a legend.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Key => "make a key",
            Self::Sign => "sign",
            Self::Join => "join a chain",
            Self::Copy => "copy",
            Self::Write => "write",
            Self::Step => "cluster step",
            Self::Command => "command",
        }
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Step => Lane::Cluster,
            _ => Lane::Local,
        }
    }
}

/// Whose workers do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    Local,
    Cluster,
}

impl Lane {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cluster => "cluster",
        }
    }
}

/// A task of the plan.
#[derive(Debug, Clone)]
pub struct Task {
    /// As events call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The cluster or workload it belongs to.
    pub group: Option<String>,
    /// Places of the tasks that must be done before, in the same list.
    pub after: Vec<usize>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// It did not: the run was interrupted, or ended before its file had its name.
    #[default]
    Unfinished,
    Done,
    /// A look found nothing to change.
    Current,
    Failed,
}

/// One task's times, in microseconds since the run began.
#[derive(Debug, Default, Clone)]
pub(super) struct Run {
    pub(super) start: Option<u64>,
    /// The worker had done its part; the run may have noticed later.
    pub(super) worked: Option<u64>,
    /// The worker was free again, and tasks that need this one could start.
    pub(super) freed: Option<u64>,
    /// All is done: a file has its name.
    pub(super) end: Option<u64>,
    /// Which of its lane's workers.
    pub(super) worker: usize,
    /// What that worker did before.
    pub(super) follows: Option<usize>,
    pub(super) state: State,
    /// Why it failed, or what it did.
    pub(super) told: String,
    /// What it waited for on the way, and since when.
    pub(super) waits: Vec<(u64, String)>,
}

/// A run.
#[derive(Debug, Default)]
pub(super) struct Record {
    by_name: HashMap<String, usize>,
    /// The plan's tasks.
    pub(super) tasks: Vec<Task>,
    /// What became of each of them.
    pub(super) runs: Vec<Run>,
    /// Tasks in the order in which they started.
    pub(super) started: Vec<usize>,
    /// What each worker of a lane did last.
    workers: [Vec<Option<usize>>; 2],
    pub(super) plan: String,
    pub(super) targets: Vec<String>,
    /// All tasks were judged.
    pub(super) planned: u64,
    /// The last event.
    pub(super) ended: u64,
}

impl Record {
    pub(super) fn new(tasks: Vec<Task>) -> Self {
        let names = tasks.iter().enumerate();
        Self {
            by_name: names.map(|(i, task)| (task.name.clone(), i)).collect(),
            runs: vec![Run::default(); tasks.len()],
            tasks,
            ..Self::default()
        }
    }

    /// Workers of a lane that had something to do.
    pub(super) fn workers(&self, lane: Lane) -> usize {
        self.workers[lane as usize].len()
    }

    /// Takes in an event.
    pub(super) fn note(&mut self, at: u64, event: &Event) {
        match event {
            Event::RunStarted { plan, targets, .. } => {
                (self.plan, self.targets) = (plan.clone(), targets.clone());
            }
            Event::Planned { .. } => self.planned = at,
            Event::TaskStarted { task, worker, .. } => self.start(at, task, *worker),
            Event::TaskWaits { task, on } => {
                if let Some(run) = self.run(task)
                    && run.waits.last().is_none_or(|(_, last)| last != on)
                {
                    run.waits.push((at, on.clone()));
                }
            }
            Event::TaskMade { task, micros } => {
                if let Some(run) = self.run(task) {
                    run.worked = run.start.map(|start| at.min(start.saturating_add(*micros)));
                }
                self.free(at, task);
            }
            Event::TaskFinished {
                task, changed, did, ..
            } => {
                let state = if *changed {
                    State::Done
                } else {
                    State::Current
                };
                self.end(at, task, state, did);
            }
            Event::TaskFailed { task, cause, .. } => {
                self.end(at, task, State::Failed, cause);
            }
            Event::RunFinished(_) => self.ended = at,
            _ => {}
        }
    }

    fn run(&mut self, name: &str) -> Option<&mut Run> {
        let id = *self.by_name.get(name)?;
        self.runs.get_mut(id)
    }

    fn start(&mut self, at: u64, name: &str, worker: usize) {
        let Some(&id) = self.by_name.get(name) else {
            return;
        };
        let workers = &mut self.workers[self.tasks[id].kind.lane() as usize];
        if workers.len() <= worker {
            workers.resize(worker + 1, None);
        }
        let run = &mut self.runs[id];
        run.start = Some(at);
        run.worker = worker;
        run.follows = workers[worker].replace(id);
        self.started.push(id);
    }

    fn free(&mut self, at: u64, name: &str) {
        let Some(&id) = self.by_name.get(name) else {
            return;
        };
        let run = &mut self.runs[id];
        if run.start.is_none() || run.freed.is_some() {
            return;
        }
        run.worked.get_or_insert(at);
        run.freed = Some(at);
    }

    fn end(&mut self, at: u64, name: &str, state: State, told: &str) {
        self.free(at, name);
        if let Some(run) = self.run(name) {
            run.end = Some(at);
            run.state = state;
            run.told = told.to_owned();
        }
    }
}
