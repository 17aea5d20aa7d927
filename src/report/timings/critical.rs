//! What held a run up: why each task started no sooner, the chain of tasks that decided the end, and
//! what all waits were for. It judges a record, and knows neither clock nor page.

use std::collections::HashMap;

use super::record::{Kind, Lane, Record};

/// So many waits in clusters are told each by itself, the longest first.
const FEW: usize = 10;

/// Why a task started when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// From here on nothing that it needs was missing.
    pub(super) ready: u64,
    /// The last that it needed, of those that ran.
    pub(super) needs: Option<usize>,
    /// All workers had work when it was ready: the task whose end made room.
    pub(super) worker: Option<usize>,
}

/// What decided when a part of the path began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing but the judging of all tasks.
    First,
    /// The end of a task that it needs.
    Needs,
    /// The end of a task on its worker.
    Worker,
}

/// What the run did in a part of the critical path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It judged what is stale.
    Judging,
    /// This task, for that reason no sooner.
    Task(usize, Link),
    /// It gave files their names, for the next task or at the end.
    Naming,
    /// What else is between two tasks: results taken in, the next task given out.
    Between,
    /// The last notes.
    Closing,
}

/// A part of the critical path; each begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) what: What,
}

/// What a task waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum For {
    /// This task, which it needs.
    Needs(usize),
    /// A task of that kind, of some cluster or workload.
    OneOf(Kind),
    /// A free worker.
    Worker(Lane),
    /// Names of files that it reads.
    Names,
    /// The run, to take its result or to give it out.
    Run,
    /// Its file's name, which comes with its group's sync.
    Sync,
    /// Something in a cluster.
    On(String),
    /// One of so many other things in clusters.
    Others(usize),
}

/// All waits for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) what: For,
    /// How often.
    pub(super) times: usize,
    pub(super) sum: u64,
    pub(super) longest: u64,
    /// Whose wait was the longest.
    pub(super) whose: usize,
}

impl Record {
    /// When a worker was free again after a task; the run's end where it never was.
    pub(super) fn freed(&self, id: usize) -> u64 {
        self.runs[id].freed.unwrap_or(self.ended)
    }

    /// Microseconds that a worker had work with a task.
    pub(super) fn work(&self, id: usize) -> u64 {
        let run = &self.runs[id];
        let worked = run.worked.unwrap_or(self.ended);
        run.start.map_or(0, |start| worked.saturating_sub(start))
    }

