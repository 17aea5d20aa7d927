//! Runs children through the public API: what they say, how they end, and what is left of them.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    thread,
    time::Duration,
};

use meshplan::host::process::{Command, Exit, Finished, GRACE, Interrupt, path_lookup, run};
use rustix::{fs::OFlags, io::ioctl_fionbio};
use tempfile::TempDir;

fn sh(script: &str, dir: &Path) -> Command {
    Command {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        dir: Some(dir.into()),
        ..Command::default()
    }
}

fn done(command: &Command) -> Finished {
    run(command, &Interrupt::new(GRACE), &mut |_| {}).unwrap()
}

/// A folder with named pipes in it; a child that reads one of them waits for ever.
fn folder(fifos: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    if !fifos.is_empty() {
        assert!(done(&sh(&format!("mkfifo {fifos}"), dir.path())).success());
    }
    dir
}

#[test]
fn streams_are_kept_apart_and_whole() {
    let dir = folder("");
    let mut command = sh("cat; printf 'caf\\303\\251' >&2; exit 7", dir.path());
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    command.stdin = Some(sent.clone().into());
    command.capture_stdout = true;
    let finished = done(&command);
    assert_eq!(
        (finished.status, finished.tail.as_str()),
        (Exit::Code(7), "café")
    );
    assert!(*finished.stdout == sent);

    // One that stops reading has its reasons.
    command.args[1] = "exec 0<&-; echo enough >&2; exit 3".into();
    assert_eq!(
        (done(&command).status, done(&command).tail.as_str()),
        (Exit::Code(3), "enough\n")
    );

    let finished = done(&sh(
        "read x || echo out; echo err >&2; kill -9 $$",
        dir.path(),
    ));
    assert_eq!(
        (finished.status, finished.tail.as_str()),
        (Exit::Signal(9), "out\nerr\n")
    );
}

#[test]
fn the_tail_is_the_end() {
    let dir = folder("");
    let finished = done(&sh(
        "awk 'BEGIN { for (i = 0; i < 60000; i++) print \"é\" i }'",
        dir.path(),
    ));
    assert!(finished.tail.ends_with("é59999\n") && finished.tail.len() <= 64 * 1024);
    assert!(!finished.tail.contains('\u{fffd}'));
}

#[test]
fn a_grandchild_with_the_pipe_is_not_waited_for() {
    let dir = folder("hold");
    let finished = done(&sh("(read x < hold) & echo here >&2", dir.path()));
    assert_eq!(
        (finished.status, finished.tail.as_str()),
        (Exit::Code(0), "here\n")
    );
    fs::write(dir.path().join("hold"), "go\n").unwrap();
}

/// Both parent and child ignore TERM and keep `open` open for writing, so its end of file says that
/// the last of them is gone.
const STUBBORN: &str =
    "trap '' TERM; exec 3>open; (echo up >&3; read x < hold) & wait; read x < hold";

#[test]
fn a_time_limit_ends_the_group() {
    let dir = folder("open hold");
    // Without blocking, since a slow machine may end the child before it opens its end.
    let mut open = fs::OpenOptions::new();
    open.read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut open = open.open(dir.path().join("open")).unwrap();
    let mut command = sh(STUBBORN, dir.path());
    command.timeout = Some(Duration::from_millis(300));
    let finished = run(
        &command,
        &Interrupt::new(Duration::from_millis(50)),
        &mut |_| {},
    );
    assert_eq!(finished.unwrap().status, Exit::TimedOut);
    ioctl_fionbio(&open, false).unwrap();
    open.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn an_interrupt_ends_the_group_and_starts_nothing_more() {
    let dir = folder("open hold");
    let interrupt = Interrupt::new(Duration::from_millis(50));
    let mut command = sh(STUBBORN, dir.path());
    command.stdin = Some(vec![b'x'; 1_000_000].into());
    let pid = thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let mut pid = 0;
            (run(&command, &interrupt, &mut |p| pid = p).unwrap(), pid)
        });
        let mut open = BufReader::new(fs::File::open(dir.path().join("open")).unwrap());
        open.read_line(&mut String::new()).unwrap();
        interrupt.signal(15);
        open.read_to_end(&mut Vec::new()).unwrap();
        let (finished, pid) = runner.join().unwrap();
        assert_eq!(finished.status, Exit::Interrupted);
        pid
    });
    assert!(pid > 1);
    assert_eq!(interrupt.received(), Some(15));
    let started = run(&sh("echo x > started", dir.path()), &interrupt, &mut |_| {
        panic!("started")
    });
    assert_eq!(started.unwrap().status, Exit::Interrupted);
    assert!(!dir.path().join("started").exists());
}

#[test]
fn what_cannot_be_started_is_named() {
    let dir = folder("");
    let text = |command: &Command| {
        run(command, &Interrupt::new(GRACE), &mut |_| {})
            .unwrap_err()
            .to_string()
    };
    let missing = Command {
        program: "no-such-tool".into(),
        ..Command::default()
    };
    assert_eq!(
        text(&missing),
        "cannot run no-such-tool: no program of that name in PATH"
    );
    let lost = sh("true", &dir.path().join("gone"));
    assert!(text(&lost).contains("gone is no folder"));
    let secret = Command {
        stdin: Some(b"PRIVATE".to_vec().into()),
        env: vec![("A".into(), "TOKEN".into())],
        ..missing
    };
    let shown = format!("{secret:?}");
    assert!(
        !shown.contains("PRIVATE") && !shown.contains("TOKEN") && shown.contains("no-such-tool"),
        "{shown}"
    );
}

#[test]
fn tools_are_found_as_a_shell_finds_them() {
    let dir = folder("");
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    for (folder, mode) in [(&a, 0o644), (&b, 0o755)] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("tool"), "").unwrap();
        fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = std::env::join_paths([&a, &b]).unwrap();
    assert_eq!(path_lookup("tool", &path), Some(b.join("tool")));
    assert_eq!(path_lookup(a.join("tool").to_str().unwrap(), &path), None);
    assert_eq!(path_lookup("", &path), None);
    assert_eq!(
        path_lookup("b", dir.path().as_os_str()),
        None,
        "a folder is no program"
    );
}
