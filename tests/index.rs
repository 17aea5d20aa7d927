//! The index answers for a walk only while the walk would answer the same: everything that it rests on is
//! changed, one at a time, and each change is noticed. What is noticed is walked, and the walk has its own tests.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use camino::Utf8Path;
use meshplan::host::{Clock, SystemClock, lock::Lock};
use support::{TWO, World};

const INDEX: &str = "out/.meshplan/index";
/// Its tables, which only a walk makes anew.
const TABLES: &str = "out/.meshplan/index-files";

/// Reads a file in each way that a plan can, and variables that are set, unset and unset with a fallback.
const PLAN: &str = r#"
include "mesh.kdl" "clusters/*.kdl"
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; validity (env)"DAYS"; renew-before (env)"RENEW:-30d"; }
task "hello" { input "hello.txt"; output "hello.out"; run "cp" "hello.txt" "hello.out"; }
"#;
const MESH: &str = r#"mesh "mesh1" { work-dir (env)"WORK_DIR:-out"; values-file "values.yaml"; }"#;
const EAST: &str = r#"cluster "east" { network "n1"; }"#;

/// A run whose result is in the index, told from it once.
fn settled(plan: &str) -> World {
    let world = World::new(plan).env("DAYS", "700d").env("EMPTY", "");
    world.write("mesh.kdl", MESH);
    world.write("clusters/east.kdl", EAST);
    world.write("values.yaml", "pilot: { replicaCount: 1 }\n");
    world.write("hello.txt", "hello");
    settle(&world);
    world
}

fn settle(world: &World) {
    world.run(&[]).exits(0);
    world.run(&[]).exits(0);
    assert!(!walks(world, &[]), "nothing changed, and the run walked");
}

/// Which index it is: of a new file, inode and size may be the old one's.
fn written(world: &World, file: &str) -> (u64, i64, i64) {
    let index = fs::metadata(world.path(file)).unwrap();
    (index.ino(), index.mtime(), index.mtime_nsec())
}

/// Whether a run walks: whoever does finds something to do or to note, or leaves another index.
fn walks(world: &World, args: &[&str]) -> bool {
    let state = || {
        let log = fs::metadata(world.path("out/.meshplan/log")).map(|m| m.len());
        (written(world, TABLES), log.ok())
    };
    let before = state();
    let ran = world.run(args);
    ran.code != Some(0) || !ran.ran().is_empty() || state() != before
}

/// Writes another text of the same length into the head of the index, which stays sound in itself.
fn forge(world: &World, from: &str, to: &str) {
    let mut bytes = world.read(INDEX);
    // The header's line; then of the first section its length and checksum.
    let entry = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    let length = u64::from_le_bytes(bytes[entry..entry + 8].try_into().unwrap()) as usize;
    let start = bytes.windows(9).position(|w| w == b"{\"maker\":").unwrap();
    let head = String::from_utf8(bytes[start..start + length].to_vec()).unwrap();
    assert!(head.contains(from), "no {from} in {head}");
    let head = head.replace(from, to);
    bytes[start..start + length].copy_from_slice(head.as_bytes());
    bytes[entry + 8..entry + 12].copy_from_slice(&crc32fast::hash(head.as_bytes()).to_le_bytes());
    world.write(INDEX, bytes);
}

