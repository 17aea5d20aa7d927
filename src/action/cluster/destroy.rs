//! What meshplan made in a cluster, in the order in which it is taken away again. It reads what it made from
//! the live objects; it runs nothing but questions.

use std::time::Duration;

use serde_json::json;

use super::{
    Hands, Live, StepError, Target, Tools, call, gateway,
    live::{INSTALLED, MADE, MARK, READER_TOKEN, istioctl, kubectl},
    remote_secret, steps,
};
use crate::{
    action::manifest::{self, EAST_WEST},
    host::process::{Command, Exit, Finished},
};

/// Longest that a removal may take.
const DELETION: Duration = Duration::from_secs(300);

/// Something to take away.
#[derive(Debug)]
pub struct Removal {
    /// What, for people.
    pub what: String,
    /// The command that does it.
    pub command: Command,
}

fn delete(target: &Target<'_>, tools: &Tools, what: &[&str]) -> Command {
    let args: Vec<_> = ["delete"]
        .into_iter()
        .chain(what.iter().copied())
        .chain(["--ignore-not-found"])
        .collect();
    let mut command = kubectl(target, tools, &args);
    // It waits for finalizers, such as a cloud's for its load balancer.
    command.args.retain(|a| !a.starts_with("--request-timeout"));
    command.timeout = Some(DELETION);
    command
}

/// Deletes what is meshplan's alone; of what others have fields in too, only meshplan's fields go: applying the bare
/// object gives up exactly those (cluster facts §8).
fn take_away(
    version: &str,
    kind: &str,
    name: &str,
    target: &Target<'_>,
    tools: &Tools,
    live: &Live,
) -> Option<Removal> {
    let object = format!("{kind}/{name}");
    if !live.applied(&object) {
        return None;
    }
    if live.is_ours(&object) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kind_of = format!("{}.{group}", kind.to_lowercase());
        return Some(Removal {
            what: format!("{kind} {name}"),
            command: delete(target, tools, &[kind_of.trim_end_matches('.'), name]),
        });
    }
    let metadata = match kind {
        "Namespace" => json!({ "name": name }),
        _ => json!({ "name": name, "namespace": target.namespace }),
    };
    let bare = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
    Some(Removal {
        what: format!("meshplan's fields of {kind} {name}"),
        command: steps::apply(target, tools, bare.to_string().into_bytes().into(), false),
    })
}

/// What other clusters hold for these: remote secrets, which go first, so that no istiod misses its clusters.
///
/// # Errors
/// The cluster cannot be asked.
pub fn held_for(
    gone: &[&str],
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<Removal>, StepError> {
    let live = hands.look(target)?;
    known(target, &live)?;
    let names = gone.iter().map(|g| remote_secret::name(g));
    let removals = names.filter_map(|n| take_away("v1", "Secret", &n, target, tools, &live));
    Ok(removals.collect())
}

/// Whether what is there was made for this cluster of this mesh.
fn known(target: &Target<'_>, live: &Live) -> Result<(), StepError> {
    match &live.marked {
        Some((mesh, cluster)) if mesh != target.mesh || cluster != target.cluster => {
            Err(StepError::made_for(target, mesh, cluster))
        }
        _ => Ok(()),
    }
}

/// What meshplan made in this cluster but for remote secrets of `gone`, in the order in which it goes.
///
/// # Errors
/// The cluster cannot be asked, or it is another.
pub fn made(
    gone: &[&str],
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<Removal>, StepError> {
    let live = hands.look(target)?;
    let Some(namespace) = &live.namespace else {
        return Ok(Vec::new());
    };
    known(target, &live)?;
    let mut removals = Vec::new();
    for object in gateway::exposed(target) {
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (word(&object["apiVersion"]), word(&object["kind"]));
        let name = word(&object["metadata"]["name"]);
        removals.extend(take_away(&version, &kind, &name, target, tools, &live));
    }
    let others = live
        .remote_secrets
        .keys()
        .filter(|o| !gone.contains(&o.as_str()));
    for name in others.map(|o| remote_secret::name(o)) {
        removals.extend(take_away("v1", "Secret", &name, target, tools, &live));
    }
    if live.reader.is_some() && live.marked.is_some() {
        // It never ends by itself, and istioctl made it for remote secrets of this mesh.
        removals.push(Removal {
            what: format!("secret {READER_TOKEN}"),
            command: delete(target, tools, &["secret", READER_TOKEN]),
        });
    }
    let mut left_behind = None;
    if live.mark.contains_key(INSTALLED) {
        let (istio, leaves) = uninstall(target, tools, hands)?;
        removals.extend(istio);
        left_behind = leaves;
    }
    removals.extend(take_away("v1", "Secret", "cacerts", target, tools, &live));
    removals.extend(take_away("v1", "ConfigMap", MARK, target, tools, &live));
    let ns = target.namespace;
    let made = namespace.annotations.contains_key(MADE);
    let strangers = match made {
        true => strangers(target, tools, hands)?,
        false => Vec::new(),
    };
    if made && strangers.is_empty() {
        removals.push(Removal {
            what: format!("namespace {ns}"),
            command: delete(target, tools, &["namespace", ns]),
        });
    } else if live.applied(&format!("Namespace/{ns}")) {
        let bare = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ns } });
        let keeps = match strangers.first() {
            None => String::new(),
            Some(first) => format!(
                " (it stays: {} objects in it are somebody's, such as {first})",
                strangers.len()
            ),
        };
        removals.push(Removal {
            what: format!("meshplan's labels of namespace {ns}{keeps}"),
            command: steps::apply(target, tools, bare.to_string().into_bytes().into(), false),
        });
    }
    removals.extend(left_behind);
    Ok(removals)
}

