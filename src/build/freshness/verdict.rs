//! Verdicts as data: what is asked, what a task is in and why, what else was found. Nothing here
//! decides anything.

use std::borrow::Cow;

use camino::Utf8Path;
use foldhash::{HashMap, HashSet};
use smol_str::SmolStr;

use super::look::Listing;
use crate::{
    build::log::{FileRecord, TaskRecord},
    graph::TaskId,
    report::event::Verdict,
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
    /// Stable word of why.
    pub code: &'static str,
    /// Why, in a sentence.
    pub why: SmolStr,
    /// It cannot be carried out, such as where a folder is in its output's place: why says it.
    pub obstacle: bool,
    /// Move what has the output's name to the archive first.
    pub archive: bool,
    /// A key that others may read, to be narrowed to its owner.
    pub narrow: bool,
    /// Bring back these bytes instead of making new ones.
    pub restore: Option<Box<Utf8Path>>,
    /// What to note in the log of a task that does not run.
    pub record: Option<Box<TaskRecord>>,
}

impl Judged {
    pub(super) fn new(
        verdict: Verdict,
        code: &'static str,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            verdict,
            code,
            why: match why.into() {
                Cow::Borrowed(why) => SmolStr::new_static(why),
                Cow::Owned(why) => why.into(),
            },
            obstacle: false,
            archive: false,
            narrow: false,
            restore: None,
            record: None,
        }
    }

    /// `None` where it brings something for its task alone.
    fn alike(&self) -> Option<Alike> {
        let Self {
            verdict,
            code,
            why,
            obstacle,
            archive,
            narrow,
            restore,
            record,
        } = self;
        let shared = restore.is_none() && record.is_none();
        let marks = [*obstacle, *archive, *narrow];
        shared.then(|| (*verdict, *code, why.clone(), marks))
    }

    pub(super) fn current() -> Self {
        Self::new(
            Verdict::Current,
            "current",
            "nothing it depends on has changed",
        )
    }

    pub(super) fn stale(code: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Verdict::Stale, code, why)
    }

    pub(super) fn refused(code: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Verdict::Refused, code, why)
    }

    pub(super) fn obstacle(why: String) -> Self {
        Self {
            obstacle: true,
            ..Self::stale("obstacle", why)
        }
    }
}

/// Verdicts of tasks. Of a fleet nearly all are wanted, so each has its place, whether it is or not; and nearly
/// all are the same few, which are kept once.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// By task: a place in `each`, or `UNJUDGED`.
    places: Vec<u32>,
    each: Vec<Judged>,
    /// Where those are that carry nothing of their task's own.
    alike: HashMap<Alike, u32>,
}

/// What a verdict is told by.
type Alike = (Verdict, &'static str, SmolStr, [bool; 3]);

const UNJUDGED: u32 = u32::MAX;

impl Verdicts {
    /// Of a graph of so many tasks.
    pub(super) fn of(tasks: usize) -> Self {
        Self {
            places: vec![UNJUDGED; tasks],
            ..Self::default()
        }
    }

    pub(super) fn insert(&mut self, id: TaskId, judged: Judged) {
        let Some(place) = self.places.get_mut(id.index()) else {
            return;
        };
        let next = self.each.len() as u32;
        *place = match judged.alike() {
            Some(alike) => *self.alike.entry(alike).or_insert(next),
            None => next,
        };
        if *place == next {
            self.each.push(judged);
        }
    }

    /// That of a task; `None` where it was not judged.
    pub fn get(&self, id: TaskId) -> Option<&Judged> {
        self.each.get(*self.places.get(id.index())? as usize)
    }

    /// All that were judged, in plan order.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &Judged)> {
        let tasks = (0..self.places.len() as u32).map(TaskId);
        tasks.filter_map(|id| Some((id, self.get(id)?)))
    }

    /// How many are such.
    pub fn count(&self, wanted: &[Verdict]) -> usize {
        let such = |(_, judged): &(TaskId, &Judged)| wanted.contains(&judged.verdict);
        self.iter().filter(such).count()
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
    pub tasks: Verdicts,
    /// Things to tell.
    pub notices: Vec<Notice>,
    /// Files whose identity or content the log does not know as they are now.
    pub seen: Vec<(SmolStr, FileRecord)>,
    /// From then on the same files may be judged otherwise, seconds since 1970: a certificate comes near its end.
    pub until: i64,
    /// What was in the work directory, where that was asked.
    pub listing: Listing,
}

impl Default for Judgement {
    fn default() -> Self {
        Self {
            tasks: Verdicts::default(),
            notices: Vec::new(),
            seen: Vec::new(),
            until: i64::MAX,
            listing: Listing::default(),
        }
    }
}
