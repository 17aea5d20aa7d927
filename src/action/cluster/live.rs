//! What a cluster holds now: the one question asked of it, and its answer as data. Secrets are kept
//! as digests only. It knows nothing of what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    FIELD_MANAGER, Target, Tools,
    remote_secret::{self, Access},
};
use crate::{action::manifest::EAST_WEST, host::process::Command};

/// Longest that one kubectl call may take. Its own `--request-timeout` bounds each request, not the
/// call: cold discovery and retries add up to minutes (cluster facts §6).
pub(super) const CALL: Duration = Duration::from_secs(60);

/// Name of the ConfigMap that remembers what was installed and proven. It survives installs, and
/// `uninstall --purge` too (cluster facts §3). The Lease of a run has the same name.
pub(super) const MARK: &str = "meshplan";

/// Annotation of [`MARK`]: digest of what was installed.
pub(super) const INSTALLED: &str = "meshplan/install-sha256";

/// Annotation of [`MARK`]: digest of what all remote secrets were when istiod read their clusters.
pub(super) const PROVEN: &str = "meshplan/synced-sha256";

/// Annotation of a namespace that meshplan made.
pub(super) const MADE: &str = "meshplan/made";

/// Token of the account that other clusters' istiods read this one with (facts §3.3).
pub(super) const READER_TOKEN: &str = "istio-reader-service-account-istio-remote-secret-token";

/// SHA-256 of a text, as good as the text where only equality counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(out)
    }

    pub(super) fn hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// What a cluster holds, as far as it matters here.
#[derive(Debug, Default)]
pub struct Live {
    /// UID of the namespace kube-system: which cluster this is.
    pub uid: Option<String>,
    pub(super) namespace: Option<Metadata>,
    /// Digests of the secret cacerts, of its values as base64.
    pub(super) secret: Option<BTreeMap<String, Digest>>,
    pub(super) mark: BTreeMap<String, String>,
    /// Mesh and cluster that the mark was made for.
    pub(super) marked: Option<(String, String)>,
    pub(super) root: Option<Digest>,
    pub(super) mesh_id: Option<String>,
    /// Deployments by name.
    pub(super) rollouts: BTreeMap<String, Rollout>,
    pub(super) injector: Option<Injector>,
    /// Addresses of the east-west gateway; `None` without a Service for it.
    pub(super) addresses: Option<Vec<String>>,
    /// Specs of objects that configure gateways, by `Kind/name`.
    pub(super) specs: BTreeMap<String, Value>,
    /// With what other clusters' istiods read this one.
    pub(super) reader: Option<Access>,
    /// Remote secrets by the cluster they give access to; `None` where one cannot be read.
    pub(super) remote_secrets: BTreeMap<String, Option<Access>>,
    /// Field managers of objects, by `Kind/name`.
    managers: BTreeMap<String, BTreeSet<String>>,
}

/// Field managers of people who changed something by hand. What they change of an object of ours is drift; an
/// object that somebody else declares, as with `kubectl apply`, is not.
const BY_HAND: [&str; 5] = [
    "kubectl-annotate",
    "kubectl-edit",
    "kubectl-label",
    "kubectl-patch",
    "kubectl-replace",
];

impl Live {
    pub(super) fn control_plane(&self, target: &Target<'_>) -> Option<Rollout> {
        self.rollouts.get(target.control_plane()).copied()
    }

    /// Whether istiod serves another root than this one.
    pub(super) fn serves_other(&self, root: &[u8]) -> bool {
        self.root.is_some_and(|served| served != Digest::of(root))
    }

    /// Whether meshplan applied the object `Kind/name`.
    pub(super) fn applied(&self, object: &str) -> bool {
        self.managers
            .get(object)
            .is_some_and(|m| m.contains(FIELD_MANAGER))
    }

    /// Whether the object `Kind/name` is meshplan's, and at most changed by hand since.
    pub(super) fn is_ours(&self, object: &str) -> bool {
        let ours = |m: &String| m == FIELD_MANAGER || BY_HAND.contains(&m.as_str());
        self.applied(object)
            && self
                .managers
                .get(object)
                .is_some_and(|m| m.iter().all(ours))
    }
}

/// Where the sidecar injector's webhook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Injector {
    /// Digest of the root that it trusts, in base64; `None` where istiod has not filled it in.
    pub(super) trusts: Option<Digest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    uid: String,
    generation: i64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    managed_fields: Vec<Manager>,
    pub(super) deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manager {
    manager: String,
    subresource: String,
}

/// Where a Deployment's rollout is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rollout {
    /// Its condition Available is true.
    pub(super) available: bool,
    /// Somebody scaled it to nothing.
    pub(super) stopped: bool,
    /// Every replica is of the newest generation and available (cluster facts §5).
    pub(super) complete: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    kind: String,
    metadata: Metadata,
    data: BTreeMap<String, Option<Zeroizing<String>>>,
    spec: Value,
    status: Value,
    webhooks: Vec<Value>,
    items: Vec<Object>,
}

