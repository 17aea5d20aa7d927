//! A witness of what a run asks of the machine and what it is told, so that the next run can ask the same
//! and compare. It knows nothing of what the answers mean.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use zeroize::Zeroizing;

use crate::{
    action::pki::{Digest, digest},
    host::{Folder, Kind, Look, Stat},
    plan::{MAX_BYTES, Surroundings},
};

/// A question and its answer, where the answer is worth a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Asked {
    /// A variable of the environment; `None` where it is not set.
    Variable(String, Option<Digest>),
    /// A file's bytes; `None` where they cannot be read.
    Bytes(Utf8PathBuf, Option<Digest>),
    /// The names in a folder; `None` where they cannot be listed.
    Names(Utf8PathBuf, Option<Digest>),
}

/// What a path was seen to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// Nothing has the name.
    Nothing,
    /// This kind of thing; what became of it since does not matter.
    Kind(Kind),
    /// This very thing, untouched.
    Stat(Stat),
}

/// Passes questions on and notes them with their answers.
pub struct Witness<'a, T> {
    machine: &'a T,
    notes: Mutex<Notes>,
}

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) asked: Vec<Asked>,
    /// By their paths from the work directory, where they are below it.
    pub(super) found: Vec<(SmolStr, Found)>,
    work_dir: Utf8PathBuf,
    /// A question had no answer that could be compared.
    pub(super) unsure: bool,
}

impl<'a, T: Look + Surroundings> Witness<'a, T> {
    /// Of what is asked of `machine`.
    pub fn new(machine: &'a T) -> Self {
        Self {
            machine,
            notes: Mutex::default(),
        }
    }

    /// Names of what is below that folder begin there from now on; of so many paths, about, will be asked.
    pub(in super::super) fn enter(&self, work_dir: &Utf8Path, paths: usize) {
        self.note(|notes| {
            notes.work_dir = work_dir.to_owned();
            notes.found.reserve(paths);
        });
    }

    /// Everything asked so far.
    pub(super) fn into_notes(self) -> Notes {
        self.notes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn asked(&self, asked: Asked) {
        self.note(|notes| notes.asked.push(asked));
    }

    fn read_bytes(&self, path: &Utf8Path, answer: &io::Result<Vec<u8>>) {
        // A pipe has nothing to say a second time, and what is being written says another thing.
        if let Ok(bytes) = answer
            && self.machine.len(path).ok() != Some(bytes.len() as u64)
        {
            self.note(|notes| notes.unsure = true);
        }
        self.asked(Asked::Bytes(path.to_owned(), bytes_digest(answer)));
    }

    fn found(&self, path: &Utf8Path, found: &io::Result<Option<Found>>) {
        self.note(|notes| match found {
            Ok(found) => {
                let path = path.as_str();
                let below = path.strip_prefix(notes.work_dir.as_str());
                let below = below.and_then(|path| path.strip_prefix('/'));
                let path = below.filter(|_| notes.work_dir != "").unwrap_or(path);
                let found = found.unwrap_or(Found::Nothing);
                notes.found.push((path.into(), found));
            }
            Err(_) => notes.unsure = true,
        });
    }
}

/// The digest of a listing, in whatever order the filesystem gave it.
fn names_digest(names: &io::Result<Vec<String>>) -> Option<Digest> {
    let mut names: Vec<&str> = names.as_ref().ok()?.iter().map(String::as_str).collect();
    names.sort_unstable();
    Some(digest(names.join("\0").as_bytes()))
}

fn bytes_digest(bytes: &io::Result<impl AsRef<[u8]>>) -> Option<Digest> {
    bytes.as_ref().ok().map(|bytes| digest(bytes.as_ref()))
}

impl Asked {
    /// Whether it is about that file's bytes.
    pub(super) fn is_of(&self, file: &Utf8Path) -> bool {
        matches!(self, Self::Bytes(path, _) if path == file)
    }

    /// Whether the machine gives the same answer now.
    pub(super) fn still(&self, machine: &impl Surroundings) -> bool {
        match self {
            Self::Variable(name, answer) => {
                machine.var(name).map(|value| digest(value.as_bytes())) == *answer
            }
            Self::Bytes(path, answer) => {
                // Nothing that is longer was ever taken.
                if machine.len(path).is_ok_and(|length| length > MAX_BYTES) {
                    return false;
                }
                // It may be a key: that of a CA brought along.
                let bytes = machine.read(path).map(Zeroizing::new);
                bytes_digest(&bytes) == *answer
            }
            Self::Names(dir, answer) => names_digest(&machine.list(dir)) == *answer,
        }
    }
}

impl<T: Look + Surroundings> Look for Witness<'_, T> {
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>> {
        let answer = self.machine.stat(path);
        let found = answer.as_ref().map(|stat| stat.map(Found::Stat));
        self.found(path, &found.map_err(|e| e.kind().into()));
        answer
    }

    fn kind(&self, path: &Utf8Path) -> io::Result<Option<Kind>> {
        let answer = self.machine.kind(path);
        let found = answer.as_ref().map(|kind| kind.map(Found::Kind));
        self.found(path, &found.map_err(|e| e.kind().into()));
        answer
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        let answer = Look::read(self.machine, path);
        self.read_bytes(path, &answer);
        answer
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        // A folder that is missing is an empty listing here, and an error to whoever compares.
        let answer = Look::list(self.machine, dir);
        let there = Surroundings::list(self.machine, dir);
        self.asked(Asked::Names(dir.to_owned(), names_digest(&there)));
        answer
    }
}

impl<T: Look + Surroundings> Surroundings for Witness<'_, T> {
    fn var(&self, name: &str) -> Option<String> {
        let answer = self.machine.var(name);
        let value = answer.as_ref().map(|value| digest(value.as_bytes()));
        self.asked(Asked::Variable(name.to_owned(), value));
        answer
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        let answer = Surroundings::read(self.machine, path);
        self.read_bytes(path, &answer);
        answer
    }

    /// A file of the same bytes has the same length.
    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        self.machine.len(path)
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        let answer = Surroundings::list(self.machine, dir);
        self.asked(Asked::Names(dir.to_owned(), names_digest(&answer)));
        answer
    }
}

impl Found {
    /// Whether the path, from that folder on, is the same now.
    pub(super) fn still(self, folder: &Folder, path: &str) -> bool {
        match (self, folder.stat(path)) {
            (Self::Nothing, Ok(None)) => true,
            (Self::Kind(kind), Ok(Some(now))) => now.kind == kind,
            (Self::Stat(stat), Ok(Some(now))) => now == stat,
            _ => false,
        }
    }
}
