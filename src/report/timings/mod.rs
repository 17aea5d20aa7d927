//! The timings of a run: what its events say of when, written as a page at its end. It knows tasks by
//! name, kind and what they come after; nothing of files, plans, or what is in a cluster.

mod critical;
mod data;
mod page;
mod record;
mod tables;
#[cfg(test)]
mod testing;

use std::{io, time::Duration};

use super::{
    Reporter,
    event::{Event, Summary},
};
use record::Record;
pub use record::{Kind, Task};

/// First bytes of every page: who is about to write over a file looks for them.
pub const MARK: &str = "<!DOCTYPE html>\n<!-- meshplan timings -->\n";

/// What the events do not say.
#[derive(Debug, Default)]
pub struct Frame {
    /// All tasks of the plan.
    pub tasks: Vec<Task>,
    /// Workers on this machine, at most.
    pub jobs: usize,
    /// Workers for cluster steps, at most.
    pub cluster_jobs: usize,
    /// The machine's cores.
    pub cores: usize,
    /// When the run began, for people.
    pub began: String,
}

/// Writes the page whole, or says why it could not.
pub type Keep = Box<dyn FnOnce(&str) -> Result<(), String> + Send>;

/// Passes events on, and writes the page before it passes on the last one.
pub struct Timings {
    inner: Box<dyn Reporter>,
    frame: Frame,
    record: Record,
    file: String,
    keep: Option<Keep>,
}

impl Timings {
    /// `keep` writes what `file` names.
    pub fn new(inner: Box<dyn Reporter>, mut frame: Frame, file: String, keep: Keep) -> Self {
        let record = Record::new(std::mem::take(&mut frame.tasks));
        Self {
            inner,
            frame,
            record,
            file,
            keep: Some(keep),
        }
    }

    fn write(&self, keep: Keep, summary: &Summary) -> Event {
        match keep(&page::page(&self.frame, &self.record, summary)) {
            Ok(()) => Event::Timings {
                file: self.file.clone(),
            },
            Err(message) => Event::Warning {
                code: "timings-unwritten",
                message,
                help: String::new(),
            },
        }
    }
}

impl Reporter for Timings {
    fn event(&mut self, at: Duration, event: &Event) -> io::Result<()> {
        let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        self.record.note(micros, event);
        let told = match (event, self.keep.take()) {
            (Event::RunFinished(summary), Some(keep)) => {
                let page = self.write(keep, summary);
                self.inner.event(at, &page)
            }
            (_, keep) => {
                self.keep = keep;
                Ok(())
            }
        };
        let passed = self.inner.event(at, event);
        told.and(passed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use super::*;

    /// Names of the events that came through.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Reporter for Heard {
        fn event(&mut self, _: Duration, event: &Event) -> io::Result<()> {
            let word = serde_json::to_value(event).unwrap()["event"].clone();
            self.0.lock().unwrap().push(word.as_str().unwrap().into());
            Ok(())
        }
    }

    #[test]
    fn the_page_is_told_before_the_last_event_and_a_page_that_is_lost_is_a_warning() {
        for (result, told) in [
            (Ok(()), "timings"),
            (Err("the disk is full".to_owned()), "warning"),
        ] {
            let heard = Heard::default();
            let keep = Box::new(move |page: &str| {
                assert!(page.starts_with(MARK));
                result
            });
            let inner = Box::new(heard.clone());
            let mut timings = Timings::new(inner, Frame::default(), "page.html".into(), keep);
            for event in [
                Event::Planned {
                    stale: 0,
                    current: 0,
                },
                Event::RunFinished(Summary::default()),
            ] {
                timings.event(Duration::ZERO, &event).unwrap();
            }
            assert_eq!(*heard.0.lock().unwrap(), ["planned", told, "run-finished"]);
        }
    }
}
