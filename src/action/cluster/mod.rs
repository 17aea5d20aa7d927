//! Takes one cluster a step further: what to ask of kubectl and istioctl, and what their answers mean.
//! It starts no process and knows nothing of tasks; whoever calls hands it a way to run a command.
//!
//! Each step looks before it acts, so a second run changes nothing and drift is repaired.

mod checks;
mod destroy;
mod gateway;
mod lease;
mod live;
mod preflight;
mod proof;
mod remote_secret;
pub mod root;
mod signs;
mod steps;
pub mod survey;
mod trouble;
mod verify;

use std::{fmt, io, sync::Arc, time::Duration};

use camino::Utf8Path;
use smol_str::SmolStr;
use time::OffsetDateTime;

use crate::{
    host::process::{Command, Exit, Finished},
    plan::model::{DataPlane, IstioVersion, Plan},
};

pub use destroy::{Removal, held_for, made, remove};
pub use lease::give_back;
pub use live::{Live, look, read_look};
pub use preflight::{Absent, Kubeconfig, Machine, preflight};
pub use proof::{Pod, pods, read_pods};
pub use steps::{Change, decide};
pub use trouble::{Kind, StepError};
pub use verify::verify;

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

/// What the user allows in a cluster that is not this plan's yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Fields that another field manager owns are taken over.
    pub take_over: bool,
    /// The root that a living istiod serves is replaced.
    pub other_root: bool,
    /// An istiod of another mesh is replaced.
    pub other_mesh: bool,
}

/// The cluster that a step is for.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Its name in the plan.
    pub cluster: &'a str,
    /// Its kubeconfig context. The current context is never used.
    pub context: &'a str,
    /// The kubeconfig that knows the context; `None` for the user's own.
    pub kubeconfig: Option<&'a Utf8Path>,
    /// Where other clusters reach its API server, if not as the kubeconfig has it.
    pub api_server: Option<&'a str>,
    /// Mesh ID.
    pub mesh: &'a str,
    /// Namespace of istiod.
    pub namespace: &'a str,
    /// Its Istio network, if the plan names one.
    pub network: Option<&'a str>,
    /// The mesh has more than one network.
    pub several_networks: bool,
    /// For a remote: its primary.
    pub primary: Option<&'a str>,
    /// For a remote: where its primary is found, if the plan says so.
    pub discovery_address: Option<&'a str>,
    /// Whether it is the primary of a remote.
    pub has_remotes: bool,
    /// Whether it has an east-west gateway.
    pub gateway: bool,
    /// Whether its data plane is ambient.
    pub ambient: bool,
    /// Whether it runs an istiod of its own.
    pub runs_istiod: bool,
    /// Clusters that its istiod reads, itself among them; none for a remote.
    pub in_reach: &'a [SmolStr],
    /// Whether the istiod of another cluster reads it.
    pub is_read: bool,
    /// Dialect of istioctl.
    pub istio: IstioVersion,
    /// What the user allows.
    pub allowed: Allowed,
}

impl<'a> Target<'a> {
    /// The cluster at that place of the plan; `None` for one without a context.
    pub fn new(plan: &'a Plan, place: usize, allowed: Allowed) -> Option<Self> {
        let (mesh, cluster) = (&plan.mesh, &plan.clusters[place]);
        let in_reach = plan.clusters.iter().filter(|c| c.context.is_some());
        let mut others = in_reach.filter(|c| c.name != cluster.name);
        Some(Self {
            cluster: &cluster.name,
            context: cluster.context.as_deref()?,
            kubeconfig: cluster.kubeconfig.as_deref(),
            api_server: cluster.api_server.as_deref(),
            mesh: &mesh.id,
            namespace: &mesh.namespace,
            network: cluster.network.as_deref(),
            several_networks: mesh.several_networks,
            primary: cluster.remote_of.as_deref(),
            discovery_address: cluster.discovery_address.as_deref(),
            has_remotes: cluster.has_remotes,
            gateway: cluster.gateway,
            ambient: mesh.data_plane == DataPlane::Ambient,
            runs_istiod: super::manifest::runs_istiod(cluster, mesh.istio_version),
            in_reach: match cluster.remote_of {
                None => &mesh.in_reach,
                Some(_) => &[],
            },
            is_read: others.any(|c| c.remote_of.is_none()),
            istio: mesh.istio_version,
            allowed,
        })
    }

