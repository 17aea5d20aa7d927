//! What a run that found nothing to do had rested on: each question it put to the machine, with the
//! answer. The next run puts the same questions; where every answer is the same, so is the result, and
//! neither plan, graph nor log is read. Where the plan alone was edited, and in some clusters alone, only
//! those are walked (`slice`). It knows nothing of why a question was put.
//!
//! The index says only what the walk of `freshness` said. It holds for one version and file of meshplan, one
//! question (plan, `-C`, NAME=VALUE), one state of the build log and of all that was asked (the plan's and
//! its includes' bytes, listings, variables set or not, files), and until the first certificate
//! comes near its end. It is a cache: a lost, torn or foreign one costs a walk.

mod edit;
mod file;
mod flat;
mod guess;
mod slice;
mod witness;

use std::{
    borrow::Cow,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use camino::{Utf8Path, Utf8PathBuf};
use indexmap::IndexSet;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Judgement, STATE_DIR, Site, log::Log, undone};
use crate::{
    action::pki::{Digest, digest},
    graph::TaskId,
    host::{
        Clock, Core, Folder, Identity, Kind, Look, RealDisk, SystemClock, executable, lock::Lock,
    },
    plan::{self, MAX_BYTES, Surroundings, normalize},
    report::{
        OWNERS,
        event::{Event, UNDONE, Verdict},
    },
};
pub(super) use edit::renew;
pub use edit::{Edited, Rest, Slice, Whole};
use file::{Index, Section};
use flat::Records;
use slice::{Cut, Nodes};
pub use witness::Witness;
use witness::{Asked, Found};

/// Records that a thread takes at a time.
const BLOCK: usize = 128;

/// Threads that look beside the one that was there.
const THREADS: u64 = 7;

/// What was asked of meshplan, apart from what the machine answers: a digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Question(Digest);

impl Question {
    /// Of a run of all targets of a plan.
    pub fn new(request: &plan::Request) -> Self {
        let absolute = |path: &Utf8Path| normalize(&request.cwd.join(path));
        let words = (
            absolute(request.file),
            request.work_dir.map(absolute),
            request.assignments,
        );
        // Strings and lists only: what serde_json can always write.
        Self(digest(&serde_json::to_vec(&words).unwrap_or_default()))
    }
}

/// Which meshplan made an index: another may judge otherwise, also where its version is the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Maker {
    version: String,
    /// Size, mtime and inode: a second name for the file changes its ctime, not what it does.
    executable: (u64, i64, u64),
}

/// An [`Identity`], as JSON has it.
pub(super) type Stamp = (u64, i64, i64, u64, u32);

fn stamp(i: Identity) -> Stamp {
    (i.size, i.mtime, i.ctime, i.inode, i.mode)
}

impl Maker {
    fn this() -> Option<Self> {
        let file = executable()?;
        Some(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            executable: (file.size, file.mtime, file.inode),
        })
    }
}

/// Which tasks are left undone. People are told their number alone, so this is read for whoever asks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Left<'a> {
    /// Tasks, with the reason.
    #[serde(borrow)]
    tasks: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The same by owner: cluster, steps, why, how.
    groups: Vec<(String, Vec<String>, String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    maker: Maker,
    question: Question,
    work_dir: Utf8PathBuf,
    asked: Vec<Asked>,
    /// When it was judged, and until when that holds, in seconds since 1970. A clock that was set back may find
    /// what is not valid yet.
    since: i64,
    until: i64,
    log: Stamp,
    /// The work directory before it was asked what is in it.
    names: Option<Stamp>,
    current: usize,
    undone: usize,
    /// Clusters and tasks that undone steps belong to.
    owners: usize,
}

/// A run with nothing to do, known without a walk.
#[derive(Debug)]
pub struct Known {
    /// The work directory is this run's until it has told.
    pub lock: Lock,
    /// Absolute folder of the built files.
    pub work_dir: Utf8PathBuf,
    /// Tasks that are current.
    pub current: usize,
    /// Tasks that are left undone.
    pub undone: usize,
    /// What a walk would tell of them between the start and the end, where details were asked for.
    pub events: Vec<Event>,
}

/// What a run needs to be remembered.
pub struct Memory<'a> {
    /// What was asked.
    pub question: Question,
    /// Saw the plan being read.
    pub witness: Witness<'a, RealDisk>,
    /// Where the plan was cut.
    pub slice: Option<Slice>,
}

