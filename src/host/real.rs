//! The machine's own files, clock, environment and terminal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
};

use camino::Utf8Path;
use time::OffsetDateTime;

use super::{Clock, Disk, Identity, Kind, Stat};
use crate::plan::Surroundings;

/// Files as the operating system has them.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let kind = match meta.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_dir() => Kind::Folder,
            t if t.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Ok(Some(Stat {
            kind,
            device: meta.dev(),
            identity: Identity {
                size: meta.size(),
                mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
                ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
                inode: meta.ino(),
                mode: meta.mode() & 0o7777,
            },
        }))
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

    fn make_dir(&self, dir: &Utf8Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
    }

    fn create(&self, path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        // The umask may have taken bits away; a certificate that its reader cannot open is no use.
        if file.metadata()?.mode() & 0o7777 != mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(())
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
        // Unlike `Disk::list`, a folder that is missing is the plan's mistake.
        fs::metadata(dir)?;
        Disk::list(self, dir)
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
