//! The build log: what each file was when it was last looked at, and what each task last made of
//! what. A line a record, each with a checksum; a later record replaces an earlier one. It knows
//! nothing of how a record is used.

mod record;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use camino::Utf8PathBuf;
use foldhash::{HashMap, HashMapExt};
use memchr::memchr;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use smol_str::SmolStr;

pub use record::{Facts, FileRecord, Inputs, TaskRecord, hex_text};

use crate::host::Disk;

const HEADER: &[u8] = b"meshplan-log 1\n";
const MAGIC: &[u8] = b"meshplan-log ";

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    File(SmolStr, FileRecord),
    Task(SmolStr, TaskRecord),
    /// A user's command began; its outputs are not to be trusted before its `Task` record.
    Start(SmolStr),
    /// A file or task that is no more.
    Gone(SmolStr),
}

/// Of whom a record is.
#[derive(Deserialize)]
enum Named<'a> {
    File(#[serde(borrow)] Cow<'a, str>, IgnoredAny),
    Task(#[serde(borrow)] Cow<'a, str>, IgnoredAny),
    Start(#[serde(borrow)] Cow<'a, str>),
    Gone(#[serde(borrow)] Cow<'a, str>),
}

/// Where the records of a file and of a task of one name begin, in bytes from the start of the log.
pub type Places = [Option<u64>; 2];

/// The same in half the room, and whether its command began and did not end.
#[derive(Debug, Clone, Copy)]
struct Known {
    places: [u64; 2],
    started: bool,
}

/// The place of a record that is not there.
const NOWHERE: u64 = u64::MAX;
const FILE: usize = 0;
const TASK: usize = 1;

impl Default for Known {
    fn default() -> Self {
        Self {
            places: [NOWHERE; 2],
            started: false,
        }
    }
}

impl Known {
    fn place(&self, kind: usize) -> Option<u64> {
        Some(self.places[kind]).filter(|place| *place != NOWHERE)
    }
}

/// So much of the log is read at a time: records of neighbours stand together.
const BLOCK: usize = 32 * 1024;

/// So many blocks are kept: who asks for a file and its task in turn finds the one among what was noted first, the
/// other, where the file was touched since, behind.
const BLOCKS: usize = 4;

/// Bytes that the records of one name take, about: a table that outgrew its room would be held twice for a while.
const NAME: usize = 600;

/// No more room than for these is taken ahead: a damaged log may be of any length.
const MOST_NAMES: usize = 1 << 20;

/// A part of a file that was read.
#[derive(Debug, Default)]
struct Block {
    place: u64,
    bytes: Vec<u8>,
}

/// The log's file, and where in it the records stand: a fleet's records together are many times as long as
/// what else is known of it.
pub struct Log {
    disk: Arc<dyn Disk + Send + Sync>,
    path: Utf8PathBuf,
    known: HashMap<SmolStr, Known>,
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
    /// What was used last comes first.
    blocks: RefCell<Vec<Block>>,
    /// A record that was there before was not there any more, or could not be read.
    unsure: Cell<bool>,
}

impl Log {
    /// Reads the log at `path`. A missing one is empty; a torn tail is left out and cut by the next write;
    /// one of another version is left out, and moved to `archive` by the next write.
    ///
    /// # Errors
    /// As of reading the file.
    pub fn open(disk: Arc<dyn Disk + Send + Sync>, path: Utf8PathBuf) -> io::Result<Self> {
        let mut log = Self::empty(disk, path);
        match log.load() {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(log),
        }
    }

    fn empty(disk: Arc<dyn Disk + Send + Sync>, path: Utf8PathBuf) -> Self {
        Self {
            disk,
            path,
            known: HashMap::new(),
            length: None,
            foreign: false,
            records: 0,
            pending: Vec::new(),
            trouble: None,
            part: None,
            forgot: false,
            blocks: RefCell::default(),
            unsure: Cell::new(false),
        }
    }

    /// A sound log of `length` bytes, of which only the records at these places are known. Of no other may be
    /// asked; it is appended to as any, and never written anew. `None` where a record is torn.
    pub fn part(
        disk: Arc<dyn Disk + Send + Sync>,
        path: Utf8PathBuf,
        length: u64,
        places: &[u64],
    ) -> Option<Self> {
        let mut log = Self {
            length: Some(length),
            part: Some(length),
            ..Self::empty(disk, path)
        };
        for &place in places {
            let record = whole::<Record>(&log.line(place)?)?;
            log.apply(record.named(), place);
        }
        Some(log)
    }

    /// Where records stand, by the names of their files and tasks: of a part of a log those that were noted since;
    /// `None` where something was forgotten too.
    pub fn places(&self) -> Option<BTreeMap<&str, Places>> {
        let since = self.part.unwrap_or(0);
        let of = |known: &Known| [FILE, TASK].map(|kind| known.place(kind).filter(|p| *p >= since));
        let places = self
            .known
            .iter()
            .map(|(name, known)| (name.as_str(), of(known)));
        (!self.forgot).then(|| places.filter(|(_, places)| *places != [None; 2]).collect())
    }

    /// Bytes on disk, where those are all that is known here and nothing else is there.
    pub fn settled_length(&self) -> Option<u64> {
        let quiet = self.trouble.is_none() && !self.is_dirty() && !self.unsure.get();
        self.length.filter(|_| quiet)
    }

    fn load(&mut self) -> io::Result<()> {
        let (mut bytes, mut end) = (self.disk.read_part(&self.path, 0, BLOCK)?, BLOCK);
        if !bytes.starts_with(HEADER) {
            // A header cut short is a log that never held a record.
            if !HEADER.starts_with(&bytes) {
                let known = bytes.starts_with(MAGIC);
                let what = if known {
                    "is of another meshplan's version"
                } else {
                    "is not a log"
                };
                self.trouble = Some(what.to_owned());
                self.foreign = true;
            }
            return Ok(());
        }
        let length = self.disk.stat(&self.path)?.map_or(0, |s| s.identity.size);
        self.known.reserve((length as usize / NAME).min(MOST_NAMES));
        let (mut from, mut good, mut lost) = (HEADER.len(), HEADER.len() as u64, 0);
        loop {
            while let Some(length) = memchr(b'\n', &bytes[from..]) {
                let line = &bytes[from..from + length];
                match whole::<Named>(line).filter(|_| lost == 0) {
                    Some(named) => {
                        self.apply(named, good);
                        self.records += 1;
                        good += length as u64 + 1;
                    }
                    None => lost += 1,
                }
                from += length + 1;
            }
            bytes.drain(..from);
            from = 0;
            let more = self.disk.read_part(&self.path, end as u64, BLOCK)?;
            if more.is_empty() {
                break;
            }
            bytes.extend(&more);
            end += more.len();
        }
        if lost > 1 {
            self.trouble = Some(format!("is damaged: {lost} records are lost"));
        }
        self.length = Some(good);
        Ok(())
    }

    fn apply(&mut self, record: Named<'_>, place: u64) {
        let (Named::File(name, _) | Named::Task(name, _) | Named::Start(name) | Named::Gone(name)) =
            &record;
        if let Named::Gone(_) = record {
            self.known.remove(name.as_ref());
            return;
        }
        let known = match self.known.get_mut(name.as_ref()) {
            Some(known) => known,
            None => self.known.entry(name.as_ref().into()).or_default(),
        };
        match record {
            Named::File(..) => known.places[FILE] = place,
            Named::Task(..) => (known.places[TASK], known.started) = (place, false),
            _ => (known.places[TASK], known.started) = (NOWHERE, true),
        }
    }

    /// What is wrong with the log as it was found, if anything: it then knows less than it did.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The record that begins there, without its end.
    fn line(&self, place: u64) -> Option<Vec<u8>> {
        let to_end = |bytes: &[u8]| {
            let end = memchr(b'\n', bytes)?;
            Some(bytes[..end].to_vec())
        };
        let written = self.written();
        if let Some(place) = place.checked_sub(written) {
            return to_end(self.pending.get(place as usize..)?);
        }
        let mut blocks = self.blocks.borrow_mut();
        let held = blocks.iter().enumerate().find_map(|(at, block)| {
            let skipped = place.checked_sub(block.place)? as usize;
            Some((at, to_end(block.bytes.get(skipped..)?)?))
        });
        if let Some((at, line)) = held {
            blocks[..=at].rotate_right(1);
            return Some(line);
        }
        let mut bytes = Vec::new();
        let line = loop {
            let read = self
                .disk
                .read_part(&self.path, place + bytes.len() as u64, BLOCK);
            let read = read.ok().filter(|read| !read.is_empty())?;
            bytes.extend(read);
            if let Some(line) = to_end(&bytes) {
                break line;
            }
        };
        blocks.truncate(BLOCKS - 1);
        blocks.insert(0, Block { place, bytes });
        Some(line)
    }

    /// Where what is pending will stand.
    fn written(&self) -> u64 {
        self.length.unwrap_or(HEADER.len() as u64)
    }

    fn record(&self, name: &str, kind: usize) -> Option<Record> {
        let place = self.known.get(name)?.place(kind)?;
        let record = self.line(place).and_then(|line| whole(&line));
        if record.is_none() {
            self.unsure.set(true);
        }
        record
    }

    /// What is known of a file.
    pub fn file(&self, name: &str) -> Option<FileRecord> {
        match self.record(name, FILE)? {
            Record::File(_, record) => Some(record),
            _ => None,
        }
    }

    /// What a task last made.
    pub fn task(&self, name: &str) -> Option<TaskRecord> {
        match self.record(name, TASK)? {
            Record::Task(_, record) => Some(record),
            _ => None,
        }
    }

    /// True where it knows of no file and no task.
    pub fn is_new(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether it is known what a task last made.
    pub fn has_task(&self, name: &str) -> bool {
        self.known
            .get(name)
            .is_some_and(|known| known.place(TASK).is_some())
    }

    /// True where a command began and did not end.
    pub fn unfinished(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.started)
    }

    /// Every task that left a record.
    pub fn task_names(&self) -> impl Iterator<Item = &str> {
        let tasks = self
            .known
            .iter()
            .filter(|(_, known)| known.place(TASK).is_some());
        tasks.map(|(name, _)| name.as_str())
    }

    /// Notes a file; in memory at once, on disk with the next `flush`.
    pub fn put_file(&mut self, name: &str, record: FileRecord) {
        self.put(Record::File(name.into(), record));
    }

    /// Notes a finished task.
    pub fn put_task(&mut self, name: &str, record: TaskRecord) {
        self.put(Record::Task(name.into(), record));
    }

    /// Notes that a command begins.
    pub fn put_start(&mut self, name: &str) {
        self.put(Record::Start(name.into()));
    }

    /// Forgets a file or task.
    pub fn put_gone(&mut self, name: &str) {
        self.put(Record::Gone(name.into()));
    }

    fn put(&mut self, record: Record) {
        self.forgot |= matches!(record, Record::Start(_) | Record::Gone(_));
        let place = self.written() + self.pending.len() as u64;
        encode(&record, &mut self.pending);
        self.records += 1;
        self.apply(record.named(), place);
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
        // It may hold the tail that was cut off.
        self.blocks.take();
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
    /// As of reading and writing; the old log then stays.
    pub fn compact(&mut self, stage: &camino::Utf8Path) -> io::Result<()> {
        let each = |known: &Known| {
            let records = [FILE, TASK]
                .into_iter()
                .filter_map(|kind| known.place(kind));
            records.count() + usize::from(known.started)
        };
        let live: usize = self.known.values().map(each).sum();
        if self.part.is_some() || self.records < 2 * live + 256 {
            return Ok(());
        }
        let next = stage.join("log");
        self.disk.create(&next, 0o600, HEADER)?;
        let mut bytes = Vec::new();
        for (name, _) in self.known.iter().filter(|(_, known)| known.started) {
            encode(&Record::Start(name.clone()), &mut bytes);
        }
        // In their old order: records of neighbours stand together.
        let mut places: Vec<_> = self.known.values().flat_map(|known| known.places).collect();
        places.sort_unstable();
        for place in places.into_iter().filter(|place| *place != NOWHERE) {
            let line = self.line(place).ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.extend(line);
            bytes.push(b'\n');
            if bytes.len() > BLOCK {
                self.disk.append(&next, &bytes)?;
                bytes.clear();
            }
        }
        self.disk.append(&next, &bytes)?;
        self.disk.sync(stage)?;
        self.disk.rename(&next, &self.path)?;
        let (disk, path) = (self.disk.clone(), self.path.clone());
        *self = Self {
            forgot: true,
            trouble: self.trouble.take(),
            ..Self::open(disk, path)?
        };
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

impl Record {
    fn named(&self) -> Named<'_> {
        match self {
            Self::File(name, _) => Named::File(name.as_str().into(), IgnoredAny),
            Self::Task(name, _) => Named::Task(name.as_str().into(), IgnoredAny),
            Self::Start(name) => Named::Start(name.as_str().into()),
            Self::Gone(name) => Named::Gone(name.as_str().into()),
        }
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    // These types hold strings, numbers and lists only: what serde_json can always write.
    const SUM: usize = 9;
    let start = out.len();
    out.extend_from_slice(&[b' '; SUM]);
    _ = serde_json::to_writer(&mut *out, record);
    let sum = crc32fast::hash(&out[start + SUM..]);
    _ = write!(&mut out[start..start + SUM - 1], "{sum:08x}");
    out.push(b'\n');
}

/// What a line says, where it is whole.
fn whole<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    let (sum, text) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(&sum[..8]).ok()?, 16).ok()?;
    (crc32fast::hash(text) == sum).then(|| serde_json::from_slice(text).ok())?
}
