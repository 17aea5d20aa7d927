//! `meshplan init` against recording tools: what clusters are goes into a plan that passes `check`, and
//! nothing of what is there is replaced.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{Ran, TWO, World};

const BOTH: [&str; 4] = ["--context", "ctx-east", "--context", "ctx-west"];

/// Two clusters with nothing in them.
fn world() -> World {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bin");
    let world = World::new(TWO);
    let fake = world.path("fake").display().to_string();
    let tool = |name: &str| bin.join(name).display().to_string();
    let world = world
        .env("FAKE_DIR", fake)
        .env("FAKE_CONTEXTS", "ctx-east ctx-west")
        .env("KUBECTL", tool("kubectl"))
        .env("ISTIOCTL", tool("istioctl"));
    answer(&world, "99-no-secret", "kubectl *get secret cacerts *", "");
    world
}

fn answer(world: &World, name: &str, pattern: &str, stdout: &str) {
    world.write(&format!("fake/answers/{name}/match"), pattern);
    world.write(&format!("fake/answers/{name}/stdout"), stdout);
}

fn init(world: &World, more: &[&str]) -> Ran {
    world.meshplan(&[&["init"], more, &BOTH[..]].concat())
}

fn plan(world: &World) -> String {
    String::from_utf8(world.read("mesh.kdl")).unwrap()
}

/// Puts an object into the cluster of a context.
fn put(world: &World, context: &str, object: &Value) {
    let (kind, name) = (
        object["kind"].as_str().unwrap(),
        object["metadata"]["name"].as_str().unwrap(),
    );
    let path = format!("fake/state/{context}/{kind}.{name}.json");
    world.write(&path, object.to_string());
}

/// An istiod as istioctl installs it; `root` is what it serves.
fn install(world: &World, context: &str, root: &str) {
    let config = |name: &str, data: Value| json!({ "kind": "ConfigMap", "metadata": { "name": name }, "data": data });
    let global = json!({ "global": { "meshID": "prod", "network": "net-of-values", "multiCluster": { "clusterName": "prod-east" } } });
    put(
        world,
        context,
        &config("values", json!({ "original-values": global.to_string() })),
    );
    put(
        world,
        context,
        &config(
            "istio",
            json!({ "mesh": "trustDomain: prod.example\ndefaultConfig:\n  meshId: prod\n" }),
        ),
    );
    put(
        world,
        context,
        &config("istio-ca-root-cert", json!({ "root-cert.pem": root })),
    );
    let container =
        json!({ "name": "discovery", "image": "docker.io/istio/pilot:1.29.1-distroless" });
    put(
        world,
        context,
        &json!({
            "kind": "Deployment",
            "metadata": { "name": "istiod" },
            "spec": { "template": { "spec": { "containers": [container] } } },
        }),
    );
    put(
        world,
        context,
        &json!({
            "kind": "Namespace",
            "metadata": { "name": "istio-system", "labels": { "topology.istio.io/network": "net-a" } },
        }),
    );
}

/// A secret `cacerts`, as kubectl's template prints it.
fn cacerts(world: &World, context: &str, root: &[u8]) {
    let root = STANDARD.encode(root);
    let text = format!("ca-cert.pem {root}\nca-key.pem\ncert-chain.pem\nroot-cert.pem {root}\n");
    let pattern = format!("kubectl --context {context} *get secret cacerts *");
    answer(world, &format!("01-{context}"), &pattern, &text);
}

