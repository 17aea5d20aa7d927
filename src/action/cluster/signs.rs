//! Texts of kubectl and istioctl, and what they mean (cluster facts §6). Data only.

use super::Kind::{self, Failed, Refused, Transient};

/// A text that tells a cause.
pub(super) struct Sign {
    /// Whether another try helps.
    pub(super) kind: Kind,
    /// All parts of one of these must occur.
    pub(super) texts: &'static [&'static [&'static str]],
    /// What is the case. `{ns}`, `{context}`, `{managers}` and `{line}`, the first that holds one of
    /// the texts, are filled in.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) next: &'static str,
}

impl Sign {
    /// True where a tool's text holds this sign.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.texts
            .iter()
            .any(|parts| parts.iter().all(|p| text.contains(p)))
    }
}

/// Pods were waited for in vain.
pub(super) const NOT_READY: &str = "Istio's pods did not become ready";

/// The first that fits counts: what is nearer to the cause stands before what it leads to.
pub(super) const SIGNS: &[Sign] = &[
    Sign {
        kind: Transient,
        texts: &[&["because it is being terminated"]],
        what: "namespace {ns} is being deleted",
        next: "wait until it is gone; what holds it up: kubectl --context {context} get namespace {ns} -o yaml",
    },
    Sign {
        kind: Failed,
        texts: &[&["exceeded quota"]],
        what: "a quota of the namespace is used up",
        next: "raise it: kubectl --context {context} -n {ns} describe quota",
    },
    Sign {
        kind: Transient,
        texts: &[&["failed calling webhook"]],
        what: "an admission webhook of the cluster did not answer",
        next: "bring its pods up, or remove its webhook configuration if it is a left-over",
    },
    Sign {
        kind: Refused,
        texts: &[&["Apply failed with", "conflict"]],
        what: "{managers} owns what meshplan would change",
        next: "let it give the field up, or take it over with --allow take-over",
    },
    Sign {
        kind: Transient,
        texts: &[&["object has been modified"]],
        what: "somebody else changed the same object at the same moment",
        next: "run again",
    },
    Sign {
        kind: Failed,
        texts: &[
            &["context was not found"],
            &["context \"", "\" does not exist"],
        ],
        what: "the kubeconfig has no context {context}",
        next: "see kubectl config get-contexts",
    },
    Sign {
        kind: Failed,
        texts: &[
            &["getting credentials: exec"],
            &["exec authentication plugin"],
        ],
        what: "the credential plugin of context {context} failed",
        next: "log in with the cloud's own tool, then run again",
    },
    Sign {
        kind: Failed,
        texts: &[&["Please enter Username"]],
        what: "context {context} has no credentials",
        next: "add some to its kubeconfig user, or log in with the cloud's own tool",
    },
    Sign {
        kind: Failed,
        texts: &[
            &["Unauthorized"],
            &["asked for the client to provide credentials"],
        ],
        what: "the API server does not accept the credentials of context {context}",
        next: "renew them, then run again",
    },
    Sign {
        kind: Failed,
        texts: &[&["is attempting to grant RBAC permissions not currently held"]],
        what: "the user of context {context} may not grant what Istio's roles hold",
        next: "give it the verbs escalate and bind on roles and clusterroles",
    },
    Sign {
        kind: Failed,
        texts: &[&["violates PodSecurity"]],
        what: "namespace {ns} has a PodSecurity level that Istio's pods do not meet",
        next: "see kubectl --context {context} get namespace {ns} --show-labels",
    },
    Sign {
        kind: Failed,
        texts: &[&["is forbidden"]],
        what: "the user of context {context} may not do this: {line}",
        next: "ask for that permission",
    },
    Sign {
        kind: Failed,
        texts: &[&["unknown field"]],
        what: "istioctl does not know a field of install.yaml",
        next: "let the plan's istio-version be that of `istioctl version --remote=false`, and check operator and values-file",
    },
    Sign {
        kind: Failed,
        texts: &[&["unknown command"], &["unknown flag"]],
        what: "the tool does not know this command",
        next: "let the plan's istio-version be that of `istioctl version --remote=false`",
    },
    Sign {
        kind: Failed,
        texts: &[
            &["resources not ready after"],
            &["timed out waiting for the condition"],
            &["exceeded its progress deadline"],
        ],
        what: NOT_READY,
        next: "see kubectl --context {context} -n {ns} get pods",
    },
    Sign {
        kind: Failed,
        texts: &[&["deployments.apps \"", "\" not found"]],
        what: "Istio is not installed in namespace {ns}",
        next: "run the cluster's -install target",
    },
    Sign {
        kind: Failed,
        texts: &[&["namespaces \"", "\" not found"]],
        what: "namespace {ns} is missing",
        next: "run the cluster's -namespace target",
    },
    Sign {
        kind: Failed,
        texts: &[&["x509:"]],
        what: "the API server's certificate is not the one that the kubeconfig expects",
        next: "check certificate-authority and server of context {context}",
    },
    Sign {
        kind: Transient,
        texts: &[
            &["connection refused"],
            &["was refused - did you specify the right host"],
        ],
        what: "the API server refused the connection",
        next: "check that the cluster runs and that this machine reaches it",
    },
    Sign {
        kind: Transient,
        texts: &[&["no such host"]],
        what: "the API server's name is unknown",
        next: "check the network, and the server of context {context}",
    },
    Sign {
        kind: Transient,
        texts: &[
            &["TLS handshake timeout"],
            &["i/o timeout"],
            &["Client.Timeout"],
            &["request canceled"],
            &["context deadline exceeded"],
        ],
        what: "the API server did not answer in time",
        next: "check the network, VPN and proxy",
    },
    Sign {
        kind: Transient,
        texts: &[&["connection reset"], &["unexpected EOF"], &[": EOF"]],
        what: "the connection to the API server broke",
        next: "check the network, VPN and proxy",
    },
    Sign {
        kind: Transient,
        texts: &[
            &["(TooManyRequests)"],
            &["received too many requests"],
            &["(ServiceUnavailable)"],
            &["currently unable to handle the request"],
        ],
        what: "the API server is busy or not available",
        next: "run again later",
    },
    Sign {
        kind: Transient,
        texts: &[&["(InternalError)"], &["an error on the server ("]],
        what: "the API server failed",
        next: "see its log, or run again later",
    },
];
