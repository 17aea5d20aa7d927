//! What went wrong in a cluster, said for people: kubectl and istioctl end with 1 for everything, so
//! their text decides (cluster facts §6). It runs nothing.

use std::io;

use thiserror::Error;
use time::format_description::well_known::Rfc3339;

use super::{
    Target, Tools,
    signs::{NOT_READY, SIGNS},
};
use crate::host::process::{Command, Exit, Finished};

/// Whether another try, a flag or a person helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may pass by itself: a server that restarts, a network that is slow.
    Transient,
    /// It will fail again until somebody does something.
    Failed,
    /// Done as asked it could break a living mesh, or take what belongs to somebody else.
    Refused,
    /// The run was interrupted.
    Interrupted,
}

/// Why a step failed.
#[derive(Debug, Clone, Error)]
#[error("{cause}")]
pub struct StepError {
    /// What happened and what to do next. Never a key.
    pub cause: String,
    /// The end of what the tool said; keys are blotted out.
    pub stderr: String,
    /// Whether another try helps.
    pub kind: Kind,
    /// Something was waited for and did not come up: events may say why.
    pub(super) unready: bool,
    /// A mesh lives on what was not to be replaced.
    pub(super) lives: bool,
}

/// Says what a command's failure means.
pub(super) fn explain(command: &Command, target: &Target<'_>, finished: &Finished) -> StepError {
    // Only kubectl is given keys, and only on standard input; tokens may be told by either.
    let stderr = without_tokens(match command.stdin {
        Some(_) => blot(&finished.tail),
        None => finished.tail.clone(),
    });
    // Tools try again, and say the same each time.
    let mut lines: Vec<_> = stderr.split_inclusive('\n').collect();
    lines.dedup();
    // istioctl opens with the picture of a ship.
    lines.retain(|l| l.trim().is_empty() || !l.chars().all(|c| " |/\\_\n".contains(c)));
    let stderr = lines.concat();
    let tool = command.program.rsplit('/').next().unwrap_or_default();
    let (kind, cause) = match finished.status {
        Exit::Interrupted => (Kind::Interrupted, "interrupted".to_owned()),
        Exit::TimedOut => {
            // It has had its time: other tries would take as long again.
            let limit = command.timeout.unwrap_or_default().as_secs();
            let next = "check that the cluster answers, and VPN and proxy";
            (
                Kind::Failed,
                format!("{tool} did not end within {limit} s; {next}"),
            )
        }
        Exit::Signal(signal) => told(
            &stderr,
            target,
            &format!("{tool} was ended by signal {signal}"),
        ),
        Exit::Code(code) => told(
            &stderr,
            target,
            &format!("{tool} failed with exit code {code}"),
        ),
    };
    let unready = cause.starts_with(NOT_READY) || finished.status == Exit::TimedOut;
    let cause = format!("cluster {}: {cause}", target.cluster);
    StepError {
        cause,
        stderr,
        kind,
        unready,
        lives: false,
    }
}

/// The meaning of a known text; for an unknown one, what ended and its last line.
fn told(stderr: &str, target: &Target<'_>, ended: &str) -> (Kind, String) {
    if let Some(sign) = SIGNS.iter().find(|s| s.is_in(stderr)) {
        let text = format!("{}; {}", sign.what, sign.next);
        let line = stderr.lines().find(|l| sign.is_in(l)).unwrap_or_default();
        let line = line.trim().trim_start_matches("Error: ");
        return (
            sign.kind,
            fill(&text, target, stderr).replace("{line}", line),
        );
    }
    let last = stderr.lines().rev().find(|l| !l.trim().is_empty());
    let cause = last.map_or(ended.to_owned(), |l| format!("{ended}: {}", l.trim()));
    (Kind::Failed, cause)
}

fn fill(text: &str, target: &Target<'_>, stderr: &str) -> String {
    text.replace("{ns}", target.namespace)
        .replace("{context}", target.context)
        .replace("{managers}", &managers(stderr))
}

/// The field managers that a conflict names: `conflict with "argocd" using v1:`, `conflicts with …`.
fn managers(stderr: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for marker in ["conflict with \"", "conflicts with \""] {
        for part in stderr.split(marker).skip(1) {
            names.extend(part.split('"').next().filter(|n| !names.contains(n)));
        }
    }
    if names.is_empty() {
        "another field manager".to_owned()
    } else {
        names.join(", ")
    }
}

/// Blots out bearer tokens: three parts of base64url, the first of which opens with `{"`.
fn without_tokens(text: String) -> String {
    let is_break = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    let blot_word = |piece: &str| {
        let (word, rest) = piece.split_at(piece.find(is_break).unwrap_or(piece.len()));
        match word.starts_with("eyJ") && word.len() >= 48 {
            true => format!("[…]{rest}"),
            false => piece.to_owned(),
        }
    };
    text.split_inclusive(is_break).map(blot_word).collect()
}

