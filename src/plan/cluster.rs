//! What a plan says of one cluster: the node `cluster`. It knows nothing of other clusters.

use std::sync::Arc;

use super::{
    ca::{PartialCa, Root},
    fields::{Checker, once},
    model::{CaSpec, Cluster},
    problem::{Problem, Span},
    syntax::Node,
    value,
};

/// A cluster, and where it names its primary.
pub(super) struct Named {
    pub(super) cluster: Cluster,
    pub(super) remote_of: Option<(String, Span)>,
}

/// What clusters inherit.
pub(super) struct Heritage<'a> {
    pub(super) defaults: PartialCa,
    pub(super) root: Option<&'a Root>,
    pub(super) namespace: String,
    /// The CA of clusters that say nothing of their own, once there is one: it is the same for all.
    pub(super) ca: Option<Arc<CaSpec>>,
}

impl Checker<'_> {
    /// `None` where the cluster has no sound name.
    pub(super) fn cluster(&mut self, node: &Node, heritage: &mut Heritage) -> Option<Named> {
        self.block(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|name| {
            self.wrong(
                "plan::cluster-name",
                name.span,
                "cluster",
                value::cluster_name(&name.value),
            )?;
            Some(name)
        });
        let words = [
            once("context"),
            once("kubeconfig"),
            once("api-server"),
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
        let kubeconfig = one("kubeconfig").and_then(|n| self.path(n));
        let api_server =
            one("api-server").and_then(|n| self.word(n, "plan::api-server", value::api_server));
        let label = |t: &str| value::label_value(t).map(|()| t.to_owned());
        let network = one("network").and_then(|n| self.word(n, "plan::network", label));
        let remote_of = one("remote-of").and_then(|n| self.text(n));
        let address =
            one("discovery-address").and_then(|n| self.word(n, "plan::address", value::address));
        let own = one("ca").map(|n| (self.cluster_ca(n), n.name_span));
        let overrides = self.overrides(&fields);
        if let (None, Some(address)) = (one("remote-of"), &address) {
            let problem =
                Problem::error("plan::address", "`discovery-address` is said of a primary");
            self.problem(
                problem
                    .label(address.span, "here")
                    .help("it belongs to a cluster with `remote-of`"),
            );
        }
        let ca = match (own, &heritage.ca) {
            (None, Some(ca)) => ca.clone(),
            (None, None) => {
                let ca = self.cluster_spec(heritage.defaults.clone(), heritage, Span::default());
                heritage.ca.insert(Arc::new(ca)).clone()
            }
            (Some((own, span)), _) => self
                .cluster_spec(own.over(&heritage.defaults), heritage, span)
                .into(),
        };
        let name = name?;
        let cluster = Cluster {
            name: name.value,
            ca,
            context,
            context_var,
            kubeconfig: kubeconfig.map(|k| k.value),
            api_server: api_server.map(|a| a.value),
            network: network.map(|n| n.value),
            remote_of: remote_of.as_ref().map(|r| r.value.clone()),
            discovery_address: address.map(|a| a.value),
            gateway: false,
            has_remotes: false,
            overrides,
            span: name.span,
        };
        Some(Named {
            cluster,
            remote_of: remote_of.map(|r| (r.value, r.span)),
        })
    }

    /// The context, and the variable it reads. One that is unset or empty is no mistake: the cluster's
    /// steps are left undone.
    fn context(&mut self, node: &Node) -> (Option<String>, Option<String>) {
        let plain = self.plain(node, false);
        let Some(value) = self.argument(node).filter(|_| plain) else {
            return (None, None);
        };
        let (variable, text) = if value.annotation.as_ref().is_some_and(|(a, _)| a == "env") {
            let read = self
                .literal(value, false)
                .and_then(|text| self.variable(&text, value.span));
            let Some((name, found)) = read else {
                return (None, None);
            };
            (Some(name), found.filter(|text| !text.is_empty()))
        } else {
            (None, self.text_of(value).map(|t| t.value))
        };
        let text = text.and_then(|text| {
            self.wrong("plan::context", value.span, "context", value::shown(&text))?;
            Some(text)
        });
        (text, variable)
    }
}
