//! What meshplan made in a cluster, in the order in which it is taken away again. It reads what it made from
//! the live objects; it runs nothing but questions.

use serde_json::json;

use super::{
    Hands, StepError, Target, Tools, call, gateway,
    live::{INSTALLED, MADE, MARK, istioctl, kubectl},
    remote_secret, steps,
};
use crate::{
    action::manifest::EAST_WEST,
    host::process::{Command, Exit, Finished},
};

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
    kubectl(target, tools, &args)
}

/// What other clusters hold for this one: remote secrets, which go first, so that no istiod misses it.
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
    let secrets = gone
        .iter()
        .filter(|g| **g != target.cluster)
        .map(|g| remote_secret::name(g));
    let ours = secrets.filter(|name| live.applied(&format!("Secret/{name}")));
    Ok(ours
        .map(|name| Removal {
            what: format!("secret {name}"),
            command: delete(target, tools, &["secret", &name]),
        })
        .collect())
}

/// What meshplan made in this cluster, in the order in which it goes.
///
/// # Errors
/// The cluster cannot be asked.
pub fn made(
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<Removal>, StepError> {
    let live = hands.look(target)?;
    let Some(namespace) = &live.namespace else {
        return Ok(Vec::new());
    };
    let mut removals = Vec::new();
    let mut remove = |what: String, command| removals.push(Removal { what, command });
    for object in gateway::exposed(target) {
        let (kind, name) = (
            object["kind"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default(),
        );
        if live.applied(&format!("{kind}/{name}")) {
            let group = object["apiVersion"]
                .as_str()
                .and_then(|v| v.split_once('/'))
                .map_or("", |(group, _)| group);
            let kind_of = format!("{}.{group}", kind.to_lowercase());
            remove(
                format!("{kind} {name}"),
                delete(target, tools, &[&kind_of, name]),
            );
        }
    }
    for other in live.remote_secrets.keys() {
        let name = remote_secret::name(other);
        if live.applied(&format!("Secret/{name}")) {
            remove(
                format!("secret {name}"),
                delete(target, tools, &["secret", &name]),
            );
        }
    }
    let mut left_behind = None;
    if live.mark.contains_key(INSTALLED) {
        let (istio, leaves) = uninstall(target, tools, hands)?;
        for removal in istio {
            remove(removal.what, removal.command);
        }
        left_behind = leaves;
    }
    if live.applied("Secret/cacerts") {
        remove(
            "secret cacerts".to_owned(),
            delete(target, tools, &["secret", "cacerts"]),
        );
    }
    if live.applied(&format!("ConfigMap/{MARK}")) {
        remove(
            format!("ConfigMap {MARK}"),
            delete(target, tools, &["configmap", MARK]),
        );
    }
    let ns = target.namespace;
    if namespace.annotations.contains_key(MADE) {
        remove(
            format!("namespace {ns}"),
            delete(target, tools, &["namespace", ns]),
        );
    } else if live.applied(&format!("Namespace/{ns}")) {
        // Applying the bare object gives up exactly our fields (cluster facts §8).
        let bare = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ns } });
        let command = steps::apply(target, tools, bare.to_string().into_bytes().into(), false);
        remove(format!("meshplan's labels of namespace {ns}"), command);
    }
    removals.extend(left_behind);
    Ok(removals)
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
    let objects = match kinds.is_empty() {
        true => String::new(),
        false => ask(&["get", &kinds.join(","), "--all-namespaces", "-o", "name"])?,
    };
    let ours: Vec<_> = gateway::exposed(target)
        .iter()
        .map(|o| {
            o["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    let foreign = objects.lines().filter(|l| !l.trim().is_empty());
    let foreign = foreign
        .filter(|l| !ours.iter().any(|o| l.ends_with(&format!("/{o}"))))
        .count();
    let planes = ask(&[
        "get",
        "deployments",
        "--all-namespaces",
        "-l",
        "app=istiod",
        "-o",
        "name",
    ])?;
    let alone =
        planes.lines().filter(|l| !l.trim().is_empty()).count() <= usize::from(target.runs_istiod);
    let keeps = match (foreign, alone) {
        (0, true) => None,
        (0, false) => Some("another control plane lives on them".to_owned()),
        (n, _) => Some(format!("{n} objects of them are somebody's")),
    };
    let how: &[&str] = if keeps.is_none() {
        &["--purge"]
    } else {
        &["--revision", "default"]
    };
    let mut more = how.to_vec();
    more.extend(["-y", "-i", target.namespace]);
    let mut command = istioctl(target, tools, words, &more);
    command.timeout = Some(std::time::Duration::from_secs(300));
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
