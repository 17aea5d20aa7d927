//! A folder of its own with plans in it, and the real binary run there.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Two small clusters, quick to build.
pub const TWO: &str = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { network "n1"; }
cluster "west" { network "n2"; }
"#;

pub struct World {
    dir: TempDir,
    env: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code, showing all that was said where it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(text), "missing `{text}` in:\n{all}");
        self
    }

    /// Events of `--format json` with that name.
    pub fn events(&self, name: &str) -> Vec<serde_json::Value> {
        let lines = self
            .stdout
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).expect(l));
        lines.filter(|e| e["event"] == name).collect()
    }

    /// Names of tasks that ran and changed something, sorted.
    pub fn ran(&self) -> Vec<String> {
        let finished = self
            .events("task-finished")
            .into_iter()
            .filter(|e| e["changed"] == true);
        let mut names: Vec<_> = finished
            .map(|e| e["task"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }
}

impl World {
    pub fn new(plan: &str) -> Self {
        let world = Self {
            dir: TempDir::new().unwrap(),
            env: BTreeMap::new(),
        };
        world.write("plan.kdl", plan);
        world
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshplan"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        for name in [
            "MESH",
            "WORK_DIR",
            "CLUSTER_1",
            "CLUSTER_2",
            "CTX_1",
            "CTX_2",
            "NETWORK_1",
            "NETWORK_2",
            "NO_COLOR",
            "KUBECONFIG",
            "KUBECTL",
            "ISTIOCTL",
        ] {
            command.env_remove(name);
        }
        command.envs(&self.env);
        command
    }

    pub fn meshplan(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `meshplan run plan.kdl --format json` and more.
    pub fn run(&self, more: &[&str]) -> Ran {
        self.meshplan(&[&["run", "plan.kdl", "--format", "json"], more].concat())
    }

    /// Runs a shell script in `dir`, which is made; it must succeed.
    #[track_caller]
    pub fn sh(&self, dir: &str, script: &str) {
        fs::create_dir_all(self.path(dir)).unwrap();
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(self.path(dir))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Every file below `dir` but meshplan's own, with its bytes.
    pub fn tree(&self, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(&self.path(dir), Path::new(""), &mut files);
        files
    }
}

fn walk(dir: &Path, below: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = below.join(entry.file_name());
        if entry.file_name() == ".meshplan" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &name, files);
        } else {
            files.insert(name.display().to_string(), fs::read(entry.path()).unwrap());
        }
    }
}

/// True where a judge is installed; one that is not is told as a skip.
pub fn judge(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        skip(program);
    }
    there
}

/// Says that a judge is missing, past the capture of the test harness, which hides what passing tests say.
pub fn skip(judge: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {judge} is not installed");
}
