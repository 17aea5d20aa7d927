//! Names and networks of a first plan's clusters: as installed, else made up so that a plan may have them.

use std::collections::BTreeSet;

use super::Asked;
use crate::{cli::args::Topology, plan};

/// What follows a cluster's name and `-` in the name of a target of its own; also `reads-` and another's name.
const TARGETS: [&str; 8] = [
    "cacerts",
    "cacerts-k8s",
    "namespace",
    "secret",
    "install",
    "gateway",
    "ready",
    "synced",
];

/// Names as installed, else made of the contexts; each once, and none that is another's target.
pub(super) fn names(asked: &[Asked]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (place, one) in asked.iter().enumerate() {
        let installed = one.known().and_then(|f| f.cluster_name.as_deref());
        let base = [installed.unwrap_or_default(), &one.context]
            .iter()
            .map(|text| dns_label(text))
            .find(|label| !label.is_empty())
            .unwrap_or_else(|| format!("cluster{}", place + 1));
        let free = |name: &String| plan::cluster_name(name).is_ok() && !clashes(name, &names);
        let more = (2..).map(|n| format!("{}-{n}", cut(&base, 56)));
        let name = std::iter::once(base.clone()).chain(more).find(free);
        names.push(name.unwrap_or(base));
    }
    names
}

fn clashes(name: &str, taken: &[String]) -> bool {
    let all = || taken.iter().map(String::as_str).chain([name]);
    let is_taken = |n: &str| all().any(|other| other == n);
    let own = |cluster: &str, word: &str| is_taken(&format!("{cluster}-{word}"));
    let reads = |one: &str, other: &str| own(one, &format!("reads-{other}"));
    ["all", "root-ca"].contains(&name)
        || taken.iter().any(|t| t == name)
        || all().any(|c| TARGETS.iter().any(|word| own(c, word)))
        || all().any(|one| all().any(|other| reads(one, other)))
}

/// A text as a DNS-1123 label. Clouds' context names tell clusters apart at their end.
fn dns_label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            label.push(c);
        } else if !label.ends_with('-') {
            label.push('-');
        }
    }
    cut(label.trim_matches('-'), 63).to_owned()
}

/// The last `most` characters of a label.
fn cut(label: &str, most: usize) -> &str {
    label[label.len().saturating_sub(most)..].trim_matches('-')
}

/// Networks as found; where none was, the topology's.
pub(super) fn networks(topology: Topology, asked: &[Asked]) -> Vec<String> {
    let found = asked.iter().map(|a| {
        let network = a.known().and_then(|f| f.network.clone());
        network.filter(|n| plan::label_value(n).is_ok())
    });
    let found: Vec<Option<String>> = found.collect();
    let mut taken: BTreeSet<String> = found.iter().flatten().cloned().collect();
    let shared = found.iter().flatten().next().cloned();
    let shared = shared.unwrap_or_else(|| "network1".to_owned());
    let mut networks = Vec::new();
    for (place, network) in found.into_iter().enumerate() {
        networks.push(match network {
            Some(network) => network,
            None if !topology.several_networks() => shared.clone(),
            None => {
                let own = (place + 1..).map(|n| format!("network{n}"));
                let own = own.into_iter().find(|n| !taken.contains(n));
                let own = own.unwrap_or_else(|| shared.clone());
                taken.insert(own.clone());
                own
            }
        });
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_become_labels() {
        assert_eq!(
            dns_label("arn:aws:eks:eu:1:cluster/Prod_"),
            "arn-aws-eks-eu-1-cluster-prod"
        );
        assert_eq!(dns_label(&"x.".repeat(80)).len(), 63);
        assert_eq!(dns_label("日本"), "");
    }
}
