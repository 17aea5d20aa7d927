//! The command line as a stranger meets it: bad input, bad places, signals, and what is said then.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
};

use support::{TWO, World};

#[test]
fn a_work_directory_that_cannot_be_used_is_named_and_nothing_is_lost() {
    let world = World::new(TWO);
    world.write("out", "a file of mine");
    world.run(&[]).exits(1).says("out").says("file");
    assert_eq!(world.read("out"), b"a file of mine");
    world.run(&["-C", "/proc/none"]).exits(1).says("/proc/none");
}

#[test]
fn a_work_directory_may_be_a_link_or_on_another_filesystem() {
    let world = World::new(TWO);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    symlink(elsewhere.path(), world.path("out")).unwrap();
    world.run(&[]).exits(0);
    assert!(elsewhere.path().join("east/cert-chain.pem").exists());
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}

#[test]
fn what_is_in_an_outputs_place_and_no_file_is_never_replaced() {
    let world = World::new(TWO);
    fs::create_dir_all(world.path("out/east/ca-cert.pem")).unwrap();
    world
        .run(&[])
        .exits(1)
        .says("east/ca-cert.pem")
        .says("folder");
    assert!(
        !world.exists("out/root-key.pem"),
        "something was made before the obstacle was told"
    );
    // What does not hang on it can be had.
    world.run(&["-k"]).exits(1);
    assert!(world.exists("out/west/cert-chain.pem") && world.path("out/east/ca-cert.pem").is_dir());

    let world = World::new(TWO);
    world.write("mine.pem", "mine");
    fs::create_dir_all(world.path("out/east")).unwrap();
    symlink(world.path("mine.pem"), world.path("out/east/ca-key.pem")).unwrap();
    world.run(&[]).exits(1).says("symbolic link");
    assert_eq!(world.read("mine.pem"), b"mine");

    let world = World::new(TWO);
    fs::create_dir_all(world.path("outside")).unwrap();
    fs::create_dir_all(world.path("out")).unwrap();
    symlink(world.path("outside"), world.path("out/east")).unwrap();
    world.run(&[]).exits(1).says("symbolic link");
    assert!(!world.exists("outside/ca-key.pem"));
}

#[test]
fn an_install_yaml_of_somebody_else_is_kept_in_the_archive() {
    let world = World::new(TWO);
    world.write("out/east/install.yaml", "mine");
    world.run(&[]).exits(0);
    let archive: Vec<_> = fs::read_dir(world.path("out/.meshplan/archive"))
        .unwrap()
        .map(|e| fs::read(e.unwrap().path()).unwrap())
        .collect();
    assert_eq!(archive, [b"mine"]);
}

#[test]
fn a_log_of_another_version_or_cut_short_costs_no_key_and_no_certificate() {
    let log = "out/.meshplan/log";
    let harms: [fn(&World); 4] = [
        |w| w.write("out/.meshplan/log", "meshplan-log 999\nfrom the future\n"),
        |w| w.write("out/.meshplan/log", "meshp"),
        |w| {
            let bytes = w.read("out/.meshplan/log");
            w.write("out/.meshplan/log", &bytes[..bytes.len() - 7]);
        },
        |w| {
            let mut bytes = w.read("out/.meshplan/log");
            bytes[200] ^= 1;
            w.write("out/.meshplan/log", bytes);
        },
    ];
    for harm in harms {
        let world = World::new(TWO);
        world.run(&[]).exits(0);
        let before = world.tree("out");
        harm(&world);
        assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
        assert_eq!(world.tree("out"), before);
        let healed = world.read(log);
        let again = world.run(&[]).exits(0);
        assert_eq!(
            (
                again.ran().len(),
                again.events("warning").len(),
                world.read(log) == healed
            ),
            (0, 0, true)
        );
    }
}

#[test]
fn times_in_the_future_rebuild_nothing() {
    let world = World::new(TWO);
    world.run(&[]).exits(0);
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(1_000_000);
    for name in world.tree("out").into_keys() {
        fs::File::options()
            .append(true)
            .open(world.path("out").join(name))
            .unwrap()
            .set_modified(future)
            .unwrap();
    }
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}

/// A task that says when it runs, and then waits for a pipe that nobody writes to.
const WAITING: &str = r#"
task "wait" {
    output "done.txt"
    run "sh" "-c" "echo waiting > began.fifo; read x < never.fifo; touch done.txt"
}
task "after" { needs "wait"; run "touch" "after.txt"; }
"#;

