//! A fault at every operation on files, and death at any moment: no partial file is ever visible, keys
//! survive, and the next run completes the mesh.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use camino::{Utf8Path, Utf8PathBuf};
use meshplan::{
    action::{
        cluster::{Allowed, Tools},
        pki,
    },
    build::{self, Request, RunError, Site, log::Log},
    graph,
    host::{
        Disk, Look, RealDisk, Stat, SystemClock,
        process::{self, Interrupt},
    },
    plan,
    report::{
        Reporter,
        event::{Event, Summary},
    },
};
use support::{TWO, World};

/// A disk that fails at one operation, or at that one and all after it, as at a kill.
struct Faulty {
    count: AtomicUsize,
    at: usize,
    dies: bool,
    failed: AtomicBool,
    /// A file of the mesh could not be written.
    unmade: AtomicBool,
    /// Files of the mesh that were written after that.
    made_after: AtomicUsize,
}

impl Faulty {
    fn new(at: usize, dies: bool) -> Self {
        Self {
            count: AtomicUsize::new(0),
            at,
            dies,
            failed: AtomicBool::new(false),
            unmade: AtomicBool::new(false),
            made_after: AtomicUsize::new(0),
        }
    }

    fn fault(&self) -> Option<io::Error> {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let now = n == self.at || (self.dies && n > self.at);
        now.then(|| {
            self.failed.store(true, Ordering::SeqCst);
            io::Error::from(io::ErrorKind::StorageFull)
        })
    }

    fn step<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.fault().map_or_else(work, Err)
    }

    /// A write that fails after its first half.
    fn write<T>(&self, bytes: &[u8], work: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        match self.fault() {
            None => work(bytes),
            Some(_) if self.dies && self.count.load(Ordering::SeqCst) > self.at + 1 => {
                Err(io::ErrorKind::Other.into())
            }
            Some(e) => work(&bytes[..bytes.len() / 2]).and(Err(e)),
        }
    }
}

impl Look for Faulty {
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>> {
        self.step(|| RealDisk.stat(path))
    }
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        self.step(|| Look::read(&RealDisk, path))
    }
    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        self.step(|| Look::list(&RealDisk, dir))
    }
}

impl Disk for Faulty {
    fn read_part(&self, path: &Utf8Path, place: u64, count: usize) -> io::Result<Vec<u8>> {
        self.step(|| RealDisk.read_part(path, place, count))
    }
    fn make_dir(&self, dir: &Utf8Path, mode: u32) -> io::Result<()> {
        self.step(|| RealDisk.make_dir(dir, mode))
    }
    fn create(&self, path: &Utf8Path, mode: u32, bytes: &[u8]) -> io::Result<Stat> {
        let made = self.write(bytes, |b| RealDisk.create(path, mode, b));
        if path.as_str().ends_with(".pem") {
            let before = self.unmade.fetch_or(made.is_err(), Ordering::SeqCst);
            self.made_after
                .fetch_add(usize::from(before), Ordering::SeqCst);
        }
        made
    }
    fn append(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes, |b| RealDisk.append(path, b))
    }
    fn truncate(&self, path: &Utf8Path, len: u64) -> io::Result<()> {
        self.step(|| RealDisk.truncate(path, len))
    }
    fn link(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.link(from, to))
    }
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.rename(from, to))
    }
    fn set_mode(&self, path: &Utf8Path, mode: u32) -> io::Result<()> {
        self.step(|| RealDisk.set_mode(path, mode))
    }
    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.remove(path))
    }
    fn remove_dir(&self, dir: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.remove_dir(dir))
    }
    fn sync(&self, path: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.sync(path))
    }
    fn sync_one(&self, path: &Utf8Path) -> io::Result<()> {
        self.step(|| RealDisk.sync_one(path))
    }
}

struct Silent;

impl Reporter for Silent {
    fn event(&mut self, _: std::time::Duration, _: &Event) -> io::Result<()> {
        Ok(())
    }
}

