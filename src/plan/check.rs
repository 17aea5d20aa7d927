//! Nodes to a checked plan: which nodes a plan has, what its mesh is, and what must hold among its
//! clusters. It goes on after every mistake, so that one run tells them all.

use camino::Utf8PathBuf;
use foldhash::{HashMap, HashMapExt, HashSet};
use serde_json::Value as Json;

use super::{
    Request, Surroundings,
    cluster::{Heritage, Named},
    fields::{Checker, Field, Fields, often, once},
    files::FileNames,
    include::Read,
    model::{Cluster, DataPlane, Into, IstioVersion, Mesh, Override, Plan, Scope, UserTask},
    normalize,
    operator::global_place,
    problem::{Problem, Severity, Sources, Span},
    suggest,
    syntax::Node,
    value,
};

/// The nodes of a plan; `include` is gone by the time the others are checked.
pub(super) const NODES: [Field; 8] = [
    once("version"),
    often("include"),
    once("mesh"),
    once("root-ca"),
    once("cluster-ca"),
    often("cluster"),
    often("workload"),
    often("task"),
];

/// What makes a cluster itself, below `values.global`.
const IDENTITY: [&str; 3] = ["meshID", "network", "multiCluster.clusterName"];

const SMALL: &str = "a small plan: mesh \"mesh1\" { }; cluster \"east\" { network \"network1\"; }";

/// Checks all nodes. `None` where no plan can be made of them; `problems` says why.
pub(super) fn check(
    request: &Request,
    around: &dyn Surroundings,
    read: &Read,
    sources: Sources,
    problems: &mut Vec<Problem>,
) -> Option<Plan> {
    let mut checker = Checker::new(request, around, problems);
    checker.variables.clone_from(&read.variables);
    if !read.broken && !read.nodes.iter().any(|n| n.name != "version") {
        let problem = Problem::error(
            "plan::empty",
            format!("the plan {} says nothing", request.file),
        );
        checker.problem(
            problem
                .label(Span::default(), "no mesh, no cluster, no task")
                .help(SMALL),
        );
        return None;
    }
    let plan = checker.plan(request, read, sources);
    // What is wrong may be what reads the variable.
    if !checker
        .problems
        .iter()
        .any(|p| p.severity == Severity::Error)
    {
        checker.unread(request);
    }
    plan
}

