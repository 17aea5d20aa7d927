//! What a run made becomes visible, a group at a time: synced together, published in the order in which
//! it was made, noted in the log. When to do so is all it knows of the run.

use std::{io, time::Duration};

use camino::Utf8Path;
use foldhash::{HashMap, HashMapExt};
use smallvec::{SmallVec, smallvec};

use super::Runner;
use crate::{
    build::{
        Site, Teller,
        crew::Crew,
        log::{FileRecord, TaskRecord},
        publish::{Staged, ToSync},
        recipe::Recipe,
        scheduler::Scheduler,
        worker::{Product, cannot_write},
    },
    graph::TaskId,
    host::Stat,
    report::event::Event,
};

/// Staged files are published when this many wait, or when the oldest waits this long: a kill then
/// costs little, and a sync is paid for many files at once.
const GROUP: usize = 1024;
const GROUP_AGE: Duration = Duration::from_secs(1);

/// So many files get their names before the owner of the run looks up: by then workers have made about as many,
/// and wait for more to do.
const AT_ONCE: usize = 32;

/// A file that waits for its name.
pub(super) type Waiting = (TaskId, Product, Duration);

/// What is published together, in the order in which it was made.
pub(super) struct Group {
    entries: Vec<Option<Waiting>>,
    /// All before has its name.
    next: usize,
    /// Whether it is durable, or why not.
    ready: Result<(), String>,
    /// Where the output of each task stands.
    places: HashMap<TaskId, usize>,
    /// Where the files of each folder stand that was made aside, by its number.
    folders: HashMap<u64, SmallVec<[usize; 8]>>,
}

impl Group {
    fn new(waiting: Vec<Waiting>, ready: Result<(), String>) -> Self {
        let mut group = Self {
            entries: Vec::with_capacity(waiting.len()),
            next: 0,
            ready,
            places: HashMap::new(),
            folders: HashMap::new(),
        };
        for (place, entry) in waiting.into_iter().enumerate() {
            group.places.insert(entry.0, place);
            if let Some(folder) = entry.1.staged.folder() {
                group.folders.entry(folder).or_default().push(place);
            }
            group.entries.push(Some(entry));
        }
        group
    }

    /// Takes out what is at a place, with all of its folder where that was made aside.
    fn take(&mut self, place: usize) -> Vec<Waiting> {
        let entry = self.entries[place].as_ref();
        let folder = entry.and_then(|(_, product, _)| product.staged.folder());
        let folder = folder.and_then(|folder| self.folders.remove(&folder));
        let places = folder.unwrap_or_else(|| smallvec![place]);
        places
            .into_iter()
            .filter_map(|p| self.entries[p].take())
            .collect()
    }
}

impl Runner {
    /// True where enough waits, the oldest has waited long enough, or all is `over`. An eighth is enough where no
    /// more than that is yet to come: nobody works beside the last group of a run, so it should be a small one.
    fn is_group(&self, over: bool, to_come: usize) -> bool {
        let old = self.waiting_since.is_some_and(|t| t.elapsed() >= GROUP_AGE);
        let waiting = self.waiting.len();
        let enough = waiting >= GROUP || (waiting >= GROUP / 8 && to_come <= waiting);
        self.syncing.is_empty() && waiting > 0 && (old || enough || over)
    }

    /// Takes what waits as the next group. Returns what is to be synced for it.
    fn begin_group(&mut self) -> ToSync {
        self.syncing = std::mem::take(&mut self.waiting);
        self.group += 1;
        self.waiting_since = None;
        self.shared.publisher.to_sync(self.staged())
    }

    /// What is being made durable, with where it goes.
    fn staged(&self) -> impl Iterator<Item = (&Staged, &Utf8Path)> {
        let graph = &self.shared.site.graph;
        let to = |id: TaskId| graph.file_at(graph.task(id).outputs[0]).path.as_path();
        let each = self.syncing.iter();
        each.map(move |(id, product, _)| (&product.staged, to(*id)))
    }

    pub(super) fn flush_log(&mut self) -> Result<(), String> {
        let archive = |name: &str| self.shared.publisher.archive_name(name);
        self.log
            .flush(&archive)
            .map_err(|e| cannot_write("the build log", &e))
    }

    /// Makes all that waits durable and gives it its names, now.
    pub(super) fn publish(&mut self, scheduler: &mut Scheduler, teller: &mut Teller) {
        self.name_next(usize::MAX, scheduler, teller);
        // A sync of what another thread syncs waits for it.
        while !(self.syncing.is_empty() && self.waiting.is_empty()) {
            let synced = self.shared.publisher.sync(self.staged());
            let group = std::mem::take(&mut self.syncing);
            self.begin_names(group, synced);
            self.name_next(usize::MAX, scheduler, teller);
            let _ = self.begin_group();
        }
    }

    /// The next group on its way.
    pub(super) fn synced(
        &mut self,
        synced: io::Result<()>,
        crew: &Crew,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        let group = std::mem::take(&mut self.syncing);
        // The next is made durable while this one gets its names.
        self.sync_group(crew, scheduler);
        self.name_next(usize::MAX, scheduler, teller);
        self.begin_names(group, synced);
    }

    /// Has a group made durable where it is time.
    pub(super) fn sync_group(&mut self, crew: &Crew, scheduler: &Scheduler) {
        if self.is_group(scheduler.is_over(), scheduler.left()) {
            let what = self.begin_group();
            crew.sync(self.group, what);
        }
    }

