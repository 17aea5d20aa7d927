//! Looking at files: what the log knows of an untouched one costs a stat, any other is read. It knows
//! what a file should hold, not what follows from it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use foldhash::{HashMap, HashSet};
use smol_str::SmolStr;
use zeroize::Zeroizing;

use crate::{
    action::{
        Content,
        pki::{self, Digest},
    },
    build::log::{Facts, FileRecord, Log},
    graph::{Action, FileId, Graph},
    host::{Kind, Look},
};

/// A look at one file.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Missing,
    /// Not a regular file, or not readable: what to say of it.
    Odd(String),
    /// A file that does not hold what its name promises: why.
    Broken(String),
    Sound(Sound),
}

/// What is known of a sound file; a walk holds one of each.
#[derive(Debug, Clone)]
pub(super) struct Sound {
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) digest: Digest,
    pub(super) facts: Facts,
}

impl From<FileRecord> for Sound {
    fn from(record: FileRecord) -> Self {
        Self {
            mode: record.identity.mode,
            digest: record.digest,
            facts: record.facts,
        }
    }
}

/// What was seen of each file. Nearly all of a graph's are looked at, so each has its place.
pub(super) struct Sights(Vec<Option<Seen>>);

impl Sights {
    /// Of a graph of so many files.
    pub(super) fn of(files: usize) -> Self {
        Self(vec![None; files])
    }

    pub(super) fn get(&self, file: FileId) -> Option<&Seen> {
        self.0.get(file.index())?.as_ref()
    }

    pub(super) fn insert(&mut self, file: FileId, seen: Seen) {
        if let Some(place) = self.0.get_mut(file.index()) {
            *place = Some(seen);
        }
    }
}

/// The names in a folder, where they were listed.
#[derive(Debug, Default)]
pub struct Listing {
    dir: Utf8PathBuf,
    names: Option<HashSet<String>>,
}

impl Listing {
    pub(super) fn of(dir: &Utf8Path, names: Option<Vec<String>>) -> Self {
        Self {
            dir: dir.to_owned(),
            names: names.map(|names| names.into_iter().collect()),
        }
    }

    /// True where nothing in the folder had that path.
    pub fn lacks(&self, path: &Utf8Path) -> bool {
        is_in(path, &self.dir) && self.lacks_name(path.file_name().unwrap_or_default())
    }

    /// True where it had no such name.
    pub(super) fn lacks_name(&self, name: &str) -> bool {
        let names = self.names.as_ref();
        names.is_some_and(|names| !names.contains(name))
    }
}

/// Files as this walk sees them, each looked at once.
pub(super) struct Eyes<'a> {
    pub(super) graph: &'a Graph,
    pub(super) log: &'a Log,
    pub(super) disk: &'a dyn Look,
    pub(super) seen: Sights,
    /// Folders of outputs, each looked at once.
    pub(super) folders: HashMap<&'a str, Option<Kind>>,
    pub(super) listing: Listing,
    /// Files that will be brought back, and from where: their bytes are there already.
    pub(super) back: HashMap<FileId, Utf8PathBuf>,
    /// Files whose identity or content the log does not know as they are now.
    pub(super) news: Vec<(SmolStr, FileRecord)>,
}

/// True of what stands in that folder itself. Paths are normalized: their texts tell as much as their parts, which take
/// ten times as long.
pub(super) fn is_in(path: &Utf8Path, dir: &Utf8Path) -> bool {
    let name = path.as_str().strip_prefix(dir.as_str());
    name.and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|name| !name.contains('/'))
}

impl<'a> Eyes<'a> {
    pub(super) fn look(&mut self, file: FileId) -> Seen {
        if let Some(seen) = self.seen.get(file) {
            return seen.clone();
        }
        let seen = self.look_now(file);
        self.seen.insert(file, seen.clone());
        seen
    }

    /// What a folder is; `None` where there is none.
    pub(super) fn folder(&mut self, dir: &'a Utf8Path) -> io::Result<Option<Kind>> {
        if let Some(kind) = self.folders.get(dir.as_str()) {
            return Ok(*kind);
        }
        let kind = match self.listing.lacks(dir) {
            true => None,
            false => self.disk.kind(dir)?,
        };
        self.folders.insert(dir.as_str(), kind);
        Ok(kind)
    }