    /// Needed tasks that ran, each with when it was done.
    fn before(&self, id: usize) -> impl Iterator<Item = (u64, usize)> + '_ {
        let after = self.tasks[id].after.iter();
        after.filter_map(|&b| Some((self.runs.get(b)?.freed?, b)))
    }

    /// Why a task started when it did; `None` for one that did not.
    pub(super) fn why(&self, id: usize) -> Option<Start> {
        let run = &self.runs[id];
        run.start?;
        let last = self.before(id).max();
        let ready = last.map_or(0, |(at, _)| at).max(self.planned);
        Some(Start {
            ready,
            needs: last.map(|(_, task)| task),
            worker: run.follows.filter(|f| self.freed(*f) > ready),
        })
    }

    /// What kept a task that was ready from its start; `names` are when files were given theirs.
    pub(super) fn held(&self, id: usize, start: Start, names: &[u64]) -> For {
        let began = self.runs[id].start.unwrap_or(start.ready);
        match start.worker {
            Some(_) => For::Worker(self.tasks[id].kind.lane()),
            None if self.named(names, start.ready, began) => For::Names,
            None => For::Run,
        }
    }

    /// True where files were given names in that time.
    fn named(&self, names: &[u64], from: u64, to: u64) -> bool {
        let first = names.partition_point(|at| *at <= from);
        names.get(first).is_some_and(|at| *at <= to)
    }

    /// When files were given names, sorted.
    pub(super) fn names(&self) -> Vec<u64> {
        let runs = self.runs.iter();
        let mut names: Vec<_> = runs
            .filter(|r| r.end > r.freed)
            .filter_map(|r| r.end)
            .collect();
        names.sort_unstable();
        names
    }

    /// The chain that decided the end, from the run's start to its end without a gap. Where nothing ran
    /// it is the judging alone.
    pub(super) fn path(&self) -> Vec<Leg> {
        let names = self.names();
        let mut legs = Vec::new();
        // Backwards: each leg ends where the one after it begins.
        let mut to = self.ended;
        let mut leg = |from: u64, what| {
            let from = from.min(to);
            match legs.last_mut() {
                // One sync may lie before and after the taking in of a result.
                Some(Leg {
                    from: later,
                    what: same,
                    ..
                }) if *same == what => *later = from,
                _ if from < to || matches!(what, What::Task(..)) => {
                    legs.push(Leg { from, to, what });
                }
                _ => {}
            }
            to = from;
        };
        let mut next = self
            .started
            .iter()
            .copied()
            .max_by_key(|id| self.freed(*id));
        if let Some(last) = next {
            let named = names.last().copied().unwrap_or(0).max(self.freed(last));
            leg(named, What::Closing);
            leg(self.freed(last), What::Naming);
        } else {
            leg(self.planned, What::Closing);
        }
        // No task is on it twice; a record that says otherwise must not keep this going.
        for _ in 0..self.started.len() {
            let Some(id) = next else { break };
            let (Some(start), Some(began)) = (self.why(id), self.runs[id].start) else {
                break;
            };
            let (link, cause) = match start {
                Start {
                    worker: Some(task), ..
                } => (Link::Worker, Some(task)),
                Start {
                    needs: Some(task), ..
                } => (Link::Needs, Some(task)),
                _ => (Link::First, None),
            };
            let pause = |from, to| {
                if self.named(&names, from, to) {
                    What::Naming
                } else {
                    What::Between
                }
            };
            let freed = self.freed(id);
            let worked = self.runs[id].worked.unwrap_or(freed);
            leg(worked, pause(worked, freed));
            leg(began, What::Task(id, link));
            let since = cause.map_or(self.planned, |cause| self.freed(cause));
            leg(since, pause(since, began));
            next = cause;
        }
        leg(0, What::Judging);
        legs.reverse();
        legs
    }

    /// The longest chain of needs, by the time that workers had with it: no number of workers gets below.
    pub(super) fn longest_chain(&self) -> u64 {
        let mut chains = vec![0; self.runs.len()];
        for &id in &self.started {
            let before = self.before(id).map(|(_, b)| chains[b]).max();
            chains[id] = before.unwrap_or(0) + self.work(id);
        }
        chains.into_iter().max().unwrap_or(0)
    }

    /// Microseconds that workers had work, all together.
    pub(super) fn busy(&self) -> u64 {
        self.started.iter().map(|id| self.work(*id)).sum()
    }

    /// What was waited for, the longest wait first.
    pub(super) fn waits(&self) -> Vec<Wait> {
        let names = self.names();
        let mut waits: HashMap<For, Wait> = HashMap::new();
        let mut add = |what: For, whose, from: u64, to: u64| {
            let time = to.saturating_sub(from);
            if time == 0 {
                return;
            }
            let wait = waits.entry(what.clone()).or_insert(Wait {
                what,
                times: 0,
                sum: 0,
                longest: 0,
                whose,
            });
            wait.times += 1;
            wait.sum += time;
            if time > wait.longest {
                (wait.longest, wait.whose) = (time, whose);
            }
        };
        for &id in &self.started {
            let run = &self.runs[id];
            let (Some(start), Some(began)) = (self.why(id), run.start) else {
                continue;
            };
            if let Some(needs) = start.needs {
                let what = match self.tasks[needs].group {
                    // Each cluster has its own: by their names they would be a list of clusters.
                    Some(_) => For::OneOf(self.tasks[needs].kind),
                    None => For::Needs(needs),
                };
                add(what, id, self.planned, start.ready);
            }
            add(self.held(id, start, &names), id, start.ready, began);
            let ends = run.waits.iter().skip(1).map(|(at, _)| *at);
            let ends = ends.chain([run.worked.unwrap_or(self.ended)]);
            for ((from, on), to) in run.waits.iter().zip(ends) {
                add(For::On(on.clone()), id, *from, to);
            }
            if let (Some(worked), Some(freed)) = (run.worked, run.freed) {
                add(For::Run, id, worked, freed);
                add(For::Sync, id, freed, run.end.unwrap_or(self.ended));
            }
        }
        let mut waits: Vec<_> = waits.into_values().collect();
        let by_length = |a: &Wait, b: &Wait| b.longest.cmp(&a.longest).then(a.what.cmp(&b.what));
        waits.sort_unstable_by(by_length);
        let mut few = 0;
        let others: Vec<_> = waits
            .extract_if(.., |w| {
                few += usize::from(matches!(w.what, For::On(_)));
                few > FEW && matches!(w.what, For::On(_))
            })
            .collect();
        if let Some(longest) = others.first() {
            waits.push(Wait {
                what: For::Others(others.len()),
                times: others.iter().map(|w| w.times).sum(),
                sum: others.iter().map(|w| w.sum).sum(),
                ..longest.clone()
            });
            waits.sort_unstable_by(by_length);
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timings::{record::State, testing::record};

    fn path(record: &Record) -> Vec<(u64, u64, String)> {
        let name = |what| match what {
            What::Task(id, link) => format!("{} {link:?}", record.tasks[id].name),
            other => format!("{other:?}"),
        };
        let legs = record.path();
        legs.iter().map(|l| (l.from, l.to, name(l.what))).collect()
    }

    fn legs(legs: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
        legs.iter()
            .map(|(from, to, what)| (*from, *to, (*what).to_owned()))
            .collect()
    }

    /// One worker, three keys and a certificate that needs the first of them.
    const QUEUE: &str = "10 planned
        11 start a/ca-key.pem
        20 made a/ca-key.pem 8
        21 start b/ca-key.pem
        40 made b/ca-key.pem 19
        41 start a/ca-cert.pem
        50 made a/ca-cert.pem 9
        70 done a/ca-key.pem
        71 done b/ca-key.pem
        72 done a/ca-cert.pem
        80 end";

    #[test]
    fn the_path_goes_through_the_task_whose_end_made_room() {
        let record = record(QUEUE);
        let expected = legs(&[
            (0, 10, "Judging"),
            (10, 11, "Between"),
            (11, 19, "a/ca-key.pem First"),
            (19, 21, "Between"),
            (21, 40, "b/ca-key.pem Worker"),
            (40, 41, "Between"),
            (41, 50, "a/ca-cert.pem Worker"),
            (50, 72, "Naming"),
            (72, 80, "Closing"),
        ]);
        assert_eq!(path(&record), expected);
        // The other key alone is longer than what needs the first, 8 + 9.
        assert_eq!((record.longest_chain(), record.busy()), (19, 36));
    }

    #[test]
    fn each_wait_has_its_cause() {
        let record = record(QUEUE);
        let told: Vec<_> = record
            .waits()
            .into_iter()
            .map(|w| (w.what, w.times, w.longest, w.sum, w.whose))
            .collect();
        let (key, other, cert) = (0, 1, 2);
        assert_eq!(
            told,
            [
                (For::Sync, 3, 50, 50 + 31 + 22, key),
                (For::Worker(Lane::Local), 2, 21, 11 + 21, cert),
                (For::OneOf(Kind::Key), 1, 10, 10, cert),
                // Given out a little late, and taken in a little late.
                (For::Run, 2, 1, 1 + 1, key),
            ]
        );
        assert_eq!(record.runs[other].follows, Some(key));
    }

    #[test]
    fn a_cluster_step_waits_for_names_and_for_what_its_cluster_does() {
        let record = record(
            "5 planned
            5 start a/ca-key.pem
            10 made a/ca-key.pem 5
            30 done a/ca-key.pem
            31 start a-secret
            40 waits a-secret the API server
            60 waits a-secret the API server
            70 waits a-secret a Lease
            90 done a-secret
            91 start b-secret
            95 fail b-secret
            99 end",
        );
        let expected = legs(&[
            (0, 5, "Judging"),
            (5, 10, "a/ca-key.pem First"),
            (10, 31, "Naming"),
            (31, 90, "a-secret Needs"),
            (90, 91, "Between"),
            (91, 95, "b-secret Needs"),
            (95, 99, "Closing"),
        ]);
        assert_eq!(path(&record), expected);
        let waits = record.waits();
        let longest = |what: &For| waits.iter().find(|w| w.what == *what).map(|w| w.longest);
        assert_eq!(longest(&For::Names), Some(21));
        assert_eq!(longest(&For::On("the API server".into())), Some(30));
        assert_eq!(longest(&For::On("a Lease".into())), Some(20));
        assert_eq!(record.runs[4].state, State::Failed);
    }

    #[test]
    fn an_interrupted_task_is_on_the_path_up_to_the_end_and_an_idle_run_has_only_judged() {
        let cut = record("1 planned\n1 start a-secret\n9 end");
        assert_eq!(
            path(&cut),
            legs(&[(0, 1, "Judging"), (1, 9, "a-secret First")])
        );
        let idle = record("7 planned\n9 end");
        assert_eq!(path(&idle), legs(&[(0, 7, "Judging"), (7, 9, "Closing")]));
    }
}
