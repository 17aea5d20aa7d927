//! Nodes to a checked plan: the one place that knows which nodes there are and what they may say. It
//! goes on after every mistake, so that one run tells them all.

mod authority;
mod cluster;
mod task;

use std::collections::{BTreeSet, HashMap};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value as Json;

use super::{
    Request, Surroundings,
    fields::{Checker, Fields, often, once},
    include::Read,
    model::{Cluster, Into, IstioVersion, Mesh, Override, Plan, UserTask},
    normalize,
    problem::{Problem, Sources, Span},
    suggest,
    syntax::Node,
    value,
};

const DAY: u64 = 86_400;

/// Checks all nodes. `None` where no plan can be made of them; `problems` says why.
pub(super) fn check(
    request: &Request,
    around: &dyn Surroundings,
    read: &Read,
    sources: Sources,
    problems: &mut Vec<Problem>,
) -> Option<Plan> {
    let file = normalize(&request.cwd.join(request.file));
    let dir = file.parent().unwrap_or(Utf8Path::new("/")).to_owned();
    if read.nodes.is_empty() && !read.broken {
        let text = sources.text(0);
        let end = Span {
            source: 0,
            start: 0,
            end: text.len().min(1) as u32,
        };
        problems.push(
            Problem::error(
                "plan::empty",
                format!("the plan {} says nothing", request.file),
            )
            .label(end, "nothing here")
            .help("a small plan: mesh \"mesh1\" { }; cluster \"east\" { network \"network1\"; }"),
        );
        return None;
    }
    let mut checker = Checker {
        around,
        assignments: request.assignments,
        dir,
        problems,
        variables: BTreeSet::new(),
    };
    let plan = checker.plan(request, read, sources);
    checker.unread();
    plan
}