/// Whether a walk found nothing to do, to note or to tell.
fn is_settled(judgement: &Judgement) -> bool {
    let quiet = judgement.notices.is_empty() && judgement.seen.is_empty();
    quiet
        && judgement.tasks.iter().all(|(_, judged)| {
            let settled = matches!(judged.verdict, Verdict::Current | Verdict::Undone);
            settled && judged.record.is_none() && !judged.narrow
        })
}

/// The log's file. What a link leads to may change and the link does not.
fn log_stamp(state: &Utf8Path, disk: &dyn Look) -> Option<Stamp> {
    let stat = disk.stat(&state.join("log")).ok()??;
    (stat.kind == Kind::File).then(|| stamp(stat.identity))
}

/// The same, of a log that holds all that `log` knows, and nothing torn or damaged that would have to be told.
fn settled_stamp(site: &Site, log: &Log) -> Option<Stamp> {
    let stamp = log_stamp(&site.plan.state_dir(), &*site.disk)?;
    (log.settled_length() == Some(stamp.0)).then_some(stamp)
}

/// What the work directory is, before a walk asks what is in it.
pub(super) fn before_walk(site: &Site) -> Option<Stamp> {
    let folder = Folder::open(&site.plan.work_dir).ok()?;
    names_stamp(&folder, site.clock.now())
}

/// Writes the index of a walk that found nothing to do. One that cannot be written is not missed.
pub(super) fn remember(
    site: &Site,
    question: Question,
    witness: Witness<RealDisk>,
    log: &Log,
    names: Option<Stamp>,
    judgement: &Judgement,
    order: &[TaskId],
) {
    let mut notes = witness.into_notes();
    let (plan, state) = (&site.plan, site.plan.state_dir());
    let (Some(maker), Some(stamp), true) = (
        Maker::this(),
        settled_stamp(site, log),
        is_settled(judgement) && !notes.unsure,
    ) else {
        return;
    };
    let undone = judgement.tasks.count(&[Verdict::Undone]);
    // Thousands of clusters ask for the same few variables.
    let asked: IndexSet<Asked> = notes.asked.into_iter().collect();
    let mut head = Head {
        maker,
        question,
        work_dir: plan.work_dir.clone(),
        asked: asked.into_iter().collect(),
        since: site.clock.now().unix_timestamp(),
        until: judgement.until,
        log: stamp,
        names,
        current: judgement.tasks.iter().count() - undone,
        undone,
        owners: 0,
    };
    let disk = &*site.disk;
    let mut write = || {
        let mut index = Index::begin(disk, &state)?;
        // Sorted by path, so that what shares a folder is asked of one after the other.
        notes.found.sort_by(|(a, _), (b, _)| a.cmp(b));
        notes.found.dedup();
        let found = flat::write(&notes.found)?;
        notes.found = Vec::new();
        index.put_long(disk, Section::Found, &found)?;
        drop(found);
        let left = left(site, judgement, order);
        head.owners = left.groups.len();
        index.put_long(disk, Section::Left, &serde_json::to_vec(&left).ok()?)?;
        drop(left);
        let mut small = vec![(Section::Head, serde_json::to_vec(&head).ok()?)];
        // What a later run needs to cut the plan: its text, its nodes, and where the log's records stand.
        let text = plan.sources.text(0);
        if let Some(nodes) = Nodes::of(text, plan, &site.graph) {
            index.put_long(disk, Section::Places, &flat::places(log.places()?)?)?;
            small.push((Section::Text, text.as_bytes().to_vec()));
            small.push((Section::Nodes, nodes.to_bytes()));
        }
        index.end(disk, &small);
        Some(())
    };
    let _: Option<()> = write();
}

fn left<'a>(site: &'a Site, judgement: &'a Judgement, order: &[TaskId]) -> Left<'a> {
    let mut order = order.to_vec();
    order.sort_unstable();
    let tasks = order.iter().filter_map(|id| {
        let judged = judgement.tasks.get(*id)?;
        (judged.verdict == Verdict::Undone).then(|| {
            (
                site.graph.task(*id).name.as_str().into(),
                judged.why.as_str().into(),
            )
        })
    });
    let groups = undone(site, &judgement.tasks, &order);
    let groups = groups.filter_map(|event| match event {
        Event::Undone {
            cluster,
            steps,
            why,
            how,
        } => Some((cluster, steps, why, how)),
        _ => None,
    });
    Left {
        tasks: tasks.collect(),
        groups: groups.collect(),
    }
}

