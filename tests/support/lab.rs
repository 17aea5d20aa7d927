//! Real clusters for one test, on the lab of `tests/lab`. It knows the lab's commands and folders, and nothing of
//! how its clusters are made.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use tempfile::TempDir;

use crate::support::World;

/// The script, to be run as any command.
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lab");

/// Clusters that end with their owner. Whatever ends the test, the namespace that it runs in takes them along.
pub struct Lab {
    dir: TempDir,
    clusters: Vec<&'static str>,
}

impl Lab {
    /// Starts clusters of these names and indexes (1 to 49), all at once.
    pub fn up(clusters: &[(&'static str, u8)]) -> Self {
        Self::up_with(clusters, &[])
    }

    /// Starts clusters with variables for the lab, such as `LAB_NO_ADDRESS`.
    #[track_caller]
    pub fn up_with(clusters: &[(&'static str, u8)], vars: &[(&str, &str)]) -> Self {
        assert!(
            env::var_os("LAB_INSIDE").is_some(),
            "real clusters need the lab's network: run `just e2e`"
        );
        let lab = Self {
            dir: TempDir::new_in(env::var_os("LAB").unwrap()).unwrap(),
            clusters: clusters.iter().map(|(name, _)| *name).collect(),
        };
        let mut up = lab.command(SCRIPT);
        up.arg("up").envs(vars.iter().copied());
        for (name, index) in clusters {
            up.args([*name, &index.to_string()]);
        }
        succeeded(&up.output().unwrap());
        lab
    }

    /// The kubeconfig with a context for each cluster, of the cluster's name.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// A file of the lab's: `NAME/kubeconfig`, `NAME/istiod-….log`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plan in a folder of its own, whose runs meet these clusters.
    pub fn world(&self, plan: &str) -> World {
        self.vars()
            .into_iter()
            .fold(World::new(plan), |world, (name, value)| {
                world.env(name, value.display().to_string())
            })
    }

    /// A program that meets these clusters: kubectl and istioctl are in its PATH.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.envs(self.vars());
        command
    }

    fn vars(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("LAB", self.path("")),
            ("KUBECONFIG", self.kubeconfig()),
            ("KUBECACHEDIR", self.path("cache")),
        ]
    }

    /// Standard output of `kubectl --context CLUSTER ARGS…`, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, cluster: &str, args: &[&str]) -> String {
        let mut kubectl = self.command("kubectl");
        kubectl.args(["--context", cluster]).args(args);
        succeeded(&kubectl.output().unwrap())
    }

    /// Ends one process of a cluster at once, as a crash would: `apiserver`, `etcd`, `controllers`, `kwok` …
    #[track_caller]
    pub fn stop(&self, cluster: &str, process: &str) {
        succeeded(
            &self
                .command(SCRIPT)
                .args(["stop", cluster, process])
                .output()
                .unwrap(),
        );
    }

    /// Starts a stopped process again.
    #[track_caller]
    pub fn start(&self, cluster: &str, process: &str) {
        succeeded(
            &self
                .command(SCRIPT)
                .args(["start", cluster, process])
                .output()
                .unwrap(),
        );
    }

    /// What the processes of the clusters said last, past the capture of the test harness.
    fn tell(&self) {
        for cluster in &self.clusters {
            let logs = fs::read_dir(self.path(cluster)).into_iter().flatten();
            for log in logs.filter_map(|entry| Some(entry.ok()?.path())) {
                if log.extension().is_some_and(|e| e == "log") {
                    let text = fs::read(&log).unwrap_or_default();
                    let tail = text.len().saturating_sub(1500);
                    let tail = String::from_utf8_lossy(&text[tail..]);
                    let _ = writeln!(io::stderr(), "--- {}\n…{tail}", log.display());
                }
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        for cluster in &self.clusters {
            let _ = self.command(SCRIPT).args(["stop", cluster]).output();
        }
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}