/// Blots out what could be key material: a tool may repeat the object it was given.
fn blot(text: &str) -> String {
    let key_like = |word: &str| {
        word.len() >= 48
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
    };
    let is_break = |c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c));
    let blot_word = |piece: &str| {
        let (word, rest) = piece.split_at(piece.find(is_break).unwrap_or(piece.len()));
        if key_like(word) {
            format!("[…]{rest}")
        } else {
            piece.to_owned()
        }
    };
    text.split_inclusive(is_break).map(blot_word).collect()
}

impl StepError {
    /// True where another try may help.
    pub fn transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// True where the user may not do what was asked.
    pub fn forbidden(&self) -> bool {
        self.stderr.contains("is forbidden: User")
    }

    pub(super) fn new(kind: Kind, target: &Target<'_>, cause: &str) -> Self {
        let cause = format!("cluster {}: {cause}", target.cluster);
        Self {
            cause,
            stderr: String::new(),
            kind,
            unready: false,
            lives: false,
        }
    }

    pub(super) fn after_tries(mut self, tries: usize) -> Self {
        self.cause.push_str(&format!(" (tried {tries} times)"));
        self
    }

    pub(super) fn not_run(
        command: &Command,
        tools: &Tools,
        target: &Target<'_>,
        error: &io::Error,
    ) -> Self {
        let (tool, variable) = if command.program == tools.kubectl {
            ("kubectl", "KUBECTL")
        } else {
            ("istioctl", "ISTIOCTL")
        };
        Self::new(
            Kind::Failed,
            target,
            &format!("{error}; install {tool}, or name it in the variable {variable}"),
        )
    }

