//! What each file and target is for, in a sentence: for `list`, and for tooltips of drawn graphs.

use super::{Action, Owner, Step, Task};
use crate::plan::model::Plan;

/// What a task's output, or the task itself, is for (facts §1.2, §2.2).
pub fn purpose(plan: &Plan, task: &Task) -> String {
    let name = |c: usize| plan.clusters[c].name.as_str();
    let namespace = &plan.mesh.namespace;
    match task.action {
        Action::Key(Owner::Root) => {
            "private key of the root CA; stays here, goes to no cluster".to_owned()
        }
        Action::Key(Owner::Cluster(c)) => {
            format!("private key that {}'s istiod signs with", name(c))
        }
        Action::Key(Owner::Workload(w)) => {
            format!("private key of workload {}", plan.workloads[w].name)
        }
        Action::WorkloadCert(w) => {
            let workload = &plan.workloads[w];
            let (id, signer) = (workload.spiffe_id(&plan.mesh), name(workload.cluster));
            format!("certificate of {id}, issued by {signer}'s CA")
        }
        Action::WorkloadChain(w) => format!(
            "certificates from that of workload {} up to the root",
            plan.workloads[w].name
        ),
        Action::RootCert => "root certificate, the trust anchor of the whole mesh".to_owned(),
        Action::Anchor => {
            "root certificate of the CA brought along, the trust anchor of the whole mesh"
                .to_owned()
        }
        Action::CaCert(c) => format!(
            "signing certificate of {}'s istiod, issued by the root CA",
            name(c)
        ),
        Action::Chain(c) => format!(
            "certificates from {}'s signing certificate up to the root",
            name(c)
        ),
        Action::RootCopy(Owner::Workload(w)) => format!(
            "root certificate that workload {} trusts",
            plan.workloads[w].name
        ),
        Action::RootCopy(Owner::Cluster(c)) => {
            format!("root certificate that {}'s workloads trust", name(c))
        }
        Action::RootCopy(Owner::Root) => "copy of the root certificate".to_owned(),
        Action::Install(c) => format!("IstioOperator for `istioctl install` in {}", name(c)),
        Action::Step(c, Step::Namespace) => format!(
            "namespace {namespace} in {}, with its network label",
            name(c)
        ),
        Action::Step(c, Step::Secret) => {
            format!("secret cacerts in {}, from the four CA files", name(c))
        }
        Action::Step(c, Step::Install) => format!("Istio in {}, from install.yaml", name(c)),
        Action::Step(c, Step::Gateway) => format!(
            "east-west gateway of {}: what it exposes, and its address",
            name(c)
        ),
        Action::Step(c, Step::Ready) if plan.clusters[c].remote_of.is_some() => {
            format!("proof that {} is served by its primary", name(c))
        }
        Action::Step(c, Step::Ready) => {
            format!("proof that {}'s istiod runs with this root", name(c))
        }
        Action::Step(c, Step::Reads(other)) => format!(
            "remote secret in {}, with which its istiod reads {}",
            name(c),
            name(other)
        ),
        Action::Step(c, Step::Synced) => {
            format!("proof that {}'s istiod reads all clusters", name(c))
        }
        Action::Command(t) => format!("runs `{}`", plan.tasks[t].run.join(" ")),
    }
}

/// What a target that stands for several tasks is for.
pub fn target_purpose(target: &str) -> &'static str {
    match target {
        "all" => "everything in the plan",
        "root-ca" => "key and certificate of the root CA",
        t if t.ends_with("-cacerts") => "the four files of the secret cacerts",
        t if t.ends_with("-cacerts-k8s") || t.ends_with("-cacerts-selfSigned") => {
            "the same, by its name in Istio 1.7's Makefile"
        }
        t if t.ends_with("-certs") => "key, certificate, chain and root of a workload",
        _ => "all of this cluster: CA files, install.yaml, cluster steps",
    }
}
