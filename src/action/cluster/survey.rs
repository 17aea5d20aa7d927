//! What a cluster already is, before there is a plan: the questions, and their answers as data. It runs
//! nothing, and knows nothing of what a plan will say.

use std::{io, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Allowed, StepError, Target, Tools, checks,
    live::{kubectl, only_unknown_kinds},
    preflight, trouble,
};
use crate::{
    action::pki::{CertFacts, read_cert},
    host::process::{Command, Exit, Finished},
    plan::{self, model::IstioVersion},
};

/// Where Istio is looked for.
pub const NAMESPACE: &str = "istio-system";

/// Longest that one question may take, and each request of it.
const CALL: Duration = Duration::from_secs(15);
const REQUEST: &str = "--request-timeout=10s";

/// Longest that istioctl may take to say its own release.
const ISTIOCTL: Duration = Duration::from_secs(10);

/// Name of a cluster whose istiod was given none (facts §6, `CLUSTER_ID`).
const UNNAMED: &str = "Kubernetes";

/// Keys of the secret, and the values of those that hold nothing but certificates. Private keys stay
/// inside kubectl.
const CERTS: &str = r#"{{range $k, $v := .data}}{{$k}}{{if eq $k "root-cert.pem" "ca-cert.pem" "ca.crt"}} {{$v}}{{end}}{{"\n"}}{{end}}"#;

/// What a cluster already is.
#[derive(Debug, Default)]
pub struct Found {
    /// UID of the namespace kube-system: which cluster this is.
    pub uid: Option<String>,
    /// Its istiod, where there is one.
    pub istiod: Option<Istiod>,
    /// Mesh ID that Istio was installed with.
    pub mesh_id: Option<String>,
    /// Its Istio network: the namespace's label, or what Istio was installed with.
    pub network: Option<String>,
    /// Cluster name that Istio was installed with, if it was given one.
    pub cluster_name: Option<String>,
    /// Trust domain that Istio was installed with.
    pub trust_domain: Option<String>,
    /// Root certificates that workloads are handed.
    pub served: Vec<CertFacts>,
    /// The secret `cacerts`.
    pub cacerts: Option<Cacerts>,
    /// What could not be asked.
    pub unknown: Vec<String>,
}

/// An istiod as it runs.
#[derive(Debug, Default)]
pub struct Istiod {
    /// Its release as it says it, such as `1.30.2`.
    pub release: Option<String>,
    /// It serves ztunnels.
    pub ambient: bool,
}

impl Istiod {
    /// Its release line.
    pub fn version(&self) -> Option<IstioVersion> {
        line(self.release.as_deref()?)
    }
}

/// Certificates of the secret `cacerts`, and why it may not be meshplan's to change.
#[derive(Debug, Default)]
pub struct Cacerts {
    /// Root certificates: what workloads trust. None where it holds none that can be read.
    pub roots: Vec<CertFacts>,
    /// The signing certificate.
    pub signing: Option<CertFacts>,
    /// A key of it that `run` does not touch: `istio-generated`, `tls.crt` or `tls.key`.
    pub foreign: Option<String>,
}

impl Found {
    /// The roots that the cluster's workloads trust, or will with the next istiod.
    pub fn roots(&self) -> &[CertFacts] {
        match &self.cacerts {
            Some(secret) => &secret.roots,
            None => &self.served,
        }
    }
}

/// Asks which contexts the kubeconfig has, one a line.
pub fn contexts(tools: &Tools) -> Command {
    preflight::contexts(None, tools)
}

/// Asks istioctl for its own release.
pub fn istioctl(tools: &Tools) -> Command {
    Command {
        timeout: Some(ISTIOCTL),
        ..checks::istioctl_version(tools)
    }
}

/// istioctl's release line; `None` where its answer tells none, as a development build's.
pub fn read_istioctl(stdout: &[u8]) -> Option<IstioVersion> {
    let answer: Value = serde_json::from_slice(stdout).ok()?;
    line(answer["clientVersion"]["version"].as_str()?)
}

