//! The graph: files, the tasks that make them, and the names people call them by. It checks that each
//! file has one producer and that nothing needs itself; it knows nothing of meshes (that is `lower`),
//! and nothing of what is on disk.

pub mod draw;
mod lower;
mod mesh;
mod purpose;
mod task;
mod view;

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use camino::{Utf8Path, Utf8PathBuf};
use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet, set::MutableValues};
use smallvec::SmallVec;
use smol_str::SmolStr;

pub use lower::lower;
pub use mesh::{cluster_states, mesh};
pub use purpose::{purpose, target_purpose};
pub use task::{Action, Few, File, FileId, Owner, Step, Task, TaskId, Undone};
pub use view::drawing;

use crate::plan::{
    model::Plan,
    problem::{Problem, Span},
    suggest,
};

/// Tasks and files of one plan.
#[derive(Debug, Default)]
pub struct Graph {
    /// Files, each path once.
    pub files: IndexSet<File, RandomState>,
    /// Tasks, in plan order.
    pub tasks: Vec<Task>,
    /// Groups of tasks that have a name of their own, such as `cluster1-cacerts`.
    pub targets: IndexMap<SmolStr, Arc<[TaskId]>, RandomState>,
    claims: IndexMap<SmolStr, Claim, RandomState>,
    /// Where each entry of `inputs`, then of `after`, of a user's task is written.
    edges: HashMap<TaskId, Vec<Span>>,
    /// Names are a Makefile's: a cluster may be called `all`, and no name is asked for but a goal's own.
    free_names: bool,
}

/// A file is told from others by its path. Those are normalized, so their texts tell as much as their parts, which
/// take ten times as long.
impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.path.as_str() == other.path.as_str()
    }
}

impl Eq for File {}

impl Hash for File {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.as_str().hash(state);
    }
}

impl Borrow<str> for File {
    fn borrow(&self) -> &str {
        self.path.as_str()
    }
}

/// Who has a name, and where the plan says so.
#[derive(Debug)]
struct Claim {
    what: Claimant,
    span: Span,
}

/// What a name stands for. Clusters and workloads are places in the plan's lists.
#[derive(Debug, Clone, Copy)]
enum Claimant {
    Everything,
    RootCa,
    Cluster(u32),
    Workload(u32),
    MeshFile,
    Task,
}

impl Claimant {
    fn text(self, plan: &Plan) -> String {
        match self {
            Self::Everything => "the target for everything".to_owned(),
            Self::RootCa => "the root CA's target".to_owned(),
            Self::Cluster(c) => {
                format!("a target of cluster \"{}\"", plan.clusters[c as usize].name)
            }
            Self::Workload(w) => {
                let name = &plan.workloads[w as usize].name;
                format!("the target of workload \"{name}\"")
            }
            Self::MeshFile => "a file of the mesh".to_owned(),
            Self::Task => "a task".to_owned(),
        }
    }
}

impl Graph {
    /// The file of that path, taken in if it is new. `name` is what it is called.
    fn file(&mut self, path: Utf8PathBuf, name: impl FnOnce(&Utf8Path) -> SmolStr) -> FileId {
        self.find_file(&path).unwrap_or_else(|| {
            let name = name(&path);
            let file = File {
                path,
                name,
                producer: None,
            };
            FileId(self.files.insert_full(file).0 as u32)
        })
    }

    /// Takes in a task and makes it the producer of its outputs; two producers of one file are a problem.
    fn add(&mut self, task: Task, problems: &mut Vec<Problem>) -> TaskId {
        let id = TaskId(self.tasks.len() as u32);
        for &output in &task.outputs {
            let Some(file) = self.files.get_index_mut2(output.index()) else {
                continue;
            };
            match file.producer {
                None => file.producer = Some(id),
                Some(other) => {
                    let other = &self.tasks[other.index()];
                    problems.push(
                        Problem::error(
                            "graph::two-producers",
                            format!("`{}` would be made twice", file.name),
                        )
                        .label(other.origin, format!("made by `{}`", other.name))
                        .label(task.origin, format!("and by `{}`", task.name))
                        .help("give one of them another output path"),
                    );
                }
            }
        }
        self.tasks.push(task);
        id
    }

    /// Claims a name in the one space of targets (design §3).
    fn claim(
        &mut self,
        name: &str,
        what: Claimant,
        span: Span,
        plan: &Plan,
        problems: &mut Vec<Problem>,
    ) {
        if self.free_names {
            return;
        }
        if let Some(other) = self.claims.insert(name.into(), Claim { what, span }) {
            let problem = |text: String| Problem::error("graph::name-clash", text);
            let (what, other_what) = (what.text(plan), other.what.text(plan));
            // `all` stands in no plan.
            let problem = if other.span == Span::default() {
                problem(format!("`{name}` is {other_what}, in every plan"))
            } else {
                let text = format!("two things would be called `{name}`");
                problem(text).label(other.span, format!("{other_what} here"))
            };
            let help = "targets, files and tasks share one space of names: rename one of them";
            problems.push(problem.label(span, format!("{what} here")).help(help));
        }
    }

    /// A target that stands for several tasks.
    fn alias(&mut self, name: impl Into<SmolStr>, tasks: Arc<[TaskId]>) {
        self.targets.insert(name.into(), tasks);
    }

