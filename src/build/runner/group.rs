//! What a run made becomes visible, a group at a time: synced together, published in the order in which
//! it was made, noted in the log. When to do so is all it knows of the run.

use std::{sync::PoisonError, time::Duration};

use super::Runner;
use crate::{
    action::pki::Digest,
    build::{
        Site, Teller,
        crew::Product,
        log::{Facts, FileRecord, TaskRecord},
        publish::Staged,
        recipe::Recipe,
        scheduler::Scheduler,
    },
    graph::TaskId,
    report::event::Event,
};

/// Staged files are published when this many wait, or when the oldest waits this long: a kill then
/// costs little, and a sync is paid for many files at once.
const GROUP: usize = 1024;
const GROUP_AGE: Duration = Duration::from_secs(1);

impl Runner {
    /// True where enough waits, or the oldest has waited long enough.
    pub(super) fn is_group(&self) -> bool {
        let old = self.waiting_since.is_some_and(|t| t.elapsed() >= GROUP_AGE);
        old || self.waiting.len() >= GROUP
    }

    pub(super) fn flush_log(&mut self) -> Result<(), String> {
        let archive = |name: &str| self.shared.publisher.archive_name(name);
        self.log
            .flush(&archive)
            .map_err(|e| format!("cannot write the build log: {e}"))
    }

    /// Gives every staged file its name, in the order in which they were made.
    pub(super) fn publish(&mut self, scheduler: &mut Scheduler, teller: &mut Teller) {
        let group = std::mem::take(&mut self.waiting);
        self.waiting_since = None;
        if group.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        let graph = &shared.site.graph;
        // What is new is announced first: should this process end before it can note the file, the next
        // one knows it for its own.
        for (id, ..) in &group {
            let name = &graph.task(*id).name;
            if self.log.task(name).is_none() {
                self.log.put_start(name);
            }
        }
        let (staged, rest): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(
                |(
                    id,
                    Product {
                        staged,
                        digest,
                        facts,
                        inputs,
                    },
                    took,
                )| (staged, (id, digest, facts, inputs, took)),
            )
            .unzip();
        let ready = shared
            .publisher
            .sync(&staged)
            .map_err(|e| format!("cannot make the new files durable: {e}"));
        let ready = ready.and_then(|()| self.flush_log());
        for (staged, (id, digest, facts, inputs, took)) in staged.into_iter().zip(rest) {
            let lost = graph.before(id).find(|b| self.broken.contains(b));
            let done = match (&ready, lost) {
                (Err(cause), _) => Err(cause.clone()),
                (_, Some(lost)) => Err(format!("{} could not be published", graph.task(lost).name)),
                (Ok(()), None) => self.publish_one(id, &staged, digest, facts, inputs),
            };
            match done {
                Ok(()) => self.finished(id, true, String::new(), took, teller),
                Err(cause) => {
                    shared.publisher.discard(&staged);
                    self.task_failed(id, cause.into(), scheduler, teller);
                }
            }
            let output = graph.task(id).outputs[0];
            shared
                .made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&output);
        }
        if let Err(message) = self.flush_log() {
            let help = "what was built is judged by its content next time".to_owned();
            teller.tell(Event::Warning {
                code: "log-unwritten",
                message,
                help,
            });
        }
    }

    fn publish_one(
        &mut self,
        id: TaskId,
        staged: &Staged,
        digest: Digest,
        facts: Facts,
        inputs: Vec<Digest>,
    ) -> Result<(), String> {
        let Site {
            plan, graph, disk, ..
        } = &self.shared.site;
        let task = graph.task(id);
        let archive = self.shared.judged[&id]
            .archive
            .then_some(task.name.as_str());
        let text = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => format!(
                "{} appeared while it was being made; a key is never overwritten: look where it came from, then run again",
                staged.to
            ),
            _ => format!("cannot write {}: {e}", staged.to),
        };
        self.shared
            .publisher
            .publish(staged, archive)
            .map_err(text)?;
        let stat = disk.stat(&staged.to).map_err(text)?;
        let recipe = Recipe::of(plan, task);
        if let Some(stat) = stat {
            self.log.put_file(
                &task.name,
                FileRecord {
                    identity: stat.identity,
                    digest,
                    facts,
                },
            );
        }
        let record = TaskRecord {
            made: true,
            output: Some(digest),
            inputs,
            recipe,
            started: 0,
        };
        self.log.put_task(&task.name, record);
        Ok(())
    }

    pub(super) fn finish(&mut self, teller: &mut Teller) {
        let shared = self.shared.clone();
        let written = self.flush_log().and_then(|()| {
            if self.changed {
                shared
                    .publisher
                    .sync_names()
                    .map_err(|e| format!("cannot make the new names durable: {e}"))?;
                let compacted = self.log.compact(shared.publisher.stage_dir());
                compacted.map_err(|e| format!("cannot write the build log anew: {e}"))?;
            }
            Ok(())
        });
        if let Err(message) = written {
            let help = "what was built is judged by its content next time".to_owned();
            teller.tell(Event::Warning {
                code: "log-unwritten",
                message,
                help,
            });
        }
    }
}
