//! What is rebuilt when something happens to an output: exactly what design §4 says, and no key ever.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use meshplan::action::pki;
use support::{TWO, World};

const KEYS: [&str; 3] = [
    "out/root-key.pem",
    "out/east/ca-key.pem",
    "out/west/ca-key.pem",
];

fn built(plan: &str) -> World {
    let world = World::new(plan);
    world.run(&[]).exits(0);
    world
}

fn keys(world: &World) -> Vec<Vec<u8>> {
    KEYS.iter().map(|k| world.read(k)).collect()
}

/// Changes something in a built mesh, runs, and returns what was rebuilt. Keys must survive, and the
/// run after must find nothing to do.
#[track_caller]
fn rebuilt_after(change: impl FnOnce(&World)) -> Vec<String> {
    let world = built(TWO);
    let before = keys(&world);
    change(&world);
    let ran = world.run(&[]).exits(0).ran();
    assert_eq!(before, keys(&world), "a key was replaced");
    assert_eq!(
        world.run(&[]).exits(0).ran(),
        Vec::<String>::new(),
        "a run after it found more to do"
    );
    ran
}

#[test]
fn a_first_run_builds_everything_and_a_second_nothing() {
    let world = World::new(TWO);
    let first = world.run(&[]).exits(0);
    let names = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "install.yaml",
        "root-cert.pem",
    ];
    let mut expected: Vec<_> = ["east", "west"]
        .iter()
        .flat_map(|c| names.map(|n| format!("{c}/{n}")))
        .collect();
    expected.extend(["root-cert.pem".to_owned(), "root-key.pem".to_owned()]);
    expected.sort();
    assert_eq!(first.ran(), expected);
    let modes = [
        "out/root-key.pem",
        "out/east/ca-key.pem",
        "out/east/ca-cert.pem",
        "out/.meshplan",
    ];
    let modes = modes.map(|f| fs::metadata(world.path(f)).unwrap().mode() & 0o777);
    assert_eq!(modes, [0o600, 0o600, 0o644, 0o700]);
    let second = world
        .meshplan(&["run", "plan.kdl"])
        .exits(0)
        .says("nothing to do");
    assert_eq!(
        (second.stdout.as_str(), second.stderr.lines().count()),
        ("", 1),
        "{}",
        second.stderr
    );
}

