//! The machine's own files, clock, environment and terminal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
};

use camino::Utf8Path;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use time::OffsetDateTime;

use super::{Clock, Disk, Identity, Kind, Look, Stat};
use crate::plan::Surroundings;

/// Files as the operating system has them.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Look for RealDisk {
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(stat_of(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        // A name that is not UTF-8 cannot be one of ours, nor written in a plan.
        let names = entries.map(|e| Ok(e?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }
}

impl Disk for RealDisk {
    fn read_part(&self, path: &Utf8Path, place: u64, count: usize) -> io::Result<Vec<u8>> {
        let (file, mut bytes) = (File::open(path)?, vec![0; count]);
        let mut length = 0;
        while length < count {
            match file.read_at(&mut bytes[length..], place + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn make_dir(&self, dir: &Utf8Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
    }

    fn create(&self, path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<Stat> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        // The umask may have taken bits away; a certificate that its reader cannot open is no use.
        let mut meta = file.metadata()?;
        if meta.mode() & 0o7777 != mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            meta = file.metadata()?;
        }
        Ok(stat_of(&meta))
    }

    fn append(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    }

    fn truncate(&self, path: &Utf8Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn link(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn set_mode(&self, path: &Utf8Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Utf8Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    #[cfg(target_os = "linux")]
    fn sync(&self, path: &Utf8Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync(&self, path: &Utf8Path) -> io::Result<()> {
        File::open(path)?;
        rustix::fs::sync();
        Ok(())
    }

    fn sync_one(&self, path: &Utf8Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

fn stat_of(meta: &fs::Metadata) -> Stat {
    let kind = match meta.file_type() {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Folder,
        t if t.is_symlink() => Kind::Link,
        _ => Kind::Other,
    };
    Stat {
        kind,
        device: meta.dev(),
        identity: Identity {
            size: meta.size(),
            mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            mode: meta.mode() & 0o7777,
        },
    }
}

fn nanoseconds(seconds: i64, part: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(part)
}

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// A variable of this process; one that is not UTF-8 counts as unset.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `PATH`, in which tools are looked for.
pub fn path_variable() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// What a plan may look at: this process's variables and the machine's files.
impl Surroundings for RealDisk {
    fn var(&self, name: &str) -> Option<String> {
        environment(name)
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        // Unlike `Look::list`, a folder that is missing is the plan's mistake.
        fs::metadata(dir)?;
        Look::list(self, dir)
    }
}

/// What the standard streams are connected to.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Standard error is a terminal that can move its cursor.
    pub interactive: bool,
    /// Columns; 80 where nobody says.
    pub width: usize,
    /// Colours are wanted where nobody said otherwise (NO_COLOR, TERM=dumb).
    pub color: bool,
}

impl Terminal {
    /// Looks at standard error, `NO_COLOR` and `TERM` (<https://no-color.org>).
    pub fn detect() -> Self {
        let smart = environment("TERM").is_some_and(|t| t != "dumb");
        let interactive = io::stderr().is_terminal() && smart;
        let color = interactive && environment("NO_COLOR").is_none_or(|v| v.is_empty());
        let width = console::Term::stderr()
            .size_checked()
            .map_or(80, |(_, columns)| columns.into());
        Self {
            interactive,
            width,
            color,
        }
    }
}

/// A folder held open: what is below it is found without walking to it anew each time.
#[derive(Debug)]
pub struct Folder(std::os::fd::OwnedFd);

impl Folder {
    /// Opens it; a link to a folder is followed.
    ///
    /// # Errors
    /// As of the system.
    pub fn open(path: &Utf8Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Self(rustix::fs::open(
            path.as_std_path(),
            flags,
            Mode::empty(),
        )?))
    }

    /// What it is itself.
    ///
    /// # Errors
    /// As of the system.
    pub fn identity(&self) -> io::Result<Identity> {
        Ok(identity_of(&rustix::fs::fstat(&self.0)?))
    }

    /// As [`Look::stat`], of a path from this folder.
    ///
    /// # Errors
    /// As of the system.
    pub fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        let stat = match rustix::fs::statat(&self.0, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Ok(Some(Stat {
            kind,
            device: stat.st_dev,
            identity: identity_of(&stat),
        }))
    }
}

fn identity_of(stat: &rustix::fs::Stat) -> Identity {
    Identity {
        size: stat.st_size as u64,
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
        inode: stat.st_ino,
        mode: stat.st_mode & 0o7777,
    }
}

/// `count` bytes of a file from a place on.
///
/// # Errors
/// As of the system; a file that ends before is one.
pub fn read_at(path: &Utf8Path, place: u64, count: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // A length that is not the file's would reserve any amount of memory.
    if file.metadata()?.len() < place.saturating_add(count as u64) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

/// Writes parts of a file that is there.
///
/// # Errors
/// As of the system; some parts may be written then.
pub fn patch_at<'a>(
    path: &Utf8Path,
    mut parts: impl Iterator<Item = (u64, &'a [u8])>,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    parts.try_for_each(|(place, bytes)| file.write_all_at(bytes, place))
}

/// The file that this process was started from; `None` where it is no more.
pub fn executable() -> Option<Identity> {
    let path = std::env::current_exe().ok()?;
    let path = path.canonicalize().ok()?;
    Some(RealDisk.stat(Utf8Path::from_path(&path)?).ok()??.identity)
}
