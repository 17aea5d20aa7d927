//! A task and a file as plain data: what is made from what, by which action. Nothing here knows
//! whether anything is current, or how an action is done.

use std::sync::Arc;

use camino::Utf8PathBuf;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::plan::problem::Span;

/// A file of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(crate) u32);

/// A task of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(crate) u32);

impl FileId {
    /// Place in the graph's list of files.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl TaskId {
    /// Place in the graph's list of tasks.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A few files or tasks. A fleet has hundreds of thousands of such lists: the usual one has no heap cell.
pub type Few<T> = SmallVec<[T; 4]>;

/// A file that a task reads or makes.
#[derive(Debug, Clone)]
pub struct File {
    /// Absolute path.
    pub path: Utf8PathBuf,
    /// Path below the work directory, or the absolute one: its name on the command line and in the log.
    pub name: SmolStr,
    /// The task that makes it; `None` for a file that somebody brings.
    pub producer: Option<TaskId>,
}

/// Something that can be done.
#[derive(Debug, Clone)]
pub struct Task {
    /// Path of its output for a built-in file, else its target name.
    pub name: SmolStr,
    /// What it does.
    pub action: Action,
    /// Files it reads, in an order that the action knows.
    pub inputs: Few<FileId>,
    /// Files it makes.
    pub outputs: Few<FileId>,
    /// Tasks that must be done before, whose results it does not read.
    pub after: Few<TaskId>,
    /// Where the plan asks for it.
    pub origin: Span,
    /// Why this plan cannot have it done, and what would change that.
    pub undone: Option<Arc<Undone>>,
}

/// Why a task is left undone.
#[derive(Debug, Clone)]
pub struct Undone {
    /// What is missing.
    pub why: SmolStr,
    /// What to write or set.
    pub how: SmolStr,
}

/// Whose a key or a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The mesh's root CA.
    Root,
    /// The cluster at this place of the plan.
    Cluster(usize),
    /// The workload at this place of the plan.
    Workload(usize),
}

/// What a task does. Clusters, workloads and tasks are places in the plan's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Makes a private key. No inputs.
    Key(Owner),
    /// Signs the root certificate with its own key. Input: the root key.
    RootCert,
    /// Copies the trust anchor of a CA brought along. Inputs: its certificate, its chain files.
    Anchor,
    /// Signs a cluster's CA certificate. Inputs: its key, the root certificate, then what signs:
    /// the root key, or for a CA brought along its certificate, key and chain files.
    CaCert(usize),
    /// Joins a cluster's chain and holds the whole bundle to istiod's own checks.
    /// Inputs: its key, its CA certificate, the root certificate, then chain files of a CA brought along.
    Chain(usize),
    /// Copies the root certificate to a cluster's or workload's folder. Input: the root certificate.
    RootCopy(Owner),
    /// Signs a workload's certificate. Inputs: its key, the certificate and the key of its cluster's CA, the
    /// root certificate, then certificates of a CA brought along.
    WorkloadCert(usize),
    /// Joins a workload's chain and checks that it leads to the root. Inputs: its certificate, that of its
    /// cluster's CA, the root certificate, then certificates of a CA brought along.
    WorkloadChain(usize),
    /// Writes a cluster's IstioOperator. No inputs: the plan says it all.
    Install(usize),
    /// Takes a cluster one step further.
    Step(usize, Step),
    /// Runs the user's command.
    Command(usize),
}

/// Steps of a cluster, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The namespace with its network label.
    Namespace,
    /// The secret `cacerts`.
    Secret,
    /// `istioctl install`.
    Install,
    /// The east-west gateway: what it exposes, and its address.
    Gateway,
    /// istiod runs and serves this root.
    Ready,
    /// Its istiod is given access to the cluster at this place of the plan: a remote secret.
    Reads(usize),
    /// Its istiod reads every cluster that it has a remote secret of.
    Synced,
}

impl Action {
    /// True for a file that holds a private key.
    pub fn makes_key(self) -> bool {
        matches!(self, Action::Key(_))
    }

    /// True for tasks whose only effect is their output file, made by meshplan itself.
    pub fn is_built_in_file(self) -> bool {
        !matches!(self, Action::Step(..) | Action::Command(_))
    }

    /// The cluster it works for; none for a workload, which only its certificate ties to one.
    pub fn cluster(self) -> Option<usize> {
        match self {
            Action::Key(Owner::Cluster(c))
            | Action::CaCert(c)
            | Action::Chain(c)
            | Action::RootCopy(Owner::Cluster(c))
            | Action::Install(c)
            | Action::Step(c, _) => Some(c),
            _ => None,
        }
    }

    /// The workload it works for.
    pub fn workload(self) -> Option<usize> {
        match self {
            Action::Key(Owner::Workload(w))
            | Action::RootCopy(Owner::Workload(w))
            | Action::WorkloadCert(w)
            | Action::WorkloadChain(w) => Some(w),
            _ => None,
        }
    }

    /// Permission bits of its output.
    pub fn mode(self) -> u32 {
        if self.makes_key() { 0o600 } else { 0o644 }
    }
}
