//! Proof that a cluster does what it was told: pods, addresses, the CA that istiod took, the clusters it reads.
//! It waits where that takes time, and says for what; it changes nothing but the note of what was proven.

use std::time::Duration;

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Cacerts, Hands, Live, StepError, Target, Tools, call,
    live::{Digest, INSTALLED, MARK, PROVEN, istioctl, kubectl},
    steps,
};
use crate::{action::manifest::EAST_WEST, host::process::Command};

/// Between two looks at what takes time.
const PAUSE: Duration = Duration::from_secs(2);

/// Longest wait for a cloud to give an address.
const ADDRESS: Duration = Duration::from_secs(300);

/// Longest wait for istiod to read a cluster: twice its own limit (`PILOT_REMOTE_CLUSTER_TIMEOUT`).
const SYNC: Duration = Duration::from_secs(60);

/// Longest wait for a changed secret to reach istiod: the kubelet takes about a minute (facts F2.15).
const RELOAD: Duration = Duration::from_secs(180);

/// Asks `done` again and again until it has an answer; `None` when the time is up or the run interrupted.
fn until<T>(
    hands: &mut dyn Hands,
    limit: Duration,
    mut done: impl FnMut(&mut dyn Hands) -> Result<Option<T>, StepError>,
) -> Result<Option<T>, StepError> {
    let tries = limit.as_secs() / PAUSE.as_secs();
    for left in (0..=tries).rev() {
        if let Some(answer) = done(hands)? {
            return Ok(Some(answer));
        }
        if left > 0 {
            hands.wait(PAUSE);
        }
    }
    Ok(None)
}

/// Waits until the east-west gateway has an address; what was waited for, if it had none.
pub(super) fn address(
    target: &Target<'_>,
    hands: &mut dyn Hands,
    before: &Live,
) -> Result<Option<String>, StepError> {
    if before.addresses.as_ref().is_some_and(|a| !a.is_empty()) {
        return Ok(None);
    }
    let what = if target.ambient { "Gateway" } else { "Service" };
    let since = hands.now().replace_nanosecond(0).ok();
    let since = since.and_then(|now| now.format(&Rfc3339).ok());
    hands.waits(&format!(
        "an address for {what} {EAST_WEST} of cluster {}, since {}",
        target.cluster,
        since.unwrap_or_default()
    ));
    let found = until(hands, ADDRESS, |hands| {
        hands.forget(target);
        let live = hands.look(target)?;
        Ok(live.addresses.as_ref().and_then(|a| a.first()).cloned())
    })?;
    match found {
        Some(address) => Ok(Some(format!("{EAST_WEST} has the address {address}"))),
        None => Err(StepError::no_load_balancer(target, ADDRESS)),
    }
}

/// Whether a running istiod takes these files up by itself: since 1.18 (facts F2.16), and under the same root
/// (F2.18).
pub(super) fn follows(files: &Cacerts<'_>, target: &Target<'_>, live: &Live) -> bool {
    target.since(18) && !live.serves_other(files.root_cert)
}