impl Checker<'_> {
    fn plan(&mut self, request: &Request, read: &Read, sources: Sources) -> Option<Plan> {
        let words = [
            once("version"),
            often("include"),
            once("mesh"),
            once("root-ca"),
            once("cluster-ca"),
            often("cluster"),
            often("task"),
        ];
        let nodes = self.fields("a plan", &read.nodes, &words);
        let one = |name: &str| nodes.get(name).and_then(|n| n.first()).copied();
        if let Some(node) = one("version") {
            self.version(node);
        }
        let clusters = nodes.get("cluster").map(Vec::as_slice).unwrap_or_default();
        let (mesh, work_dir) = self.mesh(one("mesh"), clusters.first().copied(), read.broken);
        let root = self.root(one("root-ca"));
        let namespace = mesh
            .as_ref()
            .map_or("istio-system", |m| &m.namespace)
            .to_owned();
        let defaults = one("cluster-ca")
            .map(|n| self.cluster_ca(n))
            .unwrap_or_default();
        self.renewable(&defaults, defaults.validity());
        let clusters: Vec<Option<Cluster>> = clusters
            .iter()
            .map(|n| self.cluster(n, &defaults, root.as_ref(), &namespace))
            .collect();
        let tasks: Vec<Option<UserTask>> = nodes
            .get("task")
            .into_iter()
            .flatten()
            .map(|n| self.task(n))
            .collect();
        let whole = !read.broken && clusters.iter().all(Option::is_some);
        let clusters: Vec<Cluster> = clusters.into_iter().flatten().collect();
        let tasks: Vec<UserTask> = tasks.into_iter().flatten().collect();
        self.unique(
            "cluster",
            clusters.iter().map(|c| (c.name.as_str(), c.span)),
        );
        self.unique("task", tasks.iter().map(|t| (t.name.as_str(), t.span)));
        if whole {
            self.remotes(&clusters);
        }
        let mesh = mesh?;
        self.identity(&mesh, &clusters);
        Some(Plan {
            file: request.file.to_owned(),
            work_dir: match request.work_dir {
                Some(dir) => normalize(&request.cwd.join(dir)),
                None => work_dir.unwrap_or_else(|| self.dir.clone()),
            },
            dir: self.dir.clone(),
            mesh,
            root: root?,
            clusters,
            tasks,
            sources,
        })
    }

    /// A NAME=VALUE that nothing reads is most likely a slip of the pen; make takes it silently.
    fn unread(&mut self) {
        for (name, _) in self.assignments {
            if !self.variables.contains(name) {
                let near = suggest(name, self.variables.iter().map(String::as_str));
                let help = match near {
                    Some(near) => format!("did you mean {near}=…?"),
                    None => "the plan reads variables as (env)\"NAME\"".to_owned(),
                };
                let message = format!("{name}=… was given, and the plan reads no {name}");
                self.problem(Problem::warning("plan::unread-variable", message).help(help));
            }
        }
    }

    fn version(&mut self, node: &Node) {
        let Some(text) = self.text(node) else { return };
        let numbers = |t: &str| {
            t.split('.')
                .map(|n| n.parse::<u32>().ok())
                .collect::<Option<Vec<_>>>()
        };
        let own = env!("CARGO_PKG_VERSION");
        let problem = match (numbers(&text.value), numbers(own)) {
            (None, _) => Problem::error(
                "plan::version",
                format!("`{}` is no version of meshplan", text.value),
            )
            .help("write version \"0.1\""),
            (Some(wanted), Some(own_numbers)) if wanted > own_numbers => {
                let message = format!(
                    "this plan wants meshplan {} or newer, and this is {own}",
                    text.value
                );
                Problem::error("plan::version", message).help("update meshplan")
            }
            _ => return,
        };
        self.problem(problem.label(text.span, "wanted here"));
    }

    // ---- mesh

    fn mesh(
        &mut self,
        node: Option<&Node>,
        first_cluster: Option<&Node>,
        broken: bool,
    ) -> (Option<Mesh>, Option<Utf8PathBuf>) {
        let mut mesh = Mesh {
            id: "mesh1".to_owned(),
            istio_version: IstioVersion {
                major: 1,
                minor: 30,
            },
            namespace: "istio-system".to_owned(),
            trust_domain: None,
            overrides: Vec::new(),
            span: Span::default(),
        };
        let Some(node) = node else {
            // A plan of tasks, or of a root alone, is in no mesh.
            let Some(cluster) = first_cluster.filter(|_| !broken) else {
                return (Some(mesh), None);
            };
            let problem = Problem::error("plan::no-mesh", "clusters need a mesh")
                .label(cluster.name_span, "a cluster of which mesh?");
            self.problem(problem.help("write mesh \"mesh1\" { }"));
            return (None, None);
        };
        self.plain(node, true);
        let id = self.argument(node).and_then(|v| self.text_of(v));
        let id = id.and_then(|id| {
            self.wrong("plan::mesh-id", id.span, "mesh", value::shown(&id.value))
                .map(|()| id)
        });
        let words = [
            once("istio-version"),
            once("work-dir"),
            once("namespace"),
            once("trust-domain"),
            once("operator"),
            once("values-file"),
        ];
        let fields = self.fields(
            "`mesh`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        if let Some(version) = one("istio-version")
            .and_then(|n| self.word(n, "plan::istio-version", value::istio_version))
        {
            mesh.istio_version = version.value;
        }
        if let Some(namespace) = one("namespace").and_then(|n| {
            self.word(n, "plan::namespace", |t| {
                value::dns_label(t).map(|()| t.to_owned())
            })
        }) {
            mesh.namespace = namespace.value;
        }
        if let Some(n) = one("trust-domain") {
            mesh.trust_domain = self
                .word(n, "plan::trust-domain", |t| {
                    value::dns_name(t).map(|()| t.to_owned())
                })
                .map(|t| t.value);
        }
        let work_dir = one("work-dir").and_then(|n| self.path(n)).map(|p| p.value);
        mesh.overrides = self.overrides(&fields);
        match id {
            Some(id) => {
                mesh.id = id.value;
                mesh.span = id.span;
                (Some(mesh), work_dir)
            }
            None => (None, work_dir),
        }
    }

    fn overrides(&mut self, fields: &Fields) -> Vec<Override> {
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let values = one("values-file").and_then(|n| {
            Some(Override {
                value: self.values(n)?,
                into: Into::Values,
                span: n.span,
            })
        });
        let operator = one("operator").and_then(|n| {
            Some(Override {
                value: self.operator(n)?,
                into: Into::Spec,
                span: n.span,
            })
        });
        values.into_iter().chain(operator).collect()
    }

    /// What makes a cluster itself comes from the plan alone: with another name or network than its remote
    /// secret has, endpoints are lost without a word (facts §5, 23).
    fn identity(&mut self, mesh: &Mesh, clusters: &[Cluster]) {
        let mut told = Vec::new();
        for cluster in clusters {
            for change in mesh.overrides.iter().chain(&cluster.overrides) {
                let values = if change.into == Into::Spec {
                    change.value.get("values")
                } else {
                    Some(&change.value)
                };
                let global = values.and_then(|v| v.get("global"));
                let wanted = [
                    (
                        "meshID",
                        global.and_then(|g| g.get("meshID")),
                        Some(mesh.id.as_str()),
                    ),
                    (
                        "network",
                        global.and_then(|g| g.get("network")),
                        cluster.network.as_deref(),
                    ),
                    (
                        "multiCluster.clusterName",
                        global
                            .and_then(|g| g.get("multiCluster"))
                            .and_then(|m| m.get("clusterName")),
                        Some(cluster.name.as_str()),
                    ),
                ];
                for (name, found, plan) in wanted {
                    if found.is_some_and(|f| f.as_str() != plan)
                        && !told.contains(&(change.span, name))
                    {
                        told.push((change.span, name));
                        let found = found.map(Json::to_string).unwrap_or_default();
                        self.problem(
                            Problem::error("plan::identity", format!("global.{name} comes from the plan, and {found} is another"))
                                .label(change.span, "changed here")
                                .label(cluster.span, "for this cluster")
                                .help("take it out there; change the mesh, network or cluster node instead"),
                        );
                    }
                }
            }
        }
    }

    fn unique<'t>(&mut self, what: &str, names: impl Iterator<Item = (&'t str, Span)>) {
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (name, span) in names {
            // Folders of names that differ by case alone are one on many filesystems.
            if let Some(first) = seen.insert(name.to_lowercase(), span) {
                self.problem(
                    Problem::error("plan::twice", format!("two {what}s are called `{name}`"))
                        .label(first, "the first")
                        .label(span, "the second")
                        .help("rename one of them"),
                );
            }
        }
    }
}
