//! The build log: what each file was when it was last looked at, and what each task last made of
//! what. A line a record, each with a checksum; a later record replaces an earlier one. It knows
//! nothing of how a record is used.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use crate::{
    action::pki::Digest,
    host::{Disk, Identity},
};

const HEADER: &[u8] = b"meshplan-log 1\n";
const MAGIC: &[u8] = b"meshplan-log ";

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The file that this was read from.
    #[serde(with = "identity")]
    pub identity: Identity,
    /// SHA-256 of its bytes.
    #[serde(with = "hex")]
    pub digest: Digest,
    /// What it holds.
    pub facts: Facts,
}

/// What a file holds, as far as freshness asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Facts {
    /// A private key.
    Key {
        /// SHA-256 of its public half.
        #[serde(with = "hex")]
        public: Digest,
    },
    /// A certificate.
    Cert {
        /// SHA-256 of the public key it carries.
        #[serde(with = "hex")]
        public: Digest,
        /// End of its validity, seconds since 1970.
        not_after: i64,
    },
    /// Any other bytes.
    Plain,
}

/// What a task last made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// False for a file that was found and taken over.
    pub made: bool,
    /// What the output was; `None` for tasks whose outputs are told by mtime.
    #[serde(with = "hex_option", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Digest>,
    /// What decided about it: a key's public half, an issuer's certificate.
    #[serde(with = "hex_list", default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Digest>,
    /// The part of the plan that it read.
    pub recipe: Recipe,
    /// The filesystem's time when it started, nanoseconds since 1970.
    #[serde(default)]
    pub started: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    File(String, FileRecord),
    Task(String, TaskRecord),
    /// A user's command began; its outputs are not to be trusted before its `Task` record.
    Start(String),
    /// A file or task that is no more.
    Gone(String),
}

/// The log in memory, and its file.
pub struct Log {
    disk: Arc<dyn Disk + Send + Sync>,
    path: Utf8PathBuf,
    files: HashMap<String, Noted<FileRecord>>,
    tasks: HashMap<String, Noted<TaskRecord>>,
    started: HashSet<String>,
    /// Bytes of whole records on disk; `None` where there is no usable file yet.
    length: Option<u64>,
    /// What has the log's name is not a log of this version: it is kept, not written over.
    foreign: bool,
    records: usize,
    pending: Vec<u8>,
    trouble: Option<String>,
    /// Of a log of which only a part is known: its length then.
    part: Option<u64>,
    /// Places are not what they were: something was forgotten, or the log written anew.
    forgot: bool,
}

/// A record, and where it begins in bytes from the start of the log.
#[derive(Debug)]
struct Noted<T> {
    record: T,
    place: u64,
}

/// Where the records of a file and of a task of one name begin.
pub type Places = [Option<u64>; 2];