/// Waits until istiod signs with the new certificate. Releases before 1.24 do not tell which one they took
/// (facts F2.16).
pub(super) fn reloaded(
    files: &Cacerts<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<(), StepError> {
    if !target.since(24) {
        return Ok(());
    }
    hands.waits(&format!(
        "istiod of cluster {} to take its new CA",
        target.cluster
    ));
    let wanted = Some(files.ends.unix_timestamp());
    let taken = until(hands, RELOAD, |hands| {
        let ends = chain_ends(target, tools, hands)?;
        let taken = !ends.is_empty() && ends.iter().all(|e| *e == wanted);
        Ok(taken.then_some(()))
    })?;
    taken.ok_or_else(|| StepError::not_reloaded(target, RELOAD))
}

/// End of the first certificate of the chain that each istiod has, in seconds since 1970; `None` for one that
/// does not say. Asked of its monitoring port, through the API server.
pub(super) fn chain_ends(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<Option<i64>>, StepError> {
    let args = [
        "get",
        "pods",
        "-l",
        "app=istiod",
        "--field-selector=status.phase=Running",
        "-o",
        "name",
    ];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    let pods = call(&command, target, tools, hands)?;
    let mut ends = Vec::new();
    for pod in String::from_utf8_lossy(&pods.stdout)
        .lines()
        .filter_map(|l| l.strip_prefix("pod/"))
    {
        let url = format!(
            "/api/v1/namespaces/{}/pods/{pod}:15014/proxy/metrics",
            target.namespace
        );
        let mut command = kubectl(target, tools, &["get", "--raw", &url]);
        command.capture_stdout = true;
        // One that starts or ends just now does not answer.
        let answer = hands.run(&command).ok().filter(|f| f.success());
        let text = answer
            .map(|a| String::from_utf8_lossy(&a.stdout).into_owned())
            .unwrap_or_default();
        let metric = text
            .lines()
            .find(|l| l.starts_with("citadel_server_cert_chain_expiry_timestamp"));
        let value = metric.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        ends.push(value.map(|v| v as i64));
    }
    Ok(ends)
}

/// Waits until every istiod of this cluster reads every cluster that it has access to, and notes that.
pub(super) fn synced(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
    live: &Live,
) -> Result<Vec<String>, StepError> {
    let proven = digest(live, target);
    if live.mark.get(PROVEN) == Some(&proven) {
        return Ok(Vec::new());
    }
    let others: Vec<_> = target.reads().map(str::to_owned).collect();
    let all = others.join(", ");
    hands.waits(&format!(
        "istiod of cluster {} to read {all}",
        target.cluster
    ));
    let mut missing = others;
    let done = until(hands, SYNC, |hands| {
        missing = not_read(target, tools, hands)?;
        Ok(missing.is_empty().then_some(()))
    })?;
    if done.is_none() {
        return Err(StepError::not_synced(target, &missing));
    }
    hands.may_change(target, false)?;
    hands.forget(target);
    let installed = live.mark.get(INSTALLED).map(String::as_str);
    call(
        &mark(target, tools, installed, Some(&proven)),
        target,
        tools,
        hands,
    )?;
    Ok(vec![format!("istiod reads {all}")])
}

/// Clusters that some istiod of this one does not read now. Before 1.12 istioctl cannot tell.
pub(super) fn not_read(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<String>, StepError> {
    if !target.since(12) {
        return Ok(Vec::new());
    }
    let mut command = istioctl(
        target,
        tools,
        &["remote-clusters"],
        &["-i", target.namespace],
    );
    command.capture_stdout = true;
    // It hangs on a server that does not answer, and has no limit of its own (cluster facts §6).
    command.timeout = Some(Duration::from_secs(20));
    let finished = call(&command, target, tools, hands)?;
    Ok(unread(
        &String::from_utf8_lossy(&finished.stdout),
        target.reads(),
    ))
}

/// What istiod's reading depends on: what it was installed as, and every remote secret.
fn digest(live: &Live, target: &Target<'_>) -> String {
    let mut text = live.mark.get(INSTALLED).cloned().unwrap_or_default();
    for other in target.reads() {
        let access = live.remote_secrets.get(other).and_then(Option::as_ref);
        text.push_str(&format!(
            "\n{other} {}",
            access.map(|a| a.digest()).unwrap_or_default()
        ));
    }
    Digest::of(text.as_bytes()).hex()
}

/// Clusters that some istiod does not read. The table has a block for each istiod pod; columns are NAME,
/// SECRET, STATUS, ISTIOD.
fn unread<'a>(table: &str, reads: impl Iterator<Item = &'a str>) -> Vec<String> {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let is_read = |cluster: &str| {
        let mut of = rows
            .iter()
            .filter(|r| r.first() == Some(&cluster))
            .peekable();
        of.peek().is_some() && of.all(|r| r.contains(&"synced"))
    };
    reads.filter(|c| !is_read(c)).map(str::to_owned).collect()
}

/// Notes what was installed and what was proven. What is not said is forgotten.
pub(super) fn mark(
    target: &Target<'_>,
    tools: &Tools,
    installed: Option<&str>,
    proven: Option<&str>,
) -> Command {
    let notes = [(INSTALLED, installed), (PROVEN, proven)];
    let notes: serde_json::Map<_, _> = notes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
        .collect();
    let mark = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": MARK, "namespace": target.namespace, "annotations": notes },
        "data": { "mesh": target.mesh, "cluster": target.cluster },
    });
    // It is nobody else's.
    steps::apply(target, tools, mark.to_string().into_bytes().into(), true)
}