    /// True where not even the folder of a file is there: a new mesh has thousands of such files.
    fn is_nowhere(&mut self, path: &'a Utf8Path) -> bool {
        let dir = path.parent();
        dir.is_some_and(|dir| matches!(self.folder(dir), Ok(None)))
    }

    fn look_now(&mut self, file: FileId) -> Seen {
        let entry = self.graph.file_at(file);
        if entry.producer.is_some() && self.is_nowhere(&entry.path) {
            return Seen::Missing;
        }
        let stat = match self.disk.stat(&entry.path) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Seen::Missing,
            Err(e) => return Seen::Odd(format!("cannot look at {}: {e}", entry.path)),
        };
        let ours = entry.producer.is_some();
        match stat.kind {
            Kind::File => {}
            Kind::Folder => {
                return Seen::Odd(format!(
                    "{} is a folder, and a file belongs there: move it away",
                    entry.path
                ));
            }
            Kind::Link if !ours => {}
            Kind::Link => {
                return Seen::Odd(format!(
                    "{} is a symbolic link; meshplan writes through none: move it away",
                    entry.path
                ));
            }
            Kind::Other => {
                return Seen::Odd(format!(
                    "{} is not a regular file: move it away",
                    entry.path
                ));
            }
        }
        if let Some(record) = self
            .log
            .file(&entry.name)
            .filter(|r| r.identity == stat.identity && ours)
        {
            return Seen::Sound(record.into());
        }
        let bytes = match self.disk.read(&entry.path) {
            Ok(bytes) => Content::new(Zeroizing::new(bytes)),
            Err(e) => return Seen::Odd(format!("cannot read {}: {e}", entry.path)),
        };
        let facts = match facts(self.graph, file, &bytes) {
            Ok(facts) => facts,
            Err(why) => return Seen::Broken(why),
        };
        let record = FileRecord {
            identity: stat.identity,
            digest: pki::digest(&bytes),
            facts,
        };
        if ours {
            self.news.push((entry.name.clone(), record.clone()));
        }
        Seen::Sound(record.into())
    }

    pub(super) fn bytes(&self, file: FileId) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.back.get(&file);
        self.disk
            .read(path.unwrap_or(&self.graph.file_at(file).path))
            .ok()
            .map(Zeroizing::new)
    }

    pub(super) fn digest_of(&mut self, file: FileId) -> Option<Digest> {
        match self.look(file) {
            Seen::Sound(file) => Some(file.digest),
            _ => None,
        }
    }

    pub(super) fn public_of(&mut self, file: FileId) -> Option<Digest> {
        match self.look(file) {
            Seen::Sound(Sound {
                facts: Facts::Key { public } | Facts::Cert { public, .. },
                ..
            }) => Some(public),
            _ => None,
        }
    }
}

/// Reads what a file holds by what its maker would put there.
pub fn facts(graph: &Graph, file: FileId, bytes: &Content) -> Result<Facts, String> {
    let entry = graph.file_at(file);
    let action = entry.producer.map(|p| graph.task(p).action);
    let cert = || {
        bytes.carried().map(|carried| Facts::Cert {
            public: carried.public_key,
            not_after: carried.not_after.unix_timestamp(),
        })
    };
    match action {
        Some(Action::Key(_)) => {
            let key = bytes.public_key().map(|public| Facts::Key {
                public: pki::digest(public),
            });
            key.map_err(|e| format!("it is not a private key ({e})"))
        }
        Some(Action::CaCert(_) | Action::WorkloadCert(_) | Action::RootCert | Action::Anchor) => {
            cert().map_err(|e| format!("it is not a certificate ({e})"))
        }
        // The issuing certificate of a CA brought along has no maker here, but an end that matters.
        None => Ok(cert().unwrap_or(Facts::Plain)),
        _ => Ok(Facts::Plain),
    }
}