impl Log {
    /// Reads the log at `path`. A missing one is empty; a torn tail is left out and cut by the next write;
    /// one of another version is left out, and moved to `archive` by the next write.
    ///
    /// # Errors
    /// As of reading the file.
    pub fn open(disk: Arc<dyn Disk + Send + Sync>, path: Utf8PathBuf) -> io::Result<Self> {
        let bytes = match disk.read(&path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut log = Self::empty(disk, path);
        if let Some(bytes) = bytes {
            log.load(&bytes);
        }
        Ok(log)
    }

    fn empty(disk: Arc<dyn Disk + Send + Sync>, path: Utf8PathBuf) -> Self {
        Self {
            disk,
            path,
            files: HashMap::new(),
            tasks: HashMap::new(),
            started: HashSet::new(),
            length: None,
            foreign: false,
            records: 0,
            pending: Vec::new(),
            trouble: None,
            part: None,
            forgot: false,
        }
    }

    /// A sound log of `length` bytes, of which only these records are known. Of no other may be asked; it is
    /// appended to as any, and never written anew. `None` where a record is torn.
    pub fn part(
        disk: Arc<dyn Disk + Send + Sync>,
        path: Utf8PathBuf,
        length: u64,
        records: &[Vec<u8>],
    ) -> Option<Self> {
        let mut log = Self {
            length: Some(length),
            part: Some(length),
            ..Self::empty(disk, path)
        };
        for record in records {
            log.apply(decode(record)?, 0);
        }
        Some(log)
    }

    /// Where records stand, by the names of their files and tasks: of a part of a log those that were noted since;
    /// `None` where something was forgotten too.
    pub fn places(&self) -> Option<BTreeMap<&str, Places>> {
        let since = self.part.unwrap_or(0);
        let mut places: BTreeMap<&str, Places> = BTreeMap::new();
        let files = self
            .files
            .iter()
            .map(|(name, noted)| (name, 0, noted.place));
        let tasks = self
            .tasks
            .iter()
            .map(|(name, noted)| (name, 1, noted.place));
        for (name, kind, place) in files.chain(tasks).filter(|(_, _, place)| *place >= since) {
            places.entry(name).or_default()[kind] = Some(place);
        }
        (!self.forgot).then_some(places)
    }

    /// Bytes on disk, where those are all that is known here and nothing else is there.
    pub fn settled_length(&self) -> Option<u64> {
        let quiet = self.trouble.is_none() && !self.is_dirty();
        self.length.filter(|_| quiet)
    }

    fn load(&mut self, bytes: &[u8]) {
        let Some(mut rest) = bytes.strip_prefix(HEADER) else {
            // A header cut short is a log that never held a record.
            if !HEADER.starts_with(bytes) {
                let known = bytes.starts_with(MAGIC);
                let what = if known {
                    "is of another meshplan's version"
                } else {
                    "is not a log"
                };
                self.trouble = Some(what.to_owned());
                self.foreign = true;
            }
            return;
        };
        let mut good = HEADER.len();
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let Some(record) = decode(&rest[..end]) else {
                break;
            };
            self.apply(record, good as u64);
            self.records += 1;
            good += end + 1;
            rest = &rest[end + 1..];
        }
        let lost = rest.iter().filter(|b| **b == b'\n').count();
        if lost > 1 {
            self.trouble = Some(format!("is damaged: {lost} records are lost"));
        }
        self.length = Some(good as u64);
    }

    fn apply(&mut self, record: Record, place: u64) {
        match record {
            Record::File(name, record) => {
                self.files.insert(name, Noted { record, place });
            }
            Record::Task(name, record) => {
                self.started.remove(&name);
                self.tasks.insert(name, Noted { record, place });
            }
            Record::Start(name) => {
                self.tasks.remove(&name);
                self.started.insert(name);
            }
            Record::Gone(name) => {
                self.files.remove(&name);
                self.tasks.remove(&name);
                self.started.remove(&name);
            }
        }
    }

    /// What is wrong with the log as it was found, if anything: it then knows less than it did.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What is known of a file.
    pub fn file(&self, name: &str) -> Option<&FileRecord> {
        Some(&self.files.get(name)?.record)
    }

    /// What a task last made.
    pub fn task(&self, name: &str) -> Option<&TaskRecord> {
        Some(&self.tasks.get(name)?.record)
    }

    /// True where a command began and did not end.
    pub fn unfinished(&self, name: &str) -> bool {
        self.started.contains(name)
    }

    /// Every task that left a record.
    pub fn task_names(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// Notes a file; in memory at once, on disk with the next `flush`.
    pub fn put_file(&mut self, name: &str, record: FileRecord) {
        self.put(Record::File(name.to_owned(), record));
    }

    /// Notes a finished task.
    pub fn put_task(&mut self, name: &str, record: TaskRecord) {
        self.put(Record::Task(name.to_owned(), record));
    }

    /// Notes that a command begins.
    pub fn put_start(&mut self, name: &str) {
        self.put(Record::Start(name.to_owned()));
    }

    /// Forgets a file or task.
    pub fn put_gone(&mut self, name: &str) {
        self.put(Record::Gone(name.to_owned()));
    }

    fn put(&mut self, record: Record) {
        self.forgot |= matches!(record, Record::Start(_) | Record::Gone(_));
        let place = self.length.unwrap_or(HEADER.len() as u64) + self.pending.len() as u64;
        encode(&record, &mut self.pending);
        self.records += 1;
        self.apply(record, place);
    }

    /// True where something is noted that the file does not hold yet.
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Appends what was noted. `archive` finds a place for a log that cannot be appended to.
    ///
    /// # Errors
    /// As of writing the file; what was written in part is cut off again where that is possible.
    pub fn flush(&mut self, archive: &dyn Fn(&str) -> io::Result<Utf8PathBuf>) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let found = self.disk.stat(&self.path)?;
        let length = match (self.length, found) {
            (Some(length), Some(stat)) => {
                if stat.identity.size != length {
                    self.disk.truncate(&self.path, length)?;
                }
                length
            }
            (_, found) => {
                match found {
                    Some(_) if self.foreign => self.disk.rename(&self.path, &archive("log")?)?,
                    // A header cut short.
                    Some(_) => self.disk.truncate(&self.path, 0)?,
                    None => {}
                }
                self.foreign = false;
                self.disk.append(&self.path, HEADER)?;
                HEADER.len() as u64
            }
        };
        self.length = Some(length);
        if let Err(e) = self.disk.append(&self.path, &self.pending) {
            // The next run cuts a torn tail itself, should this fail as well.
            let _ = self.disk.truncate(&self.path, length);
            return Err(e);
        }
        self.length = Some(length + self.pending.len() as u64);
        self.pending.clear();
        Ok(())
    }