fn run(world: &World, disk: Arc<dyn Disk + Send + Sync>, allow: bool) -> Result<Summary, RunError> {
    run_on(world, disk, allow, false)
}

fn run_on(
    world: &World,
    disk: Arc<dyn Disk + Send + Sync>,
    allow: bool,
    keep_going: bool,
) -> Result<Summary, RunError> {
    let cwd = Utf8PathBuf::try_from(world.path("")).unwrap();
    let file = cwd.join("plan.kdl");
    let request = plan::Request {
        file: &file,
        cwd: &cwd,
        assignments: &[],
        work_dir: None,
    };
    let plan = plan::load(&request, &RealDisk)
        .unwrap_or_else(|p| panic!("{}", p.to_json()))
        .plan;
    let graph = graph::lower(&plan).unwrap_or_else(|p| panic!("{}", p.to_json()));
    let site = Site {
        plan: Arc::new(plan),
        graph: Arc::new(graph),
        disk,
        clock: Arc::new(SystemClock),
        tools: Tools::from_vars(|_| None),
        interrupt: Interrupt::new(process::GRACE),
        given: None,
    };
    let request = Request {
        targets: vec![],
        cwd,
        force: vec![],
        always: false,
        allow_rekey: allow,
        allow_root_reissue: allow,
        allowed: Allowed::default(),
        other_cluster: false,
        dry_run: false,
        explain: false,
        keep_going,
        jobs: 1,
        cluster_jobs: 1,
    };
    build::run(&site, &request, None, &mut Silent)
}

#[test]
fn a_log_that_could_not_be_written_is_not_settled() {
    let world = World::new(TWO);
    let path = Utf8PathBuf::try_from(world.path("log")).unwrap();
    let mut failures = 0;
    for at in 0..8 {
        let Ok(mut log) = Log::open(Arc::new(Faulty::new(at, true)), path.clone()) else {
            continue;
        };
        log.put_start("east");
        let failed = log
            .flush(&|_| Err(io::ErrorKind::StorageFull.into()))
            .is_err();
        failures += usize::from(failed);
        assert_eq!(log.settled_length().is_none(), failed, "{at}");
    }
    assert!(failures > 0 && failures < 8);
}

/// Whatever happened, what can be seen is whole. Each certificate fits its key, but in the middle of
/// replacing the key.
#[track_caller]
fn whole(world: &World, at: usize, rekey: bool) {
    let tree = world.tree("out");
    for (name, bytes) in &tree {
        let sound = match name.rsplit('/').next().unwrap() {
            "ca-key.pem" | "root-key.pem" => pki::read_key(bytes).map(|_| ()),
            "install.yaml" => bytes
                .ends_with(b"\n")
                .then_some(())
                .ok_or(pki::PkiError::NoPem),
            _ => pki::read_cert(bytes).map(|_| ()),
        };
        assert!(
            sound.is_ok(),
            "{name} is not whole after a fault at operation {at}: {sound:?}"
        );
    }
    for dir in ["", "east/", "west/"].into_iter().filter(|_| !rekey) {
        let (cert, key) = if dir.is_empty() {
            ("root-cert.pem", "root-key.pem")
        } else {
            ("ca-cert.pem", "ca-key.pem")
        };
        if let (Some(cert), Some(key)) = (
            tree.get(&format!("{dir}{cert}")),
            tree.get(&format!("{dir}{key}")),
        ) {
            assert!(
                pki::carries_key(cert, key).is_ok(),
                "{dir} does not fit after a fault at operation {at}"
            );
        }
    }
}

fn keys(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut tree = world.tree("out");
    tree.retain(|name, _| name.ends_with("key.pem"));
    tree
}

