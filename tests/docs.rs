//! Every example in the README and in plans/ parses, compiles and rehearses.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, path::Path};

use support::World;

#[test]
fn every_example_rehearses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = readme
        .split("```kdl\n")
        .skip(1)
        .map(|b| b.split("```").next().unwrap().to_owned());
    let mut examples: Vec<_> = blocks
        .enumerate()
        .map(|(i, text)| (format!("README block {i}"), text))
        .collect();
    assert!(
        examples.len() >= 3,
        "the README shows the plan language by example"
    );
    // What plans read lies beside them.
    let mut beside = Vec::new();
    for entry in fs::read_dir(root.join("plans")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|e| e == "kdl") {
            examples.push((path.display().to_string(), text));
        } else {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            beside.push((name, text));
        }
    }
    for (name, text) in examples {
        let world = World::new(&text);
        // What examples read from the user's side.
        world.write("tests/hello.sh", "echo hello");
        world.write("values.yaml", "pilot: {}");
        world.write(
            "clusters/north.kdl",
            "cluster \"north\" { network \"network3\"; }\n",
        );
        for (name, text) in &beside {
            world.write(name, text);
        }
        let ran = world.meshplan(&["run", "plan.kdl", "--dry-run"]);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        assert!(!world.exists("out"), "{name}: a rehearsal wrote something");
    }
}