#[test]
fn bare_clusters_become_a_plan_that_is_sound_and_is_never_overwritten() {
    let world = world();
    let first = init(&world, &[])
        .exits(0)
        .says("wrote mesh.kdl")
        .says("meshplan run mesh.kdl");
    assert!(
        first.stdout.is_empty() && !first.stderr.contains("warning"),
        "{}",
        first.stderr
    );
    let text = plan(&world);
    for line in [
        "mesh \"mesh1\" {",
        "istio-version \"1.30\"",
        "cluster \"ctx-east\" {",
        "context \"ctx-west\"",
        "nothing of Istio yet",
    ] {
        assert!(text.contains(line), "missing {line} in:\n{text}");
    }
    assert_eq!(text.matches("network \"network1\"").count(), 2, "{text}");
    let bare = |l: &&str| !l.is_empty() && *l != "}" && !l.ends_with('{') && !l.contains("//");
    assert_eq!(
        text.lines().find(bare),
        None,
        "every line says what it is for"
    );
    world
        .meshplan(&["check", "mesh.kdl"])
        .exits(0)
        .says("2 clusters");

    init(&world, &[])
        .exits(2)
        .says("is there already")
        .says("name another file");
    assert_eq!(plan(&world), text);

    let calls = String::from_utf8(world.read("fake/calls.log")).unwrap();
    let asks = |l: &str| {
        l.contains("get-contexts")
            || l.contains("istioctl version")
            || l.contains(" --context ctx-")
    };
    assert!(calls.lines().all(asks), "{calls}");
    assert!(
        !calls.contains("apply") && !calls.contains("create"),
        "{calls}"
    );
}

#[test]
fn every_topology_is_sound_and_goes_to_standard_output() {
    for (topology, networks, remotes) in [
        ("multi-primary", 1, 0),
        ("multi-primary-multi-network", 2, 0),
        ("primary-remote", 1, 1),
        ("primary-remote-multi-network", 2, 1),
    ] {
        let world = world();
        let ran = init(
            &world,
            &["-", "--mesh", "a \"mesh\"", "--topology", topology],
        )
        .exits(0);
        let text = ran.stdout;
        assert_eq!(
            text.contains("network \"network2\""),
            networks == 2,
            "{text}"
        );
        assert_eq!(
            text.matches("remote-of \"ctx-east\"").count(),
            remotes,
            "{text}"
        );
        assert!(!world.exists("mesh.kdl"));
        world.write("mesh.kdl", &text);
        world.meshplan(&["check", "mesh.kdl"]).exits(0);
    }
}

#[test]
fn what_is_installed_is_taken_over_and_its_root_is_brought_along() {
    let world = world();
    world.run(&[]).exits(0);
    let root = world.read("out/root-cert.pem");
    install(&world, "ctx-east", &String::from_utf8_lossy(&root));
    cacerts(&world, "ctx-east", &root);
    let ran = init(&world, &[])
        .exits(0)
        .says("take-over")
        .says("put the root's certificate and key in place");
    let text = plan(&world);
    for line in [
        "mesh \"prod\" {",
        "istio-version \"1.29\"",
        "trust-domain \"prod.example\"",
        "cluster \"prod-east\" {",
        "context \"ctx-east\"",
        "cluster \"ctx-west\" {",
        "cert \"org/root.pem\"",
        "O=Istio, CN=Root CA, ends 20",
        "SHA-256 ",
    ] {
        assert!(text.contains(line), "missing {line} in:\n{text}");
    }
    // The label of the namespace is what istiod goes by; the other cluster is on the same network.
    assert_eq!(text.matches("network \"net-a\"").count(), 2, "{text}");
    assert!(!format!("{text}{}{}", ran.stdout, ran.stderr).contains("PRIVATE"));

    // Nothing runs on another root.
    world
        .meshplan(&["run", "mesh.kdl", "-n"])
        .exits(3)
        .says("org/root.pem");
    world.write("org/root.pem", &root);
    world.sh(".", "install -m 600 out/root-key.pem org/root-key.pem");
    world.meshplan(&["check", "mesh.kdl"]).exits(0);

    world
        .meshplan(&[&["init", "b.kdl", "--mesh", "mesh1"], &BOTH[..]].concat())
        .exits(2)
        .says("the mesh prod, not mesh1");
}

