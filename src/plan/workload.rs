//! What a plan says of a workload outside of Kubernetes, a VM: the node `workload`. It knows which cluster's
//! CA signs for it, and istio-agent's times; not what a certificate looks like.

use std::{collections::HashMap, time::Duration};

use super::{
    fields::{Checker, Placed, once},
    model::{Cluster, Subject, Validity, Workload},
    problem::{Problem, Span},
    suggest,
    syntax::Node,
    value,
};

/// WORKLOAD_DAYS of Istio's Makefile (facts §1.5).
const VALIDITY: Duration = Duration::from_secs(86_400);

/// Half of istiod's own 24 hours, where a fixed end leaves no lifetime to halve (facts F2.12).
const RENEW_BEFORE: Duration = Duration::from_secs(43_200);

/// The clusters that workloads may name.
struct Known<'a> {
    list: &'a [Cluster],
    places: HashMap<String, usize>,
    /// They are all that the plan means to have.
    whole: bool,
    /// What was probably meant by a name: many workloads may have the same slip of the pen.
    near: HashMap<String, Option<&'a str>>,
}

impl Checker<'_> {
    /// All workloads of a plan. `whole` says that `clusters` are all that the plan means to have.
    pub(super) fn workloads(
        &mut self,
        nodes: &[&Node],
        clusters: &[Cluster],
        whole: bool,
    ) -> Vec<Workload> {
        let places = clusters.iter().enumerate();
        let mut known = Known {
            list: clusters,
            places: places.map(|(i, c)| (c.name.to_lowercase(), i)).collect(),
            whole,
            near: HashMap::new(),
        };
        let workloads: Vec<_> = nodes
            .iter()
            .filter_map(|n| self.workload(n, &mut known))
            .collect();
        for workload in &workloads {
            let other = known
                .places
                .get(&workload.name.to_lowercase())
                .filter(|place| **place != workload.cluster);
            if let Some(&place) = other {
                let (name, signer) = (&workload.name, &clusters[workload.cluster].name);
                let text = format!(
                    "workload `{name}` would share the folder of cluster `{name}`, and {signer}'s CA signs it"
                );
                let help = "rename one of them: only a cluster's own workload may have its name";
                self.problem(
                    Problem::error("plan::workload-name", text)
                        .label(clusters[place].span, "the cluster")
                        .label(workload.span, "the workload")
                        .help(help),
                );
            }
        }
        workloads
    }

    /// `None` where it has no sound name, or no cluster.
    fn workload(&mut self, node: &Node, known: &mut Known) -> Option<Workload> {
        self.block(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|name| {
            let sound = value::cluster_name(&name.value);
            self.wrong("plan::workload-name", name.span, "workload", sound)?;
            Some(name)
        });
        let words = [
            once("cluster"),
            once("namespace"),
            once("service-account"),
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
        ];
        let fields = self.fields(
            "`workload`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let span = name.as_ref().map_or(node.name_span, |n| n.span);
        let cluster = match one("cluster") {
            Some(node) => self.text(node).and_then(|text| {
                let found = known.places.get(&text.value).copied();
                if found.is_none() && known.whole {
                    self.no_such_cluster(text, known);
                }
                found
            }),
            None if !known.whole => None,
            None if known.list.len() == 1 => Some(0),
            None => {
                self.which_cluster(span, known.list);
                None
            }
        };
        let label = |t: &str| value::dns_label(t).map(|()| t.to_owned());
        let namespace = one("namespace").and_then(|n| self.word(n, "plan::namespace", label));
        let subdomain = |t: &str| value::dns_subdomain(t).map(|()| t.to_owned());
        let account = one("service-account")
            .and_then(|n| self.word(n, "plan::service-account", subdomain))
            .map(|a| a.value);
        let subject = one("subject").and_then(|n| self.subject(n));
        let key = one("key").and_then(|n| self.key(n));
        let validity =
            one("validity").and_then(|n| self.time(n, "plan::validity", value::validity));
        let renew =
            one("renew-before").and_then(|n| self.time(n, "plan::renew-before", value::duration));
        let lasts = validity
            .as_ref()
            .map_or(Validity::For(VALIDITY), |v| v.value);
        if let Some(renew) = &renew {
            self.renewable(lasts, validity.as_ref().map(|v| v.span), renew);
        }
        let (name, cluster) = (name?, cluster?);
        Some(Workload {
            cluster,
            namespace: namespace.map_or_else(|| name.value.clone(), |n| n.value),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            subject: subject.unwrap_or_else(|| Subject {
                organization: "Istio".to_owned(),
                common_name: "Workload".to_owned(),
            }),
            key: key.unwrap_or(known.list[cluster].ca.key),
            validity: lasts,
            renew_before: match (renew, lasts) {
                (Some(renew), _) => renew.value,
                (None, Validity::For(whole)) => whole / 2,
                (None, Validity::Until(_)) => RENEW_BEFORE,
            },
            name: name.value,
            span,
        })
    }

    fn no_such_cluster(&mut self, name: Placed<String>, known: &mut Known) {
        let text = format!("`{}` is no cluster of this plan", name.value);
        let names = known.list.iter().map(|c| c.name.as_str());
        let near = known.near.entry(name.value);
        let near = *near.or_insert_with_key(|name| suggest(name, names));
        let help = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write the name of the cluster whose CA signs it".to_owned(),
        };
        let problem = Problem::error("plan::workload-cluster", text);
        self.problem(problem.label(name.span, "named here").help(help));
    }

    fn which_cluster(&mut self, span: Span, clusters: &[Cluster]) {
        let (text, help) = match clusters.first() {
            None => (
                "the plan has no cluster whose CA could sign for a workload",
                "write a cluster too: cluster \"cluster1\" { }".to_owned(),
            ),
            Some(first) => (
                "the plan has several clusters, and a workload does not say whose CA signs it",
                format!("write cluster \"{}\" in its braces", first.name),
            ),
        };
        let problem = Problem::error("plan::workload-cluster", text);
        self.problem(problem.label(span, "this workload").help(help));
    }
}