#[test]
fn whatever_a_run_rests_on_is_noticed_when_it_changes() {
    type Change = fn(&World);
    let edit: [(&str, Change); 19] = [
        ("the plan's bytes", |w| {
            w.write("plan.kdl", format!("{PLAN}//"))
        }),
        ("an include's bytes", |w| {
            w.write("mesh.kdl", format!("{MESH}//"))
        }),
        ("a globbed include's bytes", |w| {
            w.write("clusters/east.kdl", format!("{EAST}//"));
        }),
        ("a values file's bytes", |w| {
            w.write("values.yaml", "pilot: { replicaCount: 2 }\n");
        }),
        ("a file more in the glob", |w| {
            w.write("clusters/west.kdl", r#"cluster "west" { network "n2"; }"#);
        }),
        ("a task's input", |w| w.write("hello.txt", "other")),
        ("a task's output", |w| {
            fs::remove_file(w.path("hello.out")).unwrap()
        }),
        ("a file lost", |w| {
            fs::remove_file(w.path("out/east/ca-cert.pem")).unwrap();
        }),
        ("a file's bytes, of the same length", |w| {
            let mut bytes = w.read("out/east/cert-chain.pem");
            bytes.swap(100, 101);
            w.write("out/east/cert-chain.pem", bytes);
        }),
        ("a file restored from a copy", |w| {
            w.sh("out", "cp -p root-cert.pem x; mv x root-cert.pem");
        }),
        ("a key opened to others", |w| {
            let open = Permissions::from_mode(0o644);
            fs::set_permissions(w.path("out/east/ca-key.pem"), open).unwrap();
        }),
        ("a folder that is a link now", |w| {
            fs::rename(w.path("out/east"), w.path("east")).unwrap();
            symlink(w.path("east"), w.path("out/east")).unwrap();
        }),
        ("a link in a file's place", |w| {
            w.sh("out", "mv root-cert.pem x; ln -s x root-cert.pem");
        }),
        ("the log lost", |w| {
            fs::remove_file(w.path("out/.meshplan/log")).unwrap();
        }),
        ("a record more in the log", |w| {
            w.sh("out/.meshplan", "tail -n 1 log > x; cat x >> log; rm x");
        }),
        ("what a killed run staged", |w| {
            w.write("out/.meshplan/stage/7", "x")
        }),
        ("nowhere to stage", |w| {
            fs::remove_dir(w.path("out/.meshplan/stage")).unwrap();
        }),
        ("the index torn", |w| {
            let bytes = w.read(INDEX);
            w.write(INDEX, &bytes[..bytes.len() / 2]);
        }),
        ("the index damaged", |w| {
            let mut bytes = w.read(INDEX);
            bytes[200] ^= 1;
            w.write(INDEX, bytes);
        }),
    ];
    let worlds = std::thread::scope(|scope| {
        let run = |(what, change): (&'static str, Change)| {
            let world = settled(PLAN);
            change(&world);
            (what, walks(&world, &[]))
        };
        let threads = edit.map(|case| scope.spawn(move || run(case)));
        threads.map(|thread| thread.join().unwrap())
    });
    for (what, noticed) in worlds {
        assert!(noticed, "not noticed: {what}");
    }
}

/// With the names in the work directory as they were, what kind of thing each is need not be asked.
#[test]
fn a_name_more_in_the_work_directory_is_noted_once_and_what_becomes_of_the_others_is_noticed() {
    let world = settled(PLAN);
    world.write("out/notes.txt", "mine");
    let before = written(&world, INDEX);
    // A folder that was changed just now may change again in the same tick, so it is not noted yet.
    let noted = (0..100).find(|_| {
        assert!(!walks(&world, &[]), "a foreign file is nothing to walk for");
        written(&world, INDEX) != before
    });
    assert!(noted.is_some(), "the folder's new state was not noted");
    let noted = written(&world, INDEX);
    assert!(!walks(&world, &[]) && written(&world, INDEX) == noted);
    fs::rename(world.path("out/east"), world.path("east")).unwrap();
    symlink(world.path("east"), world.path("out/east")).unwrap();
    assert!(walks(&world, &[]), "a folder that is a link now");
}

#[test]
fn every_variable_and_word_of_the_question_is_noticed() {
    let world = settled(PLAN);
    // Read and set, read and not set, read by a fallback, and where the index itself is looked for.
    let vars = [
        ("DAYS", "699d"),
        ("RENEW", "31d"),
        ("WORK_DIR", "elsewhere"),
    ];
    for (name, value) in vars {
        assert!(
            walks(&world, &[&format!("{name}={value}")]),
            "{name}={value}"
        );
        settle(&world);
    }
    let world = settled(PLAN);
    let world = world.env("DAYS", "699d");
    assert!(walks(&world, &[]), "a variable's value");
    settle(&world);
    let world = world.env("RENEW", "31d");
    assert!(walks(&world, &[]), "a variable that was not set");
    settle(&world);
    let world = world.env("UNREAD", "1");
    assert!(!walks(&world, &[]), "a variable that nothing reads");
    assert!(walks(&world, &["DAYS=698d", "DAYS=697d"]));
    settle(&world);
    // The last one counts, and so does their order.
    assert!(walks(&world, &["DAYS=697d", "DAYS=698d"]));
    settle(&world);
    for word in [["-B"], ["--explain"], ["--force=hello"], ["hello"]] {
        let ran = world.run(&word).exits(0);
        let told = ran.events("verdict").len() + ran.events("task-finished").len();
        let asked = ran.events("run-started")[0]["targets"][0] == "hello";
        assert!(
            told > 0 || asked,
            "{word:?} was answered with nothing to do"
        );
    }
    world.run(&["-C", "other"]).exits(0);
    assert!(world.exists("other/root-cert.pem"));
}

#[test]
fn another_meshplan_does_not_take_it_for_its_own() {
    let world = settled(TWO);
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    forge(&world, &version, &version);
    assert!(!walks(&world, &[]), "the same version");
    forge(&world, &version, &version.replace('.', "9"));
    assert!(walks(&world, &[]), "another version");
    settle(&world);
    // The same version, and another file: a build from other sources.
    fs::copy(env!("CARGO_BIN_EXE_meshplan"), world.path("meshplan")).unwrap();
    let before = written(&world, INDEX);
    world.sh("", "./meshplan run plan.kdl -q");
    assert_ne!(before, written(&world, INDEX));
}

#[test]
fn the_end_of_a_certificate_ends_it() {
    let world = settled(TWO);
    let head = String::from_utf8_lossy(&world.read(INDEX)).into_owned();
    let until = head.split("\"until\":").nth(1).unwrap();
    let until = until.split(',').next().unwrap();
    // A cluster's CA lives 730 days and is signed again 30 days before its end.
    let days = (until.parse::<i64>().unwrap() - SystemClock.now().unix_timestamp()) / 86_400;
    assert!((699..=700).contains(&days), "{days}");
    forge(
        &world,
        until,
        &format!("{:010}", SystemClock.now().unix_timestamp()),
    );
    assert!(walks(&world, &[]));
}

#[test]
fn a_clock_that_was_set_back_ends_it() {
    let world = settled(TWO);
    let head = String::from_utf8_lossy(&world.read(INDEX)).into_owned();
    let since = head.split("\"since\":").nth(1).unwrap();
    let since = since.split(',').next().unwrap();
    let later = SystemClock.now().unix_timestamp() + 3600;
    forge(&world, since, &later.to_string());
    assert!(walks(&world, &[]));
}

#[test]
fn a_log_that_must_be_told_of_is_told_of_each_time() {
    let world = settled(TWO);
    world.sh("out/.meshplan", "printf 'x\\ny\\nz\\n' >> log");
    for _ in 0..3 {
        world.run(&[]).exits(0).says("3 records are lost");
    }
    // What a link leads to may change, and the link does not.
    let world = settled(TWO);
    world.sh("out/.meshplan", "mv log ../log; ln -s ../log log");
    world.run(&[]).exits(0);
    world.write("out/log", "");
    world.run(&[]).exits(0).says("adopted");
}

#[test]
fn a_plan_from_a_pipe_is_read_once() {
    let world = World::new("");
    let dir = world.path("out");
    let plan = |days: &str| {
        format!(
            r#"mesh "mesh1" {{ work-dir "{}"; }}
root-ca {{ key "ecdsa-p256"; }}
cluster-ca {{ key "ecdsa-p256"; validity "{days}"; }}
cluster "east" {{ }}"#,
            dir.display()
        )
    };
    let run = |days: &str| {
        world.write("text", plan(days));
        let meshplan = env!("CARGO_BIN_EXE_meshplan");
        world.sh(
            "",
            &format!("cat text | {meshplan} run /dev/stdin 2> said; cat text | {meshplan} run /dev/stdin -C out 2>> said"),
        );
        String::from_utf8(world.read("said")).unwrap()
    };
    assert!(run("90d").contains("7 ran"));
    assert!(!run("90d").contains(" ran"));
    assert!(run("91d").contains("2 ran"));
}

#[test]
fn a_ca_brought_along_is_noticed() {
    let world = World::new(
        r#"
        mesh "mesh1" { work-dir "out"; }
        root-ca { cert "org/root.pem"; key "org/root-key.pem"; }
        cluster-ca { key "ecdsa-p256"; }
        cluster "east" { }
        "#,
    );
    world.sh(
        "org",
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=Root \
         -addext keyUsage=critical,keyCertSign,cRLSign -keyout root-key.pem -out root.pem 2>/dev/null
         chmod 600 root-key.pem",
    );
    settle(&world);
    world.sh("org", "chmod 644 root-key.pem");
    world.run(&[]).exits(3).says("root::key-open");
    world.sh("org", "chmod 600 root-key.pem");
    settle(&world);
    world.sh("org", "cat root.pem root.pem > x; cat x > root.pem");
    assert!(walks(&world, &[]), "the certificate's bytes");
}

#[test]
fn what_is_told_is_what_a_walk_tells() {
    let world = settled(TWO);
    let told = |args: &[&str]| {
        let ran = world.run(args).exits(0);
        let events = ran.stdout.lines().map(|line| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            for time in ["at-ms", "millis"] {
                event.as_object_mut().unwrap().remove(time);
            }
            event.to_string()
        });
        events.collect::<Vec<_>>()
    };
    let known = told(&[]);
    fs::remove_file(world.path(INDEX)).unwrap();
    assert_eq!(told(&[]), known);
    assert!(known.len() > 8, "undone steps are told: {known:?}");
}