/// Asks the cluster of a context what it is.
///
/// # Errors
/// It cannot be asked, or gives no answer that can be read.
pub fn survey(
    context: &str,
    tools: &Tools,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Result<Found, StepError> {
    let target = bare(context);
    let mut ask = |command: &Command| {
        run(command).map_err(|e| StepError::not_run(command, tools, &target, &e))
    };
    let command = objects(&target, tools);
    let finished = ask(&command)?;
    // Forbidden on some, kubectl prints the others all the same (cluster facts §2).
    let some = |f: &Finished| f.status == Exit::Code(1) && !f.stdout.trim_ascii().is_empty();
    if !finished.success() && !some(&finished) && !only_unknown_kinds(&finished.tail) {
        return Err(trouble::explain(&command, &target, &finished));
    }
    let mut found = read_objects(&finished.stdout).map_err(|e| StepError::garbled(&target, &e))?;
    if !finished.success() {
        let why = trouble::explain(&command, &target, &finished);
        found.unknown.push(why.cause);
    }
    let command = secret(&target, tools);
    let mut finished = ask(&command)?;
    if finished.success() {
        found.cacerts = read_secret(&finished.stdout);
    } else {
        // A template that fails has kubectl print the whole object, keys included.
        let told = |l: &&str| l.starts_with("Error from server") || l.starts_with("Unable to");
        finished.tail = finished.tail.lines().find(told).unwrap_or_default().into();
        let why = trouble::explain(&command, &target, &finished);
        found
            .unknown
            .push(format!("the secret cacerts: {}", why.cause));
    }
    Ok(found)
}

/// A cluster of which nothing is known but its context.
pub(super) fn bare(context: &str) -> Target<'_> {
    Target {
        cluster: context,
        context,
        kubeconfig: None,
        api_server: None,
        mesh: "",
        namespace: NAMESPACE,
        network: None,
        several_networks: false,
        primary: None,
        discovery_address: None,
        has_remotes: false,
        gateway: false,
        ambient: false,
        runs_istiod: true,
        in_reach: &[],
        is_read: false,
        istio: IstioVersion {
            major: 1,
            minor: 30,
        },
        allowed: Allowed::default(),
    }
}

fn question(target: &Target<'_>, tools: &Tools, args: &[&str]) -> Command {
    let mut command = kubectl(target, tools, args);
    for arg in &mut command.args {
        if arg.starts_with("--request-timeout") {
            REQUEST.clone_into(arg);
        }
    }
    command.timeout = Some(CALL);
    command.capture_stdout = true;
    command
}

/// One question for everything that is no secret; what is missing is absent from the answer.
fn objects(target: &Target<'_>, tools: &Tools) -> Command {
    let stub = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": NAMESPACE } });
    let global = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let stubs = [
        global("kube-system"),
        global(NAMESPACE),
        stub("v1", "ConfigMap", "istio"),
        stub("v1", "ConfigMap", "istio-ca-root-cert"),
        stub("v1", "ConfigMap", "values"),
        stub("apps/v1", "Deployment", "istiod"),
    ];
    let lines = stubs.map(|s| s.to_string()).join(",\n");
    let args = ["get", "-f", "-", "-o", "json", "--ignore-not-found"];
    let mut command = question(target, tools, &args);
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{lines}\n]}}\n");
    command.stdin = Some(list.into_bytes().into());
    command
}

/// Asks for the certificates of the secret `cacerts`, and for the names of what else it holds.
fn secret(target: &Target<'_>, tools: &Tools) -> Command {
    let template = format!("go-template={CERTS}");
    let args = [
        "get",
        "secret",
        "cacerts",
        "--ignore-not-found",
        "-o",
        &template,
    ];
    question(target, tools, &args)
}

fn read_objects(stdout: &[u8]) -> Result<Found, String> {
    let mut found = Found::default();
    if stdout.trim_ascii().is_empty() {
        return Ok(found);
    }
    let answer: Value = serde_json::from_slice(stdout)
        .map_err(|_| "what is not the JSON of Kubernetes objects".to_owned())?;
    let one = [answer.clone()];
    let objects = match answer["items"].as_array() {
        Some(items) => items.as_slice(),
        None => &one,
    };
    let named = |kind: &str, name: &str| {
        let fits = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == name;
        objects.iter().find(fits).unwrap_or(&Value::Null)
    };
    let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    found.uid = text(&named("Namespace", "kube-system")["metadata"]["uid"]);
    let deployment = named("Deployment", "istiod");
    let installed = deployment.is_object();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let env = |name: &str| {
        let of = |e: &&Value| e["name"] == name;
        let variables = container["env"].as_array().into_iter().flatten();
        variables
            .into_iter()
            .find(of)
            .and_then(|e| text(&e["value"]))
    };
    found.istiod = installed.then(|| Istiod {
        release: release(deployment, container),
        ambient: env("PILOT_ENABLE_AMBIENT").is_some_and(|v| v == "true"),
    });
    let values = &named("ConfigMap", "values")["data"]["original-values"];
    let values: Value = values
        .as_str()
        .and_then(|v| serde_norway::from_str(v).ok())
        .unwrap_or_default();
    let mesh = named("ConfigMap", "istio")["data"]["mesh"].as_str();
    let mesh: Value = mesh
        .and_then(|m| serde_norway::from_str(m).ok())
        .unwrap_or_default();
    // An uninstall leaves ConfigMaps behind; without an istiod they say nothing of today.
    if installed {
        let global = &values["global"];
        found.mesh_id = text(&global["meshID"]).or_else(|| text(&mesh["defaultConfig"]["meshId"]));
        found.network = text(&global["network"]);
        found.cluster_name = text(&global["multiCluster"]["clusterName"])
            .or_else(|| env("CLUSTER_ID"))
            .filter(|n| n != UNNAMED);
        found.trust_domain = text(&mesh["trustDomain"]);
        let root = &named("ConfigMap", "istio-ca-root-cert")["data"]["root-cert.pem"];
        found.served = root.as_str().map(certificates).unwrap_or_default();
    }
    let labels = &named("Namespace", NAMESPACE)["metadata"]["labels"];
    found.network = text(&labels["topology.istio.io/network"]).or(found.network);
    Ok(found)
}

