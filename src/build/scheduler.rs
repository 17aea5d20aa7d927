//! Which task may start next: a state machine over the wanted graph, without threads, clock or files.
//! Every change of state goes through `set`, which keeps queues and counts in step.

use std::collections::BTreeSet;

use crate::graph::{Few, Graph, TaskId};

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
    missing: u32,
    dependents: Few<TaskId>,
}

/// The place of a task that is not in the run.
const OUTSIDE: u32 = u32::MAX;

/// The tasks of one run.
#[derive(Debug)]
pub struct Scheduler {
    /// By task: a place in `entries`, or `OUTSIDE`.
    places: Vec<u32>,
    entries: Vec<Entry>,
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
        let mut places = vec![OUTSIDE; graph.tasks.len()];
        let mut entries = Vec::with_capacity(order.len());
        for (place, &id) in (0..).zip(order) {
            places[id.index()] = place;
            entries.push(Entry {
                state: State::Waiting,
                lane: lane(id),
                missing: 0,
                dependents: Few::new(),
            });
        }
        for (place, &id) in order.iter().enumerate() {
            let before = graph.before(id);
            let mut before: Few<u32> = before.map(|b| places[b.index()]).collect();
            before.retain(|place| *place != OUTSIDE);
            before.sort_unstable();
            before.dedup();
            for needed in &before {
                entries[*needed as usize].dependents.push(id);
            }
            entries[place].missing = before.len() as u32;
        }
        let limits = limits.map(|limit| limit.max(1));
        let open = order.len();
        let mut scheduler = Self {
            places,
            entries,
            ready: Default::default(),
            running: [0; LANES],
            limits,
            open,
            stopped: [false; LANES],
        };
        for (place, &id) in order.iter().enumerate() {
            if scheduler.entries[place].missing == 0 {
                scheduler.set(id, State::Ready);
            }
        }
        scheduler
    }

    fn entry(&self, id: TaskId) -> Option<&Entry> {
        self.entries.get(*self.places.get(id.index())? as usize)
    }

    fn entry_mut(&mut self, id: TaskId) -> Option<&mut Entry> {
        self.entries.get_mut(*self.places.get(id.index())? as usize)
    }

    fn dependents(&self, id: TaskId) -> Few<TaskId> {
        self.entry(id)
            .map(|e| e.dependents.clone())
            .unwrap_or_default()
    }

    fn set(&mut self, id: TaskId, state: State) {
        let Some(entry) = self.entry_mut(id) else {
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

    /// The next task that waits for nothing but `begun`, marked as running: whoever does those does it after
    /// them. Of a cluster's files each needs the one before, and whoever made that has it at hand.
    pub fn start_behind(
        &mut self,
        begun: &[TaskId],
        may: impl Fn(TaskId) -> bool,
    ) -> Option<TaskId> {
        let begun = || begun.iter().filter_map(|id| self.entry(*id));
        let dependents = begun().flat_map(|entry| &entry.dependents);
        let next = dependents.copied().find(|id| {
            self.entry(*id).is_some_and(|next| {
                let holds_back = |entry: &&Entry| entry.dependents.contains(id);
                next.state == State::Waiting
                    && !self.stopped[next.lane as usize]
                    && next.missing as usize == begun().filter(holds_back).count()
                    && may(*id)
            })
        })?;
        self.set(next, State::Running);
        Some(next)
    }

    /// True where nothing waits for a task but these.
    pub fn serves_only(&self, id: TaskId, these: impl Fn(TaskId) -> bool) -> bool {
        self.entry(id)
            .is_some_and(|entry| entry.dependents.iter().all(|next| these(*next)))
    }

    /// A task that was started was not begun.
    pub fn put_back(&mut self, id: TaskId) {
        let Some(entry) = self.entry(id).filter(|e| e.state == State::Running) else {
            return;
        };
        let waits = entry.missing > 0;
        self.set(id, if waits { State::Waiting } else { State::Ready });
    }

    /// A task succeeded: what it was the last to hold back may start.
    pub fn done(&mut self, id: TaskId) {
        self.set(id, State::Done);
        for next in self.dependents(id) {
            let Some(entry) = self.entry_mut(next) else {
                continue;
            };
            entry.missing -= 1;
            if entry.missing == 0 && entry.state == State::Waiting {
                self.set(next, State::Ready);
            }
        }
    }

    /// A task failed, or what it made could not be published. Returns what cannot run now because of it, and is
    /// not blocked already; what was started behind it was not begun.
    pub fn failed(&mut self, id: TaskId) -> Vec<TaskId> {
        let unmade = self.state(id) == Some(State::Running);
        self.set(id, State::Failed);
        let mut blocked = Vec::new();
        let mut stack = vec![id];
        while let Some(task) = stack.pop() {
            for next in self.dependents(task) {
                match self.state(next) {
                    Some(State::Waiting) => {}
                    Some(State::Running) if unmade => {}
                    _ => continue,
                }
                self.set(next, State::Blocked);
                blocked.push(next);
                stack.push(next);
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

    /// Tasks that have not ended.
    pub fn left(&self) -> usize {
        self.open
    }

    /// True where nothing runs and nothing more will start.
    pub fn is_over(&self) -> bool {
        self.running() == 0 && (0..LANES).all(|l| self.stopped[l] || self.ready[l].is_empty())
    }

    /// What a task is in; `None` for one that was not in the run.
    pub fn state(&self, id: TaskId) -> Option<State> {
        self.entry(id).map(|e| e.state)
    }

    /// Tasks that were neither run nor blocked.
    pub fn not_started(&self) -> usize {
        let waiting = |e: &&Entry| matches!(e.state, State::Waiting | State::Ready);
        self.entries.iter().filter(waiting).count()
    }
}
