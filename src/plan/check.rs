//! Nodes to a checked plan: the one place that knows which nodes there are and what they may say. It
//! goes on after every mistake, so that one run tells them all.

use std::{collections::HashMap, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value as Json;

use super::{
    Request, Surroundings,
    fields::{Checker, Fields, Placed, often, once},
    include::Read,
    model::{
        CaSpec, ChainForm, Cluster, GivenRoot, Into, IstioVersion, KeyAlgorithm, Mesh, Override,
        Plan, RootCa, Subject, UserTask, Validity,
    },
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
    };
    checker.plan(request, read, sources)
}

/// What a `cluster-ca` or `ca` node says, before defaults are filled in.
#[derive(Default, Clone)]
struct PartialCa {
    subject: Option<Subject>,
    key: Option<KeyAlgorithm>,
    validity: Option<Placed<Validity>>,
    renew_before: Option<Placed<Duration>>,
    dns: Option<Vec<String>>,
    chain: Option<ChainForm>,
}

impl PartialCa {
    /// Its own words first, then those of `defaults`.
    fn over(self, defaults: &Self) -> Self {
        Self {
            subject: self.subject.or_else(|| defaults.subject.clone()),
            key: self.key.or(defaults.key),
            validity: self.validity.or_else(|| defaults.validity.clone()),
            renew_before: self.renew_before.or_else(|| defaults.renew_before.clone()),
            dns: self.dns.or_else(|| defaults.dns.clone()),
            chain: self.chain.or(defaults.chain),
        }
    }
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

    // ---- CAs

    fn root(&mut self, node: Option<&Node>) -> Option<RootCa> {
        let Some(node) = node else {
            return Some(RootCa::Made(
                self.root_spec(PartialCa::default(), Span::default()),
            ));
        };
        self.plain(node, true);
        if let Some(value) = node.arguments.first() {
            self.problem(
                Problem::error("plan::arguments", "`root-ca` takes no value")
                    .label(value.span, "here")
                    .help("write its settings in braces"),
            );
        }
        let children = node.children.as_deref().unwrap_or_default();
        let given = children.iter().find(|c| c.name == "cert");
        if let Some(given) = given {
            return self.given_root(given, children);
        }
        let words = [
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
            often("dns"),
            once("cert"),
            often("chain"),
        ];
        let fields = self.fields("`root-ca`", children, &words);
        if let Some(chain) = fields.get("chain").and_then(|c| c.first()) {
            self.problem(
                Problem::error("plan::root-ca", "`chain` belongs to a CA brought along")
                    .label(chain.name_span, "here")
                    .help("write cert \"…\" and key \"…\" too, or take it away"),
            );
        }
        let partial = self.ca_fields(&fields);
        Some(RootCa::Made(self.root_spec(partial, node.name_span)))
    }

    fn given_root(&mut self, given: &Node, children: &[Node]) -> Option<RootCa> {
        for node in children
            .iter()
            .filter(|c| ["subject", "validity", "renew-before", "dns"].contains(&c.name.as_str()))
        {
            self.problem(
                Problem::error(
                    "plan::root-ca",
                    format!("`{}` is said of a CA that is brought along", node.name),
                )
                .label(node.name_span, "has no effect")
                .label(given.name_span, "the CA comes from here")
                .help("take one of them away: what is brought along is never changed"),
            );
        }
        let words = [
            once("cert"),
            once("key"),
            often("chain"),
            once("subject"),
            once("validity"),
            once("renew-before"),
            often("dns"),
        ];
        let fields = self.fields("`root-ca`", children, &words);
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let cert = self.path(given);
        let key = match one("key") {
            Some(key) => self.path(key),
            None => {
                self.problem(
                    Problem::error("plan::root-ca", "a CA brought along has no `key`")
                        .label(given.name_span, "its certificate")
                        .help("write key \"org/root-key.pem\""),
                );
                None
            }
        };
        let mut chain = Vec::new();
        for node in fields.get("chain").into_iter().flatten() {
            let texts = self.texts(node);
            chain.extend(texts.into_iter().filter_map(|t| self.path_of("chain", t)));
        }
        let (cert, key) = (cert?, key?);
        Some(RootCa::Given(GivenRoot {
            cert: cert.value,
            key: key.value,
            chain_span: chain.first().map(|c| c.span),
            chain: chain.into_iter().map(|c| c.value).collect(),
            cert_span: cert.span,
            key_span: key.span,
        }))
    }

