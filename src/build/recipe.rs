//! A task's recipe: the part of the plan that its result depends on, as named values, so that a
//! change can be told in the plan's own words.

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::log::hex_text;
use crate::{
    action::pki::{Request, digest},
    graph::{Action, Owner, Task},
    plan::model::{ChainForm, Plan, RootCa, Scope},
};

/// Named values in the plan's words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipe(pub IndexMap<SmolStr, SmolStr, RandomState>);

impl Recipe {
    /// What a task's result depends on. Copies and manifests are compared by their bytes and have
    /// none; nor has a cluster step, which looks at the cluster.
    pub fn of(plan: &Plan, task: &Task) -> Self {
        let mut recipe = Self::default();
        match (task.action, &plan.root) {
            (Action::Key(Owner::Root), RootCa::Made(spec)) => recipe.put("key", spec.key.name()),
            (Action::RootCert, RootCa::Made(spec)) => recipe.certificate(&Request::root(spec)),
            (Action::Key(Owner::Cluster(c)), _) => {
                recipe.put("key", plan.clusters[c].ca.key.name())
            }
            (Action::CaCert(c), _) => {
                let cluster = &plan.clusters[c];
                recipe.certificate(&Request::cluster(&cluster.ca, &cluster.name));
            }
            (Action::Key(Owner::Workload(w)), _) => {
                recipe.put("key", plan.workloads[w].key.name());
            }
            (Action::WorkloadCert(w), _) => {
                recipe.certificate(&Request::workload(&plan.workloads[w], &plan.mesh));
            }
            (Action::Chain(c), _) => recipe.put(
                "chain",
                match plan.clusters[c].ca.chain {
                    ChainForm::WithoutRoot => "without-root",
                    ChainForm::WithRoot => "with-root",
                },
            ),
            (Action::Command(t), _) => {
                let user = &plan.tasks[t];
                recipe.put("run", &format!("{:?}", user.run));
                recipe.put(
                    "dir",
                    user.dir
                        .strip_prefix(&plan.dir)
                        .unwrap_or(&user.dir)
                        .as_str(),
                );
                for (name, value) in &user.env {
                    // A value may be a secret: its digest tells a change just as well.
                    recipe.put(&format!("env {name}"), &hex_text(&digest(value.as_bytes())));
                }
                for path in user.inputs.iter().chain(&user.outputs).map(|(p, _)| p) {
                    let path = path.strip_prefix(&plan.dir).unwrap_or(path);
                    recipe.put(&format!("file {path}"), "named");
                }
            }
            _ => {}
        }
        recipe
    }

    /// What of a certificate's recipe has changed since it was signed, as far as the plan speaks of it.
    pub fn changes(plan: &Plan, task: &Task, signed: &Self) -> Vec<String> {
        let mut recipe = Self::of(plan, task);
        let spoken = match (&plan.scope, task.action) {
            (Scope::Mesh, _) => None,
            (Scope::Files(spoken), Action::RootCert) => Some(&spoken.root),
            (Scope::Files(spoken), Action::WorkloadCert(_)) => Some(&spoken.workloads),
            (Scope::Files(spoken), _) => Some(&spoken.clusters),
        };
        let Some(spoken) = spoken else {
            return recipe.changes_since(signed);
        };
        let mut signed = signed.clone();
        recipe.0.retain(|name, _| spoken.contains(&name.as_str()));
        signed.0.retain(|name, _| spoken.contains(&name.as_str()));
        recipe.changes_since(&signed)
    }

    fn certificate(&mut self, request: &Request) {
        self.put("organization", &request.subject.organization);
        self.put("common-name", &request.subject.common_name);
        self.put("validity", &request.validity.to_string());
        self.put("dns", &request.dns.join(" "));
        // Only where there are any: logs of CAs that were made before know no such word.
        if !request.uris.is_empty() {
            self.put("uri", &request.uris.join(" "));
        }
        if let Some(locality) = &request.locality {
            self.put("locality", locality);
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    /// What changed since `old`, such as `validity 730d → 365d`; empty where nothing did.
    pub fn changes_since(&self, old: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, value) in &self.0 {
            match old.0.get(name) {
                Some(before) if before == value => {}
                Some(_) if name.starts_with("env ") => changes.push(format!("{name} changed")),
                Some(before) => {
                    changes.push(format!("{name} {} → {}", shown(before), shown(value)))
                }
                None => changes.push(format!("{name} is new")),
            }
        }
        let gone = old.0.keys().filter(|name| !self.0.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name} is gone")));
        changes
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}