#[test]
fn a_work_directory_in_use_is_not_told_of() {
    let world = settled(TWO);
    let path = world.path("out/.meshplan/lock");
    let _held = Lock::take(Utf8Path::from_path(&path).unwrap(), "a test").unwrap();
    world.run(&[]).exits(6).says("another meshplan is at work");
}

/// More clusters than a run names undone steps of, on two networks.
fn fleet() -> String {
    let mut plan = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
"#
    .to_owned();
    for n in 1..=12 {
        plan += &format!("cluster \"c{n}\" {{ network \"n{}\"; }}\n", n % 2);
    }
    plan
}

/// `meshplan run` for people, which a cut plan can answer.
fn run(world: &World) -> support::Ran {
    world.meshplan(&["run", "plan.kdl"]).exits(0)
}

/// Bytes of the build log: a cut plan appends to it what it made, and nothing else.
fn log_length(world: &World) -> u64 {
    fs::metadata(world.path("out/.meshplan/log")).unwrap().len()
}

#[test]
fn an_edit_of_one_cluster_walks_that_cluster_and_leaves_what_a_whole_walk_leaves() {
    let whole = fleet();
    let world = settled(&whole);
    let edits = [
        // What was written, what is written now, what that makes anew.
        (r#""c7" { network "n1"; }"#, r#""c7" { network "n0"; }"#, 1),
        (r#""c1" { network "n1"; }"#, r#""c1" { network "n9"; }"#, 1),
        (
            r#""c12" { network "n0"; }"#,
            r#""c12" { network "n0"; ca { validity "90d"; }; }"#,
            2,
        ),
        (r#""c5" {"#, "\"c5\" { /* a comment */", 0),
        (r#"cluster "c6""#, "/* between */ cluster \"c6\"", 0),
    ];
    let mut plan = whole;
    for (from, to, anew) in edits {
        assert!(plan.contains(from), "{from}");
        plan = plan.replace(from, to);
        world.write("plan.kdl", &plan);
        let before = written(&world, INDEX);
        let ran = run(&world);
        let told = match anew {
            0 => "nothing to do: 62 tasks current, 60 undone".to_owned(),
            _ => format!(
                "{anew} ran, {} current, 60 undone (-v tells which)",
                62 - anew
            ),
        };
        let ran = ran.says(&told);
        // Only a cut plan leaves an index of a run that made something.
        assert_ne!(before, written(&world, INDEX), "{to}");
        assert!(!walks(&world, &[]), "the new index is not believed: {to}");
        // The whole walk agrees: nothing is left to do.
        fs::remove_file(world.path(INDEX)).unwrap();
        let events = world.run(&["-v"]).exits(0).events("run-finished");
        assert_eq!(
            (&events[0]["ran"], &events[0]["current"]),
            (&0.into(), &62.into()),
            "{to}: {ran:?}"
        );
        settle(&world);
    }
}

#[test]
fn what_a_cut_plan_cannot_answer_is_asked_of_the_whole() {
    let plan = fleet();
    let edits = [
        (
            "a cluster more",
            plan.clone() + "cluster \"c13\" { network \"n1\"; }\n",
            5,
        ),
        (
            "a cluster less",
            plan.replace("cluster \"c9\" { network \"n1\"; }\n", ""),
            0,
        ),
        ("another name", plan.replace("\"c9\"", "\"c99\""), 5),
        ("a name twice", plan.replace("\"c9\"", "\"c8\""), 0),
        (
            "a name of another's target",
            plan.replace("\"c9\"", "\"c8-cacerts\""),
            0,
        ),
        (
            "a mistake",
            plan.replace("\"c9\" { network", "\"c9\" { netwrok"),
            0,
        ),
        ("an end lost", plan.replace("\"c9\" {", "\"c9\" { /*"), 0),
        (
            "everybody's defaults",
            plan.replace("cluster-ca {", "cluster-ca { validity \"90d\";"),
            24,
        ),
        (
            "a remote",
            plan.replace("\"c9\" {", "\"c9\" { remote-of \"c3\";"),
            2,
        ),
    ];
    let case = |(what, text, anew): (&'static str, String, usize)| {
        let world = settled(&plan);
        world.write("plan.kdl", &text);
        let cut = world.meshplan(&["run", "plan.kdl"]);
        // The same words from a walk that has no index to ask.
        let other = settled(&plan);
        fs::remove_file(other.path(INDEX)).unwrap();
        other.write("plan.kdl", &text);
        let whole = other.meshplan(&["run", "plan.kdl"]);
        (what, anew, cut, whole)
    };
    let results = std::thread::scope(|scope| {
        let case = &case;
        let threads = edits.map(|edit| scope.spawn(move || case(edit)));
        threads.map(|thread| thread.join().unwrap())
    });
    for (what, anew, cut, whole) in results {
        assert_eq!(cut.code, whole.code, "{what}: {cut:?}");
        let ran = |text: &str| {
            text.split(" ran")
                .next()
                .unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(ran(&cut.stderr), ran(&whole.stderr), "{what}");
        if cut.code == Some(0) && anew > 0 {
            assert_eq!(ran(&cut.stderr), anew.to_string(), "{what}: {}", cut.stderr);
        }
    }
}

#[test]
fn a_network_that_a_cluster_moves_to_is_the_one_that_others_are_on() {
    let on_two = |plan: String, cluster: &str| {
        plan.replace(
            &format!("\"{cluster}\" {{ network \"n1\""),
            &format!("\"{cluster}\" {{ network \"n2\""),
        )
    };
    let rest = on_two(fleet().replace("n0", "n1"), "c9");
    let world = settled(&on_two(rest.clone(), "c1"));
    world.write("plan.kdl", &rest);
    run(&world).says("1 ran, 61 current");
    // c9 alone makes them two still.
    world.write(
        "plan.kdl",
        rest.replace("\"c5\" {", "\"c5\" { /* a comment */"),
    );
    run(&world).says("nothing to do: 62 tasks current");
    fs::remove_file(world.path(INDEX)).unwrap();
    run(&world).says("nothing to do: 62 tasks current");
}

#[test]
fn nodes_on_one_line_are_cut_where_they_stand() {
    let plan = fleet();
    let (head, clusters) = plan.split_once("cluster \"c1\"").unwrap();
    let line = format!("{head}cluster \"c1\"{}", clusters.replace('\n', "; "));
    let (before, after) = line.split_once("cluster \"c3\"").unwrap();
    let more = r#"cluster "c3" { network "n7"; }; cluster "c4" { network "n7"; } // "#;
    let joined = plan.replace("n1\"; }\ncluster \"c6\"", "n7\"; } cluster \"c6\"");
    assert_ne!(joined, plan);
    let edits = [
        (line.clone(), format!("{before}{more}cluster \"c3\"{after}")),
        (plan.clone(), joined),
    ];
    for (from, to) in edits {
        let [cut, whole] = [true, false].map(|has_index| {
            let world = settled(&from);
            if !has_index {
                fs::remove_file(world.path(INDEX)).unwrap();
            }
            world.write("plan.kdl", &to);
            let ran = world.meshplan(&["run", "plan.kdl"]);
            let end = ran.stderr.lines().last().map(str::to_owned);
            let end = end.and_then(|l| l.split(", in ").next().map(str::to_owned));
            (ran.code, end)
        });
        assert_eq!(cut, whole, "{to}");
    }
}

#[test]
fn several_networks_that_become_one_change_every_cluster() {
    let one = fleet().replace("n0", "n1");
    let world = settled(&one);
    // The mesh's other network: every cluster needs a gateway now.
    world.write(
        "plan.kdl",
        one.replace(r#""c7" { network "n1""#, r#""c7" { network "n2""#),
    );
    run(&world);
    let other = settled(&fleet());
    other.write("plan.kdl", world.read("plan.kdl"));
    fs::remove_file(other.path(INDEX)).unwrap();
    run(&other);
    for n in 1..=12 {
        let name = format!("out/c{n}/install.yaml");
        assert_eq!(world.read(&name), other.read(&name), "{name}");
    }
}

#[test]
fn a_cut_plan_finds_what_else_has_changed() {
    let plan = fleet();
    let world = settled(&plan);
    let edit = |n: usize| {
        plan.replace(
            "\"c7\" { network \"n1\"",
            &format!("\"c7\" {{ network \"m{n}\""),
        )
    };
    fs::remove_file(world.path("out/c3/cert-chain.pem")).unwrap();
    world.write("plan.kdl", edit(1));
    run(&world).says("2 ran, 60 current");
    settle(&world);
    let before = log_length(&world);
    world.write("plan.kdl", edit(2));
    run(&world).says("1 ran, 61 current");
    assert!(
        log_length(&world) - before < 2000,
        "the log was written anew"
    );
    // Torn: nothing of it can be believed.
    let bytes = world.read(INDEX);
    world.write(INDEX, &bytes[..bytes.len() - 1]);
    world.write("plan.kdl", edit(3));
    run(&world).says("1 ran, 61 current");
    let text = String::from_utf8(world.read("out/c7/install.yaml")).unwrap();
    assert!(text.contains("m3"), "{text}");
}