    /// Clusters that its istiod reads.
    fn reads(&self) -> impl Iterator<Item = &'a str> {
        let names = self.in_reach.iter().map(SmolStr::as_str);
        names.filter(|name| *name != self.cluster)
    }

    /// The control plane's Deployment; before 1.5 it was several, of which this one reads the config.
    fn control_plane(&self) -> &'static str {
        if self.since(5) {
            "istiod"
        } else {
            "istio-pilot"
        }
    }

    /// Whether the release is 1.`minor` or newer.
    fn since(&self, minor: u16) -> bool {
        self.istio >= IstioVersion { major: 1, minor }
    }

    /// The control plane publishes its root certificate in a ConfigMap since 1.5.
    fn publishes_root(&self) -> bool {
        self.since(5)
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
    /// End of the chain's first certificate, by which istiod tells which one it took.
    pub ends: OffsetDateTime,
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
        /// For a remote: its primary, where that is in reach.
        primary: Option<&'a Target<'a>>,
    },
    /// The east-west gateway exposes what it must, and has an address.
    Gateway,
    /// istiod runs and serves this root.
    Ready {
        /// Bytes of `root-cert.pem`.
        root_cert: &'a [u8],
    },
    /// istiod has access to this cluster.
    Reads(&'a Target<'a>),
    /// istiod reads every cluster that it has access to.
    Synced,
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
pub trait Hands {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// It could not be started.
    fn run(&mut self, command: &Command) -> io::Result<Finished>;
    /// Pauses between tries; returns at once when the run is interrupted.
    fn wait(&mut self, pause: Duration);
    /// What a cluster holds, as it was seen in this run or as it is now.
    ///
    /// # Errors
    /// As of [`observe`].
    fn look(&mut self, target: &Target<'_>) -> Result<Arc<Live>, StepError>;
    /// What was seen of a cluster is not so any more.
    fn forget(&mut self, target: &Target<'_>);
    /// Asks whether a cluster may be changed now; once it may, it may for the rest of the run.
    ///
    /// # Errors
    /// What must be put right first.
    fn may_change(&mut self, target: &Target<'_>, first: bool) -> Result<(), StepError>;
    /// Says what is waited for.
    fn waits(&mut self, on: &str);
    /// The time of day.
    fn now(&self) -> OffsetDateTime;
    /// This run, in words that hold beyond this machine.
    fn holder(&self) -> String;
    /// Whether the run of these words has ended for certain.
    fn has_ended(&self, holder: &str) -> bool;
}

impl fmt::Debug for dyn Hands + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hands")
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
    hands: &mut dyn Hands,
) -> Result<Outcome, StepError> {
    let mut pauses = BACK_OFF.iter();
    loop {
        let error = match attempt(wanted, target, tools, hands) {
            Ok(did) if did.is_empty() => {
                let did = "current".to_owned();
                return Ok(Outcome {
                    changed: false,
                    did,
                });
            }
            Ok(did) => {
                let did = did.join("; ");
                return Ok(Outcome { changed: true, did });
            }
            Err(error) => error,
        };
        hands.forget(target);
        match pauses.next() {
            Some(pause) if error.transient() => {
                // What to do is for whom it fails in the end.
                let cause = error.cause.split("; ").next().unwrap_or_default();
                hands.waits(&format!("another try in {pause} s: {cause}"));
                hands.wait(Duration::from_secs(*pause));
            }
            None if error.transient() => return Err(error.after_tries(BACK_OFF.len() + 1)),
            _ => return Err(more_of(error, wanted, target, tools, hands)),
        }
    }
}

fn attempt(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Vec<String>, StepError> {
    let live = match hands.look(target) {
        // Whoever may not even look is told all that is lacking.
        Err(e) if e.forbidden() => {
            hands.may_change(target, true)?;
            return Err(e);
        }
        looked => looked?,
    };
    match wanted {
        Wanted::Reads(other) => return steps::reads(other, target, tools, hands, &live),
        Wanted::Synced => return proof::synced(target, tools, hands, &live),
        _ => {}
    }
    let address = primary_address(wanted, target, hands)?;
    let changes = decide(wanted, target, tools, &live, address.as_deref())?;
    if let (Wanted::Secret(files), false) = (wanted, changes.is_empty())
        && live.serves_other(files.root_cert)
        && !target.allowed.other_root
        && live.control_plane(target).is_none()
    {
        // The root may be what an istiod that is gone left behind, or that of one with another name.
        let found = call(&proof::istiods(target, tools), target, tools, hands)?;
        if !found.stdout.iter().all(u8::is_ascii_whitespace) {
            return Err(StepError::other_root(target));
        }
    }
    let mut did = Vec::new();
    if changes.is_empty() && !matches!(wanted, Wanted::Gateway) {
        return Ok(did);
    }
    if !changes.is_empty() {
        hands.may_change(target, matches!(wanted, Wanted::Namespace))?;
        for change in &changes {
            hands.forget(target);
            let called = call(&change.command, target, tools, hands);
            // Another step of this cluster may have looked meanwhile.
            hands.forget(target);
            called?;
            did.extend(change.why.clone());
        }
    }
    match wanted {
        Wanted::Ready { root_cert } => {
            steps::is_ready(root_cert, target, hands.look(target)?.as_ref())?;
        }
        Wanted::Secret(files)
            if live.control_plane(target).is_some_and(|r| r.available)
                && proof::follows(files, target, &live) =>
        {
            proof::reloaded(files, target, tools, hands)?;
        }
        Wanted::Gateway => did.extend(proof::address(target, hands, &live)?),
        _ => {}
    }
    Ok(did)
}

/// Where a remote that is to be installed finds its primary, if install.yaml does not say it.
fn primary_address(
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    hands: &mut dyn Hands,
) -> Result<Option<String>, StepError> {
    match wanted {
        Wanted::Install {
            primary: Some(primary),
            ..
        } if target.discovery_address.is_none() => {
            let of = hands.look(primary)?;
            // In any order, so that no other order installs it anew.
            let address = of.addresses.as_ref().and_then(|a| a.iter().min());
            Ok(Some(
                address
                    .ok_or_else(|| StepError::no_address(primary, target))?
                    .clone(),
            ))
        }
        _ => Ok(None),
    }
}

/// Asks a cluster what it holds.
///
/// # Errors
/// It cannot be asked, or gives no answer that can be read.
pub fn observe(
    target: &Target<'_>,
    tools: &Tools,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Result<Live, StepError> {
    let command = look(target, tools);
    let finished = run(&command).map_err(|e| StepError::not_run(&command, tools, target, &e))?;
    match finished.status {
        Exit::Code(0) => {}
        Exit::Code(1) if live::only_unknown_kinds(&finished.tail) => {}
        _ => return Err(trouble::explain(&command, target, &finished)),
    }
    let live = read_look(&finished.stdout, target).map_err(|e| StepError::garbled(target, &e))?;
    match live.uid {
        Some(_) => Ok(live),
        // Every cluster has it.
        None => Err(StepError::garbled(target, "no namespace kube-system")),
    }
}

/// Why istioctl is not of the release that a plan is for, if it is not.
pub fn other_istioctl(
    tools: &Tools,
    istio: IstioVersion,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Option<String> {
    let finished = run(&checks::istioctl_version(tools)).ok()?;
    checks::other_istioctl(&finished.stdout, istio, tools)
}

/// What must hold before any cluster is changed: asked of all at once, by whoever changes one first. `istioctl`
/// is what [`other_istioctl`] found.
///
/// # Errors
/// What does not hold, with what to do.
pub fn fit(
    target: &Target<'_>,
    tools: &Tools,
    istioctl: Option<&str>,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Result<(), StepError> {
    let mut ask = |command: &Command| {
        let finished = run(command).map_err(|e| StepError::not_run(command, tools, target, &e))?;
        match finished.success() || !finished.stdout.is_empty() {
            true => Ok(finished.stdout),
            false => Err(trouble::explain(command, target, &finished)),
        }
    };
    let mut lacks: Vec<String> = istioctl.map(str::to_owned).into_iter().collect();
    lacks.extend(checks::beyond(target));
    let server = ask(&checks::server_version(target, tools))?;
    lacks.extend(checks::too_old(&server, target.istio));
    if target.ambient && target.gateway {
        match ask(&checks::gateway_api(target, tools)) {
            Ok(found) if found.is_empty() => lacks.push(checks::no_gateway_api(target)),
            // Permissions are told below.
            Err(e) if !e.forbidden() => return Err(e),
            _ => {}
        }
    }
    let reviews = ask(&checks::permissions(target, tools))?;
    lacks.extend(checks::lacking(&reviews, target));
    if lacks.is_empty() {
        Ok(())
    } else {
        Err(StepError::unfit(target, &lacks.join("; ")))
    }
}

/// Takes a cluster's Lease.
///
/// # Errors
/// Another run holds it, or it cannot be had.
pub fn hold(target: &Target<'_>, tools: &Tools, hands: &mut dyn Hands) -> Result<(), StepError> {
    lease::take(target, tools, hands)
}

fn call(
    command: &Command,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> Result<Finished, StepError> {
    let finished = hands
        .run(command)
        .map_err(|e| StepError::not_run(command, tools, target, &e))?;
    match finished.status {
        Exit::Code(0) => Ok(finished),
        _ => Err(trouble::explain(command, target, &finished)),
    }
}

/// What an error is worth to whoever reads it: for pods that do not come up the newest events, since
/// conditions keep the first, harmless message (cluster facts §4); for a root that is not to be replaced
/// the workloads that live on it.
fn more_of(
    mut error: StepError,
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    tools: &Tools,
    hands: &mut dyn Hands,
) -> StepError {
    let mut ask = |command: &Command| {
        let finished = hands.run(command).ok().filter(Finished::success)?;
        Some(String::from_utf8_lossy(&finished.stdout).into_owned())
    };
    let waits = matches!(
        wanted,
        Wanted::Install { .. } | Wanted::Ready { .. } | Wanted::Gateway
    );
    if error.kind == Kind::Failed && error.unready && waits {
        if let Some(pods) = ask(&proof::pods(target, tools)) {
            let troubled = proof::troubled(&pods);
            if !troubled.is_empty() {
                error
                    .cause
                    .push_str(&format!(". Pods: {}", troubled.join(", ")));
            }
        }
        let events = ask(&steps::newest_events(target, tools)).unwrap_or_default();
        let mut newest: Vec<&str> = Vec::new();
        for event in events.lines().rev().map(str::trim) {
            if newest.len() < 3 && !event.is_empty() && !newest.contains(&event) {
                newest.insert(0, event);
            }
        }
        if !newest.is_empty() {
            error
                .cause
                .push_str(&format!(". Newest warnings: {}", newest.join("; ")));
        }
    }
    if error.kind == Kind::Refused && error.lives {
        let workloads = ask(&proof::workloads(target, tools)).unwrap_or_default();
        let count = workloads.lines().filter(|l| !l.trim().is_empty()).count();
        error.cause.push_str(&match count {
            0 => " (no pod of this cluster has a proxy)".to_owned(),
            1 => " (1 pod of this cluster holds a certificate of it)".to_owned(),
            n => format!(" ({n} pods of this cluster hold certificates of it)"),
        });
    }
    error
}
