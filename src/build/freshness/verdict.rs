//! Verdicts as data: what is asked, what a task is in and why, what else was found. Nothing here
//! decides anything.

use std::collections::{HashMap, HashSet};

use camino::Utf8PathBuf;

use crate::{
    build::log::{FileRecord, TaskRecord},
    graph::TaskId,
    report::event::{Verdict, Why},
};

/// What the user asked for beyond the plan.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// `-B`: everything but keys and the root.
    pub always: bool,
    /// `--force`: these, whatever they are.
    pub force: HashSet<TaskId>,
    /// `--allow rekey`: a private key may be replaced.
    pub allow_rekey: bool,
    /// `--allow root-reissue`: the root certificate may be replaced.
    pub allow_root_reissue: bool,
}

/// A task's verdict with all that carrying it out needs.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it is in.
    pub verdict: Verdict,
    /// Why; the first reason is the decisive one.
    pub why: Vec<Why>,
    /// Why it cannot be carried out, such as a folder in its output's place.
    pub obstacle: Option<String>,
    /// Move what has the output's name to the archive first.
    pub archive: bool,
    /// Bring back these bytes instead of making new ones.
    pub restore: Option<Utf8PathBuf>,
    /// A key that others may read, to be narrowed to its owner.
    pub narrow: bool,
    /// What to note in the log of a task that does not run.
    pub record: Option<Box<TaskRecord>>,
}

impl Judged {
    pub(super) fn new(verdict: Verdict, code: &'static str, text: impl Into<String>) -> Self {
        let why = vec![Why {
            code,
            text: text.into(),
        }];
        Self {
            verdict,
            why,
            obstacle: None,
            archive: false,
            restore: None,
            narrow: false,
            record: None,
        }
    }

    pub(super) fn current() -> Self {
        Self::new(
            Verdict::Current,
            "current",
            "nothing it depends on has changed",
        )
    }

    pub(super) fn stale(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Stale, code, text)
    }

    pub(super) fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Refused, code, text)
    }

    pub(super) fn obstacle(text: String) -> Self {
        Self {
            obstacle: Some(text.clone()),
            ..Self::stale("obstacle", text)
        }
    }
}

/// Something to tell that decides nothing.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Stable word.
    pub code: &'static str,
    /// What is the case.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// What one walk found.
#[derive(Debug)]
pub struct Judgement {
    /// Verdicts of the wanted tasks.
    pub tasks: HashMap<TaskId, Judged>,
    /// Things to tell.
    pub notices: Vec<Notice>,
    /// Files whose identity or content the log does not know as they are now.
    pub seen: Vec<(String, FileRecord)>,
    /// From then on the same files may be judged otherwise, seconds since 1970: a certificate comes near its end.
    pub until: i64,
}

impl Default for Judgement {
    fn default() -> Self {
        Self {
            tasks: HashMap::new(),
            notices: Vec::new(),
            seen: Vec::new(),
            until: i64::MAX,
        }
    }
}