impl Left<'_> {
    fn events(self, current: usize) -> Vec<Event> {
        let verdicts = self.tasks.into_iter();
        let verdicts = verdicts
            .map(|(task, why)| Event::verdict(task.into(), Verdict::Undone, UNDONE, why.into()));
        let groups = self.groups.into_iter();
        let groups = groups.map(|(cluster, steps, why, how)| Event::Undone {
            cluster,
            steps,
            why,
            how,
        });
        let planned = Event::Planned { stale: 0, current };
        verdicts.chain([planned]).chain(groups).collect()
    }
}

/// What is known of a run before anything is read.
pub enum Recalled {
    /// It has nothing to do.
    Idle(Known),
    /// The plan was edited in some clusters, and nothing else changed.
    Edited(Box<Edited>),
    /// Nothing.
    Unknown,
}

/// True for a text that can be read more than once: a pipe's length is 0.
fn is_readable(around: &dyn Surroundings, path: &Utf8Path) -> bool {
    let length = around.len(path);
    length.is_ok_and(|length| (1..=MAX_BYTES).contains(&length))
}

fn work_dir(request: &plan::Request, machine: &RealDisk) -> Option<Utf8PathBuf> {
    match request.work_dir {
        Some(dir) => Some(normalize(&request.cwd.join(dir))),
        None => guess::work_dir(request, machine),
    }
}

/// What is known of a run of all targets. `now` is in seconds since 1970; with `details`, undone tasks are
/// named. The work directory is locked, but where nothing is known.
pub fn recall(request: &plan::Request, machine: &RealDisk, now: i64, details: bool) -> Recalled {
    look_up(request, machine, now, details).unwrap_or(Recalled::Unknown)
}

fn look_up(
    request: &plan::Request,
    machine: &RealDisk,
    now: i64,
    details: bool,
) -> Option<Recalled> {
    let work_dir = work_dir(request, machine)?;
    let state = work_dir.join(STATE_DIR);
    // Nothing is made where there is no index.
    Index::open(&state)?;
    // Whoever holds the lock is told of by the walk.
    let lock = Lock::take(&state.join("lock"), "meshplan run").ok()?;
    let index = Index::open(&state)?;
    let mut head: Head = index.json(Section::Head)?;
    let path = normalize(&request.cwd.join(request.file));
    let folder = Folder::open(&work_dir).ok()?;
    let names = names_stamp(&folder, SystemClock.now());
    let looks = Looks {
        index: &index,
        folder,
        as_known: names.is_some() && names == head.names,
        found: OnceLock::new(),
        passed: Mutex::new(0),
        changed: AtomicBool::new(false),
    };
    // One thread finds out whether the question is the same while others look at files.
    let cut = looks.beside(|| {
        let same = head.question == Question::new(request)
            && Maker::this().is_some_and(|this| this == head.maker)
            && head.work_dir == work_dir
            && (head.since..head.until).contains(&now)
            && Surroundings::list(machine, &state.join("stage")).is_ok_and(|left| left.is_empty())
            && log_stamp(&state, machine) == Some(head.log);
        same.then(|| plan_cut(&path, machine, &head, &index, details))?
    })?;
    let found = looks.unchanged()?;
    let anew = names.is_some() && names != head.names;
    head.names = names;
    if let Some((cut, text)) = cut {
        return Some(Recalled::Edited(Box::new(Edited {
            lock,
            head,
            index,
            found,
            cut,
            text,
            path,
        })));
    }
    let left = match details {
        true => index.read(Section::Left)?,
        false => Vec::new(),
    };
    let left = match details {
        true => serde_json::from_slice(&left).ok()?,
        false => Left::default(),
    };
    let events = left.events(head.current);
    if anew {
        note_names(index, &head);
    }
    Some(Recalled::Idle(Known {
        lock,
        work_dir,
        current: head.current,
        undone: head.undone,
        events,
    }))
}