/// Whether a status has this condition.
fn is_true(status: &Value, condition: &str) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == condition && c["status"] == "True")
}

impl Object {
    fn rollout(&self) -> Rollout {
        let number = |name: &str| self.status[name].as_i64().unwrap_or(0);
        let wanted = self.spec["replicas"].as_i64().unwrap_or(1);
        // One that wants no pod has all it wants.
        let available = wanted > 0 && is_true(&self.status, "Available");
        let complete = available
            && number("observedGeneration") >= self.metadata.generation
            && number("updatedReplicas") == wanted
            && number("availableReplicas") == wanted;
        Rollout {
            available,
            complete,
            stopped: wanted == 0,
        }
    }

    fn digests(&self) -> BTreeMap<String, Digest> {
        let digest = |text: &Option<Zeroizing<String>>| {
            Digest::of(text.as_ref().map_or(b"", |t| t.as_bytes()))
        };
        self.data
            .iter()
            .map(|(key, text)| (key.clone(), digest(text)))
            .collect()
    }

    /// A value of a Secret, out of its base64.
    fn decoded(&self, key: &str) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.data.get(key)?.as_ref()?;
        STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
    }

    fn text(&self, key: &str) -> Option<&str> {
        Some(self.data.get(key)?.as_ref()?.as_str())
    }
}

/// One question for everything that meshplan compares. Stubs on standard input span kinds and
/// namespaces; what is missing is just absent from the answer (cluster facts §2).
pub fn look(target: &Target<'_>, tools: &Tools) -> Command {
    let ns = target.namespace;
    let stub = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": ns } });
    let global = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
    let mut stubs = vec![
        global("v1", "Namespace", ns),
        global("v1", "Namespace", "kube-system"),
        stub("v1", "Secret", "cacerts"),
        stub("v1", "ConfigMap", MARK),
        stub("v1", "ConfigMap", "istio-ca-root-cert"),
        stub("v1", "ConfigMap", "istio"),
        global(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            &webhook_name(ns),
        ),
    ];
    // Also in a remote: one that lives there is not to be broken.
    stubs.push(stub("apps/v1", "Deployment", target.control_plane()));
    if target.is_read {
        stubs.push(stub("v1", "Secret", READER_TOKEN));
    }
    if target.gateway {
        if !target.ambient {
            stubs.push(stub("apps/v1", "Deployment", EAST_WEST));
            stubs.push(stub("v1", "Service", EAST_WEST));
        }
        let exposed = super::gateway::exposed(target);
        stubs.extend(exposed.into_iter().map(|mut object| {
            object["spec"].take();
            object
        }));
    }
    let secrets = target.reads().map(remote_secret::name);
    stubs.extend(secrets.map(|name| stub("v1", "Secret", &name)));
    let mut command = kubectl(
        target,
        tools,
        // kubectl 1.21 began to leave managed fields out unless asked.
        &[
            "get",
            "-f",
            "-",
            "-o",
            "json",
            "--ignore-not-found",
            "--show-managed-fields",
        ],
    );
    command.stdin = Some(list(&stubs).into_bytes().into());
    command.capture_stdout = true;
    command
}

/// Charts add the namespace to the injector's name anywhere but in istio-system.
fn webhook_name(namespace: &str) -> String {
    match namespace {
        "istio-system" => "istio-sidecar-injector".to_owned(),
        other => format!("istio-sidecar-injector-{other}"),
    }
}

/// A `List` with one object a line.
fn list(items: &[Value]) -> String {
    let lines: Vec<_> = items.iter().map(Value::to_string).collect();
    format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{}\n]}}\n",
        lines.join(",\n")
    )
}

/// A kubectl call against the target's context and namespace.
pub(super) fn kubectl(target: &Target<'_>, tools: &Tools, args: &[&str]) -> Command {
    let kubeconfig = target
        .kubeconfig
        .map(|path| ["--kubeconfig", path.as_str()]);
    let fixed = [
        "--context",
        target.context,
        "-n",
        target.namespace,
        "--request-timeout=30s",
    ];
    let args = kubeconfig.iter().flatten().chain(&fixed).chain(args);
    Command {
        program: tools.kubectl.clone(),
        args: args.map(|&a| a.to_owned()).collect(),
        timeout: Some(CALL),
        ..Command::default()
    }
}

/// An istioctl call: the words of the command, then where it works. Releases take these behind the command
/// only.
pub(super) fn istioctl(
    target: &Target<'_>,
    tools: &Tools,
    words: &[&str],
    more: &[&str],
) -> Command {
    let kubeconfig = target
        .kubeconfig
        .map(|path| ["--kubeconfig", path.as_str()]);
    let context = ["--context", target.context];
    let args = words
        .iter()
        .chain(kubeconfig.iter().flatten())
        .chain(&context)
        .chain(more);
    Command {
        program: tools.istioctl.clone(),
        args: args.map(|&a| a.to_owned()).collect(),
        timeout: Some(CALL),
        ..Command::default()
    }
}

