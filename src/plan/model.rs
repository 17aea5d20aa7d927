//! The checked plan: what every later module works from. Made only by `plan::check`; it knows
//! nothing of KDL, of what is on disk, or of tasks.

use std::{fmt, sync::Arc, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use smol_str::SmolStr;
use time::OffsetDateTime;

use super::{
    files::FileNames,
    problem::{Sources, Span},
};

/// A whole mesh: its root CA, its clusters and the user's own tasks.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plan file as the user named it.
    pub file: Utf8PathBuf,
    /// Absolute folder of the plan: where paths of `task`, `values-file` and `root-ca` start.
    pub dir: Utf8PathBuf,
    /// Absolute folder that the built files go to.
    pub work_dir: Utf8PathBuf,
    /// What the built files are called.
    pub files: FileNames,
    /// How much of a mesh it is about.
    pub scope: Scope,
    /// Mesh-wide settings.
    pub mesh: Mesh,
    /// The root CA, made here or brought along.
    pub root: RootCa,
    /// Clusters in plan order; names are unique, also when case is ignored.
    pub clusters: Vec<Cluster>,
    /// Workloads with certificates of their own, in plan order; names are unique, and a cluster's only where
    /// that cluster's CA signs.
    pub workloads: Vec<Workload>,
    /// The user's own steps in plan order.
    pub tasks: Vec<UserTask>,
    /// The texts that spans point into.
    pub sources: Sources,
}

/// How much of a mesh a plan is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Files, what istioctl installs from, and the clusters.
    Mesh,
    /// Files of CAs and workloads alone, as Istio's Makefiles make them; names are a Makefile's too.
    Files(Spoken),
}

/// Which fields are spoken of, by their names in a recipe. Of a certificate that is there, the others are as
/// they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Of the root.
    pub root: Vec<&'static str>,
    /// Of clusters' CAs.
    pub clusters: Vec<&'static str>,
    /// Of workloads.
    pub workloads: Vec<&'static str>,
}

impl Plan {
    /// A path as the plan's files are called: below the work directory, else absolute.
    pub fn below(&self, path: &Utf8Path) -> String {
        path.strip_prefix(&self.work_dir)
            .unwrap_or(path)
            .to_string()
    }

    /// What to type to have a file made anew; `allow` is a gate with a space behind it.
    pub fn anew(&self, file: &str, allow: &str) -> String {
        match self.scope {
            Scope::Mesh => format!("meshplan run {} {allow}--force {file}", self.file),
            Scope::Files(_) => format!("meshplan {} {allow}-B", self.file),
        }
    }
}

/// Mesh-wide settings.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// Mesh ID (`values.global.meshID`).
    pub id: String,
    /// Dialect of `install.yaml` and of istioctl.
    pub istio_version: IstioVersion,
    /// Namespace of istiod.
    pub namespace: String,
    /// SPIFFE trust domain; `None` where the plan leaves Istio's default, `cluster.local`.
    pub trust_domain: Option<String>,
    /// What carries the workloads' traffic.
    pub data_plane: DataPlane,
    /// Pods of some clusters reach those of others through gateways only.
    pub several_networks: bool,
    /// Clusters that have a context, in plan order.
    pub in_reach: Vec<SmolStr>,
    /// Changes to every cluster's `install.yaml`, in plan order.
    pub overrides: Vec<Override>,
    /// The `mesh` node's name argument.
    pub span: Span,
}

/// What carries the workloads' traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPlane {
    /// A proxy beside each workload.
    Sidecar,
    /// One ztunnel per node, which the CNI plugin sends traffic to.
    Ambient,
}

/// An Istio release line, such as 1.30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion {
    /// Always 1 so far.
    pub major: u16,
    /// The release line.
    pub minor: u16,
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where the mesh's trust comes from.
#[derive(Debug, Clone)]
pub enum RootCa {
    /// meshplan makes key and certificate.
    Made(CaSpec),
    /// An organisation's CA, read and never written.
    Given(GivenRoot),
}

/// A CA brought along: a root, or an issuing CA below one.
#[derive(Debug, Clone)]
pub struct GivenRoot {
    /// Absolute path of the issuing certificate; what follows it in the file belongs to `chain`.
    pub cert: Utf8PathBuf,
    /// Absolute path of its private key (PKCS#8, PKCS#1 or SEC1).
    pub key: Utf8PathBuf,
    /// Absolute paths of certificates between the issuing CA and its root, the root included.
    pub chain: Vec<Utf8PathBuf>,
    /// Where `cert` is written in the plan.
    pub cert_span: Span,
    /// Where `key` is written in the plan.
    pub key_span: Span,
    /// Where `chain` is written in the plan.
    pub chain_span: Option<Span>,
}

/// What a plan says of one CA.
#[derive(Debug, Clone)]
pub struct CaSpec {
    /// Subject, without the locality that a cluster's name becomes.
    pub subject: Subject,
    /// Kind of private key.
    pub key: KeyAlgorithm,
    /// How long its certificate lasts.
    pub validity: Validity,
    /// How long before its end a certificate is stale.
    pub renew_before: Duration,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// URI subject alternative names: none in a plan; Makefiles up to Istio 1.6 wrote two (facts §1.4).
    pub uris: Vec<String>,
    /// Whether `cert-chain.pem` ends with the root.
    pub chain: ChainForm,
    /// The node that this comes from; nowhere for what clusters without a `ca` inherit.
    pub span: Span,
}

