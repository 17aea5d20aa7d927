//! The two files of the index: a small one that is written anew each time, and one of tables as long as the
//! mesh, of which an edit changes a few bytes. It knows lengths and checksums, and nothing of what sections
//! hold. Neither is synced: torn, or not of each other, they are known by the checksums of the first.

use std::ops::Range;

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;

use crate::host::{Disk, patch_at, read_at};

const HEADER: &[u8] = b"meshplan-index 2\n";
/// The file with the header, a length and checksum of each section, and the small sections.
const SMALL: &str = "index";
/// The file of the long ones.
const LONG: &str = "index-files";

/// What an index has. The last three are there where the plan can be cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Section {
    Head,
    /// What paths were seen to be.
    Found,
    /// What is left undone.
    Left,
    /// The plan's text.
    Text,
    /// Its nodes.
    Nodes,
    /// Where the log's records stand.
    Places,
}

const SECTIONS: [Section; 6] = [
    Section::Head,
    Section::Found,
    Section::Left,
    Section::Text,
    Section::Nodes,
    Section::Places,
];

impl Section {
    fn is_long(self) -> bool {
        matches!(self, Self::Found | Self::Left | Self::Places)
    }
}

/// Where a section is, with its checksum.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    at: u64,
    length: u64,
    sum: u32,
}

/// Bytes of an entry: length and checksum.
const ENTRY: usize = 12;
const START: usize = HEADER.len() + ENTRY * SECTIONS.len();

/// A long section as it is now, and which parts of it are new.
pub(super) type Change<'a> = (Section, &'a [u8], Vec<Range<usize>>);

/// An index on disk.
#[derive(Debug)]
pub(super) struct Index {
    state: Utf8PathBuf,
    table: [Entry; SECTIONS.len()],
}

fn place(table: &mut [Entry]) {
    let mut ends = [START as u64, 0];
    for (entry, section) in table.iter_mut().zip(SECTIONS) {
        let end = &mut ends[usize::from(section.is_long())];
        entry.at = *end;
        *end = end.saturating_add(entry.length);
    }
}

impl Index {
    /// The index below a work directory's own folder, if there is one.
    pub(super) fn open(state: &Utf8Path) -> Option<Self> {
        let bytes = read_at(&state.join(SMALL), 0, START).ok()?;
        let mut table = [Entry::default(); SECTIONS.len()];
        let entries = bytes.strip_prefix(HEADER)?.chunks_exact(ENTRY);
        for (entry, bytes) in table.iter_mut().zip(entries) {
            let (length, sum) = bytes.split_first_chunk()?;
            entry.length = u64::from_le_bytes(*length);
            entry.sum = u32::from_le_bytes(sum.try_into().ok()?);
        }
        place(&mut table);
        let state = state.to_owned();
        Some(Self { state, table })
    }

    fn path(&self, section: Section) -> Utf8PathBuf {
        self.state
            .join(if section.is_long() { LONG } else { SMALL })
    }

    /// A section, where it is whole; one that is not there is empty.
    pub(super) fn read(&self, section: Section) -> Option<Vec<u8>> {
        let Entry { at, length, sum } = self.table[section as usize];
        let bytes = read_at(&self.path(section), at, usize::try_from(length).ok()?).ok()?;
        (crc32fast::hash(&bytes) == sum).then_some(bytes)
    }

    /// Bytes of a section.
    pub(super) fn length(&self, section: Section) -> u64 {
        self.table[section as usize].length
    }

    pub(super) fn json<T: DeserializeOwned>(&self, section: Section) -> Option<T> {
        serde_json::from_slice(&self.read(section)?).ok()
    }

    /// Begins an index in place of the one that is there.
    pub(super) fn begin(disk: &dyn Disk, state: &Utf8Path) -> Option<Self> {
        let _ = disk.remove(&state.join(SMALL));
        let _ = disk.remove(&state.join(LONG));
        disk.create(&state.join(LONG), 0o600, &[]).ok()?;
        Some(Self {
            state: state.to_owned(),
            table: Default::default(),
        })
    }

    /// Takes in a long section, in their order: it is as long as the mesh, and none is kept in memory.
    pub(super) fn put_long(
        &mut self,
        disk: &dyn Disk,
        section: Section,
        bytes: &[u8],
    ) -> Option<()> {
        self.note(section, bytes);
        disk.append(&self.path(section), bytes).ok()
    }

    /// Ends an index with its small sections, in their order. Without this end there is none.
    pub(super) fn end(mut self, disk: &dyn Disk, small: &[(Section, Vec<u8>)]) {
        for (section, bytes) in small {
            self.note(*section, bytes);
        }
        self.write_small(disk, small.iter().map(|(_, bytes)| bytes.as_slice()));
    }

    fn note(&mut self, section: Section, bytes: &[u8]) {
        let entry = &mut self.table[section as usize];
        entry.length = bytes.len() as u64;
        entry.sum = crc32fast::hash(bytes);
    }

    /// Writes the small file. The old one is gone before: a rename over it would have the filesystem write
    /// it out at once (ext4's `auto_da_alloc`), and nobody waits for a cache to be durable.
    fn write_small<'a>(&self, disk: &dyn Disk, sections: impl Iterator<Item = &'a [u8]>) {
        let mut bytes = HEADER.to_vec();
        for entry in self.table {
            bytes.extend(entry.length.to_le_bytes());
            bytes.extend(entry.sum.to_le_bytes());
        }
        sections.for_each(|section| bytes.extend(section));
        let path = self.state.join(SMALL);
        if disk.create(&path, 0o600, &bytes).is_err() {
            let _ = disk.remove(&path);
        }
    }

    /// Writes the small sections anew, in their order, and of the long ones the ranges that changed.
    pub(super) fn rewrite(
        mut self,
        disk: &dyn Disk,
        small: &[(Section, Vec<u8>)],
        long: &[Change<'_>],
    ) {
        let _ = disk.remove(&self.state.join(SMALL));
        for (section, bytes, changed) in long {
            let start = self.table[*section as usize].at;
            let parts = changed.iter();
            let parts = parts.map(|r| (start + r.start as u64, &bytes[r.clone()]));
            if patch_at(&self.path(*section), parts).is_err() {
                return;
            }
            self.note(*section, bytes);
        }
        self.end(disk, small);
    }
}
