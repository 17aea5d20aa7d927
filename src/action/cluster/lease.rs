//! One meshplan to a cluster: a Lease in Istio's namespace, for runs of different machines (two installs at
//! once both succeed, even with different files: cluster facts §6). It knows nothing of what is done under it.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Hands, StepError, Target, Tools,
    live::{MARK, kubectl},
    trouble,
};
use crate::host::process::{Command, Exit};

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

/// Takes the Lease for `holder`, also from one that has ended.
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
    let create = send("create", &lease(target, &holder, now, None), target, tools);
    let created = run(hands, &create)?;
    if created.status == Exit::Code(0) {
        return Ok(());
    }
    if !created.tail.contains("AlreadyExists") && !created.tail.contains("already exists") {
        return Err(trouble::explain(&create, target, &created));
    }
    let mut get = kubectl(
        target,
        tools,
        &["get", "lease", MARK, "-o", "json", "--ignore-not-found"],
    );
    get.capture_stdout = true;
    let got = run(hands, &get)?;
    let Ok(found) = serde_json::from_slice::<Value>(&got.stdout) else {
        return Err(trouble::explain(&get, target, &got));
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

/// The command that gives it back.
pub fn give_back(target: &Target<'_>, tools: &Tools) -> Command {
    kubectl(
        target,
        tools,
        &[
            "delete",
            "lease",
            MARK,
            "--ignore-not-found",
            "--wait=false",
        ],
    )
}
