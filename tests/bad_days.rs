//! Bad days of real clusters, each by its real cause: told with cluster, object and next step, nothing lost, and
//! gone on from by the next run. Needs the lab: `just e2e`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support/lab.rs"]
mod lab;
mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use lab::Lab;
use support::World;

/// One primary, whose context a test may choose.
const ONE: &str = r#"
mesh "mesh1" { istio-version "1.31"; work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { context (env)"CTX:-east"; network "network1"; }
"#;

const THREE: &str = r#"
mesh "mesh1" { istio-version "1.31"; work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { context (env)"CTX_EAST:-east"; network "network1"; }
cluster "west" { context (env)"CTX_WEST:-west"; network "network1"; }
cluster "south" { context (env)"CTX_SOUTH:-south"; network "network1"; }
"#;

const SECRETS: [&str; 3] = ["east-secret", "west-secret", "south-secret"];

/// Runs shell lines that must succeed; `k` is kubectl as the cluster's admin.
#[track_caller]
fn sh(lab: &Lab, cluster: &str, script: &str) -> String {
    let script = format!("k() {{ kubectl --context {cluster} \"$@\"; }}\n{script}");
    let output = lab
        .command("bash")
        .args(["-euc", &script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Adds a context for another user of a cluster.
fn user(lab: &Lab, cluster: &str, name: &str, credentials: &str) {
    let script = format!(
        "kubectl config set-credentials {name} {credentials}
        kubectl config set-context {name} --cluster={cluster} --user={name}"
    );
    sh(lab, cluster, &script);
}

/// A run whose events are followed.
struct Running {
    child: Child,
    events: Box<dyn Iterator<Item = String>>,
}

impl Running {
    fn start(world: &World) -> Self {
        let mut child = world
            .command(&["run", "plan.kdl", "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events = Box::new(lines.map_while(Result::ok));
        Self { child, events }
    }

    #[track_caller]
    fn until(&mut self, event: &str, text: &str) {
        let mut others = Vec::new();
        for line in self.events.by_ref() {
            if line.contains(event) && line.contains(text) {
                return;
            }
            others.push(line);
        }
        panic!("no {event} with `{text}` in {others:#?}");
    }

    #[track_caller]
    fn ends(mut self, code: i32) {
        let rest: Vec<_> = self.events.by_ref().collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{rest:#?}");
    }
}

#[track_caller]
fn fails(world: &World, targets: &[&str], says: &[&str]) {
    let ran = world.run(targets).exits(1);
    for text in says {
        let causes: Vec<_> = ran
            .events("task-failed")
            .iter()
            .map(|e| e["cause"].to_string())
            .collect();
        assert!(
            causes.iter().any(|c| c.contains(text)),
            "no `{text}` in {causes:#?}"
        );
    }
    assert!(
        world.exists("out/east/cert-chain.pem"),
        "files are built all the same"
    );
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn one_cluster_out_of_reach_keeps_the_others_unchanged_or_with_k_from_nothing() {
    let lab = Lab::up(&[("east", 1), ("west", 2), ("south", 3)]);
    let world = lab.world(THREE);

    // Without -k nothing is changed anywhere when one cluster cannot be.
    user(&lab, "west", "stranger", "--token=unknown");
    let stopped = [&SECRETS[..], &["CTX_WEST=stranger"]].concat();
    let ran = world
        .run(&stopped)
        .exits(1)
        .says("does not accept the credentials of context stranger")
        .says("nothing was changed");
    assert!(
        ran.ran().iter().all(|t| t.ends_with(".pem")),
        "{:?}",
        ran.ran()
    );

    lab.stop("west", "apiserver");
    let targets = [&SECRETS[..], &["-k"]].concat();
    let ran = world
        .run(&targets)
        .exits(1)
        .says("cluster west: the API server refused the connection");
    assert_eq!(ran.events("task-failed").len(), 1);
    assert_eq!(
        ran.events("task-failed")[0]["blocked"],
        serde_json::json!(["west-secret"])
    );
    for cluster in ["east", "south"] {
        lab.kubectl(cluster, &["-n", "istio-system", "get", "secret", "cacerts"]);
    }
    lab.start("west", "apiserver");
    sh(
        &lab,
        "west",
        "timeout 60 sh -c 'until kubectl --context west get --raw /readyz; do :; done'",
    );
    let healed = world.run(&SECRETS).exits(0);
    assert_eq!(healed.ran(), ["west-namespace", "west-secret"]);

    // A server that hangs is waited for once.
    let freeze = |signal: &str| {
        let script = format!("kill -{signal} -- -$(cat $LAB/west/apiserver.pid)");
        sh(&lab, "west", &script);
    };
    freeze("STOP");
    world
        .run(&["west-secret"])
        .exits(1)
        .says("cluster west: kubectl did not end within 60 s");
    freeze("CONT");

    // Two clusters of a plan that are one; a context that reaches another cluster than last time.
    let same = [
        "CTX_WEST=east",
        "CTX_EAST=east",
        "east-secret",
        "west-secret",
    ];
    world
        .run(&same)
        .exits(1)
        .says("reaches the same API server as cluster");
    let swapped = ["CTX_WEST=south", "west-secret"];
    world
        .run(&swapped)
        .exits(5)
        .says("another API server than last time")
        .says("--allow other-cluster");
    world
        .run(&[&swapped[..], &["--allow", "other-cluster"]].concat())
        .exits(0);
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn who_may_not_is_told_what_to_ask_for_and_that_is_enough() {
    let lab = Lab::up(&[("east", 1)]);
    // The other is built by somebody else; it makes east have a gateway.
    let world = lab.world(&format!(
        "{ONE}cluster \"west\" {{ network \"network2\"; }}\n"
    ));
    user(
        &lab,
        "east",
        "plugged",
        "--exec-command=false --exec-interactive-mode=Never --exec-api-version=client.authentication.k8s.io/v1",
    );
    fails(
        &world,
        &["CTX=plugged"],
        &["the credential plugin of context plugged failed"],
    );

    let token = sh(
        &lab,
        "east",
        "k -n default create serviceaccount deployer >&2; k -n default create token deployer",
    );
    user(
        &lab,
        "east",
        "deployer",
        &format!("--token={}", token.trim()),
    );
    let ran = world.run(&["CTX=deployer"]).exits(1);
    let cause = ran.events("task-failed")[0]["cause"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        cause.contains("cluster east: nothing was changed: the user of context deployer lacks"),
        "{cause}"
    );
    let grant = &cause[cause.find("kubectl --context THEIRS").unwrap()..];
    sh(&lab, "east", &grant.replace("THEIRS", "east"));
    world.run(&["CTX=deployer"]).exits(0);
    assert_eq!(world.run(&["CTX=deployer"]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn what_a_cluster_refuses_is_told_by_its_cause() {
    let lab = Lab::up(&[("east", 1)]);
    let world = lab.world(ONE);
    sh(
        &lab,
        "east",
        "k create namespace istio-system
        k -n istio-system create quota full --hard=count/secrets=0
        k -n istio-system wait --for=jsonpath='{.status.hard}' quota/full",
    );
    fails(
        &world,
        &["east-secret"],
        &["cluster east: a quota of the namespace is used up; raise it"],
    );
    sh(&lab, "east", "k -n istio-system delete quota full");

    // Somebody else's secret of the same name.
    sh(
        &lab,
        "east",
        "k -n istio-system create secret generic cacerts --from-literal=ca-key.pem=theirs",
    );
    world
        .run(&["east-secret"])
        .exits(5)
        .says("kubectl-create owns")
        .says("--allow take-over");
    world.run(&["east-secret", "--allow", "take-over"]).exits(0);
    sh(&lab, "east", "k -n istio-system delete secret cacerts");

    let webhook = r#"k apply -f - <<Y
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gone}
webhooks:
- name: gone.example.org
  clientConfig: {url: "https://10.1.0.1:9"}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets], scope: Namespaced}]
  sideEffects: None
  admissionReviewVersions: [v1]
Y"#;
    sh(&lab, "east", webhook);
    fails(
        &world,
        &["east-secret"],
        &[
            "an admission webhook of the cluster did not answer",
            "tried 6 times",
        ],
    );
    sh(&lab, "east", "k delete validatingwebhookconfiguration gone");

    // Another run, of another machine, at work in the cluster; and one of this machine that has ended.
    let lease = r#"k create -f - <<Y
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: meshplan, namespace: istio-system}
spec: {holderIdentity: "build-7, process 12 (elsewhere:1)", leaseDurationSeconds: 1800, renewTime: "$(date -u +%FT%T.000000Z)"}
Y"#;
    sh(&lab, "east", lease);
    fails(
        &world,
        &["east-secret"],
        &[
            "another meshplan (build-7, process 12) is changing it since",
            "delete lease meshplan",
        ],
    );
    sh(
        &lab,
        "east",
        "k -n istio-system patch lease meshplan --type=merge -p '{\"spec\":{\"renewTime\":\"2020-01-01T00:00:00.000000Z\"}}'",
    );
    world.run(&["east-secret"]).exits(0);
    assert_eq!(
        sh(
            &lab,
            "east",
            "k -n istio-system get lease meshplan --ignore-not-found"
        ),
        ""
    );

    sh(
        &lab,
        "east",
        "k -n istio-system create configmap stuck
        k -n istio-system patch configmap stuck --type=merge -p '{\"metadata\":{\"finalizers\":[\"example.org/stuck\"]}}'
        k delete namespace istio-system --wait=false",
    );
    fails(
        &world,
        &["east-secret"],
        &[
            "namespace istio-system is being deleted",
            "get namespace istio-system -o yaml",
        ],
    );
    sh(
        &lab,
        "east",
        "k -n istio-system patch configmap stuck --type=merge -p '{\"metadata\":{\"finalizers\":[]}}'
        k wait --for=delete namespace/istio-system --timeout=60s",
    );
    world.run(&["east-secret"]).exits(0);
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn an_install_that_is_cut_off_goes_on_and_another_mesh_is_not_broken() {
    let lab = Lab::up(&[("east", 1)]);
    let world = lab.world(ONE);
    let mut run = Running::start(&world);
    run.until("task-started", "east-install");
    let interrupt = Command::new("kill")
        .args(["-INT", &run.child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    run.ends(130);
    assert_eq!(
        sh(
            &lab,
            "east",
            "k -n istio-system get lease meshplan --ignore-not-found"
        ),
        ""
    );

    let mut run = Running::start(&world);
    run.until("task-started", "east-install");
    sh(
        &lab,
        "east",
        "timeout 60 sh -c \"until pkill -KILL -f '^istioctl install'; do :; done\"",
    );
    run.until("task-failed", "istioctl was ended by signal 9");
    run.ends(1);

    let mut run = Running::start(&world);
    run.until("task-started", "east-install");
    // Past the questions that come before a change.
    sh(
        &lab,
        "east",
        "timeout 60 sh -c \"until pgrep -f '^istioctl install'; do :; done\"",
    );
    lab.stop("east", "apiserver");
    run.until("task-waits", "the API server refused the connection");
    lab.start("east", "apiserver");
    run.ends(0);

    // A plan of another mesh, with a root of its own, finds a living one here.
    let other = lab.world(&ONE.replace("mesh1", "mesh2"));
    other
        .run(&[])
        .exits(5)
        .says("a living mesh trusts another root-cert.pem")
        .says("--allow other-root");
    let before = lab.kubectl(
        "east",
        &[
            "-n",
            "istio-system",
            "get",
            "secret",
            "cacerts",
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ],
    );
    other
        .run(&["--allow", "other-root,take-over"])
        .exits(5)
        .says("belongs to the mesh mesh1")
        .says("--allow other-mesh");
    other
        .run(&["--allow", "other-root,take-over,other-mesh"])
        .exits(0);
    let after = lab.kubectl(
        "east",
        &[
            "-n",
            "istio-system",
            "get",
            "secret",
            "cacerts",
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ],
    );
    assert_ne!(before, after);
    other.meshplan(&["verify", "plan.kdl", "--live"]).exits(0);
}
