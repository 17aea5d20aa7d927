//! Takes one cluster a step further: what to ask of kubectl and istioctl, and what their answers mean.
//! It starts no process and knows nothing of tasks; whoever calls hands it a way to run a command.
//!
//! Each step looks before it acts, so a second run changes nothing and drift is repaired.

mod live;
mod preflight;
mod signs;
mod steps;
mod trouble;

use std::{fmt, io, time::Duration};

use camino::Utf8Path;

use crate::{
    host::process::{Command, Exit, Finished},
    plan::model::{Cluster, IstioVersion, Mesh},
};

pub use live::{Live, look, read_look};
pub use preflight::{Absent, preflight};
pub use steps::{Change, decide};
pub use trouble::{Kind, StepError};

/// Field manager of everything applied here.
pub const FIELD_MANAGER: &str = "meshplan";

/// Seconds of pause before each further try of a step that failed for a passing reason.
const BACK_OFF: [u64; 5] = [1, 2, 4, 8, 16];

/// The command line tools to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// A name in `PATH` or a path; `kubectl` unless `KUBECTL` says otherwise.
    pub kubectl: String,
    /// A name in `PATH` or a path; `istioctl` unless `ISTIOCTL` says otherwise.
    pub istioctl: String,
}

impl Tools {
    /// The tools that the variables `KUBECTL` and `ISTIOCTL` name.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let named = |variable, name: &str| {
            var(variable)
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| name.to_owned())
        };
        Self {
            kubectl: named("KUBECTL", "kubectl"),
            istioctl: named("ISTIOCTL", "istioctl"),
        }
    }
}

/// The cluster that a step is for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name in the plan.
    pub cluster: &'a str,
    /// Its kubeconfig context. The current context is never used.
    pub context: &'a str,
    /// Namespace of istiod.
    pub namespace: &'a str,
    /// Its Istio network, if the plan names one.
    pub network: Option<&'a str>,
    /// For a remote: its primary.
    pub primary: Option<&'a str>,
    /// Whether it runs an istiod of its own.
    pub runs_istiod: bool,
    /// Dialect of istioctl.
    pub istio: IstioVersion,
}

impl<'a> Target<'a> {
    /// `None` for a cluster without a context.
    pub fn new(mesh: &'a Mesh, cluster: &'a Cluster) -> Option<Self> {
        Some(Self {
            cluster: &cluster.name,
            context: cluster.context.as_deref()?,
            namespace: &mesh.namespace,
            network: cluster.network.as_deref(),
            primary: cluster.remote_of.as_deref(),
            runs_istiod: super::manifest::runs_istiod(cluster, mesh.istio_version),
            istio: mesh.istio_version,
        })
    }

    /// The control plane's Deployment; before 1.5 it was several, of which this one reads the config.
    fn control_plane(&self) -> &'static str {
        if self.istio < (IstioVersion { major: 1, minor: 5 }) {
            "istio-pilot"
        } else {
            "istiod"
        }
    }

    /// The control plane publishes its root certificate in a ConfigMap since 1.5.
    fn publishes_root(&self) -> bool {
        self.istio >= IstioVersion { major: 1, minor: 5 }
    }
}

/// The four files of the secret `cacerts`.
#[derive(Clone, Copy)]
pub struct Cacerts<'a> {
    /// `ca-cert.pem`: the signing certificate.
    pub ca_cert: &'a [u8],
    /// `ca-key.pem`: its private key.
    pub ca_key: &'a [u8],
    /// `cert-chain.pem`: the signing certificate and those above it.
    pub cert_chain: &'a [u8],
    /// `root-cert.pem`: what workloads trust.
    pub root_cert: &'a [u8],
}

/// Shows no bytes: one of them is a private key.
impl fmt::Debug for Cacerts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cacerts").finish_non_exhaustive()
    }
}

/// What a step wants the cluster to be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The namespace is there with its network label.
    Namespace,
    /// The secret `cacerts` holds these files.
    Secret(Cacerts<'a>),
    /// Istio is installed from this file.
    Install {
        /// Path of `install.yaml`, for istioctl to read.
        file: &'a Utf8Path,
        /// Its bytes.
        yaml: &'a [u8],
    },
    /// istiod runs and serves this root.
    Ready {
        /// Bytes of `root-cert.pem`.
        root_cert: &'a [u8],
    },
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// False where the look found nothing to change.
    pub changed: bool,
    /// What was done and why, for people.
    pub did: String,
}

/// What a step needs of the world.
pub struct Hands<'a> {
    /// Runs a command to its end.
    pub run: &'a mut dyn FnMut(&Command) -> io::Result<Finished>,
    /// Pauses between tries; returns at once when the run is interrupted.
    pub wait: &'a mut dyn FnMut(Duration),
}

impl fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

/// Does one step: looks, decides, acts. What fails for a passing reason is tried again, the look
/// included, with growing pauses.
///
/// # Errors
/// The step failed, was refused, or was interrupted; the error says what to do.
pub fn perform(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut Hands<'_>,
) -> Result<Outcome, StepError> {
    let mut pauses = BACK_OFF.iter();
    loop {
        let error = match attempt(wanted, target, tools, hands) {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        match pauses.next() {
            Some(pause) if error.transient() => (hands.wait)(Duration::from_secs(*pause)),
            None if error.transient() => return Err(error.after_tries(BACK_OFF.len() + 1)),
            _ => return Err(with_newest_event(error, wanted, target, tools, hands)),
        }
    }
}

fn attempt(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut Hands<'_>,
) -> Result<Outcome, StepError> {
    let live = observe(wanted, target, tools, hands)?;
    let changes = decide(wanted, target, tools, &live)?;
    let mut did = Vec::new();
    for change in &changes {
        call(&change.command, target, tools, hands)?;
        did.extend(change.why.clone());
    }
    if let (Wanted::Ready { root_cert }, false) = (wanted, changes.is_empty()) {
        steps::is_ready(root_cert, target, &observe(wanted, target, tools, hands)?)?;
    }
    match did.is_empty() {
        true => Ok(Outcome {
            changed: false,
            did: "current".to_owned(),
        }),
        false => Ok(Outcome {
            changed: true,
            did: did.join("; "),
        }),
    }
}

fn observe(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut Hands<'_>,
) -> Result<Live, StepError> {
    let finished = call(&look(wanted, target, tools), target, tools, hands)?;
    read_look(&finished.stdout).map_err(|e| StepError::garbled(target, &e))
}

fn call(
    command: &Command,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut Hands<'_>,
) -> Result<Finished, StepError> {
    let finished =
        (hands.run)(command).map_err(|e| StepError::not_run(command, tools, target, &e))?;
    match finished.status {
        Exit::Code(0) => Ok(finished),
        _ => Err(trouble::explain(command, target, &finished)),
    }
}

/// Why pods do not come up stands in events alone: conditions keep the first, harmless message
/// (cluster facts §4).
fn with_newest_event(
    mut error: StepError,
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut Hands<'_>,
) -> StepError {
    if error.kind == Kind::Failed
        && error.unready
        && matches!(wanted, Wanted::Install { .. } | Wanted::Ready { .. })
    {
        let answer = (hands.run)(&steps::newest_events(target, tools));
        let events = answer
            .ok()
            .filter(Finished::success)
            .map(|f| String::from_utf8_lossy(&f.stdout).into_owned());
        if let Some(event) = events
            .as_deref()
            .and_then(|e| e.lines().rev().find(|l| !l.trim().is_empty()))
        {
            error
                .cause
                .push_str(&format!(". Newest warning: {}", event.trim()));
        }
    }
    error
}