    pub(super) fn garbled(target: &Target<'_>, what: &str) -> Self {
        let cause = format!(
            "kubectl answered with {what}; a proxy may answer in the API server's place, look at the server of context {}",
            target.context
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn terminating(target: &Target<'_>) -> Self {
        let (context, ns) = (target.context, target.namespace);
        Self::new(
            Kind::Transient,
            target,
            &format!(
                "namespace {ns} is being deleted; wait until it is gone; what holds it up: kubectl --context {context} get namespace {ns} -o yaml"
            ),
        )
    }

    pub(super) fn foreign_secret(target: &Target<'_>, key: &str) -> Self {
        let (context, ns) = (target.context, target.namespace);
        let why = match key {
            "istio-generated" => "Istio made it itself",
            _ => "istiod reads it in place of ca-cert.pem and ca-key.pem",
        };
        let cause = format!(
            "the secret cacerts holds {key}: {why}, so it is not touched. If no mesh lives on it: kubectl --context {context} -n {ns} delete secret cacerts"
        );
        Self::new(Kind::Refused, target, &cause)
    }

    pub(super) fn other_root(target: &Target<'_>) -> Self {
        let cause = "a living mesh trusts another root-cert.pem: workloads of two roots do not trust each other, so it is not replaced. Restore the root key and certificate it came from, or allow it with --allow other-root";
        Self {
            lives: true,
            ..Self::new(Kind::Refused, target, cause)
        }
    }

    pub(super) fn other_mesh(target: &Target<'_>, mesh: &str) -> Self {
        let cause = format!(
            "its istiod belongs to the mesh {mesh}, not {}: its workloads would move over. Name that mesh in the plan, or allow it with --allow other-mesh",
            target.mesh
        );
        Self {
            lives: true,
            ..Self::new(Kind::Refused, target, &cause)
        }
    }

    pub(super) fn unfit(target: &Target<'_>, lacks: &str) -> Self {
        Self::new(
            Kind::Failed,
            target,
            &format!("nothing was changed: {lacks}"),
        )
    }

    /// Another cluster keeps this one from being changed.
    pub fn held_back(target: &Target<'_>, other: &str) -> Self {
        let cause = format!(
            "nothing was changed, since cluster {other} cannot be; -k goes on with the others"
        );
        Self::new(Kind::Failed, target, &cause)
    }

    /// Whether it may be changed could not be asked.
    pub fn not_asked(target: &Target<'_>) -> Self {
        Self::new(
            Kind::Failed,
            target,
            "nothing was changed: it did not say which cluster it is (UID of namespace kube-system)",
        )
    }

    /// Whoever only looks was asked to change something.
    pub fn only_looks(target: &Target<'_>) -> Self {
        Self::new(Kind::Refused, target, "it is only looked at")
    }

    /// Two clusters of the plan are one.
    pub fn same_cluster(target: &Target<'_>, other: &str) -> Self {
        let cause = format!(
            "nothing was changed: its context {} reaches the same API server as cluster {other}: give each cluster its own context",
            target.context
        );
        Self::new(Kind::Failed, target, &cause)
    }

    /// The context reaches another cluster than it did.
    pub fn another_cluster(target: &Target<'_>, was: &str, is: &str) -> Self {
        let cause = format!(
            "context {} reaches another API server than last time (kube-system has the UID {is}, and had {was}): look at the kubeconfig, or allow it with --allow other-cluster",
            target.context
        );
        Self::new(Kind::Refused, target, &cause)
    }

    pub(super) fn held(
        target: &Target<'_>,
        holder: &str,
        since: Option<time::OffsetDateTime>,
    ) -> Self {
        let (context, ns) = (target.context, target.namespace);
        // What tells one process from another anywhere is not for people.
        let who = holder.rsplit_once(" (").map_or(holder, |(who, _)| who);
        let since = since
            .and_then(|s| s.replace_nanosecond(0).ok()?.format(&Rfc3339).ok())
            .map(|s| format!(" since {s}"))
            .unwrap_or_default();
        let cause = format!(
            "another meshplan ({who}) is changing it{since}; wait for it to end. If it is gone for certain: kubectl --context {context} -n {ns} delete lease meshplan"
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn no_address(primary: &Target<'_>, target: &Target<'_>) -> Self {
        let cause = format!(
            "the east-west gateway of its primary {} has no address; run {}-gateway, or write `discovery-address \"ADDRESS\"` in cluster \"{}\"",
            primary.cluster, primary.cluster, target.cluster
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn no_load_balancer(target: &Target<'_>, waited: std::time::Duration) -> Self {
        let (context, ns) = (target.context, target.namespace);
        let kind = match target.ambient {
            true => "gateways.gateway.networking.k8s.io",
            false => "service",
        };
        let cause = format!(
            "istio-eastwestgateway had no address after {} s: does the cluster have a load balancer? See kubectl --context {context} -n {ns} describe {kind} istio-eastwestgateway",
            waited.as_secs()
        );
        Self {
            unready: true,
            ..Self::new(Kind::Failed, target, &cause)
        }
    }

    pub(super) fn not_reloaded(target: &Target<'_>, waited: std::time::Duration) -> Self {
        let (context, ns) = (target.context, target.namespace);
        let cause = format!(
            "istiod was not seen to take its new CA within {} s. Why: kubectl --context {context} -n {ns} logs deploy/istiod; or restart it: kubectl --context {context} -n {ns} rollout restart deploy/istiod",
            waited.as_secs()
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn not_synced(target: &Target<'_>, missing: &[String]) -> Self {
        let (context, ns) = (target.context, target.namespace);
        let cause = format!(
            "its istiod does not read {}: does it reach their API servers? Why: kubectl --context {context} -n {ns} logs deploy/istiod",
            missing.join(", ")
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn not_attached(target: &Target<'_>) -> Self {
        let primary = target.primary.unwrap_or(target.cluster);
        let cause = format!(
            "the istiod of {primary} does not serve it yet: its webhook has no root, or there is no ConfigMap istio-ca-root-cert; see {primary}'s remote secret and kubectl logs deploy/istiod there"
        );
        Self::new(Kind::Transient, target, &cause)
    }

    pub(super) fn no_access(other: &Target<'_>, why: &str) -> Self {
        Self::new(Kind::Failed, other, &format!("no remote secret: {why}"))
    }

    pub(super) fn other_root_served(target: &Target<'_>, published: bool) -> Self {
        let (context, ns) = (target.context, target.namespace);
        let what = if published {
            "istiod serves another root than root-cert.pem"
        } else {
            "istiod has not published its root certificate yet"
        };
        let cause = format!(
            "{what}; where the secret cacerts holds this root, istiod started before it and needs a restart: kubectl --context {context} -n {ns} rollout restart deploy/{}",
            target.control_plane()
        );
        // istiod writes the ConfigMap some time after it is ready, and over one of an earlier install.
        Self::new(Kind::Transient, target, &cause)
    }

    pub(super) fn made_for(target: &Target<'_>, mesh: &str, cluster: &str) -> Self {
        let cause = format!(
            "what meshplan made there is cluster {cluster} of mesh {mesh}, not {} of {}: look at context {}, or name them so in the plan",
            target.cluster, target.mesh, target.context
        );
        Self::new(Kind::Refused, target, &cause)
    }

    pub(super) fn no_uninstall(target: &Target<'_>) -> Self {
        let (context, ns, mark) = (target.context, target.namespace, super::live::MARK);
        let cause = format!(
            "istioctl {} cannot uninstall. Do what its guide says: istioctl manifest generate -f {}/install.yaml | kubectl --context {context} delete --ignore-not-found -f -; then kubectl --context {context} -n {ns} annotate configmap {mark} {}-, and destroy again for the rest",
            target.istio,
            target.cluster,
            super::live::INSTALLED
        );
        Self::new(Kind::Failed, target, &cause)
    }

    pub(super) fn not_up(target: &Target<'_>) -> Self {
        let (context, ns) = (target.context, target.namespace);
        Self::new(
            Kind::Transient,
            target,
            &format!(
                "Istio is not complete in namespace {ns}; see kubectl --context {context} -n {ns} get pods, or run the cluster's -install target"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::model::IstioVersion;

    fn target() -> Target<'static> {
        Target {
            cluster: "cluster1",
            context: "ctx",
            kubeconfig: None,
            api_server: None,
            mesh: "mesh1",
            namespace: "istio-system",
            network: None,
            primary: None,
            several_networks: false,
            discovery_address: None,
            has_remotes: false,
            gateway: false,
            ambient: false,
            in_reach: &[],
            is_read: false,
            allowed: Default::default(),
            runs_istiod: true,
            istio: IstioVersion {
                major: 1,
                minor: 30,
            },
        }
    }

    fn explained(tail: &str) -> StepError {
        let finished = Finished {
            status: Exit::Code(1),
            stdout: Default::default(),
            tail: tail.into(),
        };
        explain(
            &Command {
                program: "/x/kubectl".into(),
                stdin: Some(Default::default()),
                ..Command::default()
            },
            &target(),
            &finished,
        )
    }

    /// Texts as seen on real clusters (cluster facts §1, §4 and §6).
    #[test]
    fn texts_tell_causes() {
        use Kind::{Failed, Refused, Transient};
        let cases = [
            (
                Transient,
                "refused",
                "The connection to the server 10.1.0.1:6443 was refused - did you specify the right host or port?",
            ),
            (
                Transient,
                "in time",
                "Unable to connect to the server: net/http: TLS handshake timeout",
            ),
            (
                Failed,
                "credentials of context ctx",
                "error: You must be logged in to the server (Unauthorized)",
            ),
            (
                Failed,
                "credentials of context ctx",
                "Error: the server has asked for the client to provide credentials",
            ),
            (
                Failed,
                "may not",
                "Error from server (Forbidden): secrets \"cacerts\" is forbidden: User \"x\" cannot patch resource",
            ),
            (
                Transient,
                "being deleted",
                "secrets \"cacerts\" is forbidden: unable to create new content in namespace istio-system because it is being terminated",
            ),
            (
                Failed,
                "quota",
                "secrets \"cacerts\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=0, limited: secrets=0",
            ),
            (
                Transient,
                "webhook",
                "Error from server (InternalError): Internal error occurred: failed calling webhook \"X\": failed to call webhook: Post: context deadline exceeded",
            ),
            (
                Failed,
                "no context ctx",
                "Error in configuration: context was not found for specified context: ctx",
            ),
            (
                Failed,
                "no context ctx",
                "Error: failed to setup client: context \"ctx\" does not exist",
            ),
            (
                Failed,
                "plugin",
                "getting credentials: exec: executable p failed with exit code 3",
            ),
            (
                Refused,
                "argocd owns",
                "error: Apply failed with 3 conflicts: conflicts with \"argocd\":\n- .data.ca-cert.pem",
            ),
            (
                Refused,
                "kubectl-patch owns",
                "error: Apply failed with 1 conflict: conflict with \"kubectl-patch\" using v1: .data.root-cert.pem",
            ),
            (
                Failed,
                "did not become ready",
                "Error: failed to wait for resource: resources not ready after 20s: context deadline exceeded",
            ),
            (
                Transient,
                "busy",
                "Error from server (TooManyRequests): the server is currently unable",
            ),
            (
                Transient,
                "not available",
                "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
            ),
            (
                Transient,
                "failed",
                "Error from server (InternalError): etcdserver: leader changed",
            ),
            (Failed, "exit code 1: boom", "first\nboom\n\n"),
        ];
        for (kind, words, tail) in cases {
            let error = explained(tail);
            assert_eq!(error.kind, kind, "{tail}");
            assert!(error.cause.contains(words), "{}", error.cause);
        }
    }

    #[test]
    fn keys_are_blotted_out() {
        let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7/+A=";
        let error = explained(&format!(
            "invalid: {{\"ca-key.pem\":\"{key}\"}} in /etc/some/path-of.no-interest"
        ));
        assert_eq!(
            error.stderr,
            "invalid: {\"ca-key.pem\":\"[…]\"} in /etc/some/path-of.no-interest"
        );
        assert!(!error.cause.contains(key));
    }
}