/// Objects in Istio's namespace that neither meshplan nor Istio made: they would go with it.
fn strangers(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<String>, StepError> {
    let kinds = "secrets,configmaps,services,serviceaccounts,persistentvolumeclaims,deployments,statefulsets,daemonsets,jobs,cronjobs";
    let args = [
        "get",
        kinds,
        "-l",
        "!operator.istio.io/component,!istio.io/config,!gateway.istio.io/managed",
        "-o",
        "name",
    ];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    let found = call(&command, target, tools, hands)?;
    // Of Kubernetes itself, of meshplan, and what istiod makes as it runs (its election of leaders).
    let is_known = |object: &str| {
        let (kind, name) = object.split_once('/').unwrap_or((object, ""));
        match kind {
            "secret" => name == "cacerts" || name.starts_with("istio-") || name.contains("-token-"),
            "configmap" => name == MARK || name == "kube-root-ca.crt" || name.starts_with("istio"),
            "serviceaccount" => name == "default" || name.starts_with("istio"),
            "service" | "deployment.apps" => name.starts_with("istiod") || name == EAST_WEST,
            _ => false,
        }
    };
    let text = String::from_utf8_lossy(&found.stdout);
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|l| !l.is_empty() && !is_known(l))
        .map(str::to_owned)
        .collect())
}

