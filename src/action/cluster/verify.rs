//! What is not as the plan has it in a living cluster, asked again from the ground up: nothing noted is
//! believed, and nothing is changed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    Cacerts, Hands, Live, StepError, Target, Tools, Wanted, call, decide, live::kubectl, proof,
    remote_secret, steps,
};
use crate::host::process::Command;

/// Longest that another API server may take to answer.
const PROBE: &str = "--request-timeout=10s";

/// What is wrong with a cluster; nothing where all is as it should be. `wanted` are its steps.
pub fn verify(
    wanted: &[Wanted<'_>],
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Vec<String> {
    let live = match hands.look(target) {
        Ok(live) => live,
        Err(e) => return vec![of(&e, target)],
    };
    let mut findings = Vec::new();
    for one in wanted {
        match found(one, target, tools, hands, &live) {
            Ok(found) => findings.extend(found),
            Err(e) => findings.push(of(&e, target)),
        }
    }
    findings
}

/// An error without the cluster's name, which stands before each finding.
fn of(error: &StepError, target: &Target<'_>) -> String {
    let name = format!("cluster {}: ", target.cluster);
    error
        .cause
        .strip_prefix(&name)
        .unwrap_or(&error.cause)
        .to_owned()
}

fn found(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
    live: &Live,
) -> Result<Vec<String>, StepError> {
    let address = super::primary_address(wanted, target, hands)?;
    match wanted {
        // A rollout that goes on would be waited for; here it is a finding.
        Wanted::Ready { root_cert } => {
            return steps::is_ready(root_cert, target, live).map(|()| Vec::new());
        }
        Wanted::Reads(other) => return access(other, target, tools, hands, live),
        Wanted::Synced => {
            let missing = proof::not_read(target, tools, hands)?;
            return Ok(missing
                .iter()
                .map(|c| format!("its istiod does not read {c}"))
                .collect());
        }
        _ => {}
    }
    let changes = decide(wanted, target, tools, live, address.as_deref())?;
    let mut findings: Vec<String> = changes.into_iter().filter_map(|c| c.why).collect();
    match wanted {
        Wanted::Secret(files) if findings.is_empty() && target.since(24) => {
            findings.extend(signs_with(files, target, tools, hands)?);
        }
        Wanted::Gateway if live.addresses.as_ref().is_none_or(Vec::is_empty) => {
            findings.push("its east-west gateway has no address".to_owned());
        }
        _ => {}
    }
    Ok(findings)
}

/// Whether every istiod signs with the certificate that the secret holds.
fn signs_with(
    files: &Cacerts<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Option<String>, StepError> {
    if !target.runs_istiod {
        return Ok(None);
    }
    let ends = proof::chain_ends(target, tools, hands)?;
    if ends.iter().all(Option::is_none) {
        return Ok(Some(
            "no istiod said which certificate it signs with".to_owned(),
        ));
    }
    let other = ends
        .iter()
        .flatten()
        .find(|e| **e != files.ends.unix_timestamp());
    Ok(other
        .map(|_| "istiod signs with another certificate than the secret cacerts holds".to_owned()))
}

/// Whether the remote secret opens the other API server, and that server is the other cluster's.
fn access(
    other: &Target<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
    live: &Live,
) -> Result<Vec<String>, StepError> {
    if let Some(trouble) = steps::lacks_access(other, hands, live)? {
        return Ok(vec![trouble]);
    }
    let of = hands.look(other)?;
    let name = remote_secret::name(other.cluster);
    let path = format!("jsonpath={{.data.{}}}", other.cluster);
    let mut command = kubectl(target, tools, &["get", "secret", &name, "-o", &path]);
    command.capture_stdout = true;
    let stored = call(&command, target, tools, hands)?;
    let kubeconfig = STANDARD
        .decode(stored.stdout.as_slice())
        .map(Zeroizing::new)
        .unwrap_or_default();
    // It needs no file: kubectl reads the kubeconfig from its standard input (cluster facts §5).
    let probe = Command {
        program: tools.kubectl.clone(),
        args: [
            "--kubeconfig",
            "/dev/stdin",
            PROBE,
            "get",
            "namespace",
            "kube-system",
            "-o",
            "jsonpath={.metadata.uid}",
        ]
        .map(str::to_owned)
        .to_vec(),
        stdin: Some(kubeconfig),
        timeout: Some(Duration::from_secs(30)),
        capture_stdout: true,
        ..Command::default()
    };
    let answer = match call(&probe, other, tools, hands) {
        Ok(answer) => answer,
        Err(e) => {
            let said = e.stderr.lines().last().unwrap_or_default().trim();
            return Ok(vec![format!(
                "secret {name} does not open {}: {said}",
                other.cluster
            )]);
        }
    };
    let uid = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    Ok(match of.uid.as_deref() {
        Some(is) if is != uid => vec![format!(
            "secret {name} opens another cluster than {}",
            other.cluster
        )],
        _ => Vec::new(),
    })
}