fn waiting() -> World {
    let world = World::new(WAITING);
    for fifo in ["began.fifo", "never.fifo"] {
        assert!(
            Command::new("mkfifo")
                .arg(world.path(fifo))
                .status()
                .unwrap()
                .success()
        );
    }
    world
}

fn wait_for_start(world: &World) {
    let mut text = String::new();
    fs::File::open(world.path("began.fifo"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "waiting\n");
}

#[test]
fn a_signal_ends_children_publishes_nothing_and_the_next_run_goes_on() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let world = waiting();
        let mut run = world
            .command(&["run", "plan.kdl"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_start(&world);
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &run.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(run.wait().unwrap().code(), Some(code));
        assert!(!world.exists("done.txt") && !world.exists("after.txt"));
        world.write(
            "plan.kdl",
            WAITING
                .replace("read x < never.fifo; ", "")
                .replace("echo waiting > began.fifo; ", ""),
        );
        world.meshplan(&["run", "plan.kdl"]).exits(0);
        assert!(world.exists("after.txt"));
    }
}

#[test]
fn a_second_meshplan_is_told_who_is_at_work_and_a_child_left_behind_is_found() {
    let world = waiting();
    let mut run = world
        .command(&["run", "plan.kdl"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_start(&world);
    world
        .run(&[])
        .exits(6)
        .says(&format!("process {}", run.id()));
    world.run(&["--dry-run"]).exits(0);
    run.kill().unwrap();
    run.wait().unwrap();
    // The run is dead; its child waits on.
    let told = world.run(&[]).exits(6).says("wait");
    let child: String = told
        .stdout
        .split("process ")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    fs::write(world.path("never.fifo"), "go\n").unwrap();
    assert!(!child.is_empty());
}

#[test]
fn a_command_says_of_itself_what_the_list_of_commands_says_of_it() {
    let world = World::new(TWO);
    let whole = world.meshplan(&["--help"]).exits(0).stdout;
    let commands = whole
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.trim().split_once(' '))
        .filter(|(name, _)| *name != "help");
    let listed: Vec<_> = commands.collect();
    assert!(listed.len() > 10, "{whole}");
    for (name, about) in listed {
        let own = world.meshplan(&[name, "--help"]).exits(0).stdout;
        assert!(own.starts_with(about.trim()), "{name}: {own}");
    }
}

#[test]
fn a_reader_that_leaves_ends_nothing() {
    let world = World::new(TWO);
    for args in [&["list", "plan.kdl"][..], &["graph", "plan.kdl"], &["man"]] {
        let mut child = world
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).as_ref()
            ),
            (Some(0), ""),
            "{args:?}"
        );
    }
    let mut child = world
        .command(&["run", "plan.kdl", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(world.exists("out/west/cert-chain.pem"));
}

const ORG: &str = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { cert "org/root.pem"; key "org/root-key.pem"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { }
"#;

const EXPIRED: &str = "
umask 077; openssl ecparam -name prime256v1 -genkey -noout -out root-key.pem
openssl req -new -key root-key.pem -subj '/CN=Org Root' -out csr
printf '%s\\n' '[ca]' 'default_ca=d' '[d]' 'database=index' 'new_certs_dir=.' 'rand_serial=yes' 'default_md=sha256' 'policy=p' \\
    '[p]' 'commonName=supplied' '[v3]' 'basicConstraints=critical,CA:TRUE' > conf
touch index
openssl ca -selfsign -batch -notext -config conf -extensions v3 -keyfile root-key.pem -in csr -out root.pem \\
    -startdate 20200101000000Z -enddate 20200102000000Z
";

#[test]
fn a_root_brought_along_is_used_as_it_is_and_refused_where_it_cannot_sign() {
    if !support::judge("openssl") {
        return;
    }
    let make = |days: &str, more: &str| {
        format!(
            "umask 077; openssl ecparam -name prime256v1 -genkey -noout -out root-key.pem
             openssl req -x509 -new -key root-key.pem -out root.pem -sha256 {days} -subj '/DC=com/DC=example/OU=one/OU=two/CN=Org Root' {more}"
        )
    };
    let ca =
        "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign";
    let good = make("-days 3650", ca);
    let world = World::new(ORG);
    world.sh("org", &good);
    let org = (world.read("org/root.pem"), world.read("org/root-key.pem"));
    world.run(&[]).exits(0);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
    assert_eq!(
        world.read("out/east/root-cert.pem"),
        world.read("out/root-cert.pem")
    );
    assert!(!world.exists("out/root-key.pem"));
    let verified = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-CAfile",
            "out/east/root-cert.pem",
            "out/east/ca-cert.pem",
        ])
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    assert_eq!(
        (world.read("org/root.pem"), world.read("org/root-key.pem")),
        org
    );
    // Another root in its place would break the mesh: not without leave.
    world.sh("org", &good);
    world.run(&[]).exits(5).says("--allow root-reissue");

    let bad = [
        ("expired", EXPIRED.to_owned(), "expired"),
        (
            "not a CA",
            make("-days 90", "-addext basicConstraints=critical,CA:FALSE"),
            "not a CA",
        ),
        (
            "pathlen 0",
            make(
                "-days 90",
                "-addext basicConstraints=critical,CA:TRUE,pathlen:0",
            ),
            "pathlen",
        ),
        (
            "other key",
            format!("{good}; openssl ecparam -name prime256v1 -genkey -noout -out root-key.pem"),
            "key",
        ),
        (
            "encrypted",
            format!(
                "{good}; openssl pkcs8 -topk8 -v2 aes128 -passout pass:x -in root-key.pem -out e && mv e root-key.pem"
            ),
            "encrypted",
        ),
    ];
    for (name, script, word) in bad {
        let world = World::new(ORG);
        world.sh("org", &script);
        let ran = world.meshplan(&["run", "plan.kdl"]).exits(3);
        assert!(
            ran.stderr.contains(word) && ran.stderr.contains("plan.kdl"),
            "{name}: {}",
            ran.stderr
        );
        assert!(!world.exists("out"), "{name}: something was written");
    }
    let world = World::new(ORG);
    world.sh("org", &good);
    fs::set_permissions(
        world.path("org/root-key.pem"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    world
        .meshplan(&["run", "plan.kdl"])
        .exits(3)
        .says("chmod 600");
    let world = World::new(ORG);
    world
        .meshplan(&["run", "plan.kdl"])
        .exits(3)
        .says("org/root.pem");
}

#[test]
fn no_key_is_in_anything_that_is_said() {
    let world = World::new(TWO);
    let ran = world
        .meshplan(&["run", "plan.kdl", "-v", "--explain"])
        .exits(0);
    let json = world.run(&["-B", "--explain"]).exits(0);
    let log = String::from_utf8(world.read("out/.meshplan/log")).unwrap();
    for key in ["out/root-key.pem", "out/east/ca-key.pem"] {
        let pem = String::from_utf8(world.read(key)).unwrap();
        let body = pem.lines().nth(1).unwrap();
        for said in [&ran.stdout, &ran.stderr, &json.stdout, &json.stderr, &log] {
            assert!(!said.contains(body));
        }
    }
}

#[test]
fn a_root_that_a_task_brings_is_used_when_it_is_there_and_not_replaced_without_leave() {
    if !support::judge("openssl") {
        return;
    }
    let plan = ORG.to_owned()
        + r#"
        task "fetch" {
            output "org/root.pem" "org/root-key.pem"
            run "sh" "-c" "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /O=Org -out org/root.pem -keyout org/root-key.pem"
        }
        "#;
    let world = World::new(&plan);
    world.run(&[]).exits(0);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
    let root = world.read("out/root-cert.pem");
    world
        .run(&["--force", "org/root.pem"])
        .exits(5)
        .says("--allow root-reissue");
    assert_eq!(world.read("out/root-cert.pem"), root);
    world
        .run(&["--force", "org/root.pem", "--allow", "root-reissue"])
        .exits(0);
    assert_ne!(world.read("out/root-cert.pem"), root);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}

#[test]
fn a_variable_that_the_plan_does_not_read_is_told_with_the_one_that_was_meant() {
    let world = World::new(r#"mesh "m" { namespace (env)"NAMESPACE:-istio-system"; }"#);
    world
        .meshplan(&["check", "plan.kdl", "NAMSPACE=x"])
        .exits(4)
        .says("did you mean NAMESPACE=…?");
    world
        .meshplan(&["check", "plan.kdl", "NAMESPACE=x"])
        .exits(0);
}