/// Asks for the pods of Istio's namespace.
pub fn pods(target: &Target<'_>, tools: &Tools) -> Command {
    let mut command = kubectl(target, tools, &["get", "pods", "-o", "json"]);
    command.capture_stdout = true;
    command
}

/// Asks for every istiod's Deployment, of whatever revision.
pub(super) fn istiods(target: &Target<'_>, tools: &Tools) -> Command {
    let mut command = kubectl(
        target,
        tools,
        &["get", "deployments", "-l", "app=istiod", "-o", "name"],
    );
    command.capture_stdout = true;
    command
}

/// Asks for pods with a proxy: they hold certificates of the mesh.
pub(super) fn workloads(target: &Target<'_>, tools: &Tools) -> Command {
    let args = [
        "get",
        "pods",
        "--all-namespaces",
        "-l",
        "security.istio.io/tlsMode=istio",
        "-o",
        "name",
    ];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    command
}

/// Pods that are not well, each with its trouble.
pub(super) fn troubled(pods: &str) -> Vec<String> {
    let pods: Value = serde_json::from_str(pods).unwrap_or_default();
    let of = |pod: &Value| {
        Some(format!(
            "{} {}",
            pod["metadata"]["name"].as_str()?,
            trouble_of(pod)?
        ))
    };
    pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(of)
        .collect()
}

/// Why a pod is not well: the reason of a container, or of the pod.
fn trouble_of(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let containers = ["initContainerStatuses", "containerStatuses"].map(|c| status[c].as_array());
    let states = containers
        .into_iter()
        .flatten()
        .flatten()
        .map(|c| &c["state"]);
    let mut reasons = states.filter_map(|s| {
        s["waiting"]["reason"]
            .as_str()
            .or(s["terminated"]["reason"].as_str())
    });
    let reason = reasons.rfind(|r| *r != "Completed");
    let unscheduled = || {
        let conditions = status["conditions"].as_array()?;
        let condition = conditions
            .iter()
            .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
        condition["message"].as_str()
    };
    let phase = status["phase"]
        .as_str()
        .filter(|p| !matches!(*p, "Running" | "Succeeded"));
    reason.or_else(unscheduled).or(phase).map(str::to_owned)
}

/// A pod, as `kubectl get pods` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Containers that are ready, of all, such as `1/1`.
    pub ready: String,
    /// Its phase, or why it is not well.
    pub status: String,
    /// Restarts of its containers.
    pub restarts: i64,
    /// Seconds since it was made.
    pub age: i64,
}

/// Reads the answer to [`pods`]; what is no list of pods has none.
pub fn read_pods(answer: &[u8], now: OffsetDateTime) -> Vec<Pod> {
    let list: Value = serde_json::from_slice(answer).unwrap_or_default();
    let pod = |pod: &Value| {
        let containers = || {
            pod["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
        };
        let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
        let ready = containers().filter(|c| c["ready"] == true).count();
        let made = pod["metadata"]["creationTimestamp"].as_str();
        let made = made.and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
        Pod {
            name: pod["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ready: format!("{ready}/{all}"),
            status: trouble_of(pod).unwrap_or_else(|| {
                pod["status"]["phase"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }),
            restarts: containers()
                .filter_map(|c| c["restartCount"].as_i64())
                .sum(),
            age: made.map_or(0, |m| (now - m).whole_seconds().max(0)),
        }
    };
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(pod)
        .collect()
}
