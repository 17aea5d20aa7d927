//! A run with contexts, against recording tools: files first, then the cluster steps in order, and
//! nothing to change the second time.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, path::Path};

use meshplan::action::pki;
use support::{TWO, World};

fn tools(plan: &str) -> World {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bin");
    let world = World::new(plan);
    let fake = world.path("fake").display().to_string();
    let tool = |name: &str| bin.join(name).display().to_string();
    world
        .env("FAKE_DIR", fake)
        .env("FAKE_CONTEXTS", "ctx-east ctx-west")
        .env("KUBECTL", tool("kubectl"))
        .env("ISTIOCTL", tool("istioctl"))
}

fn with_contexts() -> String {
    TWO.replace(
        "cluster \"east\" {",
        "cluster \"east\" { context \"ctx-east\";",
    )
    .replace(
        "cluster \"west\" {",
        "cluster \"west\" { context (env)\"CTX_2\";",
    )
}

fn calls(world: &World) -> String {
    String::from_utf8(world.read("fake/calls.log")).unwrap()
}

const STEPS: [&str; 5] = [
    "east-namespace",
    "east-secret",
    "east-install",
    "east-gateway",
    "east-ready",
];

#[test]
fn a_cluster_with_a_context_is_taken_to_ready_and_the_other_is_left_undone() {
    let world = tools(&with_contexts());
    let first = world.run(&[]).exits(0);
    let steps: Vec<_> = first
        .events("task-finished")
        .iter()
        .map(|e| e["task"].as_str().unwrap().to_owned())
        .filter(|t| t.contains('-') && !t.contains('.'))
        .collect();
    assert_eq!(steps, STEPS);
    let undone = first.events("undone");
    assert_eq!(
        (undone.len(), undone[0]["cluster"].as_str()),
        (1, Some("west"))
    );
    assert!(undone[0]["how"].as_str().unwrap().contains("CTX_2"));

    let said = calls(&world);
    assert!(
        said.lines()
            .skip(1)
            .filter(|l| !l.ends_with("version --remote=false -o json"))
            .all(|l| l.contains("--context ctx-east") || l.contains("--context=ctx-east")),
        "{said}"
    );
    let key = String::from_utf8(world.read("out/east/ca-key.pem")).unwrap();
    let body = key.lines().nth(1).unwrap();
    assert!(!said.contains(body) && !first.stdout.contains(body) && !first.stderr.contains(body));

    let second = world.run(&[]).exits(0);
    assert_eq!(second.ran(), Vec::<String>::new());
    assert!(
        !calls(&world)[said.len()..].contains("apply")
            && !calls(&world)[said.len()..].contains("install -y"),
        "a second run changed the cluster"
    );

    // A new certificate is pushed where its files changed.
    world.write(
        "plan.kdl",
        with_contexts().replace("cluster-ca {", "cluster-ca { validity \"365d\";"),
    );
    world.run(&["east/cert-chain.pem"]).exits(0);
    let chain = pki::read_cert(&world.read("out/east/cert-chain.pem")).unwrap();
    let metric = "citadel_server_cert_chain_expiry_timestamp";
    let ends = chain.not_after.unix_timestamp();
    world.write(
        "fake/answers/metrics/match",
        "kubectl *get --raw*/istiod-1:15014/*",
    );
    world.write(
        "fake/answers/metrics/stdout",
        format!("# HELP {metric}\n{metric} {ends:e}\n"),
    );
    let third = world.run(&["east-secret"]).exits(0);
    assert_eq!(third.ran(), ["east-secret"]);
    let waits = &third.events("task-waits")[0];
    assert_eq!(waits["on"], "istiod of cluster east to take its new CA");
}

#[test]
fn what_is_missing_is_told_first_and_files_are_built_all_the_same() {
    for (world, word) in [
        (
            tools(&with_contexts()).env("KUBECTL", "no-such-kubectl"),
            "no-such-kubectl",
        ),
        (
            tools(&with_contexts()).env("ISTIOCTL", "no-such-istioctl"),
            "no-such-istioctl",
        ),
        (
            tools(&with_contexts()).env("FAKE_CONTEXTS", "ctx-eats"),
            "did you mean ctx-eats?",
        ),
    ] {
        let ran = world.run(&[]).exits(1).says(word);
        let lines: Vec<_> = ran.stdout.lines().collect();
        let place = |text: &str| lines.iter().position(|l| l.contains(text));
        assert!(
            place("task-failed") < place("task-started"),
            "{}",
            ran.stdout
        );
        assert!(world.exists("out/east/cert-chain.pem") && world.exists("out/west/install.yaml"));
        let blocked = &ran.events("task-failed")[0]["blocked"];
        assert_eq!(blocked.as_array().unwrap().len(), 4, "{blocked}");
    }
}

#[test]
fn a_context_is_looked_for_in_the_kubeconfig_that_the_plan_names() {
    let own = "context \"ctx-east\"; kubeconfig \"east.yaml\";";
    let world = tools(&with_contexts().replace("context \"ctx-east\";", own));
    world.write("east.yaml", "contexts: [{name: ctx-east}]");
    world.run(&[]).exits(0);
    // What it names is not asked for.
    assert!(!calls(&world).contains("get-contexts"), "{}", calls(&world));
    world.write("east.yaml", "contexts: []");
    world.run(&[]).exits(0);
    let asked = format!(
        "config get-contexts -o name --kubeconfig {}",
        world.path("east.yaml").display()
    );
    assert!(calls(&world).contains(&asked), "{}", calls(&world));
}

#[test]
fn a_step_that_fails_blocks_what_follows_and_shows_what_the_tool_said() {
    let world = tools(&with_contexts());
    world.write("fake/answers/01-install/match", "istioctl install *");
    world.write("fake/answers/01-install/code", "1");
    world.write(
        "fake/answers/01-install/stderr",
        "Error: the sky is falling\n",
    );
    let ran = world.run(&[]).exits(1);
    let failed = ran.events("task-failed").remove(0);
    assert_eq!(failed["task"], "east-install");
    assert!(
        failed["stderr"]
            .as_str()
            .unwrap()
            .contains("the sky is falling")
    );
    assert_eq!(
        failed["blocked"],
        serde_json::json!(["east-gateway", "east-ready"])
    );
    fs::remove_dir_all(world.path("fake/answers")).unwrap();
    let healed = world.run(&[]).exits(0);
    assert_eq!(healed.ran(), ["east-gateway", "east-install"]);
}

#[test]
fn a_target_that_can_only_be_left_undone_is_a_failure() {
    let world = tools(&with_contexts());
    world.run(&["west-ready"]).exits(1).says("CTX_2");
    world.run(&["west-ready", "CTX_2=ctx-west"]).exits(0);
}