/// True where kubectl's complaint is only that kinds are not known there yet; the rest of its answer
/// stands (cluster facts §2).
pub(super) fn only_unknown_kinds(stderr: &str) -> bool {
    // Warnings, and klog's lines, as of an aggregated API that is down (`E1123 … memcache.go:…`).
    let is_aside = |line: &str| {
        let mut bytes = line.bytes();
        line.trim().is_empty()
            || line.starts_with("Warning:")
            || bytes.next().is_some_and(|b| b"EIW".contains(&b))
                && bytes.by_ref().take(4).filter(u8::is_ascii_digit).count() == 4
    };
    let mut lines = stderr.lines().filter(|l| !is_aside(l)).peekable();
    lines.peek().is_some()
        && lines
            .all(|l| l.contains("no matches for kind") || l.contains("ensure CRDs are installed"))
}

/// Reads the answer to [`look`]. Nothing at all means that nothing is there.
///
/// # Errors
/// It is no JSON of Kubernetes objects, as when a proxy answers with a page of its own. The error
/// shows none of it.
pub fn read_look(stdout: &[u8], target: &Target<'_>) -> Result<Live, String> {
    let mut live = Live::default();
    if stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(live);
    }
    let answer: Object = serde_json::from_slice(stdout).map_err(|e| {
        format!(
            "not the JSON of Kubernetes objects (line {}, column {})",
            e.line(),
            e.column()
        )
    })?;
    let objects = if answer.kind == "List" {
        answer.items
    } else {
        vec![answer]
    };
    for object in objects {
        let name = object.metadata.name.clone();
        let managers = object.metadata.managed_fields.iter();
        // What only reports a state declares nothing.
        let managers = managers
            .filter(|m| m.subresource.is_empty())
            .map(|m| m.manager.clone());
        live.managers
            .insert(format!("{}/{name}", object.kind), managers.collect());
        match (object.kind.as_str(), name.as_str()) {
            ("Namespace", "kube-system") => live.uid = Some(object.metadata.uid),
            ("Namespace", _) => live.namespace = Some(object.metadata),
            ("Secret", "cacerts") => live.secret = Some(object.digests()),
            ("Secret", READER_TOKEN) => {
                let (token, ca) = (object.decoded("token"), object.decoded("ca.crt"));
                live.reader = token.zip(ca).map(|(token, ca)| Access::new(&token, &ca));
            }
            ("Secret", _) => {
                let Some(other) = name.strip_prefix(remote_secret::PREFIX) else {
                    continue;
                };
                // istiod reads those with this label only (facts §3.3).
                let labels = &object.metadata.labels;
                let is_read = labels
                    .get("istio/multiCluster")
                    .is_some_and(|v| v == "true");
                let access = object
                    .decoded(other)
                    .filter(|_| is_read)
                    .and_then(|config| Access::read(&config));
                live.remote_secrets.insert(other.to_owned(), access);
            }
            ("ConfigMap", MARK) => {
                let word = |key: &str| object.text(key).unwrap_or_default().to_owned();
                live.marked = Some((word("mesh"), word("cluster")));
                live.mark = object.metadata.annotations;
            }
            ("ConfigMap", "istio") => live.mesh_id = object.text("mesh").and_then(mesh_id),
            ("ConfigMap", _) => live.root = object.digests().get("root-cert.pem").copied(),
            ("Deployment", _) => drop(live.rollouts.insert(name, object.rollout())),
            ("Service", _) => {
                let ingress = object.status["loadBalancer"]["ingress"].as_array();
                let address = |i: &Value| {
                    i["ip"]
                        .as_str()
                        .or(i["hostname"].as_str())
                        .map(str::to_owned)
                };
                live.addresses = Some(ingress.into_iter().flatten().filter_map(address).collect());
            }
            ("MutatingWebhookConfiguration", _) => {
                let bundle = object
                    .webhooks
                    .first()
                    .and_then(|w| w["clientConfig"]["caBundle"].as_str());
                let trusts = bundle
                    .filter(|b| !b.is_empty())
                    .map(|b| Digest::of(b.as_bytes()));
                live.injector = Some(Injector { trusts });
            }
            (kind, _) if target.gateway && super::gateway::KINDS.contains(&kind) => {
                if target.ambient {
                    // Until it is programmed, they are those within the cluster (cluster facts §10).
                    let programmed = is_true(&object.status, "Programmed");
                    let addresses = object.status["addresses"].as_array().into_iter().flatten();
                    let addresses = addresses.filter_map(|a| a["value"].as_str());
                    let addresses = addresses.filter(|_| programmed).map(str::to_owned);
                    live.addresses = Some(addresses.collect());
                }
                live.specs.insert(format!("{kind}/{name}"), object.spec);
            }
            (kind, _) => return Err(format!("an answer about {kind:?}, which was not asked for")),
        }
    }
    Ok(live)
}

/// The mesh ID in istiod's own configuration.
fn mesh_id(mesh: &str) -> Option<String> {
    let mesh: Value = serde_norway::from_str(mesh).ok()?;
    Some(mesh["defaultConfig"]["meshId"].as_str()?.to_owned())
}
