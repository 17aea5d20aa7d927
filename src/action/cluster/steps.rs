//! What each step changes, given what the cluster holds: commands and the reasons for them. It runs
//! nothing.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Cacerts, FIELD_MANAGER, Live, StepError, Target, Tools, Wanted,
    live::{Digest, MARK, MARK_KEY, kubectl},
};
use crate::{host::process::Command, plan::model::IstioVersion};

/// Label that tells Istio a namespace's network (facts §4.0).
const NETWORK: &str = "topology.istio.io/network";

/// Annotation that names the primaries of a remote (facts §4.3).
const CONTROL_PLANES: &str = "topology.istio.io/controlPlaneClusters";

/// Longest that istioctl may work: it waits 300 s for Pilot and as long again for gateways.
const INSTALL: Duration = Duration::from_secs(900);

/// Longest that a rollout may take, for kubectl to say so itself.
const ROLLOUT: Duration = Duration::from_secs(300);

/// A command to run.
#[derive(Debug)]
pub struct Change {
    /// Why, for people; `None` where the command belongs to the one before.
    pub why: Option<String>,
    /// The command.
    pub command: Command,
}

/// The commands that take the cluster from what it holds to what is wanted; none if it is there.
///
/// # Errors
/// What the cluster holds must not be changed, or cannot be now.
pub fn decide(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Result<Vec<Change>, StepError> {
    if let Some(namespace) = &live.namespace
        && namespace.deletion_timestamp.is_some()
    {
        // A server-side apply would succeed and be lost with the namespace (cluster facts §6).
        return Err(StepError::terminating(target));
    }
    match wanted {
        Wanted::Namespace => Ok(namespace(target, tools, live)),
        Wanted::Secret(files) => secret(files, target, tools, live),
        Wanted::Install { file, yaml } => Ok(install(file.as_str(), yaml, target, tools, live)),
        Wanted::Ready { root_cert } => ready(root_cert, target, tools, live),
    }
}

fn namespace(target: &Target<'_>, tools: &Tools, live: &Live) -> Vec<Change> {
    let mut why = Vec::new();
    let mut metadata = json!({ "name": target.namespace });
    if live.namespace.is_none() {
        why.push(format!("namespace {} is missing", target.namespace));
    }
    if let Some(network) = target.network {
        metadata["labels"] = json!({ NETWORK: network });
        let now = live.namespace.as_ref().map(|n| n.labels.get(NETWORK));
        match now {
            Some(Some(label)) if label != network => {
                why.push(format!("label {NETWORK} is {label}, not {network}"))
            }
            Some(None) => why.push(format!("label {NETWORK} is missing")),
            _ => {}
        }
    }
    if let Some(primary) = target.primary {
        metadata["annotations"] = json!({ CONTROL_PLANES: primary });
        let now = live
            .namespace
            .as_ref()
            .map(|n| n.annotations.get(CONTROL_PLANES));
        // A list, or `*` for all.
        let named = |list: &String| {
            list.split(',')
                .any(|c| matches!(c.trim(), c if c == primary || c == "*"))
        };
        match now {
            Some(Some(list)) if !named(list) => why.push(format!(
                "annotation {CONTROL_PLANES} is {list}, without {primary}"
            )),
            Some(None) => why.push(format!("annotation {CONTROL_PLANES} is missing")),
            _ => {}
        }
    }
    if why.is_empty() {
        return Vec::new();
    }
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    vec![Change {
        why: Some(why.join(", ")),
        command: apply(target, tools, object.to_string().into_bytes().into()),
    }]
}

fn secret(
    files: &Cacerts<'_>,
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Result<Vec<Change>, StepError> {
    let wanted = [
        ("ca-cert.pem", encode(files.ca_cert)),
        ("ca-key.pem", encode(files.ca_key)),
        ("cert-chain.pem", encode(files.cert_chain)),
        ("root-cert.pem", encode(files.root_cert)),
    ];
    let mut why = "secret cacerts is missing".to_owned();
    if let Some(data) = &live.secret {
        // tls.crt wins over our files (facts §2.2); istio-generated marks what Istio made (F2.3b).
        if let Some(key) = ["istio-generated", "tls.crt", "tls.key"]
            .into_iter()
            .find(|&k| data.contains_key(k))
        {
            return Err(StepError::foreign_secret(target, key));
        }
        let differs = |(key, value): &&(&str, Zeroizing<String>)| {
            data.get(*key) != Some(&Digest::of(value.as_bytes()))
        };
        let differing: Vec<&str> = wanted.iter().filter(differs).map(|(key, _)| *key).collect();
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        if differing.contains(&"root-cert.pem") && data.contains_key("root-cert.pem") {
            return Err(StepError::other_root(target));
        }
        why = format!("secret cacerts differs in {}", differing.join(", "));
    }
    let metadata = json!({ "name": "cacerts", "namespace": target.namespace });
    let values: usize = wanted
        .iter()
        .map(|(key, value)| key.len() + value.len() + 8)
        .sum();
    // Written by hand into one buffer, so that no copy of the key outlives it. Base64 needs no escapes.
    let mut object = Zeroizing::new(Vec::with_capacity(values + 512));
    object.extend_from_slice(
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{metadata},\"data\":{{")
            .as_bytes(),
    );
    for (i, (key, value)) in wanted.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        object.extend_from_slice(format!("{comma}\"{key}\":\"").as_bytes());
        object.extend_from_slice(value.as_bytes());
        object.push(b'"');
    }
    object.extend_from_slice(b"}}");
    Ok(vec![Change {
        why: Some(why),
        command: apply(target, tools, object),
    }])
}

fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(bytes, &mut text);
    text
}

fn install(
    file: &str,
    yaml: &[u8],
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Vec<Change> {
    let fingerprint = Digest::of(yaml).hex();
    let why = match (live.installed, target.runs_istiod, live.control_plane) {
        (None, ..) => "not installed by meshplan yet".to_owned(),
        (Some(mark), ..) if mark != Digest::of(fingerprint.as_bytes()) => {
            "install.yaml differs from what was installed".to_owned()
        }
        (_, true, None) => format!("deployment {} is missing", target.control_plane()),
        (_, true, Some(rollout)) if !rollout.available => {
            format!("deployment {} is not available", target.control_plane())
        }
        (_, false, _) if !live.webhook => "the sidecar injector's webhook is missing".to_owned(),
        _ => return Vec::new(),
    };
    // Only 1.6 has `install` (facts §3.1). The context stands behind the command, where all releases
    // take it; 1.4 has no `-y`.
    let mut args: Vec<&str> = match target.istio < (IstioVersion { major: 1, minor: 6 }) {
        true => vec![
            "manifest",
            "apply",
            "--context",
            target.context,
            "--skip-confirmation",
            "--wait",
        ],
        false => vec!["install", "--context", target.context, "-y"],
    };
    args.extend(["-f", file]);
    let istioctl = Command {
        program: tools.istioctl.clone(),
        args: args.into_iter().map(str::to_owned).collect(),
        timeout: Some(INSTALL),
        ..Command::default()
    };
    let mark = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": MARK, "namespace": target.namespace },
        "data": { MARK_KEY: fingerprint },
    });
    vec![
        Change {
            why: Some(why),
            command: istioctl,
        },
        Change {
            why: None,
            command: apply(target, tools, mark.to_string().into_bytes().into()),
        },
    ]
}

fn ready(
    root: &[u8],
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Result<Vec<Change>, StepError> {
    if !target.runs_istiod {
        // Its primary's istiod writes the root there once it is attached.
        return match live.root {
            _ if !live.webhook => Err(StepError::not_up(target)),
            Some(live) if live != Digest::of(root) => {
                Err(StepError::other_root_served(target, true))
            }
            _ => Ok(Vec::new()),
        };
    }
    if is_ready(root, target, live).is_ok() {
        return Ok(Vec::new());
    }
    let deployment = format!("deploy/{}", target.control_plane());
    let limit = format!("--timeout={}s", ROLLOUT.as_secs());
    let mut command = kubectl(target, tools, &["rollout", "status", &deployment, &limit]);
    // A watch: bounded by its own limit, not per request.
    command.args.retain(|a| !a.starts_with("--request-timeout"));
    command.timeout = Some(ROLLOUT + Duration::from_secs(30));
    Ok(vec![Change { why: None, command }])
}

/// Whether istiod is rolled out and serves this root.
pub(super) fn is_ready(root: &[u8], target: &Target<'_>, live: &Live) -> Result<(), StepError> {
    if !live.control_plane.is_some_and(|r| r.complete) {
        return Err(StepError::not_up(target));
    }
    match live.root {
        _ if !target.publishes_root() => Ok(()),
        Some(live) if live == Digest::of(root) => Ok(()),
        published => Err(StepError::other_root_served(target, published.is_some())),
    }
}

/// Warnings of the namespace, the newest last.
pub(super) fn newest_events(target: &Target<'_>, tools: &Tools) -> Command {
    let template = "-o=jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name}: {.message}{\"\\n\"}{end}";
    let args = [
        "get",
        "events",
        "--field-selector=type=Warning",
        "--sort-by=.lastTimestamp",
        template,
    ];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    command
}

/// A server-side apply of one object on standard input. Client-side apply would copy a key into an
/// annotation (facts F2.25). What another manager owns is never taken from it.
fn apply(target: &Target<'_>, tools: &Tools, object: Zeroizing<Vec<u8>>) -> Command {
    let manager = format!("--field-manager={FIELD_MANAGER}");
    let mut command = kubectl(
        target,
        tools,
        &[
            "apply",
            "--server-side",
            &manager,
            "--validate=false",
            "-f",
            "-",
        ],
    );
    command.stdin = Some(object);
    command
}
