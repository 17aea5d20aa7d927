//! What a plan says of a cluster, and of clusters as a mesh.

use std::{collections::HashMap, net::IpAddr};

use super::authority::PartialCa;
use crate::plan::{
    fields::{Checker, once},
    model::{Cluster, RootCa},
    problem::Problem,
    suggest,
    syntax::Node,
    value,
};

impl Checker<'_> {
    pub(super) fn cluster(
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
    pub(super) fn context(&mut self, node: &Node) -> (Option<String>, Option<String>) {
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

    pub(super) fn remotes(&mut self, clusters: &[Cluster]) {
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
}

/// An address that other clusters reach: an IP address, or a host's name.
fn address(text: &str) -> Result<String, value::Wrong> {
    if text.parse::<IpAddr>().is_ok() || value::dns_name(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err((
            format!("`{}` is no address", text.escape_debug()),
            "write an IP address or a host's name".to_owned(),
        ))
    }
}
