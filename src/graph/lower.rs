//! Plan to graph: the one place that knows which files and steps a mesh is made of.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use foldhash::{HashMap, HashSet, HashSetExt};
use indexmap::IndexMap;
use smallvec::{SmallVec, smallvec};
use smol_str::{SmolStr, format_smolstr};

use super::{Action, Claimant, Few, FileId, Graph, Owner, Step, Task, TaskId, Undone};
use crate::plan::{
    model::{Cluster, GivenRoot, Plan, RootCa, Scope, UserTask, Workload},
    problem::{Problem, Problems, Span},
};

/// Compiles a plan into its graph.
///
/// # Errors
/// All problems of names, producers, needs and cycles, each with the places that make it.
pub fn lower(plan: &Plan) -> Result<Graph, Problems> {
    let clusters = plan.clusters.iter().enumerate();
    let mut work = Lowering {
        plan,
        places: clusters
            .map(|(place, c)| (c.name.as_str(), place))
            .collect(),
        graph: Graph {
            free_names: plan.scope != Scope::Mesh,
            ..Graph::default()
        },
        problems: Vec::new(),
    };
    work.mesh();
    work.user_tasks();
    work.files_as_folders();
    let Lowering {
        mut graph,
        mut problems,
        ..
    } = work;
    // Every name is told apart now.
    graph.claims = IndexMap::default();
    if problems.is_empty() {
        problems.extend(graph.cycle().map(|path| graph.cycle_problem(&path)));
    }
    if problems.is_empty() {
        Ok(graph)
    } else {
        Err(Problems {
            list: problems,
            sources: plan.sources.clone(),
        })
    }
}

struct Lowering<'a> {
    plan: &'a Plan,
    /// Places of clusters in the plan, by name.
    places: HashMap<&'a str, usize>,
    graph: Graph,
    problems: Vec<Problem>,
}

/// The files of the root CA that clusters build on.
struct Root {
    cert: FileId,
    /// What signs: the root key, or certificate, key and chain of a CA brought along.
    signer: Vec<FileId>,
    /// Chain files of a CA brought along.
    chain: Vec<FileId>,
    tasks: Arc<[TaskId]>,
}

/// Steps of one cluster.
struct Steps {
    cluster: usize,
    undone: Option<Arc<Undone>>,
    /// In their order; as a rule five.
    tasks: SmallVec<[(Step, TaskId); 5]>,
}

impl Steps {
    fn task(&self, wanted: Step) -> Option<TaskId> {
        let mut found = self.tasks.iter().filter(|(step, _)| *step == wanted);
        found.next().map(|(_, task)| *task)
    }
}

fn step_name(plan: &Plan, cluster: &str, step: Step) -> SmolStr {
    let word = match step {
        Step::Namespace => "namespace",
        Step::Secret => "secret",
        Step::Install => "install",
        Step::Gateway => "gateway",
        Step::Ready => "ready",
        Step::Synced => "synced",
        Step::Reads(other) => {
            return format_smolstr!("{cluster}-reads-{}", plan.clusters[other].name);
        }
    };
    format_smolstr!("{cluster}-{word}")
}

