//! Writes a cluster's `install.yaml` in the dialect of the plan's Istio release. Pure: the plan in,
//! bytes out, the same bytes for the same plan. It knows nothing of files or of istioctl.

use thiserror::Error;

use super::yaml::{self, Node};
use crate::plan::model::{self, Cluster, DataPlane, IstioVersion, Mesh};

/// Namespace that every Istio release takes for its own unless told otherwise.
const DEFAULT_NAMESPACE: &str = "istio-system";

/// Name of the east-west gateway, its Deployment and its Service.
pub const EAST_WEST: &str = "istio-eastwestgateway";

/// An override that cannot be merged in, since it is no map.
#[derive(Debug, Error)]
#[error(
    "install.yaml of {cluster}: what is merged into {place} is no map; write `key: value` pairs there"
)]
pub struct ManifestError {
    /// The cluster's name.
    pub cluster: String,
    /// `spec` or `spec.values`.
    pub place: &'static str,
}

/// What a release line understands; the mirror of what Istio changed over time.
#[derive(Debug, Clone, Copy)]
struct Dialect(IstioVersion);

impl Dialect {
    fn since(self, minor: u16) -> bool {
        self.0.major > 1 || self.0.minor >= minor
    }

    /// 1.5 renamed IstioControlPlane to IstioOperator.
    fn api(self) -> (&'static str, &'static str) {
        if self.since(5) {
            ("install.istio.io/v1alpha1", "IstioOperator")
        } else {
            ("install.istio.io/v1alpha2", "IstioControlPlane")
        }
    }

    /// `meshExpansion` is an unknown field from 1.9 on (facts §3.4).
    fn mesh_expansion(self) -> bool {
        !self.since(9)
    }

    /// The profile of a remote without an istiod. Until 1.10 a remote ran one of its own; 1.11 brought
    /// `injectionPath`, 1.16 turned `remote`, so far an empty profile, into what `external` was.
    fn remote_profile(self) -> Option<&'static str> {
        if self.since(16) {
            Some("remote")
        } else if self.since(11) {
            Some("external")
        } else {
            None
        }
    }

    /// From 1.10 to 1.22 the charts set istiod's variable only when told so (facts §4.3).
    fn external_istiod_by_variable(self) -> bool {
        self.since(10) && !self.since(23)
    }
}

/// Name of the IstioOperator, which istioctl labels all that it makes with.
pub const NAME: &str = "meshplan";

/// True where this cluster runs an istiod of its own.
pub fn runs_istiod(cluster: &Cluster, version: IstioVersion) -> bool {
    cluster.remote_of.is_none() || Dialect(version).remote_profile().is_none()
}

/// True where every cluster's `install.yaml` names all clusters of the mesh.
pub fn names_others(version: IstioVersion) -> bool {
    Dialect(version).mesh_expansion()
}

/// The `install.yaml` of a cluster. `clusters` are all clusters of the mesh: they name the networks
/// of 1.4 to 1.8.
///
/// Where a remote finds its primary is in it only if the plan says so; else the address is known when the
/// primary has one, and given to istioctl beside the file.
///
/// # Errors
/// An override that cannot be merged.
pub fn install_yaml(
    mesh: &Mesh,
    cluster: &Cluster,
    clusters: &[Cluster],
) -> Result<Vec<u8>, ManifestError> {
    let dialect = Dialect(mesh.istio_version);
    let mut spec = spec(mesh, cluster, clusters, dialect);
    for change in mesh.overrides.iter().chain(&cluster.overrides) {
        let (target, place) = match change.into {
            model::Into::Spec => (&mut spec, "spec"),
            model::Into::Values => (spec.at("values"), "spec.values"),
        };
        if !change.value.is_object() {
            return Err(ManifestError {
                cluster: cluster.name.clone(),
                place,
            });
        }
        target.merge(&change.value);
    }
    let (api_version, kind) = dialect.api();
    // Without a name the next install prunes gateways that others installed (cluster facts, 1).
    let metadata = Node::map([
        ("name", NAME.into()),
        ("namespace", mesh.namespace.as_str().into()),
    ]);
    let document = Node::map([
        ("apiVersion", api_version.into()),
        ("kind", kind.into()),
        ("metadata", metadata),
        ("spec", spec),
    ]);
    let mut text = String::with_capacity(2_048);
    yaml::write_block(&mut text, 0, &document, false);
    Ok(text.into_bytes())
}

