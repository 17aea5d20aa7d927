//! Finds before a run which clusters cannot be reached for want of a tool or a context. It looks at
//! this machine only, never at a cluster.

use std::{collections::HashSet, io};

use camino::Utf8Path;
use indexmap::IndexMap;
use serde::Deserialize;
use zeroize::Zeroizing;

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

/// The text of a kubeconfig, which may hold keys and tokens.
pub type Kubeconfig = Zeroizing<Vec<u8>>;

/// What of this machine decides whether a cluster can be worked on.
pub struct Machine<'a> {
    /// Whether a program can be run.
    pub found: &'a dyn Fn(&str) -> bool,
    /// Texts of a plan's kubeconfig, or of the user's own, as far as they can be read.
    pub kubeconfig: &'a dyn Fn(Option<&Utf8Path>) -> Vec<Kubeconfig>,
    /// Runs a command to its end.
    pub run: &'a mut dyn FnMut(&Command) -> io::Result<Finished>,
}

/// Which of the targets cannot be worked on.
pub fn preflight(targets: &[Target<'_>], tools: &Tools, machine: &mut Machine<'_>) -> Vec<Absent> {
    if targets.is_empty() {
        return Vec::new();
    }
    for (tool, variable, program) in [
        ("kubectl", "KUBECTL", &tools.kubectl),
        ("istioctl", "ISTIOCTL", &tools.istioctl),
    ] {
        if !(machine.found)(program) {
            let how = format!("install {tool}, or name it: {variable}=/path/to/{tool}");
            let why = format!("{program} is no program that can be run");
            return targets.iter().map(|t| absent(t, &why, &how)).collect();
        }
    }
    let mut by_kubeconfig: IndexMap<_, Vec<&Target<'_>>> = IndexMap::new();
    for target in targets {
        let of = by_kubeconfig.entry(target.kubeconfig).or_default();
        of.push(target);
    }
    let asked = by_kubeconfig.into_iter();
    asked
        .flat_map(|(kubeconfig, targets)| unknown(kubeconfig, &targets, tools, machine))
        .collect()
}

/// Which of the targets their kubeconfig does not know. What its files name, kubectl would name too, and takes as
/// long for that as for a look at a cluster; it is asked where one is not found in them.
fn unknown(
    kubeconfig: Option<&Utf8Path>,
    targets: &[&Target<'_>],
    tools: &Tools,
    machine: &mut Machine<'_>,
) -> Vec<Absent> {
    let texts = (machine.kubeconfig)(kubeconfig);
    let named: HashSet<String> = texts.iter().flat_map(|text| names(text)).collect();
    if targets.iter().all(|t| named.contains(t.context)) {
        return Vec::new();
    }
    let all = |why: &str, how: &str| targets.iter().map(|t| absent(t, why, how)).collect();
    let places = kubeconfig.map_or("KUBECONFIG and ~/.kube/config", Utf8Path::as_str);
    let answer = match (machine.run)(&contexts(kubeconfig, tools)) {
        Ok(finished) if finished.success() => {
            String::from_utf8_lossy(&finished.stdout).into_owned()
        }
        Ok(finished) => {
            let said = finished.tail.lines().last();
            let said = said.unwrap_or("no word of why").trim();
            return all(
                &format!("kubectl cannot read the kubeconfig: {said}"),
                &format!("look at {places}"),
            );
        }
        Err(e) => return all(&e.to_string(), "see that kubectl can be run"),
    };
    let contexts = answer.lines().map(str::trim).filter(|c| !c.is_empty());
    let contexts: HashSet<&str> = contexts.collect();
    let missing = targets.iter().filter(|t| !contexts.contains(t.context));
    missing.map(|t| no_context(t, &contexts, places)).collect()
}

/// Contexts of a kubeconfig; none of a text that is none.
fn names(kubeconfig: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Content {
        contexts: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let read = serde_norway::from_slice(kubeconfig).map(|k: Content| k.contexts);
    let contexts = read.unwrap_or_default().into_iter();
    contexts.map(|c| c.name).collect()
}

/// Asks which contexts a kubeconfig has, or the user's own, one a line.
pub(super) fn contexts(kubeconfig: Option<&Utf8Path>, tools: &Tools) -> Command {
    let kubeconfig = kubeconfig.map(|path| ["--kubeconfig", path.as_str()]);
    let args = ["config", "get-contexts", "-o", "name"];
    let args = args.iter().chain(kubeconfig.iter().flatten());
    Command {
        program: tools.kubectl.clone(),
        args: args.map(|&a| a.to_owned()).collect(),
        timeout: Some(std::time::Duration::from_secs(20)),
        capture_stdout: true,
        ..Command::default()
    }
}

fn absent(target: &Target<'_>, why: &str, how: &str) -> Absent {
    Absent {
        cluster: target.cluster.to_owned(),
        why: why.to_owned(),
        how: how.to_owned(),
    }
}

fn no_context(target: &Target<'_>, contexts: &HashSet<&str>, places: &str) -> Absent {
    let near = contexts
        .iter()
        .map(|c| (strsim::damerau_levenshtein(c, target.context), *c));
    let near = near
        .min()
        .filter(|(distance, c)| *distance <= c.chars().count() / 3);
    let how = match (near, contexts.len()) {
        (Some((_, context)), _) => format!("did you mean {context}?"),
        (None, 0) => format!("the kubeconfig has none at all: look at {places}"),
        (None, ..=8) => {
            let mut few: Vec<_> = contexts.iter().copied().collect();
            few.sort_unstable();
            format!("it has {}", few.join(", "))
        }
        (None, _) => match target.kubeconfig {
            Some(path) => format!("see kubectl config get-contexts --kubeconfig {path}"),
            None => "see kubectl config get-contexts".to_owned(),
        },
    };
    let why = format!("the kubeconfig has no context {}", target.context);
    absent(target, &why, &how)
}