impl Lowering<'_> {
    fn mesh(&mut self) {
        let plan = self.plan;
        self.reserve();
        self.claim("all", Claimant::Everything, Span::default());
        // A plan of tasks alone asks for no CA.
        let of_tasks = plan.clusters.is_empty() && plan.root_span().is_none();
        if of_tasks && plan.scope == Scope::Mesh {
            return;
        }
        // A root that no node speaks of is there for the clusters.
        let first = plan.clusters.first().map(|c| c.span);
        let span = plan.root_span().or(first).unwrap_or_default();
        self.claim("root-ca", Claimant::RootCa, span);
        let root = match &plan.root {
            RootCa::Made(_) => self.made_root(span),
            RootCa::Given(given) => self.given_root(given),
        };
        self.graph.alias("root-ca", root.tasks.clone());
        let clusters = plan.clusters.iter().enumerate();
        let mut steps: Vec<_> = clusters
            .map(|(index, cluster)| self.cluster(index, cluster, &root))
            .collect();
        self.meet(&mut steps);
        for (index, workload) in plan.workloads.iter().enumerate() {
            self.workload(index, workload, &root);
        }
    }

    fn made_root(&mut self, span: Span) -> Root {
        let key = self.built(&self.plan.files.root_key(), span);
        let cert = self.built(&self.plan.files.root_cert(), span);
        let tasks = [
            self.file_task(Action::Key(Owner::Root), smallvec![], key, span),
            self.file_task(Action::RootCert, smallvec![key], cert, span),
        ];
        Root {
            cert,
            signer: vec![key],
            chain: vec![],
            tasks: tasks.into(),
        }
    }

    fn given_root(&mut self, given: &GivenRoot) -> Root {
        let issuing = self.outside(&given.cert);
        let key = self.outside(&given.key);
        let chain: Vec<_> = given.chain.iter().map(|p| self.outside(p)).collect();
        let cert = self.built(&self.plan.files.root_cert(), given.cert_span);
        let certs: Vec<_> = std::iter::once(issuing)
            .chain(chain.iter().copied())
            .collect();
        let anchor = self.file_task(Action::Anchor, certs.clone().into(), cert, given.cert_span);
        let signer = [issuing, key].into_iter().chain(chain).collect();
        Root {
            cert,
            signer,
            chain: certs,
            tasks: [anchor].into(),
        }
    }

    fn cluster(&mut self, index: usize, cluster: &Cluster, root: &Root) -> Steps {
        let span = cluster.span;
        let name = cluster.name.as_str();
        let files = &self.plan.files;
        let [key, cert, chain, copy] = [
            files.ca_key(name),
            files.ca_cert(name),
            files.cert_chain(name),
            files.root_copy(name),
        ]
        .map(|file| self.built(&file, span));

        let signing = [key, root.cert]
            .into_iter()
            .chain(root.signer.iter().copied())
            .collect();
        let chain_inputs = [key, cert, root.cert]
            .into_iter()
            .chain(root.chain.iter().copied())
            .collect();
        let cacerts: Arc<[TaskId]> = Arc::new([
            self.file_task(Action::Key(Owner::Cluster(index)), smallvec![], key, span),
            self.file_task(Action::CaCert(index), signing, cert, span),
            self.file_task(Action::Chain(index), chain_inputs, chain, span),
            self.file_task(
                Action::RootCopy(Owner::Cluster(index)),
                smallvec![root.cert],
                copy,
                span,
            ),
        ]);
        if self.plan.scope != Scope::Mesh {
            self.graph.alias(format_smolstr!("{name}-cacerts"), cacerts);
            return Steps {
                cluster: index,
                undone: None,
                tasks: SmallVec::new(),
            };
        }
        let install = self.built(&files.install(name), span);
        let manifest = self.file_task(Action::Install(index), smallvec![], install, span);
        let no_context = cluster.context.is_none().then(|| Undone {
            why: SmolStr::new_static("no context"),
            how: match &cluster.context_var {
                Some(var) => format_smolstr!("set {var} to its kubeconfig context (`export {var}=…`, or {var}=… after the plan)"),
                None => format_smolstr!("write `context \"CONTEXT\"` in cluster \"{name}\""),
            },
        });
        let mut steps = Steps {
            cluster: index,
            undone: no_context
                .or_else(|| self.no_address(cluster))
                .map(Arc::new),
            tasks: SmallVec::new(),
        };
        let namespace = self.step(&mut steps, Step::Namespace, smallvec![], smallvec![]);
        let bundle = smallvec![cert, key, chain, copy];
        let secret = self.step(&mut steps, Step::Secret, bundle, smallvec![namespace]);
        let inputs = smallvec![install];
        let installed = self.step(&mut steps, Step::Install, inputs, smallvec![secret]);
        let last = match cluster.gateway {
            true => self.step(&mut steps, Step::Gateway, smallvec![], smallvec![installed]),
            false => installed,
        };
        self.step(&mut steps, Step::Ready, smallvec![copy], smallvec![last]);

        let what = Claimant::Cluster(index as u32);
        for suffix in ["-cacerts", "-cacerts-k8s", "-cacerts-selfSigned"] {
            let target = format_smolstr!("{name}{suffix}");
            self.claim(&target, what, span);
            self.graph.alias(target, cacerts.clone());
        }
        self.claim(name, what, span);
        let all = cacerts
            .iter()
            .copied()
            .chain([manifest])
            .chain(steps.tasks.iter().map(|(_, task)| *task))
            .collect();
        self.graph.alias(name, all);
        steps
    }

    /// A workload's four files. Its inputs say all that is read (facts B9: the Makefile's did not).
    fn workload(&mut self, index: usize, workload: &Workload, root: &Root) {
        let span = workload.span;
        let (name, files) = (&workload.name, &self.plan.files);
        let signer = &self.plan.clusters[workload.cluster].name;
        let [key, cert, chain] = [
            files.key(name),
            files.workload_cert(name),
            files.workload_chain(name),
        ]
        .map(|file| self.built(&file, span));
        let [ca_cert, ca_key] = [files.ca_cert(signer), files.ca_key(signer)].map(|name| {
            self.graph
                .file(self.plan.work_dir.join(&name), |_| name.as_str().into())
        });
        let chain_inputs = [cert, ca_cert, root.cert];
        let signing = [key, ca_cert, ca_key, root.cert];
        let with_brought = |inputs: &[FileId]| inputs.iter().chain(&root.chain).copied().collect();
        let mut certs = vec![
            self.file_task(Action::Key(Owner::Workload(index)), smallvec![], key, span),
            self.file_task(
                Action::WorkloadCert(index),
                with_brought(&signing),
                cert,
                span,
            ),
            self.file_task(
                Action::WorkloadChain(index),
                with_brought(&chain_inputs),
                chain,
                span,
            ),
        ];
        // In its cluster's own folder the cluster's copy serves both.
        let copy = files.root_copy(name);
        let shared = self.graph.find_file(&self.plan.work_dir.join(&copy));
        let shared = shared
            .filter(|_| name == signer)
            .and_then(|file| self.graph.file_at(file).producer);
        certs.push(shared.unwrap_or_else(|| {
            let copy = self.built(&copy, span);
            let action = Action::RootCopy(Owner::Workload(index));
            self.file_task(action, smallvec![root.cert], copy, span)
        }));
        let target = format_smolstr!("{name}-certs");
        self.claim(&target, Claimant::Workload(index as u32), span);
        self.graph.alias(target, certs.into());
    }

    /// A remote's istiod is its primary's, which must be within reach.
    fn no_address(&self, cluster: &Cluster) -> Option<Undone> {
        let primary = cluster.remote_of.as_ref()?;
        let of = &self.plan.clusters[*self.places.get(primary.as_str())?];
        let known = cluster.discovery_address.is_some() || of.context.is_some();
        (!known).then(|| Undone {
            why: format_smolstr!("{} is a remote of {primary}, and the address of {primary}'s east-west gateway is not known", cluster.name),
            how: format_smolstr!("give {primary} a context, or write `discovery-address \"ADDRESS\"` in cluster \"{}\"", cluster.name),
        })
    }

    /// What one cluster's istiod needs of another (facts §4.9): every primary reads every other cluster, and
    /// a remote is installed when its primary reads it and has an address.
    fn meet(&mut self, all: &mut [Steps]) {
        let clusters = &self.plan.clusters;
        let in_reach: Vec<usize> = (0..clusters.len())
            .filter(|c| clusters[*c].context.is_some())
            .collect();
        let primaries = in_reach
            .iter()
            .copied()
            .filter(|c| clusters[*c].remote_of.is_none());
        for reader in primaries {
            let mut reads = Vec::new();
            for &other in in_reach.iter().filter(|c| **c != reader) {
                // The reader's account comes with an install, or with the secret itself.
                let step = if clusters[other].remote_of.is_some() {
                    Step::Namespace
                } else {
                    Step::Install
                };
                let after = [all[other].task(step), all[reader].task(Step::Install)];
                let after = after.into_iter().flatten().collect();
                reads.push(self.step(&mut all[reader], Step::Reads(other), smallvec![], after));
            }
            if reads.is_empty() {
                continue;
            }
            let after = reads
                .iter()
                .copied()
                .chain(all[reader].task(Step::Ready))
                .collect();
            let synced = self.step(&mut all[reader], Step::Synced, smallvec![], after);
            let name = &clusters[reader].name;
            if let Some(target) = self.graph.targets.get_mut(name.as_str()) {
                let own = target.iter().copied();
                *target = own.chain(reads).chain([synced]).collect();
            }
        }
        for (place, cluster) in clusters.iter().enumerate() {
            let primary = cluster
                .remote_of
                .as_deref()
                .and_then(|p| self.places.get(p));
            let Some(&primary) = primary else { continue };
            let needed = [
                all[primary].task(Step::Reads(place)),
                // Out of reach, its address is the plan's word.
                all[primary]
                    .task(Step::Gateway)
                    .filter(|_| clusters[primary].context.is_some()),
            ];
            if let Some(install) = all[place].task(Step::Install) {
                let after = &mut self.graph.tasks[install.index()].after;
                after.extend(needed.into_iter().flatten());
            }
        }
    }

    fn step(
        &mut self,
        steps: &mut Steps,
        step: Step,
        inputs: Few<FileId>,
        after: Few<TaskId>,
    ) -> TaskId {
        let Cluster { name, span, .. } = &self.plan.clusters[steps.cluster];
        let name = step_name(self.plan, name, step);
        self.claim(&name, Claimant::Cluster(steps.cluster as u32), *span);
        // Without an address a remote can still be prepared.
        let prepares = matches!(step, Step::Namespace | Step::Secret);
        let no_context = self.plan.clusters[steps.cluster].context.is_none();
        let task = Task {
            name,
            action: Action::Step(steps.cluster, step),
            inputs,
            outputs: smallvec![],
            after,
            origin: *span,
            undone: steps.undone.clone().filter(|_| no_context || !prepares),
        };
        let id = self.graph.add(task, &mut self.problems);
        steps.tasks.push((step, id));
        id
    }

    fn claim(&mut self, name: &str, what: Claimant, span: Span) {
        self.graph
            .claim(name, what, span, self.plan, &mut self.problems);
    }

    /// Room for the usual cluster: five files, five steps and four targets; and for the root and users' tasks. A
    /// table of a fleet that outgrew its room by one would take twice as much.
    fn reserve(&mut self) {
        let clusters = self.plan.clusters.len();
        let others = 2 + self.plan.tasks.len();
        self.graph.claims.reserve(14 * clusters);
        self.graph.tasks.reserve(10 * clusters + others);
        self.graph.files.reserve(5 * clusters + others);
        self.graph.targets.reserve(4 * clusters);
    }

    /// A file below the work directory; its name is claimed, for nothing else may be called so.
    fn built(&mut self, name: &str, span: Span) -> FileId {
        self.claim(name, Claimant::MeshFile, span);
        self.graph
            .file(self.plan.work_dir.join(name), |_| name.into())
    }

    /// A file that the plan names by path.
    fn outside(&mut self, path: &Utf8Path) -> FileId {
        let work_dir = &self.plan.work_dir;
        self.graph.file(path.to_owned(), |p| {
            p.strip_prefix(work_dir).unwrap_or(p).as_str().into()
        })
    }

    fn file_task(
        &mut self,
        action: Action,
        inputs: Few<FileId>,
        output: FileId,
        span: Span,
    ) -> TaskId {
        let task = Task {
            name: self.graph.file_at(output).name.clone(),
            action,
            inputs,
            outputs: smallvec![output],
            after: smallvec![],
            origin: span,
            undone: None,
        };
        self.graph.add(task, &mut self.problems)
    }

    fn user_tasks(&mut self) {
        let tasks = &self.plan.tasks;
        let first = self.graph.tasks.len() as u32;
        for (index, task) in tasks.iter().enumerate() {
            self.claim(&task.name, Claimant::Task, task.span);
            self.user_task(index, task);
        }
        // `all` before needs are looked up: a task may need any target but that one.
        let all = self.graph.task_ids().collect();
        for (index, task) in tasks.iter().enumerate() {
            self.needs(TaskId(first + index as u32), task);
        }
        self.graph.alias("all", all);
        self.spread_undone(first);
    }

    fn user_task(&mut self, index: usize, task: &UserTask) {
        let state_dir = self.plan.work_dir.join(crate::build::STATE_DIR);
        for (path, span) in &task.outputs {
            if path.starts_with(&state_dir) || path == &self.plan.work_dir {
                self.problems.push(
                    Problem::error(
                        "graph::output-place",
                        format!("task `{}` may not write `{path}`", task.name),
                    )
                    .label(*span, "meshplan keeps its own state there")
                    .help("choose another output path"),
                );
            }
        }
        let inputs = task.inputs.iter().map(|(p, _)| self.outside(p)).collect();
        let outputs = task.outputs.iter().map(|(p, _)| self.outside(p)).collect();
        let entry = Task {
            name: task.name.as_str().into(),
            action: Action::Command(index),
            inputs,
            outputs,
            after: smallvec![],
            origin: task.span,
            undone: None,
        };
        let id = self.graph.add(entry, &mut self.problems);
        let edges = task.inputs.iter().map(|(_, s)| *s).collect();
        self.graph.edges.insert(id, edges);
    }

    /// A file that is made cannot be the folder of another one. The mesh's own files never are.
    fn files_as_folders(&mut self) {
        let outputs = self.plan.tasks.iter().flat_map(|t| &t.outputs);
        let spans: HashMap<_, _> = outputs
            .map(|(path, span)| (path.as_path(), *span))
            .collect();
        if spans.is_empty() {
            return;
        }
        let mut told = HashSet::new();
        for below in &self.graph.files {
            let found = below.path.ancestors().skip(1).find_map(|dir| {
                let file = self.graph.file_at(self.graph.find_file(dir)?);
                file.producer.is_some().then_some(file)
            });
            let Some(above) = found.filter(|f| told.insert(&f.path)) else {
                continue;
            };
            let text = format!(
                "`{}` would be a file, and the folder of `{}`",
                above.name, below.name
            );
            let problem = Problem::error("graph::file-and-folder", text)
                .help("give one of them another path");
            let places = [(above, "a file here"), (below, "a file below it here")];
            let problem = places.into_iter().fold(problem, |problem, (file, what)| {
                let origin = file.producer.map(|t| self.graph.task(t).origin);
                match spans.get(file.path.as_path()).copied().or(origin) {
                    Some(span) => problem.label(span, what),
                    None => problem,
                }
            });
            self.problems.push(problem);
        }
    }

    fn needs(&mut self, id: TaskId, task: &UserTask) {
        for (need, span) in &task.needs {
            if need == "all" {
                let text = format!("task `{}` needs `all`, and so itself", task.name);
                let problem = Problem::error("graph::unknown-need", text)
                    .label(*span, "every task, this one too")
                    .help("name what it needs: `meshplan list PLAN` names every target");
                self.problems.push(problem);
                continue;
            }
            match self.graph.resolve(need, &self.plan.dir) {
                Ok(found) => {
                    let edges = self.graph.edges.entry(id).or_default();
                    edges.extend(found.iter().map(|_| *span));
                    self.graph.tasks[id.index()].after.extend(found);
                }
                Err(text) => self.problems.push(
                    Problem::error(
                        "graph::unknown-need",
                        format!("task `{}` needs `{need}`: {text}", task.name),
                    )
                    .label(*span, "no such target")
                    .help("`meshplan list PLAN` names every target"),
                ),
            }
        }
    }

    /// What needs an undone task is undone for the same reason. Built-in tasks got theirs already.
    fn spread_undone(&mut self, first_user_task: u32) {
        if self.graph.cycle().is_some() {
            return;
        }
        let users: Vec<_> = self
            .graph
            .task_ids()
            .skip(first_user_task as usize)
            .collect();
        for id in self.graph.cone(&users) {
            let missing = self.graph.before(id).find_map(|b| {
                let task = self.graph.task(b);
                task.undone.as_ref().map(|u| (task.name.clone(), u.clone()))
            });
            let task = &mut self.graph.tasks[id.index()];
            if let (Action::Command(_), None, Some((name, undone))) =
                (task.action, &task.undone, missing)
            {
                task.undone = Some(Arc::new(Undone {
                    why: format_smolstr!("it needs {name}, which is undone: {}", undone.why),
                    how: undone.how.clone(),
                }));
            }
        }
    }
}

impl Plan {
    /// Where the plan speaks of its root CA, if it does.
    pub(super) fn root_span(&self) -> Option<Span> {
        match &self.root {
            RootCa::Made(spec) => (spec.span != Span::default()).then_some(spec.span),
            RootCa::Given(given) => Some(given.cert_span),
        }
    }

    /// Absolute path of meshplan's own folder.
    pub fn state_dir(&self) -> Utf8PathBuf {
        self.work_dir.join(crate::build::STATE_DIR)
    }
}