fn spec<'a>(
    mesh: &'a Mesh,
    cluster: &'a Cluster,
    clusters: &'a [Cluster],
    dialect: Dialect,
) -> Node<'a> {
    let [mut spec, mut global, mut values] = [(); 3].map(|()| Node::map([]));
    let own_namespace = mesh.namespace != DEFAULT_NAMESPACE;

    if !dialect.since(5) && own_namespace {
        spec.set("defaultNamespace", &mesh.namespace);
    }
    if dialect.mesh_expansion() && cluster.remote_of.is_none() {
        global.set("meshExpansion", Node::map([("enabled", true.into())]));
    }
    global.set("meshID", mesh.id.as_str());
    let name = Node::map([("clusterName", cluster.name.as_str().into())]);
    global.set("multiCluster", name);
    if let Some(network) = &cluster.network {
        global.set("network", network);
    }
    if dialect.mesh_expansion() && cluster.remote_of.is_none() {
        let networks = mesh_networks(mesh, clusters);
        if networks != Node::map([]) {
            global.set("meshNetworks", networks);
        }
    }
    if own_namespace {
        global.set("istioNamespace", &mesh.namespace);
    }
    if let Some(domain) = &mesh.trust_domain {
        // The charts read it from meshConfig since 1.9; before, from the global value alone.
        if dialect.since(9) {
            spec.set("meshConfig", Node::map([("trustDomain", domain.into())]));
        } else {
            global.set("trustDomain", domain);
        }
    }
    if cluster.remote_of.is_some() {
        if let Some(address) = &cluster.discovery_address {
            global.set("remotePilotAddress", address);
        }
        if let Some(profile) = dialect.remote_profile() {
            spec.set("profile", profile);
            let network = cluster
                .network
                .as_ref()
                .map(|n| format!("/net/{n}"))
                .unwrap_or_default();
            let path = format!("/inject/cluster/{}{network}", cluster.name);
            values.set("istiodRemote", Node::map([("injectionPath", path.into())]));
        }
    } else if dialect.since(9) && cluster.has_remotes {
        global.set("externalIstiod", true);
        if dialect.external_istiod_by_variable() {
            let env = Node::map([("EXTERNAL_ISTIOD", "true".into())]);
            values.set("pilot", Node::map([("env", env)]));
        }
    }
    let ambient = mesh.data_plane == DataPlane::Ambient;
    if ambient {
        spec.set("profile", "ambient");
    }
    match (cluster.gateway, ambient) {
        (true, false) => {
            let gateways = gateways(cluster, dialect);
            spec.set("components", Node::map([("ingressGateways", gateways)]));
            // An unknown field before (values_types.proto of 1.9.0 and 1.10.0).
            if dialect.since(10) {
                let template = Node::map([("injectionTemplate", "gateway".into())]);
                let gateways = Node::map([("istio-ingressgateway", template)]);
                values.set("gateways", gateways);
            }
        }
        // Its gateway is an object of the Gateway API, which istiod follows when told so (facts §4.6).
        (true, true) => {
            let env = Node::map([("AMBIENT_ENABLE_MULTI_NETWORK", "true".into())]);
            values.set("pilot", Node::map([("env", env)]));
        }
        (false, _) => {}
    }
    if !dialect.since(5) {
        // Citadel takes cacerts only when told not to sign by itself.
        values.set("security", Node::map([("selfSigned", false.into())]));
    }
    values.set("global", global);
    spec.set("values", values);
    spec
}

/// The gateways of an install: in one file with istiod, which istioctl starts first. A list replaces the
/// profile's, so a primary's own ingress gateway is named again (cluster facts §4).
fn gateways(cluster: &Cluster, dialect: Dialect) -> Node<'_> {
    let port = |name, number: u16, at: u16| {
        Node::map([
            ("name", Node::from(name)),
            ("port", number.into()),
            ("targetPort", at.into()),
        ])
    };
    let mut ports = vec![
        port("status-port", 15021, 15021),
        port("tls", 15443, 15443),
        port("tls-istiod", 15012, 15012),
        port("tls-webhook", 15017, 15017),
    ];
    if cluster.has_remotes {
        // Where the gateway's address is a hostname, a remote's Service istiod is no more than another name
        // for it, and its API server calls the webhook at that Service's own port.
        ports.push(port("tls-webhook-host", 443, 15018));
    }
    let mut label = Node::map([
        ("istio", "eastwestgateway".into()),
        ("app", EAST_WEST.into()),
    ]);
    let variable = |name, value| Node::map([("name", Node::from(name)), ("value", value)]);
    let mut env = Vec::new();
    // What the gateway's own configuration tells since 1.11 (gen-eastwest-gateway.sh of 1.11.0).
    if !dialect.since(11) {
        env.push(variable("ISTIO_META_ROUTER_MODE", "sni-dnat".into()));
    }
    if let Some(network) = &cluster.network {
        label.set("topology.istio.io/network", network);
        // Traffic to other networks' services comes in here, so it must see this network only.
        env.push(variable(
            "ISTIO_META_REQUESTED_NETWORK_VIEW",
            network.into(),
        ));
    }
    let mut k8s = Node::map([("service", Node::map([("ports", ports.into())]))]);
    if !env.is_empty() {
        k8s.set("env", env);
    }
    let east_west = Node::map([
        ("name", EAST_WEST.into()),
        ("enabled", true.into()),
        ("label", label),
        ("k8s", k8s),
    ]);
    let mut gateways = Vec::new();
    if cluster.remote_of.is_none() {
        gateways.push(Node::map([
            ("name", "istio-ingressgateway".into()),
            ("enabled", true.into()),
        ]));
    }
    gateways.push(east_west);
    gateways.into()
}