/// The release of an istiod: what its image is, or what installed it says.
fn release(deployment: &Value, container: &Value) -> Option<String> {
    let image = container["image"].as_str().unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|i| i.split_once(':'));
    let labels = &deployment["metadata"]["labels"];
    let said = ["operator.istio.io/version", "app.kubernetes.io/version"];
    let said = said.iter().filter_map(|l| labels[l].as_str());
    // A mirror's tag may be anything.
    tag.map(|(_, tag)| tag)
        .into_iter()
        .chain(said)
        .find(|text| line(text).is_some())
        .map(str::to_owned)
}

/// The release line of `1.30.2`, `1.30.2-distroless`, `1.30-alpha.1`; `None` for one that no plan can name.
fn line(release: &str) -> Option<IstioVersion> {
    let numbers = release.split('-').next().unwrap_or_default();
    plan::istio_version(numbers).ok()
}

/// Reads the answer to [`secret`]: a line for each key, with its value where that is a certificate.
fn read_secret(stdout: &[u8]) -> Option<Cacerts> {
    let text = String::from_utf8_lossy(stdout);
    let mut lines = text.lines().filter(|l| !l.trim().is_empty()).peekable();
    lines.peek()?;
    let mut secret = Cacerts::default();
    let mut tls_root = Vec::new();
    for line in lines {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let certs = || {
            let pem = STANDARD.decode(value.trim()).unwrap_or_default();
            certificates(&String::from_utf8_lossy(&pem))
        };
        match key {
            "root-cert.pem" => secret.roots = certs(),
            "ca.crt" => tls_root = certs(),
            "ca-cert.pem" => secret.signing = certs().into_iter().next(),
            "istio-generated" | "tls.crt" | "tls.key" => secret.foreign = Some(key.to_owned()),
            _ => {}
        }
    }
    // istiod reads ca.crt where the secret is of cert-manager's kind (facts F2.2).
    if secret.roots.is_empty() {
        secret.roots = tls_root;
    }
    Some(secret)
}

/// Every certificate of a PEM text that can be read.
fn certificates(pem: &str) -> Vec<CertFacts> {
    const BEGIN: &str = "-----BEGIN ";
    let blocks = pem.split(BEGIN).skip(1);
    let certs = blocks.filter_map(|b| read_cert(format!("{BEGIN}{b}").as_bytes()).ok());
    certs.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tools() -> Tools {
        Tools::from_vars(|_| None)
    }

    #[test]
    fn no_question_can_be_answered_with_a_private_key() {
        let target = bare("east");
        let (objects, secret) = (objects(&target, &tools()), secret(&target, &tools()));
        let stubs = String::from_utf8(objects.stdin.unwrap().to_vec()).unwrap();
        assert!(!stubs.contains("Secret"), "{stubs}");
        let template = secret.args.last().unwrap();
        assert!(
            template.starts_with("go-template=") && !template.contains("key"),
            "{template}"
        );
        for args in [&objects.args, &secret.args] {
            assert_eq!(args[..5], ["--context", "east", "-n", NAMESPACE, REQUEST]);
        }
    }

    #[test]
    fn what_kubectl_says_of_a_failed_template_is_not_kept() {
        let mut calls = 0;
        let found = survey("east", &tools(), &mut |_| {
            calls += 1;
            let (code, tail) = match calls {
                1 => (0, ""),
                _ => (
                    1,
                    "error: executing template\nraw data was: {\"ca-key.pem\":\"c2VjcmV0\"}",
                ),
            };
            Ok(Finished {
                status: Exit::Code(code),
                stdout: Default::default(),
                tail: tail.to_owned(),
            })
        });
        let found = format!("{:?}", found.unwrap());
        assert!(
            found.contains("exit code 1") && !found.contains("c2VjcmV0"),
            "{found}"
        );
    }

    #[test]
    fn releases_are_read_from_images_or_labels() {
        let of = |image: &str, label: &str| {
            let deployment =
                json!({ "metadata": { "labels": { "app.kubernetes.io/version": label } } });
            release(&deployment, &json!({ "image": image }))
        };
        for (image, label, release) in [
            (
                "docker.io/istio/pilot:1.30.2-distroless",
                "",
                Some("1.30.2-distroless"),
            ),
            ("mirror:5000/pilot:1.29.0@sha256:00", "", Some("1.29.0")),
            ("mirror:5000/pilot@sha256:00", "1.28.1", Some("1.28.1")),
            ("mirror/pilot:latest", "unknown", None),
            ("mirror/pilot:1.3.0", "", None),
        ] {
            assert_eq!(of(image, label).as_deref(), release, "{image}");
        }
    }
}
