//! Finds before a run which clusters cannot be reached for want of a tool or a context. It looks at
//! this machine only, never at a cluster.

use std::io;

use super::{Target, Tools};
use crate::host::process::{Command, Finished};

/// A cluster whose steps cannot be done, and how to have them done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The cluster's name.
    pub cluster: String,
    /// What is missing.
    pub why: String,
    /// What to do about it.
    pub how: String,
}

/// Which of the targets cannot be worked on. `found` says whether a program can be run; `run` runs a
/// command to its end.
pub fn preflight(
    targets: &[Target<'_>],
    tools: &Tools,
    found: &dyn Fn(&str) -> bool,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Vec<Absent> {
    if targets.is_empty() {
        return Vec::new();
    }
    for (tool, variable, program) in [
        ("kubectl", "KUBECTL", &tools.kubectl),
        ("istioctl", "ISTIOCTL", &tools.istioctl),
    ] {
        if !found(program) {
            let how = format!("install {tool}, or name it: {variable}=/path/to/{tool}");
            return all(
                targets,
                &format!("{program} is no program that can be run"),
                &how,
            );
        }
    }
    let contexts = match run(&contexts(tools)) {
        Ok(finished) if finished.success() => {
            String::from_utf8_lossy(&finished.stdout).into_owned()
        }
        Ok(finished) => {
            let said = finished
                .tail
                .lines()
                .last()
                .unwrap_or("no word of why")
                .trim();
            return all(
                targets,
                &format!("kubectl cannot read the kubeconfig: {said}"),
                "look at KUBECONFIG and ~/.kube/config",
            );
        }
        Err(e) => return all(targets, &e.to_string(), "see that kubectl can be run"),
    };
    let contexts: Vec<&str> = contexts
        .lines()
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    let missing = targets.iter().filter(|t| !contexts.contains(&t.context));
    missing.map(|t| no_context(t, &contexts)).collect()
}

pub(super) fn contexts(tools: &Tools) -> Command {
    Command {
        program: tools.kubectl.clone(),
        args: ["config", "get-contexts", "-o", "name"]
            .map(str::to_owned)
            .to_vec(),
        timeout: Some(std::time::Duration::from_secs(20)),
        capture_stdout: true,
        ..Command::default()
    }
}

fn all(targets: &[Target<'_>], why: &str, how: &str) -> Vec<Absent> {
    let absent = |t: &Target<'_>| Absent {
        cluster: t.cluster.to_owned(),
        why: why.to_owned(),
        how: how.to_owned(),
    };
    targets.iter().map(absent).collect()
}

fn no_context(target: &Target<'_>, contexts: &[&str]) -> Absent {
    let near = contexts
        .iter()
        .map(|c| (strsim::damerau_levenshtein(c, target.context), c));
    let near = near
        .min()
        .filter(|(distance, c)| *distance <= c.chars().count() / 3);
    let how = match (near, contexts) {
        (Some((_, context)), _) => format!("did you mean {context}?"),
        (None, []) => {
            "the kubeconfig has none at all: look at KUBECONFIG and ~/.kube/config".to_owned()
        }
        (None, few) if few.len() <= 8 => format!("it has {}", few.join(", ")),
        (None, _) => "see kubectl config get-contexts".to_owned(),
    };
    let why = format!("the kubeconfig has no context {}", target.context);
    Absent {
        cluster: target.cluster.to_owned(),
        why,
        how,
    }
}