impl Checker<'_> {
    fn plan(&mut self, request: &Request, read: &Read, sources: Sources) -> Option<Plan> {
        let nodes = self.fields("a plan", &read.nodes, &NODES);
        let one = |name: &str| nodes.get(name).and_then(|n| n.first()).copied();
        let all = |name: &str| nodes.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some(node) = one("version") {
            self.version(node);
        }
        let (mesh, work_dir) = self.mesh(one("mesh"), all("cluster").first().copied(), read.broken);
        let root = self.root(one("root-ca"));
        let namespace = mesh.as_ref().map_or("istio-system", |m| &m.namespace);
        let defaults = one("cluster-ca").map(|n| self.cluster_ca(n));
        let mut heritage = Heritage {
            defaults: defaults.unwrap_or_default(),
            root: root.as_ref(),
            namespace: namespace.to_owned(),
            ca: None,
        };
        let clusters: Vec<Option<Named>> = all("cluster")
            .iter()
            .map(|n| self.cluster(n, &mut heritage))
            .collect();
        let tasks: Vec<UserTask> = all("task").iter().filter_map(|n| self.task(n)).collect();
        let whole = !read.broken && clusters.iter().all(Option::is_some);
        let clusters: Vec<Named> = clusters.into_iter().flatten().collect();
        // Names that differ by case alone would be one folder on many filesystems.
        self.unique(
            "cluster",
            clusters
                .iter()
                .map(|c| (c.cluster.name.to_lowercase(), c.cluster.span)),
        );
        self.unique("task", tasks.iter().map(|t| (t.name.clone(), t.span)));
        if whole {
            self.remotes(&clusters, mesh.as_ref());
        }
        let mut clusters: Vec<Cluster> = clusters.into_iter().map(|c| c.cluster).collect();
        let workloads = self.workloads(all("workload"), &clusters, whole);
        self.unique(
            "workload",
            workloads.iter().map(|w| (w.name.to_lowercase(), w.span)),
        );
        let mut mesh = mesh?;
        together(&mut clusters, &mut mesh);
        self.ambient(&mesh);
        self.identity(&mesh, &clusters);
        Some(Plan {
            file: request.file.to_owned(),
            work_dir: match request.work_dir {
                Some(dir) => normalize(&request.cwd.join(dir)),
                None => work_dir.unwrap_or_else(|| self.dir.clone()),
            },
            dir: self.dir.clone(),
            files: FileNames::default(),
            scope: Scope::Mesh,
            mesh,
            root: root?.ca,
            clusters,
            workloads,
            tasks,
            sources,
        })
    }

    /// A NAME=VALUE that nothing reads is most likely a slip of the pen; make takes it silently.
    fn unread(&mut self, request: &Request) {
        for (name, _) in request.assignments {
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
        self.no_annotation(node);
        let Some(text) = self.text(node) else { return };
        let own = env!("CARGO_PKG_VERSION");
        let problem = match (value::numbers(&text.value), value::numbers(own)) {
            (None, _) => {
                let problem = Problem::error(
                    "plan::version",
                    format!("`{}` is no version of meshplan", text.value),
                );
                problem.help("write version \"0.1\"")
            }
            (Some(wanted), Some(have)) if wanted > have => {
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
            data_plane: DataPlane::Sidecar,
            several_networks: false,
            in_reach: Vec::new(),
            overrides: Vec::new(),
            span: Span::default(),
        };
        let Some(node) = node else {
            // A plan of tasks, or of a root alone, is in no mesh.
            let Some(cluster) = first_cluster.filter(|_| !broken) else {
                return (Some(mesh), None);
            };
            let problem = Problem::error("plan::no-mesh", "clusters need a mesh");
            let problem = problem.label(cluster.name_span, "a cluster of which mesh?");
            self.problem(problem.help("write mesh \"mesh1\" { }"));
            return (None, None);
        };
        self.block(node, true);
        let id = self.argument(node).and_then(|v| self.text_of(v));
        let id = id.and_then(|id| {
            self.wrong("plan::mesh-id", id.span, "mesh", value::shown(&id.value))?;
            Some(id)
        });
        let words = [
            once("istio-version"),
            once("work-dir"),
            once("namespace"),
            once("trust-domain"),
            once("data-plane"),
            once("operator"),
            once("values-file"),
        ];
        let fields = self.fields(
            "`mesh`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let version = one("istio-version")
            .and_then(|n| self.word(n, "plan::istio-version", value::istio_version));
        if let Some(version) = version {
            mesh.istio_version = version.value;
        }
        let label = |t: &str| value::dns_label(t).map(|()| t.to_owned());
        if let Some(namespace) =
            one("namespace").and_then(|n| self.word(n, "plan::namespace", label))
        {
            mesh.namespace = namespace.value;
        }
        let trust_domain = one("trust-domain")
            .and_then(|n| self.word(n, "plan::trust-domain", value::trust_domain));
        mesh.trust_domain = trust_domain.map(|t| t.value);
        if let Some(plane) =
            one("data-plane").and_then(|n| self.word(n, "plan::data-plane", value::data_plane))
        {
            mesh.data_plane = plane.value;
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

    /// A node's `values-file` and `operator`; the latter is nearer to hand, and goes on top.
    pub(super) fn overrides(&mut self, fields: &Fields) -> Vec<Override> {
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let made =
            |value: Option<Json>, into, span| value.map(|value| Override { value, into, span });
        let values = one("values-file").and_then(|n| made(self.values(n), Into::Values, n.span));
        let operator =
            one("operator").and_then(|n| made(self.operator(n), Into::Spec, n.name_span));
        if let Some(node) = one("operator") {
            for name in IDENTITY {
                let place = global_place(node, name);
                self.globals
                    .extend(place.map(|p| ((node.name_span, name), p)));
            }
        }
        values.into_iter().chain(operator).collect()
    }

    /// What makes a cluster itself comes from the plan alone: with another name or network than its remote
    /// secret has, endpoints are lost without a word (facts §5, 23).
    fn identity(&mut self, mesh: &Mesh, clusters: &[Cluster]) {
        for cluster in clusters {
            for change in mesh.overrides.iter().chain(&cluster.overrides) {
                let values = if change.into == Into::Spec {
                    change.value.get("values")
                } else {
                    Some(&change.value)
                };
                let Some(global) = values.and_then(|v| v.get("global")) else {
                    continue;
                };
                let plan = [
                    Some(mesh.id.as_str()),
                    cluster.network.as_deref(),
                    Some(cluster.name.as_str()),
                ];
                for (name, plan) in IDENTITY.into_iter().zip(plan) {
                    let found = name
                        .split('.')
                        .try_fold(global, |tree, word| tree.get(word));
                    let Some(found) = found.filter(|f| f.as_str() != plan) else {
                        continue;
                    };
                    if !self.first_time(name, change.span, Span::default()) {
                        continue;
                    }
                    let place = self.globals.get(&(change.span, name));
                    let own = match plan {
                        Some(plan) => format!("this cluster's is \"{plan}\""),
                        None => "this cluster has none".to_owned(),
                    };
                    let problem = Problem::error(
                        "plan::identity",
                        format!("global.{name} comes from the plan, and {found} is another"),
                    );
                    self.problem(
                        problem
                            .label(place.copied().unwrap_or(change.span), "changed here")
                            .label(cluster.span, own)
                            .help("take it out there; change the mesh, network or cluster node instead"),
                    );
                }
            }
        }
    }

    fn unique(&mut self, what: &str, names: impl Iterator<Item = (String, Span)>) {
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (name, span) in names {
            if let Some(first) = seen.get(&name) {
                let problem =
                    Problem::error("plan::twice", format!("two {what}s are called `{name}`"));
                let problem = problem.label(*first, "the first").label(span, "the second");
                self.problem(problem.help("rename one of them"));
            } else {
                seen.insert(name, span);
            }
        }
    }

    /// Ambient is for everybody since 1.24; istiod 1.25 learnt of its other networks (facts §4.6).
    fn ambient(&mut self, mesh: &Mesh) {
        let (minor, what) = match mesh.several_networks {
            true => (25, "an ambient mesh of several networks"),
            false => (24, "an ambient mesh"),
        };
        let oldest = IstioVersion { major: 1, minor };
        if mesh.data_plane == DataPlane::Ambient && mesh.istio_version < oldest {
            let message = format!("Istio {} does not have {what}", mesh.istio_version);
            self.problem(
                Problem::error("plan::data-plane", message)
                    .label(mesh.span, "this mesh")
                    .help(format!(
                        "write istio-version \"{oldest}\" or newer, or data-plane \"sidecar\""
                    )),
            );
        }
    }

    fn remotes(&mut self, clusters: &[Named], mesh: Option<&Mesh>) {
        let by_name: HashMap<&str, &Named> = clusters
            .iter()
            .map(|c| (c.cluster.name.as_str(), c))
            .collect();
        let mut near: HashMap<&str, Option<&str>> = HashMap::new();
        for named in clusters {
            let Some((primary, span)) = &named.remote_of else {
                continue;
            };
            let cluster = &named.cluster;
            let problem = |message: String| {
                Problem::error("plan::remote-of", message).label(*span, "named here")
            };
            let ambient = mesh.is_some_and(|m| m.data_plane == DataPlane::Ambient);
            let problem = match by_name
                .get(primary.as_str())
                .map(|p| (p.cluster.span, &p.remote_of))
            {
                None => {
                    let primaries = clusters
                        .iter()
                        .filter(|c| c.remote_of.is_none() && c.cluster.name != cluster.name);
                    let names = primaries.map(|c| c.cluster.name.as_str());
                    let near = *near
                        .entry(primary)
                        .or_insert_with(|| suggest(primary, names));
                    let help = near.map(|n| format!("did you mean \"{n}\"?"));
                    problem(format!("`{primary}` is no cluster of this plan"))
                        .help(help.unwrap_or_else(|| "write a primary cluster's name".to_owned()))
                }
                Some(_) if *primary == cluster.name => {
                    problem(format!("`{primary}` is a remote of itself"))
                        .help("name another cluster, or take `remote-of` away")
                }
                Some((other, Some(_))) => problem(format!("`{primary}` is a remote itself"))
                    .label(other, "a remote")
                    .help("name a primary cluster"),
                // Istio documents ambient for primaries alone (facts §4.6).
                Some(_) if ambient => problem("an ambient mesh has primaries only".to_owned())
                    .help("take `remote-of` away, or write data-plane \"sidecar\""),
                Some(_) => continue,
            };
            self.problem(problem);
        }
    }
}

/// Which clusters need an east-west gateway (facts §4.2, §4.3): all where pods of one network cannot reach
/// those of another, and a primary whose remotes' workloads reach its istiod through it.
/// Before 1.9 the ingress gateway served, by `meshExpansion` (facts §3.4). And what else follows from all clusters
/// together.
fn together(clusters: &mut [Cluster], mesh: &mut Mesh) {
    let dedicated = mesh.istio_version >= IstioVersion { major: 1, minor: 9 };
    let primaries: HashSet<String> = clusters
        .iter()
        .filter_map(|c| c.remote_of.clone())
        .collect();
    let first = clusters.first().map(|c| c.network.clone());
    mesh.several_networks = clusters.iter().any(|c| Some(&c.network) != first.as_ref());
    let in_reach = clusters.iter().filter(|c| c.context.is_some());
    mesh.in_reach = in_reach.map(|c| c.name.as_str().into()).collect();
    for cluster in clusters {
        cluster.has_remotes = primaries.contains(&cluster.name);
        cluster.gateway = dedicated && (mesh.several_networks || cluster.has_remotes);
    }
}
