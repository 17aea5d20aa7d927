//! What people and programs are told of a run: events in, lines out. Nothing here knows what a task
//! does, and nothing here decides anything.

mod ending;
pub mod event;
mod human;
pub mod json;
mod plain;
mod pods;
mod progress;
mod summary;
#[cfg(test)]
mod testing;
mod text;
pub mod timings;

use std::{
    io::{self, Write},
    time::Duration,
};

pub(crate) use ending::OWNERS;
use event::Event;
use human::Human;
use json::Json;
use plain::{Pen, Plain};
use progress::{Progress, Screen};

/// Where a reporter writes.
pub type Sink = Box<dyn Write + Send>;

/// Tells what happens.
pub trait Reporter: Send {
    /// Tells one event; `at` is the time since the run began.
    ///
    /// # Errors
    /// What writing failed with. `BrokenPipe` says that the reader of standard output went away. It is
    /// returned once: a reporter for people goes on with standard error, and may be told more.
    fn event(&mut self, at: Duration, event: &Event) -> io::Result<()>;
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People: sentences on standard error, verdicts that were asked for on standard output.
    Human,
    /// Programs: one JSON object a line on standard output ([`json`]).
    Json,
}

/// How much people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing, unless something is wrong.
    Quiet,
    /// What was done.
    Normal,
    /// Starts, reasons and times too.
    Verbose,
}

/// How to tell.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Who reads.
    pub format: Format,
    /// With ANSI colours.
    pub color: bool,
    /// How much.
    pub verbosity: Verbosity,
    /// List verdicts with their reasons, on standard output.
    pub explain: bool,
    /// Nothing will be changed: list what would be.
    pub dry_run: bool,
    /// Standard error is a terminal: show progress there.
    pub terminal: bool,
}

/// The reporter for these options. Progress is drawn on the process's own standard error, and only
/// where that is a terminal that can move its cursor.
pub fn reporter(options: Options, stdout: Sink, stderr: Sink) -> Box<dyn Reporter> {
    let screen = (options.terminal && options.verbosity > Verbosity::Quiet && !options.dry_run)
        .then(Screen::stderr)
        .flatten();
    match (options.format, screen) {
        (Format::Json, _) => Box::new(Json::new(stdout)),
        (Format::Human, None) => Box::new(Plain::new(
            Human::new(options, true),
            Pen::new(stdout, stderr),
        )),
        // On a terminal the display shows what is going on; lines that stay are for what should be read.
        (Format::Human, Some(screen)) => Box::new(Progress::new(
            Human::new(options, options.verbosity == Verbosity::Verbose),
            Pen::new(stdout, stderr),
            screen,
            options.color,
        )),
    }
}
