//! ninja judges freshness: on random graphs of `task` nodes, with random edits, deletions and touches,
//! what we would run is what `ninja -n` would run.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use proptest::{prelude::*, test_runner::Config};
use support::World;

/// A task: what it reads (sources, or outputs of earlier tasks), what it runs after, how many files it makes.
#[derive(Debug, Clone)]
struct Node {
    sources: BTreeSet<usize>,
    reads: BTreeSet<usize>,
    after: BTreeSet<usize>,
    outputs: usize,
}

#[derive(Debug, Clone)]
enum Edit {
    TouchSource(usize, u64),
    DeleteOutput(usize, usize),
    AgeOutput(usize, usize, u64),
    ChangeCommand(usize),
}

const SOURCES: usize = 4;

fn graph() -> impl Strategy<Value = Vec<Node>> {
    let node = |i: usize| {
        let earlier = proptest::collection::btree_set(0..i.max(1), 0..=i.min(2));
        let after = proptest::collection::btree_set(0..i.max(1), 0..=i.min(1));
        let sources = proptest::collection::btree_set(0..SOURCES, 0..=2);
        (sources, earlier, after, 1..=2usize).prop_map(
            move |(sources, mut reads, mut after, outputs)| {
                reads.retain(|r| *r < i);
                after.retain(|a| *a < i);
                Node {
                    sources,
                    reads,
                    after,
                    outputs,
                }
            },
        )
    };
    (2..9usize).prop_flat_map(move |n| (0..n).map(node).collect::<Vec<_>>())
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let one = prop_oneof![
        (0..SOURCES, 0..4u64).prop_map(|(s, t)| Edit::TouchSource(s, t)),
        (0..9usize, 0..2usize).prop_map(|(n, o)| Edit::DeleteOutput(n, o)),
        (0..9usize, 0..2usize, 0..3u64).prop_map(|(n, o, t)| Edit::AgeOutput(n, o, t)),
        (0..9usize).prop_map(Edit::ChangeCommand),
    ];
    proptest::collection::vec(one, 0..4)
}

fn output(node: usize, number: usize) -> String {
    format!("t{node}-{number}.out")
}

/// What a task reads, in file names.
fn inputs(nodes: &[Node], node: usize) -> Vec<String> {
    let sources = nodes[node].sources.iter().map(|s| format!("s{s}.in"));
    sources
        .chain(nodes[node].reads.iter().map(|r| output(*r, 0)))
        .collect()
}

fn command(nodes: &[Node], node: usize, changed: bool) -> String {
    let outputs: Vec<_> = (0..nodes[node].outputs).map(|o| output(node, o)).collect();
    format!(
        "touch {}{}",
        outputs.join(" "),
        if changed { " # changed" } else { "" }
    )
}

fn plan(nodes: &[Node], changed: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    for (i, node) in nodes.iter().enumerate() {
        let list = |word: &str, items: Vec<String>| match items.is_empty() {
            true => String::new(),
            false => format!(
                "    {word} {}\n",
                items
                    .iter()
                    .map(|n| format!("\"{n}\""))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        };
        let needs = list(
            "needs",
            node.after.iter().map(|a| format!("t{a}")).collect(),
        );
        let reads = list("input", inputs(nodes, i));
        let writes = list("output", (0..node.outputs).map(|o| output(i, o)).collect());
        let run = command(nodes, i, changed.contains(&i));
        writeln!(
            text,
            "task \"t{i}\" {{\n{needs}{reads}{writes}    run \"sh\" \"-c\" \"{run}\"\n}}"
        )
        .unwrap();
    }
    text
}

fn build_ninja(nodes: &[Node], changed: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    for (i, node) in nodes.iter().enumerate() {
        let outputs: Vec<_> = (0..node.outputs).map(|o| output(i, o)).collect();
        let after: Vec<_> = node.after.iter().map(|a| output(*a, 0)).collect();
        let after = if after.is_empty() {
            String::new()
        } else {
            format!(" || {}", after.join(" "))
        };
        let run = command(nodes, i, changed.contains(&i));
        writeln!(
            text,
            "rule r{i}\n  command = {run}\n  description = run t{i}"
        )
        .unwrap();
        writeln!(
            text,
            "build {}: r{i} {}{after}",
            outputs.join(" "),
            inputs(nodes, i).join(" ")
        )
        .unwrap();
    }
    text
}

fn set_time(path: &Path, time: SystemTime) {
    fs::File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// The same files in both folders, at the same times: all an hour or so back, in whole steps, so that
/// ties are common.
fn apply(dir: &Path, nodes: &[Node], edits: &[Edit], base: SystemTime) {
    let at = |step: u64| {
        if step == 3 {
            SystemTime::now()
        } else {
            base + Duration::from_secs(step)
        }
    };
    for edit in edits {
        match edit {
            Edit::TouchSource(source, step) => {
                set_time(&dir.join(format!("s{source}.in")), at(*step))
            }
            Edit::DeleteOutput(node, number) => {
                let _ = fs::remove_file(dir.join(output(*node, *number)));
            }
            Edit::AgeOutput(node, number, step) => {
                let path = dir.join(output(*node, *number));
                if *node < nodes.len() && path.exists() {
                    set_time(&path, at(*step));
                }
            }
            Edit::ChangeCommand(_) => {}
        }
    }
}

fn stale_by_ninja(dir: &Path) -> BTreeSet<String> {
    let output = Command::new("ninja")
        .args(["-n", "-v", "-d", "explain"])
        .current_dir(dir)
        .env("NINJA_STATUS", "")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let commands = text.lines().filter_map(|l| l.strip_prefix("touch t"));
    commands
        .map(|l| format!("t{}", l.split('-').next().unwrap()))
        .collect()
}

fn stale_by_us(world: &World) -> BTreeSet<String> {
    let ran = world.run(&["--dry-run"]).exits(0);
    let stale = ran
        .events("verdict")
        .into_iter()
        .filter(|e| e["verdict"] == "stale");
    stale
        .map(|e| e["task"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn our_stale_set_is_ninjas() {
    if !support::judge("ninja") {
        return;
    }
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(nodes in graph(), edits in edits())| {
        let world = World::new(&plan(&nodes, &BTreeSet::new()));
        let twin = world.path("twin");
        fs::create_dir(&twin).unwrap();
        // Sources lie a day back, so that what is built now is newer than all of them.
        let base = SystemTime::now() - Duration::from_secs(86_400);
        for dir in [world.path(""), twin.clone()] {
            for source in 0..SOURCES {
                let path = dir.join(format!("s{source}.in"));
                fs::write(&path, "").unwrap();
                set_time(&path, base);
            }
        }
        fs::write(twin.join("build.ninja"), build_ninja(&nodes, &BTreeSet::new())).unwrap();
        world.run(&[]).exits(0);
        prop_assert!(Command::new("ninja").current_dir(&twin).output().unwrap().status.success());
        prop_assert_eq!(stale_by_us(&world), BTreeSet::new());

        let changed: BTreeSet<_> = edits.iter().filter_map(|e| match e {
            Edit::ChangeCommand(n) if *n < nodes.len() => Some(*n),
            _ => None,
        }).collect();
        world.write("plan.kdl", plan(&nodes, &changed));
        fs::write(twin.join("build.ninja"), build_ninja(&nodes, &changed)).unwrap();
        apply(&world.path(""), &nodes, &edits, base);
        apply(&twin, &nodes, &edits, base);
        prop_assert_eq!(stale_by_us(&world), stale_by_ninja(&twin));
    });
}
