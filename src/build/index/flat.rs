//! What paths were seen to be, as bytes that are read without a parser: tens of thousands of them are
//! compared in the time that another format takes to load (60,000 records: postcard 4.5 ms, JSON 31 ms).
//! It knows nothing of disks.
//!
//! A record is the path's length (u16), the path, a word (u8) for what was found, and for a thing seen
//! untouched its size, mtime, ctime, inode (u64 each), mode (u32) and device (u64), little endian.

use std::{collections::BTreeMap, ops::Range};

use smol_str::SmolStr;

use super::witness::Found;
use crate::{
    build::log::Places,
    host::{Identity, Kind, Stat},
};

const NOTHING: u8 = 0;
const KIND: u8 = 16;
const STAT: u8 = 32;
/// Bytes of a thing seen untouched.
const STAT_BYTES: usize = 8 * 5 + 4;

const KINDS: [Kind; 4] = [Kind::File, Kind::Folder, Kind::Link, Kind::Other];

fn kind_word(kind: Kind) -> u8 {
    KINDS.iter().position(|k| *k == kind).unwrap_or_default() as u8
}

/// Begins a record; `None` where a path is too long to be one.
fn name(bytes: &mut Vec<u8>, path: &str) -> Option<()> {
    bytes.extend(u16::try_from(path.len()).ok()?.to_le_bytes());
    bytes.extend(path.as_bytes());
    Some(())
}

fn record(bytes: &mut Vec<u8>, path: &str, found: &Found) -> Option<()> {
    name(bytes, path)?;
    match found {
        Found::Nothing => bytes.push(NOTHING),
        Found::Kind(kind) => bytes.push(KIND | kind_word(*kind)),
        Found::Stat(stat) => {
            bytes.push(STAT | kind_word(stat.kind));
            let Identity {
                size,
                mtime,
                ctime,
                inode,
                mode,
            } = stat.identity;
            bytes.extend(size.to_le_bytes());
            bytes.extend(mtime.to_le_bytes());
            bytes.extend(ctime.to_le_bytes());
            bytes.extend(inode.to_le_bytes());
            bytes.extend(mode.to_le_bytes());
            bytes.extend(stat.device.to_le_bytes());
        }
    }
    Some(())
}

/// Writes records; `None` where a path is too long to be in one.
pub(super) fn write(found: &[(SmolStr, Found)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(found.len() * 80);
    for (path, found) in found {
        record(&mut bytes, path, found)?;
    }
    Some(bytes)
}

/// Puts others in the place of the records of the same paths. Where in the bytes; `None` where one has no place
/// of its length.
pub(super) fn patch(
    bytes: &mut [u8],
    news: &BTreeMap<SmolStr, Found>,
) -> Option<Vec<Range<usize>>> {
    let mut patches = Vec::new();
    let mut records = Records(bytes);
    let mut news = news.iter().peekable();
    while news.peek().is_some() {
        let start = bytes.len() - records.0.len();
        let (path, ..) = records.raw()?;
        let end = bytes.len() - records.0.len();
        // In the order of paths: one that was passed over is not there.
        if let Some((name, found)) = news.next_if(|(name, _)| name.as_bytes() <= path) {
            let mut record = Vec::new();
            self::record(&mut record, name, found)?;
            if name.as_bytes() != path || record.len() != end - start {
                return None;
            }
            patches.push((start..end, record));
        }
    }
    Some(apply(bytes, patches))
}

fn apply(bytes: &mut [u8], patches: Vec<(Range<usize>, Vec<u8>)>) -> Vec<Range<usize>> {
    let patches = patches.into_iter();
    let apply = |(range, new): (Range<usize>, Vec<u8>)| {
        bytes[range.clone()].copy_from_slice(&new);
        range
    };
    patches.map(apply).collect()
}

/// Writes where the log's records stand, in the order of their names: a name as above, then the places (u64)
/// of a file's and a task's record.
pub(super) fn places(places: BTreeMap<&str, Places>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(places.len() * 48);
    for (path, places) in places {
        place(&mut bytes, path, places)?;
    }
    Some(bytes)
}

fn place(bytes: &mut Vec<u8>, path: &str, places: Places) -> Option<()> {
    name(bytes, path)?;
    // No record begins at 0, where the header is.
    for place in places {
        bytes.extend(place.unwrap_or(0).to_le_bytes());
    }
    Some(())
}

/// As `patch`, for places; what is not noted anew stays where it was.
pub(super) fn patch_places(
    bytes: &mut [u8],
    news: BTreeMap<&str, Places>,
) -> Option<Vec<Range<usize>>> {
    let mut patches = Vec::new();
    let mut placed = Placed(bytes);
    let mut news = news.into_iter().peekable();
    while news.peek().is_some() {
        let start = bytes.len() - placed.0.len();
        let (path, old) = placed.next()?;
        let end = bytes.len() - placed.0.len();
        if let Some((name, new)) = news.next_if(|(name, _)| name.as_bytes() <= path) {
            if name.as_bytes() != path {
                return None;
            }
            let mut record = Vec::new();
            place(&mut record, name, [new[0].or(old[0]), new[1].or(old[1])])?;
            patches.push((start..end, record));
        }
    }
    Some(apply(bytes, patches))
}

/// Places one after the other.
pub(super) struct Placed<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Placed<'a> {
    type Item = (&'a [u8], Places);

    fn next(&mut self) -> Option<Self::Item> {
        let mut records = Records(self.0);
        let length = u16::from_le_bytes(records.number()?);
        let path = records.bytes(length.into())?;
        let mut place = || Some(Some(u64::from_le_bytes(records.number()?)).filter(|p| *p > 0));
        let places = [place()?, place()?];
        self.0 = records.0;
        Some((path, places))
    }
}

/// Records one after the other; ends at the first that is none.
#[derive(Clone)]
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Records<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// The next record's path, and the word and bytes of what was found.
    fn raw(&mut self) -> Option<(&'a [u8], u8, &'a [u8])> {
        let length = u16::from_le_bytes(self.number()?);
        let path = self.bytes(length.into())?;
        let [word] = self.number()?;
        let rest = self.bytes(if word & STAT != 0 { STAT_BYTES } else { 0 })?;
        Some((path, word, rest))
    }

    /// Takes off at most `count` records, as they stand.
    pub(super) fn block(&mut self, count: usize) -> Option<&'a [u8]> {
        let before = self.0;
        (0..count).map_while(|_| self.raw()).for_each(drop);
        let taken = before.len() - self.0.len();
        (taken > 0).then(|| &before[..taken])
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (&'a str, Found);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, word, rest) = self.raw()?;
        let path = std::str::from_utf8(path).ok()?;
        if word == NOTHING {
            return Some((path, Found::Nothing));
        }
        let kind = *KINDS.get(usize::from(word & 15))?;
        if word & STAT == 0 {
            return Some((path, Found::Kind(kind)));
        }
        let mut rest = Records(rest);
        let stat = Stat {
            kind,
            identity: Identity {
                size: u64::from_le_bytes(rest.number()?),
                mtime: i64::from_le_bytes(rest.number()?),
                ctime: i64::from_le_bytes(rest.number()?),
                inode: u64::from_le_bytes(rest.number()?),
                mode: u32::from_le_bytes(rest.number()?),
            },
            device: u64::from_le_bytes(rest.number()?),
        };
        Some((path, Found::Stat(stat)))
    }
}
