//! How bytes become files: staged aside, synced in groups, then given their names in the order in
//! which they were made, so that a name never leads to half a file or to one whose issuer is not
//! there. It knows modes and names, not what a file holds.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use camino::{Utf8Path, Utf8PathBuf};
use time::{OffsetDateTime, macros::format_description};
use zeroize::Zeroizing;

use crate::host::Disk;

/// Prefix of a file staged beside its target, where that is on another filesystem than the stage.
const BESIDE: &str = ".meshplan-stage-";

/// A file written whole under a name that nobody looks for.
#[derive(Debug)]
pub struct Staged {
    /// Where it is.
    pub at: Utf8PathBuf,
    /// Where it goes.
    pub to: Utf8PathBuf,
    /// A key: it never replaces what has its name.
    pub new_only: bool,
}

/// The folder of staged files, and the archive.
pub struct Publisher {
    disk: Arc<dyn Disk + Send + Sync>,
    stage: Utf8PathBuf,
    archive: Utf8PathBuf,
    device: u64,
    next: AtomicU64,
    /// Folders on other filesystems that were rid of what an ended run left.
    swept: Mutex<HashSet<Utf8PathBuf>>,
    stamp: String,
}

impl Publisher {
    /// Makes `stage` and `archive` below `state` and empties the stage of what an ended run left.
    ///
    /// # Errors
    /// As of making the folders, with the path in the text.
    pub fn open(
        disk: Arc<dyn Disk + Send + Sync>,
        state: &Utf8Path,
        now: OffsetDateTime,
    ) -> io::Result<Self> {
        let stage = state.join("stage");
        let archive = state.join("archive");
        disk.make_dir(&stage, 0o700)?;
        for name in disk.list(&stage)? {
            disk.remove(&stage.join(name))?;
        }
        let device = disk.stat(&stage)?.map_or(0, |s| s.device);
        let stamp = now.format(format_description!(
            "[year][month][day]T[hour][minute][second]Z"
        ));
        let stamp = stamp.unwrap_or_else(|_| now.unix_timestamp().to_string());
        Ok(Self {
            disk,
            stage,
            archive,
            device,
            next: AtomicU64::new(0),
            swept: Mutex::default(),
            stamp,
        })
    }

    /// Writes `bytes` aside for `to`. Its folder is made.
    ///
    /// # Errors
    /// As of writing; nothing of it is visible under `to`.
    pub fn stage(
        &self,
        to: &Utf8Path,
        mode: u32,
        new_only: bool,
        bytes: &[u8],
    ) -> io::Result<Staged> {
        let dir = to.parent().unwrap_or(to);
        self.disk.make_dir(dir, 0o755)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // `/.` looks through a work directory that is a link.
        let elsewhere = self
            .disk
            .stat(&dir.join("."))?
            .is_some_and(|s| s.device != self.device);
        let at = if elsewhere {
            self.sweep(dir)?;
            dir.join(format!("{BESIDE}{number}"))
        } else {
            self.stage.join(number.to_string())
        };
        self.disk.create(&at, mode, bytes)?;
        Ok(Staged {
            at,
            to: to.to_owned(),
            new_only,
        })
    }

    /// Removes what an ended run staged beside its targets, once a folder and run.
    fn sweep(&self, dir: &Utf8Path) -> io::Result<()> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.insert(dir.to_owned()) {
            let names = self.disk.list(dir)?;
            names
                .iter()
                .filter(|n| n.starts_with(BESIDE))
                .try_for_each(|n| self.disk.remove(&dir.join(n)))?;
        }
        Ok(())
    }

    /// Makes staged bytes durable before any name leads to them.
    ///
    /// # Errors
    /// As of the filesystems' syncs.
    pub fn sync(&self, staged: &[Staged]) -> io::Result<()> {
        let Some(first) = staged.first() else {
            return Ok(());
        };
        let beside = staged.iter().filter(|s| !s.at.starts_with(&self.stage));
        beside
            .map(|s| s.at.as_path())
            .try_for_each(|at| self.disk.sync(at))?;
        if staged.iter().any(|s| s.at.starts_with(&self.stage)) {
            self.disk.sync(if first.at.starts_with(&self.stage) {
                &first.at
            } else {
                &self.stage
            })?;
        }
        Ok(())
    }

    /// Gives a staged file its name. A key never replaces what has it, but by `archive_as`, which keeps
    /// the old file under that name first: at no moment is there none.
    ///
    /// # Errors
    /// As of the system; for a key, that a file has the name.
    pub fn publish(&self, staged: &Staged, archive_as: Option<&str>) -> io::Result<()> {
        let replaces = match archive_as {
            Some(name) => self.keep(&staged.to, name)?,
            None => false,
        };
        if staged.new_only && !replaces {
            self.disk.link(&staged.at, &staged.to)?;
            self.disk.remove(&staged.at)
        } else {
            self.disk.rename(&staged.at, &staged.to)
        }
    }

    /// Takes back what was staged and cannot be published. What this cannot remove, the next run does.
    pub fn discard(&self, staged: &Staged) {
        let _ = self.disk.remove(&staged.at);
    }

    /// Gives what is at `path` a second name in the archive. False where nothing is there.
    ///
    /// # Errors
    /// As of the system.
    pub fn keep(&self, path: &Utf8Path, name: &str) -> io::Result<bool> {
        let Some(stat) = self.disk.stat(path)? else {
            return Ok(false);
        };
        let to = self.archive_name(name)?;
        match self.disk.link(path, &to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let bytes = Zeroizing::new(self.disk.read(path)?);
                self.disk.create(&to, stat.identity.mode & 0o700, &bytes)?;
            }
            linked => linked?,
        }
        Ok(true)
    }

    /// A free name for a file of that name in the archive, which is made.
    ///
    /// # Errors
    /// As of the system.
    pub fn archive_name(&self, name: &str) -> io::Result<Utf8PathBuf> {
        self.disk.make_dir(&self.archive, 0o700)?;
        let flat = name.replace('/', "-");
        for n in 0u32.. {
            let again = if n == 0 {
                String::new()
            } else {
                format!("-{n}")
            };
            let to = self.archive.join(format!("{}{again}-{flat}", self.stamp));
            if self.disk.stat(&to)?.is_none() {
                return Ok(to);
            }
        }
        Err(io::Error::other("the archive has no name left"))
    }

    /// The folder of staged files.
    pub fn stage_dir(&self) -> &Utf8Path {
        &self.stage
    }

    /// Makes names durable.
    ///
    /// # Errors
    /// As of the filesystem's sync.
    pub fn sync_names(&self) -> io::Result<()> {
        self.disk.sync(&self.stage)
    }
}