    fn root_spec(&mut self, partial: PartialCa, span: Span) -> CaSpec {
        let validity = partial
            .validity
            .as_ref()
            .map_or(Validity::For(Duration::from_secs(3_650 * DAY)), |v| v.value);
        // A year to replace a root everywhere; of a short-lived one, a tenth.
        let whole = match validity {
            Validity::For(span) => span,
            Validity::Until(_) => Duration::from_secs(3_650 * DAY),
        };
        let renew = Duration::from_secs(365 * DAY).min(whole / 10);
        self.ca_spec(
            partial,
            span,
            ("Istio", "Root CA"),
            validity,
            renew,
            Vec::new(),
        )
    }

    fn cluster_ca(&mut self, node: &Node) -> PartialCa {
        self.plain(node, true);
        if let Some(value) = node.arguments.first() {
            let problem =
                Problem::error("plan::arguments", format!("`{}` takes no value", node.name))
                    .label(value.span, "here");
            self.problem(problem.help("write its settings in braces"));
        }
        let words = [
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
            often("dns"),
            once("chain"),
        ];
        let parent = format!("`{}`", node.name);
        let fields = self.fields(
            &parent,
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        self.ca_fields(&fields)
    }

    fn ca_fields(&mut self, fields: &Fields) -> PartialCa {
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let mut dns = Vec::new();
        for node in fields.get("dns").into_iter().flatten() {
            for text in self.texts(node) {
                if self
                    .wrong("plan::dns", text.span, "dns", value::dns_name(&text.value))
                    .is_some()
                {
                    dns.push(text.value);
                }
            }
        }
        let chain = |t: &str| match t {
            "with-root" => Ok(ChainForm::WithRoot),
            "without-root" => Ok(ChainForm::WithoutRoot),
            _ => Err((
                format!("`{t}` is no form of a chain"),
                "write \"without-root\" or \"with-root\"".to_owned(),
            )),
        };
        PartialCa {
            subject: one("subject").and_then(|n| self.subject(n)),
            key: one("key")
                .and_then(|n| self.word(n, "plan::key", value::key_algorithm))
                .map(|k| k.value),
            validity: one("validity").and_then(|n| self.word(n, "plan::validity", value::validity)),
            renew_before: one("renew-before")
                .and_then(|n| self.word(n, "plan::renew-before", value::duration)),
            dns: fields.contains_key("dns").then_some(dns),
            chain: one("chain")
                .filter(|n| !n.arguments.is_empty())
                .and_then(|n| self.word(n, "plan::chain", chain))
                .map(|c| c.value),
        }
    }

    fn subject(&mut self, node: &Node) -> Option<Subject> {
        if let Some(value) = node.arguments.first() {
            self.problem(
                Problem::error("plan::arguments", "`subject` has properties, no value")
                    .label(value.span, "here")
                    .help(SUBJECT),
            );
        }
        let mut subject = Subject {
            organization: String::new(),
            common_name: String::new(),
        };
        for property in &node.properties {
            let slot = match property.name.as_str() {
                "organization" => &mut subject.organization,
                "common-name" => &mut subject.common_name,
                other => {
                    let near = suggest(other, ["organization", "common-name"])
                        .map(|n| format!("did you mean `{n}`? "))
                        .unwrap_or_default();
                    let problem = Problem::error(
                        "plan::unknown-property",
                        format!("`subject` has no `{other}`"),
                    );
                    self.problem(
                        problem
                            .label(property.name_span, "unknown")
                            .help(format!("{near}{SUBJECT}; L is the cluster's name")),
                    );
                    continue;
                }
            };
            let text = self.text_of(&property.value)?;
            self.wrong(
                "plan::subject",
                text.span,
                &property.name,
                value::attribute(&text.value),
            )?;
            *slot = text.value;
        }
        if subject.organization.is_empty() && subject.common_name.is_empty() {
            self.problem(
                Problem::error("plan::subject", "a subject says nothing")
                    .label(node.span, "here")
                    .help(SUBJECT),
            );
            return None;
        }
        Some(subject)
    }

    fn ca_spec(
        &mut self,
        partial: PartialCa,
        span: Span,
        (organization, common_name): (&str, &str),
        validity: Validity,
        renew_default: Duration,
        dns: Vec<String>,
    ) -> CaSpec {
        let renew_before = partial
            .renew_before
            .as_ref()
            .map_or(renew_default, |r| r.value);
        if let (Validity::For(whole), Some(renew)) = (validity, &partial.renew_before)
            && renew.value >= whole
        {
            let mut problem = Problem::error(
                "plan::renew-before",
                "a certificate would be renewed as soon as it is made",
            )
            .label(renew.span, "this long before its end");
            if let Some(validity) = &partial.validity {
                problem = problem.label(validity.span, "it lasts this long");
            }
            self.problem(problem.help("make renew-before shorter than validity"));
        }
        CaSpec {
            subject: partial.subject.unwrap_or_else(|| Subject {
                organization: organization.to_owned(),
                common_name: common_name.to_owned(),
            }),
            key: partial.key.unwrap_or(KeyAlgorithm::Rsa4096),
            validity,
            renew_before,
            dns: partial.dns.unwrap_or(dns),
            chain: partial.chain.unwrap_or(ChainForm::WithoutRoot),
            span,
        }
    }

    // ---- clusters

    fn cluster(
        &mut self,
        node: &Node,
        defaults: &PartialCa,
        root: Option<&RootCa>,
        namespace: &str,
    ) -> Option<Cluster> {
        self.plain(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|n| {
            self.wrong(
                "plan::cluster-name",
                n.span,
                "cluster",
                value::dns_label(&n.value),
            )
            .map(|()| n)
        });
        let words = [
            once("context"),
            once("network"),
            once("remote-of"),
            once("discovery-address"),
            once("ca"),
            once("operator"),
            once("values-file"),
        ];
        let fields = self.fields(
            "`cluster`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let (context, context_var) = one("context").map(|n| self.context(n)).unwrap_or_default();
        let network = one("network").and_then(|n| {
            self.word(n, "plan::network", |t| {
                value::label_value(t).map(|()| t.to_owned())
            })
        });
        let remote_of = one("remote-of").and_then(|n| self.text(n));
        let address = one("discovery-address").and_then(|n| self.word(n, "plan::address", address));
        let own = one("ca").map(|n| self.cluster_ca(n)).unwrap_or_default();
        let overrides = self.overrides(&fields);
        let name = name?;
        let ca = self.cluster_spec(
            own.over(defaults),
            root,
            namespace,
            one("ca").map_or(name.span, |n| n.name_span),
        );
        if let (None, Some(address)) = (&remote_of, &address) {
            self.problem(
                Problem::error("plan::address", "`discovery-address` is said of a primary")
                    .label(address.span, "here")
                    .help("it belongs to a cluster with `remote-of`"),
            );
        }
        Some(Cluster {
            name: name.value,
            ca,
            context,
            context_var,
            network: network.map(|n| n.value),
            remote_of: remote_of.map(|r| r.value),
            discovery_address: address.map(|a| a.value),
            overrides,
            span: name.span,
        })
    }

    /// A context that reads an unset variable is none, and its cluster steps are left undone.
    fn context(&mut self, node: &Node) -> (Option<String>, Option<String>) {
        let plain = self.plain(node, false);
        let Some(value) = self.argument(node).filter(|_| plain) else {
            return (None, None);
        };
        let by_variable = value.annotation.as_ref().is_some_and(|(a, _)| a == "env");
        let (name, text) = if by_variable {
            let Some(text) = self.literal(value) else {
                return (None, None);
            };
            let Some((name, found)) = self.variable(&text, value.span) else {
                return (None, None);
            };
            (Some(name), found)
        } else {
            (None, self.text_of(value).map(|t| t.value))
        };
        let text = text.and_then(|t| {
            self.wrong("plan::context", value.span, "context", value::shown(&t))
                .map(|()| t)
        });
        (text, name)
    }

    fn cluster_spec(
        &mut self,
        partial: PartialCa,
        root: Option<&RootCa>,
        namespace: &str,
        span: Span,
    ) -> CaSpec {
        let validity = partial
            .validity
            .as_ref()
            .map_or(Validity::For(Duration::from_secs(730 * DAY)), |v| v.value);
        let renew = match validity {
            // Of a short-lived CA, a tenth of its life.
            Validity::For(whole) => Duration::from_secs(30 * DAY).min(whole / 10),
            Validity::Until(_) => Duration::from_secs(30 * DAY),
        };
        if let (Some(RootCa::Made(root)), Some(own)) = (root, &partial.validity) {
            let longer = match (root.validity, validity) {
                (Validity::For(root), Validity::For(own)) => own >= root,
                (Validity::Until(root), Validity::Until(own)) => own > root,
                _ => false,
            };
            let told = self.problems.iter().any(|p| {
                p.code == "plan::outlives-root" && p.labels.first().is_some_and(|l| l.0 == own.span)
            });
            if longer && !told {
                let message = format!(
                    "a cluster's CA would last as long as its root, {}",
                    root.validity
                );
                let problem = Problem::warning("plan::outlives-root", message)
                    .label(own.span, "it is cut to the root's end");
                let problem = if root.span == Span::default() {
                    problem
                } else {
                    problem.label(root.span, "the root")
                };
                self.problem(problem.help("make the root's validity longer, or this one shorter (Istio's Makefile has both at 3650 days)"));
            }
        }
        let dns = vec![format!("istiod.{namespace}.svc")];
        self.ca_spec(
            partial,
            span,
            ("Istio", "Intermediate CA"),
            validity,
            renew,
            dns,
        )
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

    fn remotes(&mut self, clusters: &[Cluster]) {
        let by_name: HashMap<&str, &Cluster> =
            clusters.iter().map(|c| (c.name.as_str(), c)).collect();
        for cluster in clusters {
            let Some(primary) = &cluster.remote_of else {
                continue;
            };
            let problem = match by_name.get(primary.as_str()) {
                None => {
                    let near = suggest(primary, by_name.keys().copied())
                        .map(|n| format!("did you mean \"{n}\"?"));
                    let problem = Problem::error(
                        "plan::remote-of",
                        format!(
                            "`{}` is a remote of `{primary}`, which is no cluster of this plan",
                            cluster.name
                        ),
                    );
                    problem
                        .label(cluster.span, "this cluster")
                        .help(near.unwrap_or_else(|| "write a primary cluster's name".to_owned()))
                }
                Some(p) if p.name == cluster.name => {
                    Problem::error("plan::remote-of", format!("`{primary}` is its own remote"))
                        .label(cluster.span, "this cluster")
                        .help("name another cluster, or take `remote-of` away")
                }
                Some(p) if p.remote_of.is_some() => {
                    Problem::error("plan::remote-of", format!("`{primary}` is a remote itself"))
                        .label(cluster.span, "its remote")
                        .label(p.span, "a remote")
                        .help("name a primary cluster")
                }
                Some(_) => continue,
            };
            self.problem(problem);
        }
    }

    // ---- tasks

    fn task(&mut self, node: &Node) -> Option<UserTask> {
        self.plain(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|n| {
            self.wrong(
                "plan::task-name",
                n.span,
                "task",
                value::task_name(&n.value),
            )
            .map(|()| n)
        });
        let words = [
            often("needs"),
            often("input"),
            often("output"),
            once("run"),
            once("dir"),
            often("env"),
            once("timeout"),
        ];
        let fields = self.fields(
            "`task`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let needs = self
            .all_texts(&fields, "needs")
            .into_iter()
            .map(|t| (t.value, t.span))
            .collect();
        let inputs = self.all_paths(&fields, "input");
        let outputs = self.all_paths(&fields, "output");
        for (i, (path, span)) in outputs.iter().enumerate() {
            if let Some((_, first)) = outputs[..i].iter().find(|(p, _)| p == path) {
                self.problem(
                    Problem::error("plan::twice", "an output is named twice")
                        .label(*first, "the first time")
                        .label(*span, "the second time")
                        .help("keep one of them"),
                );
            }
        }
        let run: Vec<_> = one("run").map(|n| self.texts(n)).unwrap_or_default();
        if let Some(empty) = run.first().filter(|r| r.value.is_empty()) {
            self.problem(
                Problem::error("plan::run", "the program's name is empty")
                    .label(empty.span, "here")
                    .help("write run \"program\" \"argument\""),
            );
        }
        if one("run").is_none() {
            self.problem(
                Problem::error("plan::run", "a task without `run` does nothing")
                    .label(node.name_span, "this task")
                    .help(
                        "write run \"program\" \"argument\"; for a shell, run \"sh\" \"-c\" \"…\"",
                    ),
            );
        }
        let dir = one("dir")
            .and_then(|n| self.path(n))
            .map_or_else(|| self.dir.clone(), |p| p.value);
        let timeout = one("timeout")
            .and_then(|n| self.word(n, "plan::timeout", value::duration))
            .map(|t| t.value);
        let env = self.task_env(&fields);
        let name = name?;
        (!run.is_empty()).then(|| UserTask {
            name: name.value,
            needs,
            inputs,
            outputs,
            run: run.into_iter().map(|r| r.value).collect(),
            dir,
            env,
            timeout,
            span: name.span,
        })
    }

    fn all_texts(&mut self, fields: &Fields, name: &str) -> Vec<Placed<String>> {
        fields
            .get(name)
            .into_iter()
            .flatten()
            .flat_map(|n| self.texts(n))
            .collect()
    }

    fn all_paths(&mut self, fields: &Fields, name: &str) -> Vec<(Utf8PathBuf, Span)> {
        let texts = self.all_texts(fields, name);
        texts
            .into_iter()
            .filter_map(|t| self.path_of(name, t))
            .map(|p| (p.value, p.span))
            .collect()
    }

    fn task_env(&mut self, fields: &Fields) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for node in fields.get("env").into_iter().flatten() {
            if let Some(value) = node.arguments.first() {
                self.problem(
                    Problem::error("plan::arguments", "`env` has properties, no value")
                        .label(value.span, "here")
                        .help("write env NAME=\"value\""),
                );
            }
            for property in &node.properties {
                if self
                    .wrong(
                        "plan::env",
                        property.name_span,
                        "env",
                        value::variable(&property.name),
                    )
                    .is_some()
                {
                    env.extend(
                        self.text_of(&property.value)
                            .map(|t| (property.name.clone(), t.value)),
                    );
                }
            }
        }
        env
    }
}

const SUBJECT: &str = "write subject organization=\"Istio\" common-name=\"Root CA\"";

/// An address that other clusters reach: an IP address, or a host's name.
fn address(text: &str) -> Result<String, value::Wrong> {
    if text.parse::<std::net::IpAddr>().is_ok() || value::dns_name(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err((
            format!("`{}` is no address", text.escape_debug()),
            "write an IP address or a host's name".to_owned(),
        ))
    }
}