    /// Writes the log anew where most of its records are replaced ones.
    ///
    /// # Errors
    /// As of writing; the old log then stays.
    pub fn compact(&mut self, stage: &camino::Utf8Path) -> io::Result<()> {
        let live = self.files.len() + self.tasks.len() + self.started.len();
        if self.part.is_some() || self.records < 2 * live + 256 {
            return Ok(());
        }
        let mut bytes = HEADER.to_vec();
        let files = self
            .files
            .iter()
            .map(|(n, f)| Record::File(n.clone(), f.record.clone()));
        let tasks = self
            .tasks
            .iter()
            .map(|(n, t)| Record::Task(n.clone(), t.record.clone()));
        let started = self.started.iter().map(|n| Record::Start(n.clone()));
        files
            .chain(tasks)
            .chain(started)
            .for_each(|record| encode(&record, &mut bytes));
        let next = stage.join("log");
        self.disk.create(&next, 0o600, &bytes)?;
        self.disk.sync(stage)?;
        self.disk.rename(&next, &self.path)?;
        self.length = Some(bytes.len() as u64);
        self.forgot = true;
        self.records = live;
        Ok(())
    }

    /// The filesystem's own time of the last write, nanoseconds since 1970: a host clock may differ.
    ///
    /// # Errors
    /// As of stat.
    pub fn written_at(&self) -> io::Result<i64> {
        Ok(self.disk.stat(&self.path)?.map_or(0, |s| s.identity.mtime))
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    // These types hold strings, numbers and lists only: what serde_json can always write.
    let text = serde_json::to_string(record).unwrap_or_default();
    out.extend_from_slice(format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).as_bytes());
}

fn decode(line: &[u8]) -> Option<Record> {
    let (sum, text) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(&sum[..8]).ok()?, 16).ok()?;
    (crc32fast::hash(text) == sum).then(|| serde_json::from_slice(text).ok())?
}

/// Lower-case hexadecimal of a digest.
pub fn hex_text(digest: &Digest) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = digest.iter().flat_map(|b| [b >> 4, b & 15]);
    halves.map(|h| char::from(DIGITS[usize::from(h)])).collect()
}

fn parse_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Digest, hex_text, parse_hex};

    pub fn serialize<S: Serializer>(digest: &Digest, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex_text(digest))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        parse_hex(&String::deserialize(d)?).ok_or_else(|| D::Error::custom("not a digest"))
    }
}

mod hex_option {
    use serde::{Deserializer, Serializer};

    use super::Digest;

    pub fn serialize<S: Serializer>(digest: &Option<Digest>, s: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => super::hex::serialize(digest, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Digest>, D::Error> {
        super::hex::deserialize(d).map(Some)
    }
}

mod hex_list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Digest, hex_text, parse_hex};

    pub fn serialize<S: Serializer>(digests: &[Digest], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(digests.iter().map(hex_text))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Digest>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let digests = texts
            .iter()
            .map(|t| parse_hex(t).ok_or_else(|| D::Error::custom("not a digest")));
        digests.collect()
    }
}

mod identity {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Identity;

    pub fn serialize<S: Serializer>(i: &Identity, s: S) -> Result<S::Ok, S::Error> {
        (i.size, i.mtime, i.ctime, i.inode, i.mode).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Identity, D::Error> {
        let (size, mtime, ctime, inode, mode) = Deserialize::deserialize(d)?;
        Ok(Identity {
            size,
            mtime,
            ctime,
            inode,
            mode,
        })
    }
}
