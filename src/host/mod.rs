//! The only door to files, processes and the clock. The traits are narrow so that the engine can be
//! tested against a disk that fails at any operation; nothing here knows what a file means.

mod core;
pub mod lock;
pub mod process;
mod real;

use std::io;

use camino::Utf8Path;
use time::OffsetDateTime;

pub use self::core::Core;
pub use real::{
    Folder, RealDisk, SystemClock, Terminal, environment, executable, patch_at, path_variable,
    read_at,
};

/// What a name in a folder is; a link is reported as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, device or pipe.
    Other,
}

/// One `lstat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What the name is.
    pub kind: Kind,
    /// Which file it is, and whether it was touched since.
    pub identity: Identity,
    /// Device number, to tell filesystems apart.
    pub device: u64,
}

/// What tells an untouched file from any other at the price of one stat. Size and mtime alone miss a
/// swap of two files written in one tick of the filesystem's clock; ctime and inode do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Nanoseconds since 1970.
    pub ctime: i64,
    /// Inode number.
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
}

/// What can be asked of files without changing any. All paths are absolute. Errors are the system's own;
/// whoever calls knows what the file is for and says so.
pub trait Look: Sync {
    /// The name's own state, links not followed; `None` where nothing has it.
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>>;
    /// What the name is, for whoever does not ask what became of it since; links not followed.
    fn kind(&self, path: &Utf8Path) -> io::Result<Option<Kind>> {
        Ok(self.stat(path)?.map(|stat| stat.kind))
    }
    /// A file's bytes, links followed.
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>>;
    /// Names in a folder; none where it does not exist.
    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>>;
}

/// What can be done to files.
pub trait Disk: Look {
    /// Bytes of a file from a place on: as many as asked for, or fewer at its end.
    fn read_part(&self, path: &Utf8Path, place: u64, count: usize) -> io::Result<Vec<u8>>;
    /// Makes a folder and those above it. A folder that is there keeps its mode.
    fn make_dir(&self, dir: &Utf8Path, mode: u32) -> io::Result<()>;
    /// Writes a new file; one that is there is an error (`O_EXCL`). Returns what it is then.
    fn create(&self, path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<Stat>;
    /// Adds to the end of a file, making it (0600) where there is none.
    fn append(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to its first `len` bytes.
    fn truncate(&self, path: &Utf8Path, len: u64) -> io::Result<()>;
    /// Gives a file another name; never replaces what has it (`link(2)`).
    fn link(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()>;
    /// Moves a file over whatever has the name; a folder over nothing but an empty one.
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()>;
    /// Changes the permission bits.
    fn set_mode(&self, path: &Utf8Path, mode: u32) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove(&self, path: &Utf8Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &Utf8Path) -> io::Result<()>;
    /// Makes everything written to the filesystem of `path` durable.
    fn sync(&self, path: &Utf8Path) -> io::Result<()>;
    /// Makes a file's bytes durable, or a folder's names.
    fn sync_one(&self, path: &Utf8Path) -> io::Result<()>;
}

/// The time of day.
pub trait Clock: Sync {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}
