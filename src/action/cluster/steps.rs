//! What each step changes, given what the cluster holds: commands and the reasons for them. It runs
//! nothing.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Cacerts, FIELD_MANAGER, Hands, Live, StepError, Target, Tools, Wanted, call, gateway,
    live::{Digest, INSTALLED, MADE, istioctl, kubectl},
    proof, remote_secret,
};
use crate::{action::manifest::EAST_WEST, host::process::Command};

/// Label that tells Istio a namespace's network (facts §4.0).
const NETWORK: &str = "topology.istio.io/network";

/// Annotation that names the primaries of a remote (facts §4.3).
const CONTROL_PLANES: &str = "topology.istio.io/controlPlaneClusters";

/// What stands for the fingerprint of an install that has not ended.
const BEGUN: &str = "begun";

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
/// `address` is where a remote finds its primary, if install.yaml does not say it.
///
/// # Errors
/// What the cluster holds must not be changed, or cannot be now.
pub fn decide(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
    address: Option<&str>,
) -> Result<Vec<Change>, StepError> {
    if let Some(namespace) = &live.namespace
        && namespace.deletion_timestamp.is_some()
    {
        // A server-side apply would succeed and be lost with the namespace (cluster facts §6).
        return Err(StepError::terminating(target));
    }
    match wanted {
        Wanted::Namespace => namespace(target, tools, live),
        Wanted::Secret(files) => secret(files, target, tools, live),
        Wanted::Install { file, yaml, .. } => {
            install(file.as_str(), yaml, address, target, tools, live)
        }
        Wanted::Gateway => exposes(target, tools, live),
        Wanted::Ready { root_cert } => ready(root_cert, target, tools, live),
        // They read and wait more than they change.
        Wanted::Reads(_) | Wanted::Synced => Ok(Vec::new()),
    }
}

fn namespace(target: &Target<'_>, tools: &Tools, live: &Live) -> Result<Vec<Change>, StepError> {
    let mut why = Vec::new();
    let mut metadata = json!({ "name": target.namespace });
    let made = live
        .namespace
        .as_ref()
        .is_none_or(|n| n.annotations.contains_key(MADE));
    if made {
        // Ownership of fields cannot tell who made an object (cluster facts §8), and what is not applied
        // again is taken away.
        metadata["annotations"] = json!({ MADE: "true" });
    }
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
        metadata["annotations"][CONTROL_PLANES] = json!(primary);
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
        return Ok(Vec::new());
    }
    belongs(target, live)?;
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    Ok(vec![Change {
        why: Some(why.join(", ")),
        command: apply(
            target,
            tools,
            object.to_string().into_bytes().into(),
            live.is_ours(&format!("Namespace/{}", target.namespace)),
        ),
    }])
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
    // An istiod that serves another root does not follow the secret to this one (facts F2.3, F2.18).
    let serves_other = live.control_plane(target).is_some() && live.serves_other(files.root_cert);
    let mut why = Some("secret cacerts is missing".to_owned());
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
        let other_root = differing.contains(&"root-cert.pem") && data.contains_key("root-cert.pem");
        if other_root && !target.allowed.other_root {
            return Err(StepError::other_root(target));
        }
        why = (!differing.is_empty())
            .then(|| format!("secret cacerts differs in {}", differing.join(", ")));
    }
    let restarts = || {
        let change = |(args, why): (Vec<String>, _)| Change {
            why,
            command: rollout(target, tools, &args),
        };
        let why = format!("{} restarted, to take another root", target.control_plane());
        restart(target)
            .into_iter()
            .zip([Some(why), None])
            .map(change)
    };
    let Some(why) = why else {
        // Without leave to change the root, the cluster's last step says what istiod serves.
        return Ok(match serves_other && target.allowed.other_root {
            true => restarts().collect(),
            false => Vec::new(),
        });
    };
    // An istiod without the secret signs with a root of its own, and would go on with ours at its next
    // start: two roots in one mesh (istio#57853).
    if serves_other && !target.allowed.other_root {
        return Err(StepError::other_root(target));
    }
    belongs(target, live)?;
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
    let mut changes = vec![Change {
        why: Some(why),
        command: apply(target, tools, object, live.is_ours("Secret/cacerts")),
    }];
    if live.control_plane(target).is_some() && !proof::follows(files, target, live) {
        changes.extend(restarts());
    }
    Ok(changes)
}

/// Whether the cluster's istiod, if it has one, is of the plan's mesh.
fn belongs(target: &Target<'_>, live: &Live) -> Result<(), StepError> {
    match &live.mesh_id {
        Some(mesh)
            if mesh != target.mesh
                && live.control_plane(target).is_some()
                && !target.allowed.other_mesh =>
        {
            Err(StepError::other_mesh(target, mesh))
        }
        _ => Ok(()),
    }
}

fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(bytes, &mut text);
    text
}

fn install(
    file: &str,
    yaml: &[u8],
    address: Option<&str>,
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Result<Vec<Change>, StepError> {
    let at = address.map(|a| format!("values.global.remotePilotAddress={a}"));
    let installed =
        Digest::of(&[yaml, at.as_deref().unwrap_or_default().as_bytes()].concat()).hex();
    let deployment = live.control_plane(target);
    let stopped = live.rollouts.iter().filter(|(_, rollout)| rollout.stopped);
    // An install leaves the number of replicas alone.
    let started = stopped.map(|(name, _)| Change {
        why: Some(format!("deployment {name} was scaled to 0")),
        command: kubectl(
            target,
            tools,
            &["scale", &format!("deploy/{name}"), "--replicas=1"],
        ),
    });
    let mut changes: Vec<Change> = started.collect();
    let why = match (live.mark.get(INSTALLED), target.runs_istiod, deployment) {
        (None, ..) => "not installed by meshplan yet".to_owned(),
        (Some(mark), ..) if mark == BEGUN => "an install of it was cut off".to_owned(),
        (Some(mark), ..) if *mark != installed => {
            "install.yaml differs from what was installed".to_owned()
        }
        (_, true, None) => format!("deployment {} is missing", target.control_plane()),
        (_, true, Some(rollout)) if !rollout.available && !rollout.stopped => {
            format!("deployment {} is not available", target.control_plane())
        }
        (_, false, _) if live.injector.is_none() => {
            "the sidecar injector's webhook is missing".to_owned()
        }
        _ if target.gateway && !target.ambient && !live.rollouts.contains_key(EAST_WEST) => {
            format!("deployment {EAST_WEST} is missing")
        }
        _ if target.gateway && !target.ambient && live.addresses.is_none() => {
            format!("Service {EAST_WEST} is missing")
        }
        _ => return Ok(changes),
    };
    belongs(target, live)?;
    // Only 1.6 has `install` (facts §3.1), and 1.4 no `-y`.
    let (words, mut more): (&[&str], _) = match target.since(6) {
        true => (&["install"], vec!["-y", "-f", file]),
        false => (
            &["manifest", "apply"],
            vec!["--skip-confirmation", "--wait", "-f", file],
        ),
    };
    if let Some(at) = &at {
        more.extend(["--set", at]);
    }
    let mut command = istioctl(target, tools, words, &more);
    command.timeout = Some(INSTALL);
    let mark = |installed| Change {
        why: None,
        command: proof::mark(target, tools, Some(installed), None),
    };
    // Whatever becomes of it, `destroy` is to know that there may be something.
    let install = Change {
        why: Some(why),
        command,
    };
    changes.extend([mark(BEGUN), install, mark(&installed)]);
    Ok(changes)
}

fn exposes(target: &Target<'_>, tools: &Tools, live: &Live) -> Result<Vec<Change>, StepError> {
    let mut changes = Vec::new();
    for object in gateway::exposed(target) {
        let name = format!(
            "{}/{}",
            object["kind"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        let why = match live.specs.get(&name) {
            None => format!("{name} is missing"),
            Some(spec) if !gateway::holds(spec, &object["spec"]) => format!("{name} differs"),
            Some(_) => continue,
        };
        let command = apply(
            target,
            tools,
            object.to_string().into_bytes().into(),
            live.is_ours(&name),
        );
        changes.push(Change {
            why: Some(why),
            command,
        });
    }
    Ok(changes)
}

fn ready(
    root: &[u8],
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Result<Vec<Change>, StepError> {
    if is_ready(root, target, live).is_ok() {
        return Ok(Vec::new());
    }
    let mut commands = Vec::new();
    if target.runs_istiod {
        commands.push(status(target.control_plane()));
    } else if live.injector.is_none() {
        return Err(StepError::not_up(target));
    }
    if live.rollouts.contains_key(EAST_WEST) {
        commands.push(status(EAST_WEST));
    }
    let change = |args: Vec<String>| {
        let deployment = args.last().map_or("", |a| a.trim_start_matches("deploy/"));
        Change {
            why: Some(format!("{deployment} came up")),
            command: rollout(target, tools, &args),
        }
    };
    // With no rollout to wait for, the look is repeated until it is as it should be.
    match commands.is_empty() {
        true => is_ready(root, target, live).map(|()| Vec::new()),
        false => Ok(commands.into_iter().map(change).collect()),
    }
}

fn status(deployment: &str) -> Vec<String> {
    let limit = format!("--timeout={}s", ROLLOUT.as_secs());
    ["rollout", "status", &limit, &format!("deploy/{deployment}")]
        .map(str::to_owned)
        .to_vec()
}

fn rollout(target: &Target<'_>, tools: &Tools, args: &[String]) -> Command {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut command = kubectl(target, tools, &args);
    // A watch: bounded by its own limit, not per request.
    command.args.retain(|a| !a.starts_with("--request-timeout"));
    command.timeout = Some(ROLLOUT + Duration::from_secs(30));
    command
}

/// Restarts istiod and waits for it.
fn restart(target: &Target<'_>) -> [Vec<String>; 2] {
    let deployment = format!("deploy/{}", target.control_plane());
    [
        ["rollout", "restart", &deployment]
            .map(str::to_owned)
            .to_vec(),
        status(target.control_plane()),
    ]
}

/// Whether Istio is rolled out and serves this root: in the ConfigMap that workloads are given, and in
/// the webhook that makes pods call istiod.
pub(super) fn is_ready(root: &[u8], target: &Target<'_>, live: &Live) -> Result<(), StepError> {
    let complete = |name: &str| live.rollouts.get(name).is_some_and(|r| r.complete);
    if target.runs_istiod && !complete(target.control_plane()) {
        return Err(StepError::not_up(target));
    }
    if target.gateway && !target.ambient && !complete(EAST_WEST) {
        return Err(StepError::not_up(target));
    }
    if !target.publishes_root() {
        return Ok(());
    }
    match live.root {
        // A remote's root comes from its primary's istiod, once that reads it.
        None if !target.runs_istiod => return Err(StepError::not_attached(target)),
        Some(served) if served == Digest::of(root) => {}
        served => return Err(StepError::other_root_served(target, served.is_some())),
    }
    match live.injector.map(|i| i.trusts) {
        None => Err(StepError::not_up(target)),
        Some(None) => Err(StepError::not_attached(target)),
        Some(Some(trusts)) if trusts != Digest::of(encode(root).as_bytes()) => {
            Err(StepError::other_root_served(target, true))
        }
        Some(Some(_)) => Ok(()),
    }
}

/// Why this cluster's istiod has no access to another cluster, as far as the objects tell.
pub(super) fn lacks_access(
    other: &Target<'_>,
    hands: &mut dyn Hands,
    live: &Live,
) -> Result<Option<String>, StepError> {
    let of = hands.look(other)?;
    let name = remote_secret::name(other.cluster);
    let trouble = match live.remote_secrets.get(other.cluster) {
        None => return Ok(Some(format!("secret {name} is missing"))),
        Some(None) => Some("cannot be read"),
        Some(Some(access)) => {
            let now = hands.now().unix_timestamp();
            access.trouble(of.reader.as_ref(), other.api_server, now)
        }
    };
    Ok(trouble.map(|t| format!("secret {name}: {t}")))
}

/// Gives this cluster's istiod access to another cluster.
pub(super) fn reads(
    other: &Target<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
    live: &Live,
) -> Result<Vec<String>, StepError> {
    let Some(why) = lacks_access(other, hands, live)? else {
        return Ok(Vec::new());
    };
    // It makes the account that it gives access with, where there is none.
    hands.may_change(other, false)?;
    hands.may_change(target, false)?;
    let words: &[&str] = match target.since(12) {
        true => &["create-remote-secret"],
        false => &["x", "create-remote-secret"],
    };
    let mut more = vec![
        "--name",
        other.cluster,
        "-n",
        other.namespace,
        "-i",
        other.namespace,
    ];
    if let Some(server) = other.api_server {
        more.extend(["--server", server]);
    }
    let mut command = istioctl(other, tools, words, &more);
    command.capture_stdout = true;
    let printed = call(&command, other, tools, hands)?;
    hands.forget(other);
    hands.forget(target);
    let object = remote_secret::object(&printed.stdout, other.cluster, target.namespace)
        .map_err(|e| StepError::no_access(other, &e))?;
    let ours = live.is_ours(&format!("Secret/{}", remote_secret::name(other.cluster)));
    let applied = call(&apply(target, tools, object, ours), target, tools, hands);
    hands.forget(other);
    hands.forget(target);
    applied?;
    Ok(vec![why])
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
/// annotation (facts F2.25). What another manager owns is taken from it only when that is allowed, or `ours`: changed by
/// hand since we made it.
pub(super) fn apply(
    target: &Target<'_>,
    tools: &Tools,
    object: Zeroizing<Vec<u8>>,
    ours: bool,
) -> Command {
    let manager = format!("--field-manager={FIELD_MANAGER}");
    let mut args = vec![
        "apply",
        "--server-side",
        &manager,
        "--validate=false",
        "-f",
        "-",
    ];
    if ours || target.allowed.take_over {
        args.push("--force-conflicts");
    }
    let mut command = kubectl(target, tools, &args);
    command.stdin = Some(object);
    command
}
