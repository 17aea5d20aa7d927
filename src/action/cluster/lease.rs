//! One meshplan to a cluster: a Lease in Istio's namespace, for runs of different machines (two installs at
//! once both succeed, even with different files: cluster facts §6). It knows nothing of what is done under it.

use std::io;

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Hands, StepError, Target, Tools,
    live::{MARK, kubectl},
    trouble,
};
use crate::host::process::{Command, Exit, Finished};

/// Longest that a run is believed to be at work when nobody can ask it.
const SECONDS: i64 = 1800;

fn lease(target: &Target<'_>, holder: &str, now: OffsetDateTime, version: Option<&str>) -> Value {
    let now = now
        .replace_nanosecond(now.microsecond() * 1000)
        .unwrap_or(now);
    // MicroTime has six digits always.
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    let now = now.format(&format).unwrap_or_default();
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": MARK, "namespace": target.namespace },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": SECONDS, "acquireTime": now, "renewTime": now },
    });
    if let Some(version) = version {
        lease["metadata"]["resourceVersion"] = json!(version);
    }
    lease
}

fn send(verb: &str, lease: &Value, target: &Target<'_>, tools: &Tools) -> Command {
    let mut command = kubectl(target, tools, &[verb, "-f", "-", "--validate=false"]);
    command.stdin = Some(lease.to_string().into_bytes().into());
    command
}

fn get(target: &Target<'_>, tools: &Tools) -> Command {
    let args = ["get", "lease", MARK, "-o", "json", "--ignore-not-found"];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    command
}

/// Takes the Lease for `holder`, also from one that has ended; one that is held already is renewed.
///
/// # Errors
/// Another run holds it, or it cannot be had.
pub(super) fn take(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<(), StepError> {
    let (holder, now) = (hands.holder(), hands.now());
    let run = |hands: &mut dyn Hands, command: &Command| {
        hands
            .run(command)
            .map_err(|e| StepError::not_run(command, tools, target, &e))
    };
    let get = get(target, tools);
    let found = loop {
        let create = send("create", &lease(target, &holder, now, None), target, tools);
        let created = run(hands, &create)?;
        if created.status == Exit::Code(0) {
            return Ok(());
        }
        if !created.tail.contains("AlreadyExists") && !created.tail.contains("already exists") {
            return Err(trouble::explain(&create, target, &created));
        }
        let got = run(hands, &get)?;
        match serde_json::from_slice::<Value>(&got.stdout) {
            Ok(found) => break found,
            // Given back between the two.
            Err(_) if got.success() && got.stdout.is_empty() => {}
            Err(_) => return Err(trouble::explain(&get, target, &got)),
        }
    };
    let other = found["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let since = found["spec"]["renewTime"]
        .as_str()
        .and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
    let length = found["spec"]["leaseDurationSeconds"]
        .as_i64()
        .unwrap_or(SECONDS);
    let over = since.is_none_or(|since| since + time::Duration::seconds(length) <= now);
    if !over && other != holder && !hands.has_ended(other) {
        return Err(StepError::held(target, other, since));
    }
    // Whoever else takes it over at the same moment changes its version first.
    let version = found["metadata"]["resourceVersion"].as_str().unwrap_or("0");
    let replace = send(
        "replace",
        &lease(target, &holder, now, Some(version)),
        target,
        tools,
    );
    let replaced = run(hands, &replace)?;
    match replaced.status {
        Exit::Code(0) => Ok(()),
        _ => Err(trouble::explain(&replace, target, &replaced)),
    }
}

/// Gives the Lease back, if `holder` still has it.
pub fn give_back(
    target: &Target<'_>,
    tools: &Tools,
    holder: &str,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) {
    let Ok(got) = run(&get(target, tools)) else {
        return;
    };
    let found: Value = serde_json::from_slice(&got.stdout).unwrap_or_default();
    let version = found["metadata"]["resourceVersion"].as_str();
    let ours = found["spec"]["holderIdentity"] == holder;
    let Some(version) = version.filter(|_| ours) else {
        return;
    };
    // Nobody else takes it between the two.
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": { "resourceVersion": version },
    });
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{MARK}",
        target.namespace
    );
    let mut delete = kubectl(target, tools, &["delete", "--raw", &path, "-f", "-"]);
    delete.stdin = Some(options.to_string().into_bytes().into());
    let _ = run(&delete);
}