/// Runs with a fault at operation 0, 1, 2, … until a run has none, each from `prepare`'s state.
fn at_every_operation(prepare: impl Fn() -> World, allow: bool, dies: bool) {
    for at in 0.. {
        let world = prepare();
        let disk = Arc::new(Faulty::new(at, dies));
        let _ = run(&world, disk.clone(), allow);
        whole(&world, at, allow);
        // One worker has all keys of the mesh before it when the first of them fails.
        assert_eq!(
            disk.made_after.load(Ordering::SeqCst),
            0,
            "files were made after the failure of one at operation {at}"
        );
        let survivors = keys(&world);
        let after = run(&world, Arc::new(RealDisk), allow)
            .unwrap_or_else(|e| panic!("run after a fault at {at}: {e}"));
        assert_eq!(
            after.exit_code, 0,
            "the run after a fault at operation {at} did not complete"
        );
        assert_eq!(world.tree("out").len(), 12, "fault at {at}");
        if !allow {
            for (name, key) in survivors {
                assert_eq!(
                    key,
                    world.read(&format!("out/{name}")),
                    "{name} was replaced after a fault at {at}"
                );
            }
        }
        let last = run(&world, Arc::new(RealDisk), false).unwrap();
        assert_eq!(
            (last.ran, last.exit_code),
            (0, 0),
            "fault at {at}: {last:?}"
        );
        if !disk.failed.load(Ordering::SeqCst) {
            // Each of 12 files is looked for, written and looked at again.
            assert!(at > 36, "a build has more operations than {at}");
            return;
        }
    }
}

#[test]
fn a_fault_at_any_operation_of_a_first_run_leaves_nothing_partial() {
    at_every_operation(|| World::new(TWO), false, false);
}

#[test]
fn with_keep_going_a_file_that_cannot_be_written_fails_alone_and_blocks_what_needs_it() {
    let mut blocked = Vec::new();
    for at in 0.. {
        let world = World::new(TWO);
        let disk = Arc::new(Faulty::new(at, false));
        let ran = run_on(&world, disk.clone(), false, true);
        if !disk.failed.load(Ordering::SeqCst) {
            break;
        }
        if disk.unmade.load(Ordering::SeqCst) {
            let ran = ran.unwrap();
            assert_eq!((ran.failed, ran.not_started), (1, 0), "{at}: {ran:?}");
            assert_eq!(ran.ran + ran.failed + ran.blocked, 12, "{at}: {ran:?}");
            assert_eq!(world.tree("out").len(), ran.ran, "{at}: {ran:?}");
            blocked.push(ran.blocked);
        }
    }
    // Of east and west each: certificate and chain need the key, the chain needs the certificate.
    blocked.sort_unstable();
    assert_eq!(blocked, [0, 0, 0, 0, 1, 1, 2, 2]);
}

#[test]
fn death_at_any_operation_of_a_first_run_leaves_nothing_partial() {
    at_every_operation(|| World::new(TWO), false, true);
}

#[test]
fn death_at_any_operation_of_a_change_leaves_nothing_partial() {
    let prepare = || {
        let world = World::new(TWO);
        assert_eq!(run(&world, Arc::new(RealDisk), false).unwrap().exit_code, 0);
        world.write(
            "plan.kdl",
            TWO.replace("cluster-ca {", "cluster-ca { validity \"365d\";"),
        );
        world
    };
    at_every_operation(prepare, false, true);
}

#[test]
fn death_at_any_operation_of_an_allowed_rekey_leaves_a_key_that_fits() {
    let prepare = || {
        let world = World::new(TWO);
        assert_eq!(run(&world, Arc::new(RealDisk), false).unwrap().exit_code, 0);
        world.write(
            "plan.kdl",
            TWO.replace(
                "cluster-ca { key \"ecdsa-p256\"",
                "cluster-ca { key \"ecdsa-p384\"",
            ),
        );
        world
    };
    at_every_operation(prepare, true, true);
}

#[test]
fn kill_9_after_any_event_is_healed_by_the_next_run() {
    for events in 0..24 {
        let world = World::new(TWO);
        let mut command = world.command(&["run", "plan.kdl", "--format", "json"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..events {
            if lines.next().is_none() {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        whole(&world, events, false);
        let survivors = keys(&world);
        world.run(&[]).exits(0);
        assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
        for (name, key) in survivors {
            assert_eq!(key, world.read(&format!("out/{name}")));
        }
    }
}