#[test]
fn different_roots_are_said_loudly() {
    let world = world();
    for (dir, context) in [("one", "ctx-east"), ("two", "ctx-west")] {
        world
            .meshplan(&["run", "plan.kdl", "root-ca", "-C", dir])
            .exits(0);
        cacerts(
            &world,
            context,
            &world.read(&format!("{dir}/root-cert.pem")),
        );
    }
    init(&world, &[])
        .exits(4)
        .says("ATTENTION: ctx-east and ctx-west have DIFFERENT ROOTS");
    assert!(plan(&world).contains("// ATTENTION: ctx-east and ctx-west have DIFFERENT ROOTS"));
    assert_eq!(plan(&world).matches("//     SHA-256 ").count(), 2);
}

#[test]
fn an_istiod_with_a_root_of_its_own_is_named() {
    let world = world();
    world.run(&[]).exits(0);
    let root = world.read("out/root-cert.pem");
    install(&world, "ctx-east", &String::from_utf8_lossy(&root));
    init(&world, &[]).exits(0).says("--allow other-root");
    assert!(plan(&world).contains("prod-east, from its istiod"));
    world.meshplan(&["check", "mesh.kdl"]).exits(0);
}

#[test]
fn a_cluster_that_is_down_is_in_the_plan_all_the_same() {
    let world = world();
    world.write("fake/answers/01-down/match", "kubectl --context ctx-west *");
    world.write("fake/answers/01-down/code", "1");
    let refused = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?\n";
    world.write("fake/answers/01-down/stderr", refused);
    init(&world, &[])
        .exits(0)
        .says("warning: cluster ctx-west: the API server refused the connection");
    assert!(
        plan(&world).contains("could not be asked")
            && plan(&world).contains("cluster \"ctx-west\" {")
    );
    world.meshplan(&["check", "mesh.kdl"]).exits(0);
}

#[test]
fn contexts_that_make_no_mesh_are_refused_before_anything_is_written() {
    let twin = json!({ "kind": "List", "items": [{ "kind": "Namespace", "metadata": { "name": "kube-system", "uid": "uid-of-ctx-east" } }] });
    let world = world();
    answer(
        &world,
        "01-twin",
        "kubectl --context ctx-west *get -f -*",
        &twin.to_string(),
    );
    init(&world, &[])
        .exits(2)
        .says("contexts ctx-east and ctx-west reach one and the same API server");

    let alone = ["init", "--context", "ctx-east"];
    world
        .meshplan(&["init"])
        .exits(2)
        .says("kubeconfig has")
        .says("ctx-east, ctx-west");
    world
        .meshplan(&["init", "--context", "ctx-eats"])
        .exits(2)
        .says("did you mean ctx-east?");
    world
        .meshplan(&[&alone[..], &alone[1..]].concat())
        .exits(2)
        .says("named twice");
    world
        .meshplan(&[&alone[..], &["--topology", "primary-remote"]].concat())
        .exits(2)
        .says("needs a primary");
    world
        .env("FAKE_CONTEXTS", "")
        .meshplan(&["init"])
        .exits(2)
        .says("no contexts");
}

#[test]
fn names_come_from_contexts_and_are_never_another_clusters_target() {
    let contexts =
        "gke_proj_zone_east gke-proj-zone-east gke-proj-zone-east-ready all a a-reads-b b";
    let world = world().env("FAKE_CONTEXTS", contexts);
    let named: Vec<_> = contexts.split(' ').flat_map(|c| ["--context", c]).collect();
    world.meshplan(&[&["init"], &named[..]].concat()).exits(0);
    for name in [
        "gke-proj-zone-east",
        "gke-proj-zone-east-2",
        "gke-proj-zone-east-ready-2",
        "all-2",
        "a-reads-b",
        "b-2",
    ] {
        assert!(
            plan(&world).contains(&format!("cluster \"{name}\" {{")),
            "{name}: {}",
            plan(&world)
        );
    }
    world
        .meshplan(&["check", "mesh.kdl"])
        .exits(0)
        .says("7 clusters");
}
