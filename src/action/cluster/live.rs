//! What a cluster holds now: the one question asked of it, and its answer as data. Contents are kept
//! as digests only, since one of them is a private key. It knows nothing of what is wanted.

use std::{collections::BTreeMap, fmt, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::{Value, json};

use super::{Target, Tools, Wanted};
use crate::host::process::Command;

/// Longest that one kubectl call may take. Its own `--request-timeout` bounds each request, not the
/// call: cold discovery and retries add up to minutes (cluster facts §6).
const CALL: Duration = Duration::from_secs(60);

/// Name of the ConfigMap that remembers what was installed. It survives installs, and
/// `uninstall --purge` too (cluster facts §3).
pub(super) const MARK: &str = "meshplan";

/// Key of the digest in that ConfigMap.
pub(super) const MARK_KEY: &str = "install-sha256";

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

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Digest, E> {
                Ok(Digest::of(text.as_bytes()))
            }

            // Go writes empty bytes as null.
            fn visit_unit<E>(self) -> Result<Digest, E> {
                Ok(Digest::of(b""))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// What a cluster holds, as far as the look asked for it. What was not asked for looks absent.
#[derive(Debug, Default)]
pub struct Live {
    pub(super) namespace: Option<Metadata>,
    pub(super) secret: Option<BTreeMap<String, Digest>>,
    pub(super) root: Option<Digest>,
    pub(super) installed: Option<Digest>,
    pub(super) control_plane: Option<Rollout>,
    pub(super) webhook: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    generation: i64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) deletion_timestamp: Option<String>,
}

/// Where a Deployment's rollout is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rollout {
    /// Its condition Available is true.
    pub(super) available: bool,
    /// Every replica is of the newest generation and available (cluster facts §5).
    pub(super) complete: bool,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Object {
    kind: String,
    metadata: Metadata,
    data: BTreeMap<String, Digest>,
    spec: Spec,
    status: Status,
    items: Vec<Object>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    replicas: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    updated_replicas: i64,
    available_replicas: i64,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    name: String,
    status: String,
}

impl Object {
    fn rollout(&self) -> Rollout {
        let available = self
            .status
            .conditions
            .iter()
            .any(|c| c.name == "Available" && c.status == "True");
        let wanted = self.spec.replicas.unwrap_or(1);
        let complete = available
            && self.status.observed_generation >= self.metadata.generation
            && self.status.updated_replicas == wanted
            && self.status.available_replicas == wanted;
        Rollout {
            available,
            complete,
        }
    }
}

/// One question for all that a step compares. Stubs on standard input span kinds and namespaces;
/// what is missing is just absent from the answer (cluster facts §2).
pub fn look(wanted: &Wanted<'_>, target: &Target<'_>, tools: &Tools) -> Command {
    let ns = target.namespace;
    let namespaced = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": ns } });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ns } });
    let control_plane = || match target.runs_istiod {
        true => namespaced("apps/v1", "Deployment", target.control_plane()),
        false => json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": webhook_name(ns) },
        }),
    };
    let stubs = match wanted {
        Wanted::Namespace => vec![namespace],
        Wanted::Secret(_) => vec![namespace, namespaced("v1", "Secret", "cacerts")],
        Wanted::Install { .. } => vec![
            namespace,
            namespaced("v1", "ConfigMap", MARK),
            control_plane(),
        ],
        Wanted::Ready { .. } => vec![
            namespaced("v1", "ConfigMap", "istio-ca-root-cert"),
            control_plane(),
        ],
    };
    let mut command = kubectl(
        target,
        tools,
        &["get", "-f", "-", "-o", "json", "--ignore-not-found"],
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
    let fixed = [
        "--context",
        target.context,
        "-n",
        target.namespace,
        "--request-timeout=30s",
    ];
    Command {
        program: tools.kubectl.clone(),
        args: fixed.iter().chain(args).map(|&a| a.to_owned()).collect(),
        timeout: Some(CALL),
        ..Command::default()
    }
}

/// Reads the answer to [`look`]. Nothing at all means that nothing is there.
///
/// # Errors
/// It is no JSON of Kubernetes objects, as when a proxy answers with a page of its own. The error
/// shows none of it.
pub fn read_look(stdout: &[u8]) -> Result<Live, String> {
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
        match (object.kind.as_str(), object.metadata.name.as_str()) {
            ("Namespace", _) => live.namespace = Some(object.metadata),
            ("Secret", _) => live.secret = Some(object.data),
            ("ConfigMap", MARK) => live.installed = object.data.get(MARK_KEY).copied(),
            ("ConfigMap", _) => live.root = object.data.get("root-cert.pem").copied(),
            ("Deployment", _) => live.control_plane = Some(object.rollout()),
            ("MutatingWebhookConfiguration", _) => live.webhook = true,
            (kind, _) => return Err(format!("an answer about {kind:?}, which was not asked for")),
        }
    }
    Ok(live)
}