    /// All tasks, in plan order.
    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.tasks.len() as u32).map(TaskId)
    }

    /// The task behind an id.
    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.index()]
    }

    /// The file behind an id.
    pub fn file_at(&self, id: FileId) -> &File {
        &self.files[id.index()]
    }

    /// The file of that absolute path, if the graph has one.
    pub fn find_file(&self, path: &Utf8Path) -> Option<FileId> {
        let place = self.files.get_index_of(path.as_str())?;
        Some(FileId(place as u32))
    }

    /// True for a file that some task of this graph makes.
    pub fn is_made(&self, path: &Utf8Path) -> bool {
        self.find_file(path)
            .is_some_and(|f| self.file_at(f).producer.is_some())
    }

    /// What must be done before a task: makers of its inputs, then tasks it comes after.
    pub fn before(&self, id: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        let task = self.task(id);
        let makers = task.inputs.iter().filter_map(|f| self.file_at(*f).producer);
        makers.chain(task.after.iter().copied())
    }

    fn needs(&self, id: TaskId) -> SmallVec<[TaskId; 8]> {
        self.before(id).collect()
    }

    /// Tasks that a name asks for: a target, a task, or a file by its name or by its path from `cwd`.
    ///
    /// # Errors
    /// A sentence that names what is near, where nothing has that name.
    pub fn resolve(&self, name: &str, cwd: &Utf8Path) -> Result<Vec<TaskId>, String> {
        if let Some(tasks) = self.targets.get(name) {
            return Ok(tasks.to_vec());
        }
        if let Some(place) = self.tasks.iter().position(|t| t.name == name) {
            return Ok(vec![TaskId(place as u32)]);
        }
        let by_name = self.files.iter().find(|f| f.name == name);
        let file = by_name.or_else(|| {
            let path = crate::plan::normalize(&cwd.join(name));
            self.find_file(&path).map(|f| self.file_at(f))
        });
        match file {
            Some(File {
                producer: Some(task),
                ..
            }) => Ok(vec![*task]),
            Some(file) => Err(format!(
                "`{}` is read by this plan, but nothing in it makes it",
                file.name
            )),
            None => {
                let files = self
                    .files
                    .iter()
                    .filter(|f| f.producer.is_some())
                    .map(|f| f.name.as_str());
                let tasks = self.tasks.iter().map(|t| t.name.as_str());
                let names = self
                    .targets
                    .keys()
                    .map(SmolStr::as_str)
                    .chain(files)
                    .chain(tasks);
                let near = suggest(name, names).map(|n| format!(": did you mean `{n}`?"));
                let near = near.unwrap_or_default();
                Err(format!("this plan has no target `{name}`{near}"))
            }
        }
    }

    /// Every task that `wanted` needs, itself included, each after all that it needs.
    ///
    /// The graph has no cycle once `lower` returned it; one that is walked over all the same is cut.
    pub fn cone(&self, wanted: &[TaskId]) -> Vec<TaskId> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.tasks.len()];
        let mut stack = Vec::new();
        for &start in wanted {
            if std::mem::replace(&mut seen[start.index()], true) {
                continue;
            }
            stack.push((start, self.needs(start)));
            while let Some((task, rest)) = stack.last_mut() {
                match rest.pop() {
                    Some(next) if !std::mem::replace(&mut seen[next.index()], true) => {
                        stack.push((next, self.needs(next)));
                    }
                    Some(_) => {}
                    None => {
                        order.push(*task);
                        stack.pop();
                    }
                }
            }
        }
        order
    }

    /// The first cycle found, as the path that closes it.
    fn cycle(&self) -> Option<Vec<TaskId>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Closed,
        }
        let mut marks = vec![Mark::New; self.tasks.len()];
        let mut stack = Vec::new();
        for start in self.task_ids() {
            if marks[start.index()] != Mark::New {
                continue;
            }
            marks[start.index()] = Mark::Open;
            stack.push((start, self.needs(start)));
            while let Some((task, rest)) = stack.last_mut() {
                let Some(next) = rest.pop() else {
                    marks[task.index()] = Mark::Closed;
                    stack.pop();
                    continue;
                };
                match marks[next.index()] {
                    Mark::Closed => {}
                    Mark::New => {
                        marks[next.index()] = Mark::Open;
                        stack.push((next, self.needs(next)));
                    }
                    Mark::Open => {
                        let path = stack.iter().map(|(t, _)| *t);
                        return Some(path.skip_while(|t| *t != next).collect());
                    }
                }
            }
        }
        None
    }

    /// Where the plan says that `task` needs `other`.
    fn edge_span(&self, task: TaskId, other: TaskId) -> Span {
        let t = self.task(task);
        let makers = t.inputs.iter().map(|f| self.file_at(*f).producer);
        let mut needs = makers.chain(t.after.iter().map(|a| Some(*a)));
        let place = needs.position(|n| n == Some(other));
        place
            .and_then(|i| self.edges.get(&task)?.get(i).copied())
            .unwrap_or(t.origin)
    }

    fn cycle_problem(&self, path: &[TaskId]) -> Problem {
        let names: Vec<_> = path
            .iter()
            .chain(path.first())
            .map(|t| format!("`{}`", self.task(*t).name))
            .collect();
        let text = format!("these need each other in a circle: {}", names.join(" → "));
        let next = path.iter().cycle().skip(1);
        path.iter().zip(next).fold(
            Problem::error("graph::cycle", text).help("take one of these needs or inputs away"),
            |problem, (task, other)| {
                let span = self.edge_span(*task, *other);
                problem.label(
                    span,
                    format!(
                        "`{}` needs `{}`",
                        self.task(*task).name,
                        self.task(*other).name
                    ),
                )
            },
        )
    }
}