/// Takes Istio away. Its CRDs go only where nobody has objects of them, since those would go too, and no
/// other control plane lives on them (cluster facts §8). Second is what istiod leaves behind: it goes last, since an
/// istiod that is about to end still writes it anew.
fn uninstall(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<(Vec<Removal>, Option<Removal>), StepError> {
    // Of an experiment since 1.7, a command since 1.15 (istioctl/cmd/root.go of 1.7.0, 1.14.0 and 1.15.0).
    let words: &[&str] = match (target.since(15), target.since(7)) {
        (true, _) => &["uninstall"],
        (_, true) => &["x", "uninstall"],
        _ => return Err(StepError::no_uninstall(target)),
    };
    let mut ask = |args: &[&str]| {
        let mut command = kubectl(target, tools, args);
        command.capture_stdout = true;
        let finished = call(&command, target, tools, hands)?;
        Ok::<_, StepError>(String::from_utf8_lossy(&finished.stdout).into_owned())
    };
    let crds = ask(&["get", "customresourcedefinitions", "-o", "name"])?;
    let crds = crds
        .lines()
        .filter_map(|l| l.rsplit_once('/').map(|(_, name)| name));
    let kinds: Vec<_> = crds.filter(|name| name.ends_with(".istio.io")).collect();
    let everywhere = |what: &'static str, label: &'static str, show: &'static str| {
        ["get", what, "--all-namespaces", "-l", label, "-o", show]
    };
    let objects = match kinds.is_empty() {
        true => String::new(),
        false => {
            let kinds = kinds.join(",");
            let objects = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
            let mut args = everywhere("", "!operator.istio.io/component", objects);
            args[1] = &kinds;
            ask(&args)?
        }
    };
    let exposed = gateway::exposed(target);
    let ours = exposed
        .iter()
        .filter_map(|o| Some((o["kind"].as_str()?, o["metadata"]["name"].as_str()?)));
    let ours: Vec<_> = ours
        .map(|(kind, name)| format!("{kind}/{}/{name}", target.namespace))
        .collect();
    let foreign = objects.lines().filter(|l| !l.trim().is_empty());
    let foreign = foreign.filter(|l| !ours.iter().any(|o| o == l)).count();
    let names = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    let own = format!("{}/{}", target.namespace, target.control_plane());
    let planes = ask(&everywhere("deployments", "app=istiod", names))?;
    let alone = planes.lines().all(|l| l.trim().is_empty() || l == own);
    // A purge takes every installation's objects.
    let owners = "jsonpath={range .items[*]}{.metadata.labels.install\\.operator\\.istio\\.io/owning-resource}{\"\\n\"}{end}";
    let owners = ask(&everywhere(
        "deployments",
        "operator.istio.io/component",
        owners,
    ))?;
    let only = owners
        .lines()
        .all(|l| l.trim().is_empty() || l == manifest::NAME);
    let keeps = match (foreign, alone && only) {
        (0, true) => None,
        (0, false) => Some("another installation lives on them".to_owned()),
        (n, _) => Some(format!("{n} objects of them are somebody's")),
    };
    let how: &[&str] = match (&keeps, only) {
        (None, _) => &["--purge"],
        (_, true) => &["--revision", "default"],
        (_, false) => &["-f", "-"],
    };
    let mut more = how.to_vec();
    more.extend(["-y", "-i", target.namespace]);
    let mut command = istioctl(target, tools, words, &more);
    command.timeout = Some(DELETION);
    if !only {
        // By its name, so that other installations' objects stay.
        let named = json!({
            "apiVersion": "install.istio.io/v1alpha1",
            "kind": "IstioOperator",
            "metadata": { "name": manifest::NAME, "namespace": target.namespace },
        });
        command.stdin = Some(named.to_string().into_bytes().into());
    }
    let mut removals = vec![Removal {
        what: match &keeps {
            None => "Istio, its CRDs included".to_owned(),
            Some(why) => format!("Istio without its CRDs: {why}"),
        },
        command,
    }];
    if alone {
        // The command before returns while they still end.
        removals.push(Removal {
            what: "istiod's pods".to_owned(),
            command: delete(target, tools, &["pods", "-l", "app=istiod"]),
        });
    }
    if target.gateway && !target.ambient {
        // A purge by revision leaves what another spec owns.
        removals.push(Removal {
            what: format!("Service and Deployment {EAST_WEST}"),
            command: delete(target, tools, &["service,deployment", EAST_WEST]),
        });
    }
    // istiod wrote them into every namespace, and nobody takes them away: a later mesh's workloads would
    // trust the wrong root (istio#36723).
    let left_behind = alone.then(|| {
        let what = [
            "configmap",
            "--all-namespaces",
            "-l",
            "istio.io/config=true",
        ];
        let mut command = delete(target, tools, &what);
        // kubectl deletes of all namespaces only where none is named.
        if let Some(at) = command.args.iter().position(|a| a == "-n") {
            command.args.drain(at..at + 2);
        }
        Removal {
            what: "istiod's ConfigMaps of every namespace".to_owned(),
            command,
        }
    });
    Ok((removals, left_behind))
}

/// Takes one thing away.
///
/// # Errors
/// It could not be.
pub fn remove(
    removal: &Removal,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<(), StepError> {
    let command = &removal.command;
    let finished: Finished = hands
        .run(command)
        .map_err(|e| StepError::not_run(command, tools, target, &e))?;
    match finished.status {
        Exit::Code(0) => Ok(()),
        // With the CRDs went the objects.
        _ if super::live::only_unknown_kinds(&finished.tail)
            || finished.tail.contains("doesn't have a resource type") =>
        {
            Ok(())
        }
        _ => Err(super::trouble::explain(command, target, &finished)),
    }
}
