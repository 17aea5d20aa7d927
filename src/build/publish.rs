//! How bytes become files: staged aside, synced in groups, then given their names in the order in
//! which they were made, so that a name never leads to half a file or to one whose issuer is not
//! there. It knows modes and names, not what a file holds.

use std::{
    collections::BTreeSet,
    fmt::Write,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use camino::{Utf8Path, Utf8PathBuf};
use foldhash::HashMap;
use time::{OffsetDateTime, macros::format_description};
use zeroize::Zeroizing;

use super::freshness::Listing;
use crate::host::{Disk, Kind, Stat};

/// Prefix of a file staged beside its target, where that is on another filesystem than the stage.
const BESIDE: &str = ".meshplan-stage-";

/// A file written whole under a name that nobody looks for. Whoever has it knows where it goes.
#[derive(Debug)]
pub struct Staged {
    at: At,
    /// A key: it never replaces what has its name.
    new_only: bool,
    /// What it is; with a name of its own its ctime changes, with its folder's it does not.
    pub stat: Stat,
}

/// Where a staged file is. Numbers are names, without a heap cell that one thread makes and another frees.
#[derive(Debug, Clone, Copy)]
enum At {
    /// In the stage.
    Stage(u64),
    /// In this folder of the stage, which has yet to get its name, under its own.
    Apart(u64),
    /// Beside its target, which is on another filesystem than the stage.
    Beside(u64),
}

impl Staged {
    /// The number of the folder in which it stands, where that has yet to get its name.
    pub fn folder(&self) -> Option<u64> {
        match self.at {
            At::Apart(folder) => Some(folder),
            At::Stage(_) | At::Beside(_) => None,
        }
    }
}

/// So many folders that are made aside stand in one folder of the stage: the filesystem searches what is in it for
/// each that is made or gets its name.
const SHELF: u64 = 64;

/// So few files or folders are synced one by one: that waits for nothing that others wrote. A sync of the whole
/// filesystem costs about as much as three of these, and is paid for any number.
const FEW: usize = 8;

/// What is to be synced for files to be durable.
#[derive(Debug)]
pub enum ToSync {
    /// These files.
    Each(Vec<Utf8PathBuf>),
    /// The filesystems of these paths.
    Filesystems(Vec<Utf8PathBuf>),
}

/// Where files of a folder are staged.
#[derive(Debug)]
enum Place {
    /// The folder is there. `beside`: on another filesystem than the stage.
    There { beside: bool },
    /// It is made aside, whole, under this number, with so many files.
    Apart { folder: u64, files: usize },
}

/// The place of one folder, once it is known. Each has a lock of its own: to make or rename a folder takes as long
/// as to sign, and only who writes into the same one has to wait for it.
type Slot = Arc<Mutex<Option<Place>>>;

/// The folder of staged files, and the archive.
pub struct Publisher {
    disk: Arc<dyn Disk + Send + Sync>,
    stage: Utf8PathBuf,
    archive: Utf8PathBuf,
    device: u64,
    /// The folder that the stage's own stands in, and its filesystem: nearly every folder goes there.
    home: (Utf8PathBuf, Option<u64>),
    /// What was in it before this run.
    listing: Listing,
    next: AtomicU64,
    places: Mutex<HashMap<String, Slot>>,
    /// Folders made aside whose files get their names one by one, and which then are empty.
    parted: Mutex<Vec<u64>>,
    /// Folders in which names were given; `None` once a folder was made.
    renamed: Mutex<Option<BTreeSet<Utf8PathBuf>>>,
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
        empty(&*disk, &stage)?;
        let device = disk.stat(&stage)?.map_or(0, |s| s.device);
        let home = state.parent().unwrap_or(state);
        let home = (home.to_owned(), device_of(&*disk, home)?);
        let stamp = now.format(format_description!(
            "[year][month][day]T[hour][minute][second]Z"
        ));
        let stamp = stamp.unwrap_or_else(|_| now.unix_timestamp().to_string());
        Ok(Self {
            disk,
            stage,
            archive,
            device,
            home,
            listing: Listing::default(),
            next: AtomicU64::new(0),
            places: Mutex::default(),
            parted: Mutex::default(),
            renamed: Mutex::new(Some(BTreeSet::new())),
            stamp,
        })
    }

    /// Spares a look at each folder that was not there before this run. Thousands of them wait for each other, and for
    /// the renames beside them; where one is there by now, its files get their names one by one.
    pub fn knowing(self, listing: Listing) -> Self {
        Self { listing, ..self }
    }

    /// Writes `bytes` aside for `to`. Where there is no folder for it yet, one is made aside, which gets its name
    /// with all its files at once: a folder of five files costs one rename, and threads that write into folders
    /// of their own do not wait for each other.
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
        let at = self.place(to.parent().unwrap_or(to))?;
        let stat = self.disk.create(&self.path(at, to), mode, bytes)?;
        Ok(Staged { at, new_only, stat })
    }

    /// The path of what is staged there for `to`.
    fn path(&self, at: At, to: &Utf8Path) -> Utf8PathBuf {
        let dir = to.parent().unwrap_or(to);
        match at {
            At::Stage(number) => self.stage.join(number.to_string()),
            At::Apart(folder) => {
                let mut path = self.apart(folder);
                path.push(to.file_name().unwrap_or_default());
                path
            }
            At::Beside(number) => dir.join(format!("{BESIDE}{number}")),
        }
    }

    /// The path of a folder that is made aside.
    fn apart(&self, folder: u64) -> Utf8PathBuf {
        let mut path = self.shelf(folder / SHELF);
        path.push(folder.to_string());
        path
    }

    /// One of the stage's folders, with room in its path for what is asked for below it.
    fn shelf(&self, number: u64) -> Utf8PathBuf {
        let mut path = String::with_capacity(self.stage.as_str().len() + 80);
        let _ = write!(path, "{}/shelf-{number}", self.stage);
        path.into()
    }

    fn slot(&self, dir: &Utf8Path) -> Slot {
        let mut places = held(&self.places);
        match places.get(dir.as_str()) {
            Some(slot) => slot.clone(),
            None => places.entry(dir.to_string()).or_default().clone(),
        }
    }

    fn place(&self, dir: &Utf8Path) -> io::Result<At> {
        let number = || self.next.fetch_add(1, Ordering::Relaxed);
        let slot = self.slot(dir);
        let mut known = held(&slot);
        if known.is_none() {
            let device = match self.listing.lacks(dir) {
                true => None,
                false => self.device_of(dir)?,
            };
            let place = match device {
                Some(device) => Place::There {
                    beside: device != self.device,
                },
                None => {
                    let above = dir.parent().unwrap_or(dir);
                    let at = match &self.home {
                        (home, device) if above.as_str() == home.as_str() => *device,
                        _ => self.device_of(above)?,
                    };
                    if at == Some(self.device) {
                        let folder = number();
                        self.disk.make_dir(&self.apart(folder), 0o755)?;
                        Place::Apart { folder, files: 0 }
                    } else {
                        self.disk.make_dir(dir, 0o755)?;
                        Place::There {
                            beside: self.device_of(dir)? != Some(self.device),
                        }
                    }
                }
            };
            if let Place::There { beside: true } = place {
                self.sweep(dir)?;
            }
            *known = Some(place);
        }
        Ok(match &mut *known {
            Some(Place::Apart { folder, files }) => {
                *files += 1;
                At::Apart(*folder)
            }
            Some(Place::There { beside: true }) => At::Beside(number()),
            _ => At::Stage(number()),
        })
    }

    fn device_of(&self, dir: &Utf8Path) -> io::Result<Option<u64>> {
        device_of(&*self.disk, dir)
    }

    /// Removes what an ended run staged beside its targets.
    fn sweep(&self, dir: &Utf8Path) -> io::Result<()> {
        let names = self.disk.list(dir)?;
        let mut left = names.iter().filter(|n| n.starts_with(BESIDE));
        left.try_for_each(|n| self.disk.remove(&dir.join(n)))
    }

    /// Gives a folder that was made aside its name, with the `count` files in it. False where more is being
    /// written into it, or something has its name: then its files are to be published one by one.
    ///
    /// # Errors
    /// As of making the folder in which they then go.
    pub fn publish_folder(&self, dir: &Utf8Path, count: usize) -> io::Result<bool> {
        let slot = self.slot(dir);
        let mut place = held(&slot);
        let whole = match &*place {
            Some(Place::Apart { folder, files }) => {
                let at = self.apart(*folder);
                let whole = *files == count && self.disk.rename(&at, dir).is_ok();
                if !whole {
                    held(&self.parted).push(*folder);
                }
                whole
            }
            Some(Place::There { .. }) => return Ok(false),
            None => false,
        };
        if !whole {
            self.disk.make_dir(dir, 0o755)?;
        }
        *place = Some(Place::There { beside: false });
        *self.renamed() = None;
        Ok(whole)
    }

    /// Makes staged bytes durable before any name leads to them.
    ///
    /// # Errors
    /// As of the syncs.
    pub fn sync<'a>(
        &self,
        staged: impl Iterator<Item = (&'a Staged, &'a Utf8Path)>,
    ) -> io::Result<()> {
        self.sync_all(&self.to_sync(staged))
    }

    /// What is to be synced for staged files, each with where it goes, to be durable.
    pub fn to_sync<'a>(&self, staged: impl Iterator<Item = (&'a Staged, &'a Utf8Path)>) -> ToSync {
        let staged: Vec<_> = staged.collect();
        let path = |(staged, to): &(&Staged, &Utf8Path)| self.path(staged.at, to);
        if staged.len() <= FEW && !staged.iter().any(|(s, _)| s.folder().is_some()) {
            return ToSync::Each(staged.iter().map(path).collect());
        }
        let is_beside = |(staged, _): &&(&Staged, _)| matches!(staged.at, At::Beside(_));
        let mut paths: Vec<_> = staged.iter().filter(is_beside).map(path).collect();
        if paths.len() < staged.len() {
            paths.push(self.stage.clone());
        }
        ToSync::Filesystems(paths)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// As of the syncs.
    pub fn sync_all(&self, what: &ToSync) -> io::Result<()> {
        match what {
            ToSync::Each(paths) => paths.iter().try_for_each(|path| self.disk.sync_one(path)),
            ToSync::Filesystems(paths) => paths.iter().try_for_each(|path| self.disk.sync(path)),
        }
    }

    /// Gives a staged file its name. A key never replaces what has it, but by `archive_as`, which keeps
    /// the old file under that name first: at no moment is there none.
    ///
    /// # Errors
    /// As of the system; for a key, that a file has the name.
    pub fn publish(
        &self,
        staged: &Staged,
        to: &Utf8Path,
        archive_as: Option<&str>,
    ) -> io::Result<()> {
        let (at, dir) = (self.path(staged.at, to), to.parent().unwrap_or(to));
        if staged.folder().is_some() {
            self.publish_folder(dir, 0)?;
        }
        self.renamed_in(dir);
        let replaces = match archive_as {
            Some(name) => self.keep(to, name)?,
            None => false,
        };
        if staged.new_only && !replaces {
            self.disk.link(&at, to)?;
            self.disk.remove(&at)
        } else {
            self.disk.rename(&at, to)
        }
    }

    /// Takes back what was staged and cannot be published. What this cannot remove, the next run does.
    pub fn discard(&self, staged: &Staged, to: &Utf8Path) {
        let _ = self.disk.remove(&self.path(staged.at, to));
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
        self.renamed_in(&self.archive);
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

    fn renamed(&self) -> MutexGuard<'_, Option<BTreeSet<Utf8PathBuf>>> {
        held(&self.renamed)
    }

    fn renamed_in(&self, dir: &Utf8Path) {
        if let Some(dirs) = &mut *self.renamed() {
            dirs.insert(dir.to_owned());
        }
    }

    /// Makes the names that were given, and the log, durable.
    ///
    /// # Errors
    /// As of the syncs.
    pub fn sync_published(&self, log: &Utf8Path) -> io::Result<()> {
        // Only now does nobody write into them any more. What stays is the next run's to remove.
        for folder in held(&self.parted).drain(..) {
            let _ = self.disk.remove_dir(&self.apart(folder));
        }
        for number in 0..self.next.load(Ordering::Relaxed).div_ceil(SHELF) {
            let _ = self.disk.remove_dir(&self.shelf(number));
        }
        if let Some(dirs) = self.renamed().as_ref().filter(|dirs| dirs.len() <= FEW) {
            // First the archive: no old file must be gone from its folder and not yet be there.
            let archive = dirs.get(&self.archive).into_iter();
            let mut each = archive.chain(dirs).map(Utf8PathBuf::as_path).chain([log]);
            if each.all(|path| self.disk.sync_one(path).is_ok()) {
                return Ok(());
            }
        }
        self.sync_names()
    }

    /// Makes all names durable.
    ///
    /// # Errors
    /// As of the filesystem's sync.
    pub fn sync_names(&self) -> io::Result<()> {
        self.disk.sync(&self.stage)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The filesystem of a folder; `None` where there is none. `/.` looks through one that is a link.
fn device_of(disk: &dyn Disk, dir: &Utf8Path) -> io::Result<Option<u64>> {
    Ok(disk.stat(&dir.join("."))?.map(|s| s.device))
}

/// Removes all that is in a folder of meshplan's own.
fn empty(disk: &dyn Disk, dir: &Utf8Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        let path = dir.join(name);
        if disk.kind(&path)? == Some(Kind::Folder) {
            empty(disk, &path)?;
            disk.remove_dir(&path)?;
        } else {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::host::RealDisk;

    #[test]
    fn a_folder_whose_files_come_in_two_groups_leaves_nothing_in_the_stage() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let disk = Arc::new(RealDisk);
        let now = OffsetDateTime::UNIX_EPOCH;
        let publisher = Publisher::open(disk, &root.join(".meshplan"), now).unwrap();
        let dir = root.join("c1");
        let files = ["install.yaml", "ca-key.pem"].map(|name| dir.join(name));
        let staged = files
            .each_ref()
            .map(|to| publisher.stage(to, 0o600, false, b"x").unwrap());
        // The second is written while the first, alone in its group, is made durable.
        assert!(!publisher.publish_folder(&dir, 1).unwrap());
        for (staged, to) in staged.iter().zip(&files) {
            publisher.publish(staged, to, None).unwrap();
        }
        publisher.sync_published(root).unwrap();
        let left = std::fs::read_dir(publisher.stage_dir()).unwrap().count();
        assert_eq!((left, std::fs::read_dir(&dir).unwrap().count()), (0, 2));
    }
}