    /// From now on every file of the group gets its name.
    fn begin_names(&mut self, group: Vec<Waiting>, synced: io::Result<()>) {
        let shared = self.shared.clone();
        let graph = &shared.site.graph;
        // What is new is announced first: should this process end before it can note the file, the next
        // one knows it for its own.
        for (id, ..) in &group {
            let name = &graph.task(*id).name;
            if !self.log.has_task(name) {
                self.log.put_start(name);
            }
        }
        let ready = synced.map_err(|e| format!("cannot make the new files durable: {e}"));
        let ready = ready.and_then(|()| self.flush_log());
        self.naming = (!group.is_empty()).then(|| Group::new(group, ready));
    }

    /// Gives some files of the group their names, each after what it was made from.
    pub(super) fn name_some(&mut self, scheduler: &mut Scheduler, teller: &mut Teller) {
        self.name_next(AT_ONCE, scheduler, teller);
    }

    fn name_next(&mut self, count: usize, scheduler: &mut Scheduler, teller: &mut Teller) {
        let Some(mut group) = self.naming.take() else {
            return;
        };
        let end = group.entries.len().min(group.next.saturating_add(count));
        while group.next < end {
            self.publish_at(group.next, &mut group, scheduler, teller);
            group.next += 1;
        }
        if end < group.entries.len() {
            self.naming = Some(group);
            return;
        }
        if let Err(message) = self.flush_log() {
            let help = "what was built is judged by its content next time".to_owned();
            teller.tell(Event::Warning {
                code: "log-unwritten",
                message,
                help,
            });
        }
    }

    /// Publishes what stands at a place of the group, after what it was made from: one file, or all files of a
    /// folder that was made aside.
    fn publish_at(
        &mut self,
        place: usize,
        group: &mut Group,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        let members = group.take(place);
        let graph = self.shared.site.graph.clone();
        for (id, ..) in &members {
            for before in graph.before(*id) {
                if let Some(place) = group.places.get(&before).copied() {
                    self.publish_at(place, group, scheduler, teller);
                }
            }
        }
        let lost = |runner: &Self, id: TaskId| {
            let lost = graph.before(id).find(|b| runner.broken.contains(b));
            lost.map(|lost| format!("{} could not be published", graph.task(lost).name))
        };
        let to = |id: TaskId| graph.file_at(graph.task(id).outputs[0]).path.as_path();
        let folder = members.first().and_then(|(id, product, _)| {
            product.staged.folder()?;
            to(*id).parent()
        });
        let sound = group.ready.is_ok() && members.iter().all(|(id, ..)| lost(self, *id).is_none());
        let moved = match folder {
            Some(dir) if sound => self.shared.publisher.publish_folder(dir, members.len()),
            Some(dir) => self.shared.publisher.publish_folder(dir, 0),
            None => Ok(false),
        };
        let moved = moved.map_err(|e| format!("cannot make a folder: {e}"));
        for (id, product, took) in members {
            let done = match (&group.ready, lost(self, id), &moved) {
                (Err(cause), ..) | (_, _, Err(cause)) => Err(cause.clone()),
                (_, Some(cause), _) => Err(cause),
                (Ok(()), None, Ok(true)) => Ok(Some(product.staged.stat)),
                (Ok(()), None, Ok(false)) => self.give_name(id, to(id), &product.staged),
            };
            match done {
                Ok(stat) => {
                    self.note(id, stat, product);
                    self.finished(id, true, String::new(), took, teller);
                }
                Err(cause) => {
                    self.shared.publisher.discard(&product.staged, to(id));
                    self.task_failed(id, cause.into(), scheduler, teller);
                }
            }
            self.shared.let_go(id);
        }
    }

    fn give_name(
        &self,
        id: TaskId,
        to: &Utf8Path,
        staged: &Staged,
    ) -> Result<Option<Stat>, String> {
        let Site { graph, disk, .. } = &self.shared.site;
        let archive = self.shared.judged.get(id);
        let archive = archive
            .is_some_and(|judged| judged.archive)
            .then_some(graph.task(id).name.as_str());
        let text = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{to} appeared while it was being made; a key is never overwritten: look where it came from, then run again"
            ),
            _ => cannot_write(to, &e),
        };
        self.shared
            .publisher
            .publish(staged, to, archive)
            .map_err(text)?;
        disk.stat(to).map_err(text)
    }

    /// Notes a published file in the log.
    fn note(&mut self, id: TaskId, stat: Option<Stat>, product: Product) {
        let Site { plan, graph, .. } = &self.shared.site;
        let task = graph.task(id);
        let recipe = Recipe::of(plan, task);
        let Product {
            digest,
            facts,
            inputs,
            ..
        } = product;
        if let Some(stat) = stat {
            let identity = stat.identity;
            self.log.put_file(
                &task.name,
                FileRecord {
                    identity,
                    digest,
                    facts,
                },
            );
        }
        let record = TaskRecord {
            made: true,
            output: Some(digest),
            inputs,
            recipe,
            started: 0,
        };
        self.log.put_task(&task.name, record);
    }

    pub(super) fn finish(&mut self, teller: &mut Teller) {
        let shared = self.shared.clone();
        let written = self.flush_log().and_then(|()| {
            if self.changed {
                shared
                    .publisher
                    .sync_published(&shared.site.plan.state_dir().join("log"))
                    .map_err(|e| format!("cannot make the new names durable: {e}"))?;
                let compacted = self.log.compact(shared.publisher.stage_dir());
                compacted.map_err(|e| format!("cannot write the build log anew: {e}"))?;
            }
            Ok(())
        });
        if let Err(message) = written {
            let help = "what was built is judged by its content next time".to_owned();
            teller.tell(Event::Warning {
                code: "log-unwritten",
                message,
                help,
            });
        }
    }
}