/// O and CN of a certificate; an empty string leaves the attribute out (never both).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// organizationName.
    pub organization: String,
    /// commonName.
    pub common_name: String,
}

/// Kinds of private key that istiod takes (facts F2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
}

impl KeyAlgorithm {
    /// Every kind, in the order that messages list them.
    pub const ALL: [KeyAlgorithm; 5] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EcdsaP256,
        Self::EcdsaP384,
    ];

    /// The plan's word for it, such as `rsa-4096`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a certificate lasts; displays as the plan would write it, in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// A span of time from the moment of signing.
    For(Duration),
    /// A fixed end, in UTC.
    Until(OffsetDateTime),
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(d) => f.write_str(&duration_text(*d)),
            Self::Until(t) => {
                let text = t.format(&time::format_description::well_known::Rfc3339);
                f.write_str(&text.map_err(|_| fmt::Error)?)
            }
        }
    }
}

/// A duration in the plan's units (`730d`, `36h`, `90m`), the largest that divides it.
pub fn duration_text(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        _ if s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        _ if s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        _ if s.is_multiple_of(60) => format!("{}m", s / 60),
        _ => format!("{s}s"),
    }
}

/// Contents of `cert-chain.pem` (facts F2.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainForm {
    /// The signing certificate and its issuers below the root.
    WithoutRoot,
    /// The same, ended by the root, as Istio's Makefile writes it.
    WithRoot,
}

/// One cluster of the mesh.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// A DNS-1123 label: directory, `L=`, `clusterName` and the remote secret's name.
    pub name: String,
    /// Its intermediate CA, the plan's defaults filled in; one for all clusters that say nothing else.
    pub ca: Arc<CaSpec>,
    /// kubeconfig context; `None` leaves its cluster steps undone.
    pub context: Option<String>,
    /// The variable that `context` reads, for the remedy when it is unset.
    pub context_var: Option<String>,
    /// Absolute path of the kubeconfig that knows the context; `None` for the user's own.
    pub kubeconfig: Option<Utf8PathBuf>,
    /// Where the other clusters reach its API server, if not as the kubeconfig has it.
    pub api_server: Option<String>,
    /// Istio network; `None` where the plan names none.
    pub network: Option<String>,
    /// Its primary; `None` for a primary.
    pub remote_of: Option<String>,
    /// For a remote: the address of its primary's east-west gateway, if not as its Service has it.
    pub discovery_address: Option<String>,
    /// It has an east-west gateway: its mesh has several networks, or it is the primary of a remote.
    pub gateway: bool,
    /// It is the primary of a remote.
    pub has_remotes: bool,
    /// Changes to its `install.yaml`, after the mesh's.
    pub overrides: Vec<Override>,
    /// The cluster's name in the plan.
    pub span: Span,
}

/// A workload outside of Kubernetes, such as a VM, whose certificate is made here (facts §1.2).
#[derive(Debug, Clone)]
pub struct Workload {
    /// A DNS-1123 label: its folder below the work directory, and `L=` of its subject.
    pub name: String,
    /// Place in `Plan::clusters` of the cluster whose CA signs.
    pub cluster: usize,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The service account that it acts as.
    pub service_account: String,
    /// Subject, without the locality.
    pub subject: Subject,
    /// Kind of private key.
    pub key: KeyAlgorithm,
    /// How long its certificate lasts.
    pub validity: Validity,
    /// How long before its end the certificate is stale.
    pub renew_before: Duration,
    /// The workload's name in the plan.
    pub span: Span,
}

impl Workload {
    /// Whom its certificate is for: the SPIFFE ID that Istio's proxies look at (facts §6).
    pub fn spiffe_id(&self, mesh: &Mesh) -> String {
        let domain = mesh.trust_domain.as_deref().unwrap_or("cluster.local");
        let (namespace, account) = (&self.namespace, &self.service_account);
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}")
    }
}

/// A change to `install.yaml` that the plan asks for.
#[derive(Debug, Clone)]
pub struct Override {
    /// What is merged in: maps by key, anything else replaced.
    pub value: serde_json::Value,
    /// Where in the IstioOperator it goes.
    pub into: Into,
    /// The node that asks for it.
    pub span: Span,
}

/// Where an override goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// `spec`, from an `operator { … }` node.
    Spec,
    /// `spec.values`, from a `values-file`.
    Values,
}

/// A step of the user's own.
#[derive(Debug, Clone)]
pub struct UserTask {
    /// Its target name.
    pub name: String,
    /// Targets that must be done before, with the place that says so.
    pub needs: Vec<(String, Span)>,
    /// Absolute paths it reads.
    pub inputs: Vec<(Utf8PathBuf, Span)>,
    /// Absolute paths it writes.
    pub outputs: Vec<(Utf8PathBuf, Span)>,
    /// Program and arguments.
    pub run: Vec<String>,
    /// Absolute working directory of the child.
    pub dir: Utf8PathBuf,
    /// Variables set for the child, in plan order.
    pub env: Vec<(String, String)>,
    /// After this long the child is ended.
    pub timeout: Option<Duration>,
    /// The task's name in the plan.
    pub span: Span,
}
