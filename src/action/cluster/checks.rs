//! What must hold before a cluster is changed for the first time: releases that fit, permissions, and
//! that it is the cluster it was. Questions and the reading of answers; it runs nothing.

use serde_json::{Value, json};

use super::{Target, Tools, live::kubectl};
use crate::{host::process::Command, plan::model::IstioVersion};

/// The oldest Kubernetes of each Istio release: `MinK8SVersion` of istioctl, by release tag.
const OLDEST: [(u16, u16); 11] = [
    (31, 32),
    (30, 32),
    (29, 30),
    (26, 29),
    (24, 28),
    (21, 26),
    (19, 25),
    (17, 23),
    (13, 19),
    (9, 17),
    (7, 16),
];

/// Something that may be asked of an API server.
struct Need {
    group: &'static str,
    /// With its subresource, if that is what is asked for.
    resource: &'static str,
    verbs: &'static [&'static str],
}

const fn need(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Need {
    Need {
        group,
        resource,
        verbs,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const LOOK: &[&str] = &["get", "list"];
const MAKE: &[&str] = &["get", "list", "create", "patch"];
const MAKE_AND_PRUNE: &[&str] = &["get", "list", "create", "patch", "delete"];
const GRANT: &[&str] = &[
    "get", "list", "create", "patch", "delete", "escalate", "bind",
];
const WATCH: &[&str] = &["get", "list", "watch", "create", "patch", "update"];

/// What a whole run asks of a cluster (cluster facts §7): enough for the secret, an install and remote secrets. istioctl
/// looks for what to prune in every namespace; and whoever may grant more than they hold, as it needs, can have
/// any permission. So nothing is won by asking for some of them in one namespace only.
const NEEDS: &[Need] = &[
    need("", "namespaces", &["get", "create", "patch"]),
    need("", "secrets", MAKE_AND_PRUNE),
    need("", "configmaps", MAKE_AND_PRUNE),
    need("", "serviceaccounts", MAKE_AND_PRUNE),
    need("", "services", MAKE_AND_PRUNE),
    need("", "pods", LOOK),
    need("", "pods/portforward", &["get", "create"]),
    need("", "pods/proxy", &["get"]),
    need("", "events", &["list"]),
    need(
        "apps",
        "deployments",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    need("apps", "daemonsets", MAKE_AND_PRUNE),
    need("apps", "replicasets", LOOK),
    need("autoscaling", "horizontalpodautoscalers", MAKE_AND_PRUNE),
    need("policy", "poddisruptionbudgets", MAKE_AND_PRUNE),
    need(
        "coordination.k8s.io",
        "leases",
        &["get", "create", "delete", "update"],
    ),
    need(RBAC, "roles", GRANT),
    need(RBAC, "rolebindings", MAKE_AND_PRUNE),
    need(RBAC, "clusterroles", GRANT),
    need(RBAC, "clusterrolebindings", MAKE_AND_PRUNE),
    need(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        WATCH,
    ),
    need(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        WATCH,
    ),
    need("apiextensions.k8s.io", "customresourcedefinitions", MAKE),
    need("networking.istio.io", "envoyfilters", LOOK),
    need("discovery.k8s.io", "endpointslices", MAKE_AND_PRUNE),
];

/// What an east-west gateway needs besides, of sidecars and of ambient.
const GATEWAY: &[Need] = &[
    need("networking.istio.io", "gateways", MAKE_AND_PRUNE),
    need("networking.istio.io", "virtualservices", MAKE_AND_PRUNE),
];
const AMBIENT_GATEWAY: &[Need] = &[need(
    "gateway.networking.k8s.io",
    "gateways",
    MAKE_AND_PRUNE,
)];

fn needs(target: &Target<'_>) -> impl Iterator<Item = &'static Need> {
    let gateway = match (target.gateway, target.ambient) {
        (true, false) => GATEWAY,
        (true, true) => AMBIENT_GATEWAY,
        (false, _) => &[],
    };
    NEEDS.iter().chain(gateway)
}

/// Asks for the server's release.
pub(super) fn server_version(target: &Target<'_>, tools: &Tools) -> Command {
    let mut command = kubectl(target, tools, &["version", "-o", "json"]);
    command.capture_stdout = true;
    command
}

/// Asks for the Gateway API, which clusters do not have by themselves.
pub(super) fn gateway_api(target: &Target<'_>, tools: &Tools) -> Command {
    let crd = "gateways.gateway.networking.k8s.io";
    let args = [
        "get",
        "customresourcedefinitions",
        crd,
        "-o",
        "name",
        "--ignore-not-found",
    ];
    let mut command = kubectl(target, tools, &args);
    command.capture_stdout = true;
    command
}

/// What to do where [`gateway_api`] found nothing.
pub(super) fn no_gateway_api(target: &Target<'_>) -> String {
    format!(
        "it lacks the Gateway API's CRDs, which an ambient gateway is an object of: kubectl --context {} apply -f https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml",
        shell(target.context)
    )
}

/// What the plan asks of istioctl that its release cannot do (istioctl/pkg/multicluster/remote_secret.go of 1.4.0,
/// 1.5.0, 1.8.0 and 1.9.0).
pub(super) fn beyond(target: &Target<'_>) -> Option<String> {
    let cannot = match target.is_read {
        true if !target.since(5) => "name the cluster of a remote secret, which 1.5 can",
        true if !target.since(9) && target.api_server.is_some() => {
            "write an `api-server` into a remote secret, which 1.9 can"
        }
        _ => return None,
    };
    Some(format!("istioctl {} cannot {cannot}", target.istio))
}

/// Asks istioctl for its own release, and no cluster for anything.
pub(super) fn istioctl_version(tools: &Tools) -> Command {
    Command {
        program: tools.istioctl.clone(),
        args: ["version", "--remote=false", "-o", "json"]
            .map(str::to_owned)
            .to_vec(),
        timeout: Some(std::time::Duration::from_secs(20)),
        capture_stdout: true,
        ..Command::default()
    }
}

/// Asks who the user is, and every need at once. The answers are JSON objects in the same order. Reviews with
/// metadata of their own are refused.
pub(super) fn permissions(target: &Target<'_>, tools: &Tools) -> Command {
    let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let reviews = needs(target).flat_map(|need| need.verbs.iter().map(move |verb| (need, *verb)));
    let reviews = reviews.map(|(need, verb)| {
        let (resource, sub) = need.resource.split_once('/').unwrap_or((need.resource, ""));
        let mut attributes = json!({ "group": need.group, "resource": resource, "verb": verb });
        if !sub.is_empty() {
            attributes["subresource"] = json!(sub);
        }
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        })
    });
    let items: Vec<Value> = std::iter::once(who).chain(reviews).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let mut command = kubectl(
        target,
        tools,
        &["create", "-f", "-", "-o", "json", "--validate=false"],
    );
    command.stdin = Some(list.to_string().into_bytes().into());
    command.capture_stdout = true;
    command
}

/// What the user lacks and the command that grants it; `None` where nothing is lacking. The command grants every need, so that a second one takes nothing away.
pub(super) fn lacking(answer: &[u8], target: &Target<'_>) -> Option<String> {
    let mut user = "USER".to_owned();
    let (mut answered, mut denied) = (0, Vec::<(String, Vec<String>)>::new());
    let answers = serde_json::Deserializer::from_slice(answer).into_iter::<Value>();
    for answer in answers.map_while(Result::ok) {
        if let Some(name) = answer["status"]["userInfo"]["username"].as_str() {
            user = name.to_owned();
        }
        if answer["kind"] != "SelfSubjectAccessReview" {
            continue;
        }
        answered += 1;
        if answer["status"]["allowed"] == true {
            continue;
        }
        let asked = &answer["spec"]["resourceAttributes"];
        let word = |name: &str| asked[name].as_str().unwrap_or_default();
        let mut resource = word("resource").to_owned();
        if let Some(sub) = asked["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        match denied.iter_mut().find(|(r, _)| *r == resource) {
            Some((_, verbs)) => verbs.push(word("verb").to_owned()),
            None => denied.push((resource, vec![word("verb").to_owned()])),
        }
    }
    let asked: usize = needs(target).map(|need| need.verbs.len()).sum();
    if denied.is_empty() {
        let unsaid = "its API server did not say what the user may do there";
        return (answered < asked).then(|| unsaid.to_owned());
    }
    let denied: Vec<_> = denied
        .iter()
        .map(|(resource, verbs)| format!("{resource} ({})", verbs.join(", ")))
        .collect();
    let rule = |need: &Need| json!({ "apiGroups": [need.group], "resources": [need.resource], "verbs": need.verbs });
    let rules: Vec<_> = needs(target)
        .map(|need| format!("- {}\n", rule(need)))
        .collect();
    let subject = json!({ "apiGroup": RBAC, "kind": "User", "name": user });
    Some(format!(
        "the user of context {} lacks permissions: {}. Somebody who may grants them with

kubectl --context THEIRS apply -f - <<'EOF'
apiVersion: {RBAC}/v1
kind: ClusterRole
metadata: {{name: meshplan}}
rules:
{}---
apiVersion: {RBAC}/v1
kind: ClusterRoleBinding
metadata: {{name: meshplan}}
roleRef: {{apiGroup: {RBAC}, kind: ClusterRole, name: meshplan}}
subjects:
- {subject}
EOF
",
        target.context,
        denied.join(", "),
        rules.concat(),
    ))
}

fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Why the server's release does not do, if it does not.
pub(super) fn too_old(answer: &[u8], istio: IstioVersion) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let server = &answer["serverVersion"];
    // Some providers write `32+`.
    let digits = |name: &str| -> Option<u16> {
        let text = server[name].as_str()?;
        text[..text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())]
            .parse()
            .ok()
    };
    let (major, minor) = (digits("major")?, digits("minor")?);
    let oldest = OLDEST
        .iter()
        .find(|(release, _)| istio.minor >= *release)?
        .1;
    (major == 1 && minor < oldest).then(|| {
        format!("it runs Kubernetes {major}.{minor}, and Istio {istio} needs 1.{oldest}: upgrade it, or plan an older istio-version")
    })
}

/// Why istioctl's own release is not the plan's, if it is not. A development build tells nothing.
pub(super) fn other_istioctl(answer: &[u8], istio: IstioVersion, tools: &Tools) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(version) = answer["clientVersion"]["version"].as_str() else {
        return Some(format!(
            "{} does not tell its version as istioctl does: name another in ISTIOCTL",
            tools.istioctl
        ));
    };
    let mut numbers = version.split('.').map(|n| n.parse::<u16>());
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) != (istio.major, istio.minor)).then(|| {
        format!(
            "{} is of Istio {version}, and the plan is for {istio}: write istio-version \"{major}.{minor}\", or name another istioctl in ISTIOCTL",
            tools.istioctl
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn istio(minor: u16) -> IstioVersion {
        IstioVersion { major: 1, minor }
    }

    #[test]
    fn a_server_must_be_of_a_release_that_istio_supports() {
        let server = |minor: &str| {
            json!({ "serverVersion": { "major": "1", "minor": minor } })
                .to_string()
                .into_bytes()
        };
        // Providers write `32+`.
        assert_eq!(too_old(&server("32+"), istio(31)), None);
        assert_eq!(too_old(&server("16"), istio(7)), None);
        let old = too_old(&server("31"), istio(31)).unwrap_or_default();
        assert!(
            old.contains("Kubernetes 1.31, and Istio 1.31 needs 1.32"),
            "{old}"
        );
    }

    #[test]
    fn istioctl_must_be_of_the_release_of_the_plan() {
        let tools = Tools {
            kubectl: "kubectl".into(),
            istioctl: "/opt/istioctl".into(),
        };
        let told = |answer: &str| other_istioctl(answer.as_bytes(), istio(31), &tools);
        assert_eq!(told(r#"{"clientVersion":{"version":"1.31.1"}}"#), None);
        // A build of somebody's own.
        assert_eq!(told(r#"{"clientVersion":{"version":"unknown"}}"#), None);
        let other = told(r#"{"clientVersion":{"version":"1.30.2"}}"#).unwrap_or_default();
        assert!(
            other.contains("of Istio 1.30.2, and the plan is for 1.31"),
            "{other}"
        );
        let none = told("").unwrap_or_default();
        assert!(
            none.contains("/opt/istioctl does not tell its version"),
            "{none}"
        );
    }
}