/// Every network of the mesh with the clusters on it. The registry's name is the cluster's: with
/// `clusterName` set, `Kubernetes` matches nothing (facts F0.5).
fn mesh_networks<'a>(mesh: &Mesh, clusters: &'a [Cluster]) -> Node<'a> {
    let gateway = format!("istio-ingressgateway.{}.svc.cluster.local", mesh.namespace);
    let mut networks = Node::map([]);
    for network in clusters.iter().filter_map(|c| c.network.as_ref()) {
        let members = clusters
            .iter()
            .filter(|c| c.network.as_ref() == Some(network));
        let endpoint = |c: &'a Cluster| Node::map([("fromRegistry", c.name.as_str().into())]);
        let endpoints: Vec<_> = members.map(endpoint).collect();
        let gateway = Node::map([
            ("registry_service_name", gateway.clone().into()),
            ("port", 443.into()),
        ]);
        let both = [
            ("endpoints", endpoints.into()),
            ("gateways", vec![gateway].into()),
        ];
        networks.set(network, Node::map(both));
    }
    networks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{sync::Arc, time::Duration};

    use serde_json::{Value, json};

    use super::*;
    use crate::plan::model::{CaSpec, ChainForm, KeyAlgorithm, Override, Subject, Validity};

    fn mesh(minor: u16) -> Mesh {
        Mesh {
            id: "mesh1".into(),
            istio_version: IstioVersion { major: 1, minor },
            namespace: "istio-system".into(),
            trust_domain: None,
            data_plane: DataPlane::Sidecar,
            several_networks: false,
            in_reach: Vec::new(),
            overrides: Vec::new(),
            span: Default::default(),
        }
    }

    fn cluster(name: &str, network: Option<&str>, primary: Option<&str>) -> Cluster {
        let subject = Subject {
            organization: "Istio".into(),
            common_name: "Intermediate CA".into(),
        };
        Cluster {
            name: name.into(),
            ca: Arc::new(CaSpec {
                subject,
                key: KeyAlgorithm::EcdsaP256,
                validity: Validity::For(Duration::from_secs(86_400)),
                renew_before: Duration::ZERO,
                dns: Vec::new(),
                uris: Vec::new(),
                chain: ChainForm::WithoutRoot,
                span: Default::default(),
            }),
            context: None,
            context_var: None,
            kubeconfig: None,
            api_server: None,
            network: network.map(Into::into),
            remote_of: primary.map(Into::into),
            discovery_address: primary.map(|_| "10.0.0.1".into()),
            gateway: false,
            has_remotes: false,
            overrides: Vec::new(),
            span: Default::default(),
        }
    }

    fn yaml(mesh: &Mesh, cluster: &Cluster, clusters: &[Cluster]) -> String {
        String::from_utf8(install_yaml(mesh, cluster, clusters).unwrap()).unwrap()
    }

    #[test]
    fn today() {
        let all = [cluster("cluster1", Some("network1"), None)];
        let want = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata:
  name: meshplan
  namespace: istio-system
spec:
  values:
    global:
      meshID: mesh1
      multiCluster:
        clusterName: cluster1
      network: network1
";
        assert_eq!(yaml(&mesh(30), &all[0], &all), want);
    }

    #[test]
    fn of_the_seed() {
        let all = [
            cluster("cluster1", Some("network1"), None),
            cluster("cluster2", Some("network2"), None),
            cluster("cluster3", Some("network1"), None),
            cluster("cluster4", None, None),
        ];
        let text = yaml(&mesh(6), &all[0], &all);
        let want = "      network: network1
      meshNetworks:
        network1:
          endpoints:
            - fromRegistry: cluster1
            - fromRegistry: cluster3
          gateways:
            - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
              port: 443
        network2:
";
        assert!(text.contains(want), "{text}");
        assert!(
            text.contains("      meshExpansion:\n        enabled: true\n      meshID: mesh1\n"),
            "{text}"
        );
        assert!(!text.contains("cluster4"), "{text}");
        assert!(
            yaml(&mesh(4), &all[0], &all)
                .starts_with("apiVersion: install.istio.io/v1alpha2\nkind: IstioControlPlane\n")
        );
    }

    #[test]
    fn primary_and_remote() {
        let mut all = [
            cluster("a", Some("n1"), None),
            cluster("b", Some("n2"), Some("a")),
        ];
        all[0].has_remotes = true;
        let primary = yaml(&mesh(30), &all[0], &all);
        assert!(
            primary.contains("externalIstiod: true") && !primary.contains("pilot:"),
            "{primary}"
        );
        assert!(yaml(&mesh(12), &all[0], &all).contains("EXTERNAL_ISTIOD: \"true\""));

        let remote = yaml(&mesh(30), &all[1], &all);
        assert!(remote.contains("  profile: remote\n"), "{remote}");
        assert!(
            remote.contains("injectionPath: \"/inject/cluster/b/net/n2\"\n"),
            "{remote}"
        );
        assert!(
            remote.contains("remotePilotAddress: \"10.0.0.1\"\n"),
            "{remote}"
        );
        assert!(yaml(&mesh(14), &all[1], &all).contains("profile: external"));
        let old = yaml(&mesh(8), &all[1], &all);
        assert!(
            !old.contains("profile")
                && !old.contains("istiodRemote")
                && !old.contains("meshExpansion"),
            "{old}"
        );
        assert!(
            runs_istiod(&all[1], mesh(8).istio_version)
                && !runs_istiod(&all[1], mesh(30).istio_version)
        );
    }

    #[test]
    fn gateways_stand_beside_what_the_profile_has() {
        let mut primary = cluster("a", Some("n1"), None);
        let mut remote = cluster("b", Some("n2"), Some("a"));
        (primary.gateway, remote.gateway) = (true, true);
        let names = |cluster: &Cluster| {
            let read: Value = serde_norway::from_str(&yaml(&mesh(30), cluster, &[])).unwrap();
            let gateways = read["spec"]["components"]["ingressGateways"].clone();
            let name = |g: &Value| g["name"].as_str().unwrap().to_owned();
            let network = |g: &Value| g["label"]["topology.istio.io/network"].clone();
            let all = gateways.as_array().unwrap();
            (
                all.iter().map(name).collect::<Vec<_>>(),
                network(all.last().unwrap()),
            )
        };
        let both = vec!["istio-ingressgateway".to_owned(), EAST_WEST.to_owned()];
        assert_eq!(names(&primary), (both.clone(), json!("n1")));
        assert_eq!(names(&remote), (both[1..].to_vec(), json!("n2")));

        let mut ambient = mesh(30);
        ambient.data_plane = DataPlane::Ambient;
        let text = yaml(&ambient, &primary, &[]);
        assert!(
            text.contains("AMBIENT_ENABLE_MULTI_NETWORK") && !text.contains(EAST_WEST),
            "{text}"
        );
    }

    #[test]
    fn overrides_in_order() {
        let mut mesh = mesh(30);
        mesh.namespace = "mesh-system".into();
        mesh.trust_domain = Some("example.org".into());
        let change = |into, value| Override {
            value,
            into,
            span: Default::default(),
        };
        mesh.overrides.push(change(
            model::Into::Values,
            json!({"pilot": {"env": {"A": "1", "B": "2"}}, "list": [1, 2]}),
        ));
        let mut one = cluster("a", None, None);
        one.overrides.push(change(
            model::Into::Spec,
            json!({"values": {"pilot": {"env": {"A": null}}, "list": [[3], {}]}, "x": {"y": null}}),
        ));
        let text = yaml(&mesh, &one, &[]);
        let read: Value = serde_norway::from_str(&text).unwrap();
        assert_eq!(
            read["spec"],
            json!({
                "meshConfig": {"trustDomain": "example.org"},
                "values": {
                    "global": {"meshID": "mesh1", "multiCluster": {"clusterName": "a"}, "istioNamespace": "mesh-system"},
                    "pilot": {"env": {"B": "2"}},
                    "list": [[3], {}],
                },
                "x": {},
            })
        );
        one.overrides
            .push(change(model::Into::Values, json!("word")));
        assert!(install_yaml(&mesh, &one, &[]).is_err());
    }
}
