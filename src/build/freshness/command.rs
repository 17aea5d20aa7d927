//! The user's own tasks, judged as ninja judges: by mtime, by the record of the last run, by the recipe.

use super::{Judge, verdict::Judged};
use crate::{
    build::recipe::Recipe,
    graph::{FileId, TaskId},
};

impl Judge<'_> {
    /// As ninja judges: newer inputs by mtime, equal is up to date; also against the start of the last
    /// run, since an input may have changed while it ran.
    pub(super) fn command(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let mut newest: Option<(i64, FileId)> = None;
        for &input in &task.inputs {
            let entry = self.graph.file_at(input);
            let made = entry.producer.is_some();
            if made && self.rebuilt(input) {
                continue;
            }
            match self.eyes.disk.stat(&entry.path) {
                // A link's own time says nothing of what it leads to; the content's owner is asked.
                Ok(Some(stat)) => {
                    if newest.is_none_or(|(t, _)| stat.identity.mtime > t) {
                        newest = Some((stat.identity.mtime, input));
                    }
                }
                Ok(None) if made => {}
                Ok(None) => {
                    return Judged::obstacle(format!(
                        "input {} is missing, and nothing in the plan makes it",
                        entry.path
                    ));
                }
                Err(e) => {
                    return Judged::obstacle(format!("cannot look at input {}: {e}", entry.path));
                }
            }
        }
        if task.outputs.is_empty() {
            return Judged::stale("no-outputs", "it has no outputs: run");
        }
        let mut oldest: Option<(i64, FileId)> = None;
        for &output in &task.outputs {
            match self.eyes.disk.stat(&self.graph.file_at(output).path) {
                Ok(Some(stat)) => {
                    if oldest.is_none_or(|(t, _)| stat.identity.mtime < t) {
                        oldest = Some((stat.identity.mtime, output));
                    }
                }
                _ => {
                    return Judged::stale(
                        "output-missing",
                        format!("output {} is missing: run", self.graph.file_at(output).name),
                    );
                }
            }
        }
        if let Some(judged) = self.rebuilt_input(task, &task.inputs) {
            return judged;
        }
        if self.log.unfinished(&task.name) {
            return Judged::stale("unfinished", "its last run began and did not end: run");
        }
        let Some(known) = self.log.task(&task.name) else {
            return Judged::stale("no-record", "no run of it is on record: run");
        };
        let changes = Recipe::of(self.plan, task).changes_since(&known.recipe);
        if !changes.is_empty() {
            return Judged::stale("recipe-changed", format!("{}: run", changes.join(", ")));
        }
        if let (Some((input_time, input)), Some((output_time, output))) = (newest, oldest) {
            let input = &self.graph.file_at(input).name;
            if input_time > output_time {
                let output = &self.graph.file_at(output).name;
                return Judged::stale(
                    "input-newer",
                    format!("input {input} is newer than output {output}: run"),
                );
            }
            if input_time > known.started {
                return Judged::stale(
                    "input-newer",
                    format!("input {input} changed since its last run began: run"),
                );
            }
        }
        Judged::current()
    }
}