#[test]
fn an_output_that_is_gone_empty_cut_or_garbled_is_made_again_with_what_hangs_on_it() {
    type Harm = (&'static str, fn(&World, &str));
    let harms: [Harm; 4] = [
        ("delete", |w, f| fs::remove_file(w.path(f)).unwrap()),
        ("empty", |w, f| w.write(f, "")),
        ("truncate", |w, f| {
            let bytes = w.read(f);
            w.write(f, &bytes[..bytes.len() / 2]);
        }),
        ("corrupt", |w, f| {
            let mut bytes = w.read(f);
            let middle = bytes.len() / 2;
            bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
            w.write(f, bytes);
        }),
    ];
    let cones: [(&str, &[&str]); 5] = [
        (
            "east/ca-cert.pem",
            &["east/ca-cert.pem", "east/cert-chain.pem"],
        ),
        ("east/cert-chain.pem", &["east/cert-chain.pem"]),
        ("east/root-cert.pem", &["east/root-cert.pem"]),
        ("east/install.yaml", &["east/install.yaml"]),
        // Brought back from a cluster's copy, byte for byte: nothing below it needs another signature.
        ("root-cert.pem", &["root-cert.pem"]),
    ];
    for (harm, harming) in harms {
        for (file, cone) in cones {
            let ran = rebuilt_after(|w| harming(w, &format!("out/{file}")));
            assert_eq!(ran, cone, "{harm} {file}");
        }
    }
}

#[test]
fn a_file_of_another_cluster_is_noticed_even_with_its_size_and_mtime_kept() {
    for (file, cone) in [
        ("ca-cert.pem", vec!["ca-cert.pem", "cert-chain.pem"]),
        ("cert-chain.pem", vec!["cert-chain.pem"]),
        ("install.yaml", vec!["install.yaml"]),
    ] {
        let ran = rebuilt_after(|w| {
            let (east, west) = (w.path("out/east").join(file), w.path("out/west").join(file));
            let keep = east.with_extension("keep");
            fs::rename(&east, &keep).unwrap();
            let kept = fs::metadata(&keep).unwrap();
            fs::copy(west, &east).unwrap();
            let touched = fs::File::options().write(true).open(&east).unwrap();
            touched.set_modified(kept.modified().unwrap()).unwrap();
            fs::remove_file(keep).unwrap();
        });
        let expected: Vec<_> = cone.iter().map(|f| format!("east/{f}")).collect();
        assert_eq!(ran, expected, "swapped {file}");
    }
}

#[test]
fn touching_ageing_copying_and_restoring_rebuild_nothing() {
    let changes: [fn(&World); 4] = [
        |w| {
            for name in w.tree("out").into_keys() {
                let file = fs::File::options()
                    .append(true)
                    .open(w.path("out").join(name))
                    .unwrap();
                file.set_modified(std::time::SystemTime::now()).unwrap();
            }
        },
        |w| {
            for name in w.tree("out").into_keys() {
                let file = fs::File::options()
                    .append(true)
                    .open(w.path("out").join(name))
                    .unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap();
            }
        },
        |w| {
            fs::rename(w.path("out"), w.path("backup")).unwrap();
            assert!(
                Command::new("cp")
                    .args(["-r", "backup", "out"])
                    .current_dir(w.path(""))
                    .status()
                    .unwrap()
                    .success()
            );
        },
        // The files alone, without the log.
        |w| fs::remove_dir_all(w.path("out/.meshplan")).unwrap(),
    ];
    for change in changes {
        assert_eq!(rebuilt_after(change), Vec::<String>::new());
    }
}

#[test]
fn a_changed_plan_rebuilds_what_it_touches_and_says_so_in_certificate_terms() {
    let world = built(TWO);
    let before = (keys(&world), world.tree("out"));
    world.write(
        "plan.kdl",
        TWO.replace(
            r#"cluster "east" {"#,
            r#"cluster "east" { ca { validity "365d"; }; "#,
        ),
    );
    let rehearsed = world.run(&["--dry-run"]).exits(0);
    assert!(
        rehearsed
            .stdout
            .contains("validity 730d → 365d: re-sign, same key, new serial"),
        "{}",
        rehearsed.stdout
    );
    assert_eq!(before.1, world.tree("out"), "a dry run wrote something");
    assert_eq!(
        world.run(&[]).exits(0).ran(),
        ["east/ca-cert.pem", "east/cert-chain.pem"]
    );
    assert_eq!(before.0, keys(&world));
}

#[test]
fn a_certificate_is_renewed_inside_its_window_and_not_before() {
    let plan = |days: u32| {
        TWO.replace(
            r#"cluster-ca {"#,
            &format!(r#"cluster-ca {{ validity "20d"; renew-before "{days}d";"#),
        )
    };
    let world = built(&plan(19));
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
    // 20 days less the minute of backdating are left: inside a window of 20 days less a moment.
    world.write("plan.kdl", plan(19).replace(r#""19d""#, r#""28799m""#));
    assert_eq!(
        world.run(&[]).exits(0).ran(),
        [
            "east/ca-cert.pem",
            "east/cert-chain.pem",
            "west/ca-cert.pem",
            "west/cert-chain.pem"
        ]
    );
}

#[test]
fn a_lost_key_is_not_replaced_without_leave() {
    for (key, flag) in [
        ("out/east/ca-key.pem", "rekey"),
        ("out/root-key.pem", "rekey,root-reissue"),
    ] {
        for harm in ["delete", "empty"] {
            let world = built(TWO);
            let before = world.read(key);
            if harm == "delete" {
                fs::remove_file(world.path(key)).unwrap()
            } else {
                world.write(key, "")
            }
            let lost = world.tree("out");
            world.run(&[]).exits(5).says(&format!("--allow {flag}"));
            assert_eq!(world.tree("out"), lost, "a refused run changed something");
            world.run(&["--allow", flag]).exits(0);
            assert_ne!(world.read(key), before);
            assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_lost_root_is_brought_back_or_refused_but_never_made_anew_silently() {
    let world = built(TWO);
    let root = world.read("out/root-cert.pem");
    fs::remove_file(world.path("out/root-cert.pem")).unwrap();
    assert_eq!(world.run(&[]).exits(0).ran(), ["root-cert.pem"]);
    assert_eq!(world.read("out/root-cert.pem"), root);

    for copy in [
        "out/root-cert.pem",
        "out/east/root-cert.pem",
        "out/west/root-cert.pem",
    ] {
        fs::remove_file(world.path(copy)).unwrap();
    }
    world.run(&[]).exits(5).says("--allow root-reissue");
    let key = world.read("out/root-key.pem");
    world.run(&["--allow", "root-reissue"]).exits(0);
    assert_eq!(world.read("out/root-key.pem"), key);
    assert_ne!(world.read("out/root-cert.pem"), root);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}

#[test]
fn a_key_that_was_opened_to_others_is_narrowed_and_told() {
    use std::os::unix::fs::PermissionsExt;
    let world = built(TWO);
    let key = world.path("out/east/ca-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    world.run(&[]).exits(0).says("key-open");
    assert_eq!(fs::metadata(key).unwrap().mode() & 0o777, 0o600);
    assert_eq!(world.run(&[]).exits(0).events("warning").len(), 0);
}

#[test]
fn force_and_always_build_anew_but_keep_keys_and_root() {
    let world = built(TWO);
    let (keys_before, root) = (keys(&world), world.read("out/root-cert.pem"));
    assert_eq!(
        world.run(&["--force", "east/ca-cert.pem"]).exits(0).ran(),
        ["east/ca-cert.pem", "east/cert-chain.pem"]
    );
    assert_eq!(world.run(&["-B"]).exits(0).ran().len(), 8);
    assert_eq!(
        (keys(&world), world.read("out/root-cert.pem")),
        (keys_before, root)
    );
    world
        .run(&["--force", "root-cert.pem"])
        .exits(5)
        .says("root-reissue");
}

#[test]
fn one_target_builds_its_cone_and_no_more() {
    let world = World::new(TWO);
    let ran = world.run(&["east-cacerts-k8s"]).exits(0).ran();
    let four = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ]
    .map(|f| format!("east/{f}"));
    assert_eq!(
        ran,
        [
            &four[..],
            &["root-cert.pem".to_owned(), "root-key.pem".to_owned()]
        ]
        .concat()
    );
    assert!(!world.exists("out/west"));
    world.run(&["eats"]).exits(2).says("did you mean `east`?");
}

#[test]
fn clean_takes_what_was_made_and_nothing_else_and_makes_no_second_root() {
    let world = built(TWO);
    let (root, root_key) = (
        world.read("out/root-cert.pem"),
        world.read("out/root-key.pem"),
    );
    world.write("out/east/notes.txt", "mine");
    world.write("out/west/install.yaml", "edited by hand");
    world
        .meshplan(&["clean", "plan.kdl"])
        .exits(0)
        .says("keep west/install.yaml");
    let left: Vec<_> = world.tree("out").into_keys().collect();
    assert_eq!(
        left,
        [
            "east/ca-key.pem",
            "east/notes.txt",
            "root-key.pem",
            "west/ca-key.pem",
            "west/install.yaml"
        ]
    );
    fs::remove_file(world.path("out/west/install.yaml")).unwrap();
    world.run(&[]).exits(0);
    assert_eq!(
        world.read("out/root-cert.pem"),
        root,
        "clean and run made a second root"
    );

    world
        .meshplan(&["clean", "plan.kdl", "--keys"])
        .exits(0)
        .says("keep root-key.pem");
    assert_eq!(world.read("out/root-key.pem"), root_key);
    world
        .meshplan(&["clean", "plan.kdl", "--keys", "--allow", "root-key"])
        .exits(0);
    let left: Vec<_> = world.tree("out").into_keys().collect();
    assert_eq!(left, ["east/notes.txt"]);
}

#[test]
fn workers_that_race_for_a_key_leave_one_key_and_its_certificate() {
    let plan = r#"mesh "mesh1" { work-dir "out"; }
root-ca { key "rsa-2048"; }
cluster-ca { key "rsa-2048"; }
cluster "east"
"#;
    let world = World::new(plan);
    // More workers than keys: all that are left over race.
    let first = world.run(&["-j", "8"]).exits(0);
    assert_eq!(first.ran().len(), 7);
    assert_eq!(first.events("task-started").len(), 7);
    for (key, cert) in [("root-key", "root-cert"), ("east/ca-key", "east/ca-cert")] {
        let (key, cert) = (
            world.read(&format!("out/{key}.pem")),
            world.read(&format!("out/{cert}.pem")),
        );
        assert_eq!(pki::carries_key(&cert, &key), Ok(()));
    }
    let left = fs::read_dir(world.path("out/.meshplan/stage")).unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}
