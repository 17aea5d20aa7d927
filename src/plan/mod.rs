//! The plan language: text to a checked plan, or to all its problems. What lies around a plan
//! (variables, files) is reached through `Surroundings`, so nothing here touches the machine.

mod ca;
mod characters;
mod check;
mod cluster;
mod draw;
mod fields;
pub mod files;
mod form;
mod include;
pub mod model;
mod operator;
pub mod problem;
mod split;
mod syntax;
mod task;
mod value;
mod workload;

use std::io;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use model::Plan;
use problem::{Problem, Problems, Severity, Sources};
pub(crate) use value::{
    cluster_name, is_loopback, istio_version, label_value, shown, trust_domain,
};

/// The largest plan, include or values file: 16 MiB. The parser would take minutes for more.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a plan may look at.
pub trait Surroundings: Sync {
    /// A variable of the environment.
    fn var(&self, name: &str) -> Option<String>;
    /// A file's bytes.
    ///
    /// # Errors
    /// As of the system.
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>>;
    /// A file's size, so that a huge one is never read.
    ///
    /// # Errors
    /// As of the system.
    fn len(&self, path: &Utf8Path) -> io::Result<u64>;
    /// Names in a folder.
    ///
    /// # Errors
    /// As of the system; a missing folder is one.
    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>>;
}

/// Which plan to read, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The plan file, as the user named it.
    pub file: &'a Utf8Path,
    /// Absolute folder that `file` and `work_dir` start from.
    pub cwd: &'a Utf8Path,
    /// NAME=VALUE of the command line, which win over the environment, the last one first.
    pub assignments: &'a [(String, String)],
    /// `-C`, which wins over the plan's own `work-dir`.
    pub work_dir: Option<&'a Utf8Path>,
}

/// A sound plan.
#[derive(Debug)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// What should be looked at all the same.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a plan with all that it includes.
///
/// # Errors
/// Every problem of it, each with its places and what to write instead.
pub fn load(request: &Request, around: &dyn Surroundings) -> Result<Loaded, Problems> {
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    let words = check::NODES.map(|node| node.name);
    let read = include::read(request, around, &words, &mut sources, &mut problems);
    let plan = check::check(request, around, &read, sources.clone(), &mut problems);
    // As one reads: mistakes of the text and of its meaning are found in two walks.
    problems.sort_by_key(|p| p.labels.first().map(|(span, _)| (span.source, span.start)));
    let broken = problems.iter().any(|p| p.severity == Severity::Error);
    match plan {
        Some(plan) if !broken => Ok(Loaded {
            plan,
            warnings: problems,
        }),
        _ => Err(Problems {
            list: problems,
            sources,
        }),
    }
}

/// Where the top-level nodes of a text stand, in bytes; `None` where anything about them is wrong.
pub fn top_level(text: &str) -> Option<Vec<std::ops::Range<usize>>> {
    let mut problems = Vec::new();
    let words = check::NODES.map(|node| node.name);
    let chunks = split::split(0, text, &words, &mut problems);
    let sound = problems.is_empty() && chunks.iter().all(|c| !c.broken && c.missing.is_empty());
    sound.then(|| chunks.into_iter().map(|c| c.start..c.end).collect())
}

/// A path without `.` and `..`, told from its words alone: links are not followed.
pub fn normalize(path: &Utf8Path) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::new();
    for part in path.components() {
        match part {
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The name that was probably meant: the nearest of `names`, if it is near.
pub fn suggest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let lower = word.to_lowercase();
    // Lengths that differ by more are never near; among thousands of names this saves nearly all the work.
    let like = |name: &&str| name.len().abs_diff(word.len()) <= limit * 4;
    let distances = names
        .into_iter()
        .filter(like)
        .map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= limit && name != word).then_some(name)
}

#[cfg(test)]
mod tests;