/// Where the plan was edited, if it was, with its new text. `None` where what it is read with changed too, or the
/// edit is not one that the index knows how to cut out.
fn plan_cut(
    path: &Utf8Path,
    machine: &RealDisk,
    head: &Head,
    index: &Index,
    details: bool,
) -> Option<Option<(Cut, String)>> {
    let (of_plan, rest): (Vec<_>, Vec<_>) = head.asked.iter().partition(|asked| asked.is_of(path));
    if !is_readable(machine, path) || !rest.iter().all(|asked| asked.still(machine)) {
        return None;
    }
    if of_plan.iter().all(|asked| asked.still(machine)) {
        return Some(None);
    }
    let text = String::from_utf8(Look::read(machine, path).ok()?).ok()?;
    let old = String::from_utf8(index.read(Section::Text)?).ok()?;
    let nodes = Nodes::of_bytes(&index.read(Section::Nodes)?)?;
    // What is undone elsewhere is told by its number alone.
    if head.undone > 0 && (details || head.owners <= OWNERS) {
        return None;
    }
    Some(Some((nodes.cut(&old, &text)?, text)))
}

/// A moment in nanoseconds by which a folder's mtime must lie back, for the next change in it to have another:
/// filesystems note times by the kernel's ticks, of 10 ms at most.
const TICKS: i64 = 20_000_000;

/// The folder's own state, where a change of the names in it from `now` on must show in it.
fn names_stamp(folder: &Folder, now: OffsetDateTime) -> Option<Stamp> {
    let identity = folder.identity().ok()?;
    let settled = i128::from(identity.mtime.max(identity.ctime) + TICKS);
    (settled < now.unix_timestamp_nanos()).then(|| stamp(identity))
}

/// Notes the work directory's own state, with which the next run need not ask of each name in it. A file that
/// somebody put there would cost every run that until a walk.
fn note_names(index: Index, head: &Head) {
    let small = || {
        Some([
            (Section::Head, serde_json::to_vec(head).ok()?),
            (Section::Text, index.read(Section::Text)?),
            (Section::Nodes, index.read(Section::Nodes)?),
        ])
    };
    if let Some(small) = small() {
        index.rewrite(&RealDisk, &small, &[]);
    }
}

/// The looks at every path that the index has: whether each is what it was seen to be. Where the work directory's
/// own names are `as_known`, so is what kind of thing each of them is.
struct Looks<'a> {
    index: &'a Index,
    folder: Folder,
    as_known: bool,
    /// The records, once a thread has read them; `None` where they are not whole.
    found: OnceLock<Option<Vec<u8>>>,
    /// Bytes of them that threads have taken.
    passed: Mutex<usize>,
    changed: AtomicBool,
}

impl Looks<'_> {
    /// Has threads of their own begin, where they are worth it, while this one does `meanwhile`; if that finds
    /// that there is anything to look for, this one looks too.
    fn beside<T>(&self, meanwhile: impl FnOnce() -> Option<T>) -> Option<T> {
        // A thread costs about as much as 50 looks.
        let blocks = self.index.length(Section::Found) / (BLOCK as u64 * 64);
        let threads = match blocks {
            0 => 0,
            _ => blocks
                .min(Core::count().saturating_sub(1) as u64)
                .min(THREADS),
        };
        let core = Core::current();
        let elsewhere = || {
            core.leave();
            self.look();
        };
        thread::scope(|scope| {
            (0..threads).for_each(|_| {
                scope.spawn(elsewhere);
                Core::give_turn();
            });
            let known = meanwhile();
            match known {
                Some(_) => self.look(),
                None => self.changed.store(true, Ordering::Relaxed),
            }
            known
        })
    }

    fn found(&self) -> Option<&[u8]> {
        let read = || self.index.read(Section::Found);
        self.found.get_or_init(read).as_deref()
    }

    fn block(&self) -> Option<&[u8]> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let block = Records(self.found()?.get(*passed..)?).block(BLOCK)?;
        *passed += block.len();
        Some(block)
    }

    fn look(&self) {
        while !self.changed.load(Ordering::Relaxed)
            && let Some(block) = self.block()
        {
            let mut records = Records(block);
            let same = records.by_ref().all(|(path, found)| {
                let known = self.as_known && matches!(found, Found::Kind(_)) && !path.contains('/');
                known || found.still(&self.folder, path)
            });
            if !same || !records.0.is_empty() {
                self.changed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The records, where all were looked at and none has changed.
    fn unchanged(self) -> Option<Vec<u8>> {
        let found = self.found.into_inner()??;
        let passed = self
            .passed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (!self.changed.into_inner() && passed == found.len()).then_some(found)
    }
}
