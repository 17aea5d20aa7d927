//! The loop of a run: what may start is handed to workers, and what they tell is taken in. What becomes of files
//! that were made it leaves to `group`.

use std::{
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use smol_str::{SmolStr, format_smolstr};

use super::Runner;
use crate::{
    action::cluster::Absent,
    build::{
        Teller,
        crew::{Crew, Message, News},
        lane,
        log::{Inputs, TaskRecord},
        recipe::Recipe,
        scheduler::Scheduler,
        steps,
        worker::{Done, Failure},
    },
    graph::{Action, Step, TaskId},
    report::event::Event,
};

/// Files that a worker is given ahead, so that it waits for nobody between them.
const AHEAD: usize = 32;

impl Runner {
    pub(super) fn work(&mut self, stale: &[TaskId], absent: &[Absent], teller: &mut Teller) {
        if stale.is_empty() {
            return;
        }
        let graph = self.shared.site.graph.clone();
        let mut scheduler = Scheduler::new(
            &graph,
            stale,
            |id| lane(&graph, id),
            [self.jobs * AHEAD, self.jobs, self.cluster_jobs],
        );
        // What no tool or context can reach fails before anything runs; its files are built all the same.
        for (id, cause) in steps::absent(&self.shared.site, absent, stale) {
            let blocked = scheduler.failed(id);
            self.tell_failure(id, cause.into(), blocked, teller);
        }
        let (results, inbox) = mpsc::channel();
        let mut crew = Crew::new(self.shared.clone(), results, self.jobs, self.cluster_jobs);
        let interrupt = self.shared.site.interrupt.clone();
        loop {
            // The word of what failed may still be on its way.
            if interrupt.is_set() || self.shared.is_stopped() {
                scheduler.stop();
            }
            while let Some(id) = scheduler
                .start_behind(&crew.kept(), |id| crew.joins(id))
                .or_else(|| scheduler.start())
            {
                if let Err(failure) = self.start(id, &mut crew, &mut scheduler, teller) {
                    self.task_failed(id, failure, &mut scheduler, teller);
                }
            }
            crew.flush(&scheduler);
            if !interrupt.is_set() {
                crew.help();
            }
            self.sync_group(&crew, &scheduler);
            self.name_some(&mut scheduler, teller);
            let all_named = self.syncing.is_empty() && self.naming.is_none();
            let done = scheduler.is_over() && all_named;
            if done || (interrupt.is_set() && !crew.has_children()) {
                break;
            }
            for message in self.receive(&inbox) {
                match message {
                    Message::Task { task, at, news } => match news {
                        News::Begins(worker) => self.began(task, at, worker, teller),
                        News::Waits(on) => {
                            let task = self.name(task).clone();
                            teller.tell_of(at, Event::TaskWaits { task, on });
                        }
                        News::Lost => crew.lost(task),
                        News::Left => {
                            crew.ended(task);
                            scheduler.put_back(task);
                        }
                        News::Ended {
                            began,
                            took,
                            result,
                        } => {
                            crew.ended(task);
                            if let Some(worker) = began {
                                self.began(task, at - took, worker, teller);
                            }
                            self.receive_one(task, at, took, result, &mut scheduler, teller);
                        }
                    },
                    // One that was named in the meantime, for a child to find, was synced for that.
                    Message::Synced(group, synced) if group == self.group => {
                        self.synced(synced, &crew, &mut scheduler, teller);
                    }
                    Message::Synced(..) => {}
                }
            }
        }
        self.publish(&mut scheduler, teller);
        self.show_pods(teller);
        self.shared.fleet.give_back(&self.shared.site);
        self.summary.not_started = scheduler.not_started() + scheduler.running();
    }

    /// The next result; returns without one now and then, so that a signal and the age of staged files are seen, and
    /// at once where files wait for their names.
    fn receive(&self, inbox: &Receiver<Vec<Message>>) -> Vec<Message> {
        let patience = match self.naming {
            Some(_) => Duration::ZERO,
            None => Duration::from_millis(50),
        };
        let first = inbox.recv_timeout(patience);
        let mut messages = first.unwrap_or_default();
        messages.extend(inbox.try_iter().flatten());
        messages
    }

    fn began(&self, id: TaskId, at: Instant, worker: usize, teller: &mut Teller) {
        let task = self.shared.site.graph.task(id);
        let event = Event::TaskStarted {
            task: task.name.clone(),
            doing: doing(task.action, &task.name),
            worker,
        };
        teller.tell_of(at, event);
    }

    fn receive_one(
        &mut self,
        id: TaskId,
        at: Instant,
        took: Duration,
        result: Result<Done, Failure>,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        match result {
            Err(failure) => self.task_failed(id, failure, scheduler, teller),
            Ok(Done::File(product)) => {
                let task = self.name(id).clone();
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                teller.tell_of(at, Event::TaskMade { task, micros });
                self.waiting.push((id, product, took));
                self.waiting_since.get_or_insert_with(Instant::now);
                scheduler.done(id);
            }
            Ok(Done::Command { output, started }) => {
                let task = self.name(id).clone();
                if !output.is_empty() {
                    teller.tell(Event::Output {
                        task: task.clone(),
                        text: output,
                    });
                }
                let recipe = Recipe::of(&self.shared.site.plan, self.shared.site.graph.task(id));
                self.log.put_task(
                    &task,
                    TaskRecord {
                        made: true,
                        output: None,
                        inputs: Inputs::new(),
                        recipe,
                        started,
                    },
                );
                match self.flush_log() {
                    Ok(()) => {
                        self.finished(id, true, String::new(), took, teller);
                        scheduler.done(id);
                    }
                    Err(cause) => self.task_failed(id, cause.into(), scheduler, teller),
                }
            }
            Ok(Done::Step(step)) => {
                if let (true, Some(cluster)) = (
                    step.changed,
                    self.shared.site.graph.task(id).action.cluster(),
                ) {
                    self.changed_clusters.insert(cluster);
                }
                self.finished(id, step.changed, step.did, took, teller);
                scheduler.done(id);
            }
        }
    }

    fn start(
        &mut self,
        id: TaskId,
        crew: &mut Crew,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) -> Result<(), Failure> {
        let graph = self.shared.site.graph.clone();
        let task = graph.task(id);
        if let Some(judged) = self.judged(id).filter(|j| j.obstacle) {
            return Err(judged.why.to_string().into());
        }
        let child = !task.action.is_built_in_file();
        if child {
            // A child reads files by their names: what it needs must have them.
            self.publish(scheduler, teller);
            if let Some(lost) = graph.before(id).find(|b| self.broken.contains(b)) {
                return Err(format!("{} could not be published", self.name(lost)).into());
            }
        }
        let mut began_at = 0;
        if let Action::Command(_) = task.action {
            self.log.put_start(&task.name);
            self.flush_log()?;
            began_at = self
                .log
                .written_at()
                .map_err(|e| format!("cannot look at the build log: {e}"))?;
        }
        crew.give(id, began_at, child, scheduler);
        Ok(())
    }

    pub(super) fn finished(
        &mut self,
        id: TaskId,
        changed: bool,
        did: String,
        took: Duration,
        teller: &mut Teller,
    ) {
        if changed {
            self.summary.ran += 1;
            self.changed = true;
        } else {
            self.summary.current += 1;
        }
        let millis = took.as_millis() as u64;
        teller.tell(Event::TaskFinished {
            task: self.name(id).clone(),
            changed,
            did,
            millis,
        });
    }

    pub(super) fn task_failed(
        &mut self,
        id: TaskId,
        failure: Failure,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        self.broken.insert(id);
        self.shared.failed(id);
        let blocked = scheduler.failed(id);
        self.tell_failure(id, failure, blocked, teller);
        if self.shared.is_stopped() {
            scheduler.stop();
        } else if !self.shared.keep_going {
            scheduler.stop_clusters();
        }
    }

    pub(super) fn tell_failure(
        &mut self,
        id: TaskId,
        failure: Failure,
        blocked: Vec<TaskId>,
        teller: &mut Teller,
    ) {
        if failure.refused {
            self.summary.refused += 1;
        } else {
            self.summary.failed += 1;
        }
        self.summary.blocked += blocked.len();
        let blocked = blocked
            .into_iter()
            .map(|b| self.name(b).to_string())
            .collect();
        teller.tell(Event::TaskFailed {
            task: self.name(id).clone(),
            cause: failure.cause,
            stderr: failure.stderr,
            blocked,
        });
    }
}

fn doing(action: Action, name: &str) -> SmolStr {
    let verb = match action {
        Action::Key(_) => "make",
        Action::RootCert | Action::CaCert(_) | Action::WorkloadCert(_) => "sign",
        Action::Chain(_) | Action::WorkloadChain(_) => "join and check",
        Action::Anchor | Action::RootCopy(_) => "copy",
        Action::Install(_) => "write",
        Action::Step(_, Step::Install) => "run",
        Action::Step(_, Step::Ready | Step::Synced) => "prove",
        Action::Step(..) => "apply",
        Action::Command(_) => "run",
    };
    format_smolstr!("{verb} {name}")
}
