//! `graph --mesh`: the plan's mesh as the picture's rules of topology see it, and what the command takes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use serde_json::Value;
use support::{TWO, World};

fn mesh(plan: &str, more: &[&str]) -> Value {
    let world = World::new(plan);
    let args = ["graph", "plan.kdl", "--mesh", "--format", "json"];
    let ran = world.meshplan(&[&args[..], more].concat()).exits(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn plan(clusters: &str) -> String {
    format!(
        "mesh \"mesh1\" {{ work-dir \"out\"; }}\nroot-ca {{ key \"ecdsa-p256\"; }}\ncluster-ca {{ key \"ecdsa-p256\"; }}\n{clusters}"
    )
}

/// Name and role of each cluster, with `+` where it has a gateway.
fn roles(mesh: &Value) -> Vec<String> {
    let clusters = mesh["clusters"].as_array().unwrap().iter();
    let role = |c: &Value| {
        let gateway = if c["east-west-gateway"] == true {
            "+"
        } else {
            ""
        };
        let text = |name: &str| c[name].as_str().unwrap().to_owned();
        format!("{} {}{gateway}", text("name"), text("role"))
    };
    clusters.map(role).collect()
}

fn reads(mesh: &Value) -> Vec<(&str, &str)> {
    let reads = mesh["reads"].as_array().unwrap().iter();
    reads
        .map(|r| (r["reader"].as_str().unwrap(), r["read"].as_str().unwrap()))
        .collect()
}

#[test]
fn primaries_read_all_and_gateways_stand_where_traffic_needs_them() {
    let one = mesh(
        &plan("cluster \"a\" { network \"n\"; }\ncluster \"b\" { network \"n\"; }\n"),
        &[],
    );
    assert_eq!(roles(&one), ["a primary", "b primary"]);
    assert_eq!(reads(&one), [("a", "b"), ("b", "a")]);

    // A cluster without a network is on another one than those with.
    let two = mesh(
        &plan("cluster \"a\" { network \"n\"; }\ncluster \"b\"\n"),
        &[],
    );
    assert_eq!(roles(&two), ["a primary+", "b primary+"]);
    assert_eq!(two["networks"].as_array().unwrap().len(), 2);

    let remotes = "cluster \"a\"\ncluster \"b\"\ncluster \"c\" { remote-of \"b\"; }\n";
    let mixed = mesh(&plan(remotes), &[]);
    assert_eq!(roles(&mixed), ["a primary", "b primary+", "c remote"]);
    assert_eq!(mixed["clusters"][2]["remote-of"], "b");
    assert_eq!(
        reads(&mixed),
        [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c")]
    );
}

#[test]
fn a_cluster_is_in_the_worst_state_of_its_tasks() {
    let states = |mesh: &Value| {
        let clusters = mesh["clusters"].as_array().unwrap().iter();
        let states: Vec<_> = clusters
            .map(|c| c["state"].as_str().unwrap().to_owned())
            .collect();
        states
    };
    assert_eq!(states(&mesh(TWO, &[])), ["unknown", "unknown"]);
    let world = World::new(TWO);
    let look = || {
        let args = ["graph", "plan.kdl", "--mesh", "--format", "json", "--state"];
        serde_json::from_str::<Value>(&world.meshplan(&args).exits(0).stdout).unwrap()
    };
    assert_eq!(states(&look()), ["stale", "stale"]);
    world.run(&[]).exits(0);
    // No context: steps are left undone, files are current.
    assert_eq!(states(&look()), ["undone", "undone"]);
    // With one, only a run looks at the cluster.
    let reached = TWO.replace("cluster \"east\" {", "cluster \"east\" { context \"east\";");
    world.write("plan.kdl", reached);
    assert_eq!(states(&look()), ["current", "undone"]);
    world.write("plan.kdl", TWO);
    std::fs::remove_file(world.path("out/west/ca-key.pem")).unwrap();
    let mesh = look();
    assert_eq!(states(&mesh), ["undone", "refused"]);
    let note = mesh["clusters"][1]["note"].as_str().unwrap();
    assert!(note.starts_with("west/ca-key.pem: it is missing"), "{note}");
}

#[test]
fn the_whole_mesh_is_drawn_or_nothing() {
    let world = World::new(TWO);
    world
        .meshplan(&["graph", "plan.kdl", "--mesh", "east"])
        .exits(2)
        .says("`graph --mesh` draws the whole mesh");
    // Assignments are no targets.
    world
        .meshplan(&["graph", "plan.kdl", "--mesh", "X=1", "--format", "svg"])
        .exits(0)
        .says("2.6");
    // A plan of tasks alone has no mesh to speak of.
    let tasks = World::new("mesh \"mesh1\"\ntask \"t\" { run \"true\"; }\n");
    tasks
        .meshplan(&["graph", "plan.kdl", "--mesh", "--format", "json"])
        .exits(0)
        .says("\"roots\": []");
}

#[test]
fn graphviz_takes_any_name() {
    if !support::judge("dot") {
        return;
    }
    // Words of DOT, and a subject in its syntax.
    let subject = r#"organization="\"]" common-name="a\"b\\" "#;
    let clusters = "cluster \"node\" { network \"graph\"; }\ncluster \"edge\" { remote-of \"node\"; }\ncluster \"c\"\n";
    for clusters in [clusters, "cluster \"subgraph\"\ncluster \"strict\"\n", ""] {
        let plan = plan(clusters).replace("root-ca { ", &format!("root-ca {{ subject {subject}; "));
        let world = World::new(&plan);
        let ran = world.meshplan(&["graph", "plan.kdl", "--mesh"]).exits(0);
        world.write("mesh.dot", &ran.stdout);
        world.sh(".", "dot -Tsvg mesh.dot > mesh.svg");
        let drawn = String::from_utf8(world.read("mesh.svg")).unwrap();
        assert!(drawn.contains(">a&quot;b\\</text>"), "{drawn}");
    }
}
