//! One meshplan to a work directory: a flock(2) that dies with its process, in a file that names its
//! holder and the children it left running. It knows nothing of what is being built.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::{Mutex, PoisonError},
};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

/// The held lock; dropping it frees the work directory.
#[derive(Debug)]
pub struct Lock {
    state: Mutex<(File, Content)>,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another meshplan holds it, or a child of a dead one still works.
    #[error("{0}")]
    Held(String),
    /// The file cannot be used.
    #[error("cannot lock the work directory: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    holder: Option<Process>,
    children: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Process {
    pid: u32,
    /// Start time in clock ticks (proc(5), field 22): tells a process from a later one of its number.
    started: u64,
    doing: String,
}

impl Process {
    fn of(pid: u32, doing: &str) -> Self {
        Self {
            pid,
            started: start_time(pid).unwrap_or(0),
            doing: doing.to_owned(),
        }
    }

    fn alive(&self) -> bool {
        start_time(self.pid).is_some_and(|started| started == self.started)
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    // One look gives all of it, of which 1 KiB is more than there is (a name of 64 bytes and 51 numbers).
    let mut bytes = [0; 1024];
    let length = file.read(&mut bytes).ok()?;
    let stat = String::from_utf8_lossy(&bytes[..length]);
    // The command's name stands in parentheses and may hold anything, so count from its end.
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    // A zombie has ended; only its parent has yet to read how.
    let state = rest.next()?;
    if state == "Z" {
        None
    } else {
        rest.nth(18)?.parse().ok()
    }
}

/// This process, in words that hold beyond this machine: its host's name and process id for people, and what
/// tells it from any other process anywhere (boot, process namespace, start time).
pub fn holder() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let pid = std::process::id();
    let started = start_time(pid).unwrap_or(0);
    format!("{}, process {pid} ({}:{started})", name.trim(), kernel())
}

/// True where a [`holder`] was a process of this very machine and has ended.
pub fn has_ended(holder: &str) -> bool {
    let parts = || {
        let (words, rest) = holder.strip_suffix(')')?.rsplit_once(" (")?;
        let (kernel_of, started) = rest.rsplit_once(':')?;
        let pid: u32 = words.rsplit_once(' ')?.1.parse().ok()?;
        Some((kernel_of.to_owned(), pid, started.parse::<u64>().ok()?))
    };
    // Where /proc tells nothing, nobody is known to have ended.
    let here = |of: &str| of == kernel() && start_time(std::process::id()).is_some();
    parts().is_some_and(|(of, pid, started)| {
        here(&of) && start_time(pid) != Some(started) && !has_children(pid, started)
    })
}

/// Variable by which children of a run are known once it is gone.
const RUN: &str = "MESHPLAN_RUN";

/// What a child of this run is given in its environment.
pub fn mark() -> (&'static str, String) {
    let pid = std::process::id();
    (RUN, format!("{pid}:{}", start_time(pid).unwrap_or(0)))
}

/// Whether anything that a run started is still at work here.
fn has_children(pid: u32, started: u64) -> bool {
    let mark = format!("{RUN}={pid}:{started}");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|p| std::fs::read(p.path().join("environ")).ok())
        .any(|environ| environ.split(|b| *b == 0).any(|var| var == mark.as_bytes()))
}

fn kernel() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}:{}", boot.trim(), namespace.display())
}

impl Lock {
    /// Takes the lock at `path`, for this process that is doing `doing`.
    ///
    /// # Errors
    /// `Held` names the process in the way.
    pub fn take(path: &Utf8Path, doing: &str) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let locked = file.try_lock();
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // Text cut short by a kill names nobody; the flock itself does not depend on it.
        let old: Content = serde_json::from_str(&text).unwrap_or_default();
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = old
                    .holder
                    .map(|p| format!(" (process {}: {})", p.pid, p.doing));
                return Err(LockError::Held(format!(
                    "another meshplan is at work here{}: wait for it to end",
                    holder.unwrap_or_default()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        if let Some(child) = old.children.iter().find(|c| c.alive()) {
            return Err(LockError::Held(format!(
                "an earlier meshplan ended, but its child still runs (process {}: {}): wait for it, or end it with `kill {}`",
                child.pid, child.doing, child.pid
            )));
        }
        let holder = Some(Process::of(std::process::id(), doing));
        let lock = Self {
            state: Mutex::new((
                file,
                Content {
                    holder,
                    children: Vec::new(),
                },
            )),
        };
        lock.write(|_| {})?;
        Ok(lock)
    }

    /// Writes down a child, which may outlive this process.
    ///
    /// # Errors
    /// As of writing the file.
    pub fn child_started(&self, pid: u32, doing: &str) -> io::Result<()> {
        let child = Process::of(pid, doing);
        self.write(|content| content.children.push(child))
    }

    /// Strikes out a child that has ended.
    ///
    /// # Errors
    /// As of writing the file.
    pub fn child_ended(&self, pid: u32) -> io::Result<()> {
        self.write(|content| content.children.retain(|c| c.pid != pid))
    }

    fn write(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, content) = &mut *state;
        change(content);
        let text = serde_json::to_string(content)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }

    /// Frees the work directory. Threads that outlive a run may still hold this, so its end is said, not
    /// left to the last of them.
    pub fn release(&self) {
        // Should this fail, the kernel frees the lock with the process.
        let _ = self.write(|content| *content = Content::default());
        let _ = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .unlock();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}
