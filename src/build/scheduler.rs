//! Which task may start next: a state machine over the wanted graph, without threads, clock or files.
//! Every change of state goes through `set`, which keeps queues and counts in step.

use std::collections::{BTreeSet, HashMap};

use crate::graph::{Graph, TaskId};

/// What bounds a task's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Files that are made here, on the machine's cores (`-j`).
    File,
    /// Children on the same cores.
    Local,
    /// API servers, which wait more than they work (`--cluster-jobs`).
    Cluster,
}

/// What a task is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Something it needs is not done yet.
    Waiting,
    /// It may start.
    Ready,
    /// It runs.
    Running,
    /// It is done, or needs nothing done.
    Done,
    /// It ran and failed.
    Failed,
    /// Something it needs failed.
    Blocked,
}

/// How many lanes there are.
pub const LANES: usize = 3;

impl State {
    fn is_end(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Blocked)
    }
}

#[derive(Debug)]
struct Entry {
    state: State,
    lane: Lane,
    /// Needed tasks that are not done.
    missing: usize,
    dependents: Vec<TaskId>,
}

/// The tasks of one run.
#[derive(Debug)]
pub struct Scheduler {
    entries: HashMap<TaskId, Entry>,
    /// In the order of the plan, which finishes one cluster before it begins the next.
    ready: [BTreeSet<TaskId>; LANES],
    running: [usize; LANES],
    limits: [usize; LANES],
    open: usize,
    stopped: [bool; LANES],
}

impl Scheduler {
    /// `order` holds the tasks that need doing, each after all that it needs; tasks outside it are done.
    /// `limits` bounds the tasks of each lane that are begun and not ended.
    pub fn new(
        graph: &Graph,
        order: &[TaskId],
        lane: impl Fn(TaskId) -> Lane,
        limits: [usize; LANES],
    ) -> Self {
        let mut entries: HashMap<_, _> = order
            .iter()
            .map(|id| {
                (
                    *id,
                    Entry {
                        state: State::Waiting,
                        lane: lane(*id),
                        missing: 0,
                        dependents: Vec::new(),
                    },
                )
            })
            .collect();
        for &id in order {
            let mut before: Vec<_> = graph
                .before(id)
                .filter(|b| entries.contains_key(b))
                .collect();
            before.sort_unstable();
            before.dedup();
            for needed in &before {
                if let Some(entry) = entries.get_mut(needed) {
                    entry.dependents.push(id);
                }
            }
            if let Some(entry) = entries.get_mut(&id) {
                entry.missing = before.len();
            }
        }
        let limits = limits.map(|limit| limit.max(1));
        let open = order.len();
        let mut scheduler = Self {
            entries,
            ready: Default::default(),
            running: [0; LANES],
            limits,
            open,
            stopped: [false; LANES],
        };
        for &id in order {
            if scheduler.entries[&id].missing == 0 {
                scheduler.set(id, State::Ready);
            }
        }
        scheduler
    }

    fn set(&mut self, id: TaskId, state: State) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let lane = entry.lane as usize;
        let before = std::mem::replace(&mut entry.state, state);
        match before {
            State::Running => self.running[lane] -= 1,
            State::Ready if state != State::Running => drop(self.ready[lane].remove(&id)),
            _ => {}
        }
        match state {
            State::Ready => drop(self.ready[lane].insert(id)),
            State::Running => self.running[lane] += 1,
            State::Done | State::Failed | State::Blocked if !before.is_end() => self.open -= 1,
            State::Done | State::Failed | State::Blocked => {}
            State::Waiting => {}
        }
    }

    /// The next task to start, marked as running; `None` where nothing may start now.
    pub fn start(&mut self) -> Option<TaskId> {
        let lane = (0..LANES).find(|l| {
            !self.stopped[*l] && self.running[*l] < self.limits[*l] && !self.ready[*l].is_empty()
        })?;
        let id = self.ready[lane].pop_first()?;
        self.set(id, State::Running);
        Some(id)
    }

    /// A task succeeded: what it was the last to hold back may start.
    pub fn done(&mut self, id: TaskId) {
        self.set(id, State::Done);
        let dependents = self
            .entries
            .get(&id)
            .map(|e| e.dependents.clone())
            .unwrap_or_default();
        for next in dependents {
            let Some(entry) = self.entries.get_mut(&next) else {
                continue;
            };
            entry.missing -= 1;
            if entry.missing == 0 && entry.state == State::Waiting {
                self.set(next, State::Ready);
            }
        }
    }

    /// A task failed, or what it made could not be published. Returns what cannot run now because of it, and is not blocked already.
    pub fn failed(&mut self, id: TaskId) -> Vec<TaskId> {
        self.set(id, State::Failed);
        let mut blocked = Vec::new();
        let mut stack = vec![id];
        while let Some(task) = stack.pop() {
            let dependents = self
                .entries
                .get(&task)
                .map(|e| e.dependents.clone())
                .unwrap_or_default();
            for next in dependents {
                if self
                    .entries
                    .get(&next)
                    .is_some_and(|e| e.state == State::Waiting)
                {
                    self.set(next, State::Blocked);
                    blocked.push(next);
                    stack.push(next);
                }
            }
        }
        blocked.sort_unstable();
        blocked
    }

    /// Starts nothing more.
    pub fn stop(&mut self) {
        self.stopped = [true; LANES];
    }

    /// Starts nothing more in clusters; files are built all the same.
    pub fn stop_clusters(&mut self) {
        self.stopped[Lane::Cluster as usize] = true;
    }

    /// Tasks running now.
    pub fn running(&self) -> usize {
        self.running.iter().sum()
    }

    /// True where nothing runs and nothing more will start.
    pub fn is_over(&self) -> bool {
        self.running() == 0 && (0..LANES).all(|l| self.stopped[l] || self.ready[l].is_empty())
    }

    /// What a task is in; `None` for one that was not in the run.
    pub fn state(&self, id: TaskId) -> Option<State> {
        self.entries.get(&id).map(|e| e.state)
    }

    /// Tasks that were neither run nor blocked.
    pub fn not_started(&self) -> usize {
        let waiting = |e: &&Entry| matches!(e.state, State::Waiting | State::Ready);
        self.entries.values().filter(waiting).count()
    }
}
