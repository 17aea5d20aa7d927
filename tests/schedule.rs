//! On random graphs, with random failures and any `-j`: each task starts once, after all it needs, and
//! a failure stops what hangs on it and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fmt::Write};

use proptest::{prelude::*, test_runner::Config};
use support::World;

/// Per task: earlier tasks that it needs, and whether it fails.
fn graph() -> impl Strategy<Value = Vec<(BTreeSet<usize>, bool)>> {
    let node = |i: usize| {
        let needs = proptest::collection::btree_set(0..i.max(1), 0..=i.min(3));
        (needs, proptest::bool::weighted(0.2)).prop_map(move |(mut needs, fails)| {
            needs.retain(|n| *n < i);
            (needs, fails)
        })
    };
    (1..12usize).prop_flat_map(move |n| (0..n).map(node).collect::<Vec<_>>())
}

#[test]
fn order_is_kept_and_a_failure_blocks_its_cone_and_nothing_else() {
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(nodes in graph(), jobs in 1..9usize)| {
        let mut plan = String::new();
        for (i, (needs, fails)) in nodes.iter().enumerate() {
            let needs = needs.iter().fold(String::new(), |text, n| format!("{text}needs \"t{n}\"; "));
            let end = if *fails { "; exit 3" } else { "" };
            writeln!(plan, "task \"t{i}\" {{ {needs}run \"sh\" \"-c\" \"echo start {i} >> trace{end}; echo end {i} >> trace\"; }}").unwrap();
        }
        let world = World::new(&plan);
        let ran = world.run(&["-k", "-j", &jobs.to_string()]);

        let mut dead = BTreeSet::new();
        for (i, (needs, fails)) in nodes.iter().enumerate() {
            if needs.iter().any(|n| dead.contains(n) || nodes[*n].1) {
                dead.insert(i);
            }
            let _ = fails;
        }
        let trace = if world.exists("trace") { String::from_utf8(world.read("trace")).unwrap() } else { String::new() };
        let lines: Vec<_> = trace.lines().collect();
        let place = |line: String| lines.iter().position(|l| **l == line);
        for (i, (needs, fails)) in nodes.iter().enumerate() {
            let starts = lines.iter().filter(|l| **l == format!("start {i}")).count();
            prop_assert_eq!(starts, usize::from(!dead.contains(&i)), "t{}", i);
            for need in needs.iter().filter(|_| starts == 1) {
                prop_assert!(place(format!("end {need}")) < place(format!("start {i}")), "t{} began before t{} ended", i, need);
            }
            prop_assert_eq!(place(format!("end {i}")).is_some(), starts == 1 && !fails);
        }
        let failed = nodes.iter().enumerate().filter(|(i, (_, fails))| *fails && !dead.contains(i)).count();
        prop_assert_eq!(ran.code, Some(i32::from(failed > 0)));
        let summary = ran.events("run-finished").remove(0);
        prop_assert_eq!(&summary["failed"], failed);
        prop_assert_eq!(&summary["blocked"], dead.len());
        prop_assert_eq!(&summary["ran"], nodes.len() - failed - dead.len());
    });
}

#[test]
fn without_keep_going_nothing_starts_after_a_failure() {
    let world = World::new(
        r#"
        task "bad" { run "sh" "-c" "echo no room left >&2; exit 7"; }
        task "next" { needs "bad"; run "touch" "never"; }
        task "other" { run "touch" "other"; }
        "#,
    );
    let ran = world.meshplan(&["run", "plan.kdl", "-j", "1"]).exits(1);
    let ran = ran.says("exit code 7").says("no room left").says("next");
    assert!(
        !world.exists("never") && !world.exists("other"),
        "{}",
        ran.stderr
    );
    world
        .meshplan(&["run", "plan.kdl", "-j", "1", "-k"])
        .exits(1);
    assert!(!world.exists("never") && world.exists("other"));
}
