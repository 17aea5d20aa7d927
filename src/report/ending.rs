//! What the end of a run says, for people: what failed or was refused, what is left undone, the pods of clusters that
//! were changed, and how it went. It knows nothing of what is told before.

use std::fmt::Write;

use super::{
    Verbosity,
    event::Summary,
    pods::{row, table},
    summary::sentence,
    text::{Ink, Paint, clean_line, hang, names},
};
use crate::action::cluster::Pod;

/// So many failures are named again at the end, and as many in a row of one cause as they happen: a full disk fails
/// a thousand files in one breath.
pub(super) const FAILURES: usize = 20;

/// Undone steps of so many owners are listed without being asked for; a fleet's would bury what was done.
pub(crate) const OWNERS: usize = 10;

/// What is remembered for the end.
pub(super) struct Ending {
    verbosity: Verbosity,
    paint: Paint,
    failures: Vec<String>,
    /// The last failure's cause, and how many in a row had it.
    cause: (String, usize),
    /// Some were not told.
    hidden: bool,
    refusals: Vec<String>,
    undone: String,
    /// How many owners of undone steps were told of.
    owners: usize,
    /// Rows of the table of pods.
    pods: Vec<[String; 6]>,
}

impl Ending {
    pub(super) fn new(verbosity: Verbosity, paint: Paint) -> Self {
        Self {
            verbosity,
            paint,
            failures: Vec::new(),
            cause: (String::new(), 0),
            hidden: false,
            refusals: Vec::new(),
            undone: String::new(),
            owners: 0,
            pods: Vec::new(),
        }
    }

    fn is(&self, least: Verbosity) -> bool {
        self.verbosity >= least
    }

    /// Takes in pods of a cluster that was changed.
    pub(super) fn pods(&mut self, cluster: &str, pods: &[Pod]) {
        self.pods.extend(pods.iter().map(|pod| row(cluster, pod)));
    }

    /// Takes in a task and why it was refused.
    pub(super) fn refused(&mut self, what: String) {
        self.refusals.push(what);
    }

    /// Takes in a failure. True where it is to be told now as well; one whose child `spoke` always is.
    pub(super) fn failed(&mut self, task: &str, cause: &str, spoke: bool) -> bool {
        let first = cause
            .lines()
            .find(|l| !l.trim().is_empty())
            .unwrap_or("no cause is known");
        self.failures.push(format!("{task}: {}", first.trim()));
        if self.cause.0 != cause {
            self.cause = (cause.to_owned(), 0);
        }
        self.cause.1 += 1;
        let told = self.cause.1 <= FAILURES || spoke || self.is(Verbosity::Verbose);
        self.hidden |= !told;
        told
    }

    /// Takes in steps that are left undone: where it stands at the end, it is not scrolled away.
    pub(super) fn undone(&mut self, cluster: &str, steps: &[String], why: &str, how: &str) {
        self.owners += 1;
        if self.owners > OWNERS && !self.is(Verbosity::Verbose) {
            self.undone.clear();
            return;
        }
        let word = self.paint.ink(Ink::Cyan, "undone:");
        let _ = write!(
            self.undone,
            "{word} {}: {}: {}",
            clean_line(cluster),
            names(steps),
            hang(why, "        ")
        );
        let _ = write!(
            self.undone,
            "    {} {}",
            self.paint.ink(Ink::Cyan, "to have it done:"),
            hang(how, "        ")
        );
    }

    /// The last lines of a run.
    pub(super) fn lines(&self, summary: &Summary, work_dir: &str) -> String {
        let Summary {
            ran,
            exit_code,
            dry_run,
            ..
        } = *summary;
        let well = exit_code == 0;
        let mut talk = String::new();
        if self.is(Verbosity::Normal) {
            talk.push_str(&table(&self.pods));
        }
        // Who had nothing to do has read the notes before.
        let idle = well && ran == 0 && !dry_run;
        let listed = !self.undone.is_empty()
            && (!well || self.is(Verbosity::Verbose) || (!idle && self.is(Verbosity::Normal)));
        if listed {
            talk.push_str(&self.undone);
        }
        // Refusals are told before anything runs: only then can they have been scrolled away.
        let refusals = if ran > 0 && !dry_run {
            self.refusals.as_slice()
        } else {
            &[]
        };
        for (word, list) in [
            ("refused:", refusals),
            ("failed:", self.failures.as_slice()),
        ] {
            for line in list.iter().take(FAILURES) {
                let _ = writeln!(talk, "  {} {line}", self.paint.ink(Ink::Red, word));
            }
            if list.len() > FAILURES {
                let which = if self.hidden { " (-v tells which)" } else { "" };
                let _ = writeln!(talk, "  and {} more{which}", list.len() - FAILURES);
            }
        }
        if !well || self.is(Verbosity::Normal) {
            let _ = writeln!(
                talk,
                "{}",
                sentence(summary, idle, listed, work_dir, self.paint)
            );
        }
        talk
    }
}
