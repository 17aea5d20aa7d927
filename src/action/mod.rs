//! What tasks do. `pki` and `manifest` turn bytes into bytes; `cluster` says what to ask of kubectl
//! and istioctl. Nothing here writes files or knows what is current.

pub mod cluster;
mod given;
pub mod manifest;
pub mod pki;
mod yaml;

pub use given::given;

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    graph::{Action, Owner, Task},
    plan::model::{KeyAlgorithm, Plan, RootCa},
};

/// Bytes of a file, with their owners.
pub type Bytes = Arc<Content>;

/// What a file holds. What may be a key is wiped from memory with its last owner; to wipe what anybody may read
/// takes about as long as to write it.
pub struct Content {
    bytes: Held,
    /// SHA-256: nearly all of a bundle's files are made from others of it.
    digest: OnceLock<pki::Digest>,
    /// SubjectPublicKeyInfo (DER) of a key: to read one costs about as much as to make and sign with it.
    public_key: OnceLock<Vec<u8>>,
    /// Of a certificate.
    carried: OnceLock<pki::Carried>,
}

enum Held {
    Secret(Zeroizing<Vec<u8>>),
    Public(Vec<u8>),
}

impl Content {
    /// Nothing is read yet.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self::of(Held::Secret(bytes))
    }

    /// Bytes that are known to be no key.
    fn public(bytes: Vec<u8>) -> Self {
        Self::of(Held::Public(bytes))
    }

    fn of(bytes: Held) -> Self {
        Self {
            bytes,
            digest: OnceLock::new(),
            public_key: OnceLock::new(),
            carried: OnceLock::new(),
        }
    }

    /// SHA-256 of the bytes, computed once.
    pub fn digest(&self) -> pki::Digest {
        *self.digest.get_or_init(|| pki::digest(self))
    }

    /// Its public half, of a private key, as [`pki::public_key`] reads it; read once.
    ///
    /// # Errors
    /// As of that.
    pub fn public_key(&self) -> Result<&[u8], pki::PkiError> {
        if let Some(known) = self.public_key.get() {
            return Ok(known);
        }
        let read = pki::public_key(self)?;
        Ok(self.public_key.get_or_init(|| read))
    }

    /// What it carries, of a certificate, as [`pki::read_carried`] reads it; read once.
    ///
    /// # Errors
    /// As of that.
    pub fn carried(&self) -> Result<pki::Carried, pki::PkiError> {
        if let Some(known) = self.carried.get() {
            return Ok(*known);
        }
        let read = pki::read_carried(self)?;
        Ok(*self.carried.get_or_init(|| read))
    }
}

/// Whoever made a key knows its public half.
impl From<pki::NewKey> for Content {
    fn from(key: pki::NewKey) -> Self {
        Self {
            public_key: key.public_key.into(),
            ..Self::new(key.pem)
        }
    }
}

impl From<pki::Signed> for Content {
    fn from(signed: pki::Signed) -> Self {
        Self {
            carried: signed.carried.into(),
            ..Self::public(signed.pem)
        }
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Held::Secret(bytes) => bytes,
            Held::Public(bytes) => bytes,
        }
    }
}

/// A CA that is loaded when it first signs, or why it cannot be.
type Signer = OnceLock<Result<Arc<pki::Issuer>, String>>;

/// What signs, loaded once a run.
#[derive(Default)]
pub struct Trust {
    /// What signs the clusters' CA certificates.
    issuer: Signer,
    /// What signs workloads' certificates, by the place of its cluster in the plan.
    clusters: Mutex<HashMap<usize, Arc<Signer>>>,
}

impl Trust {
    /// A CA brought along that is loaded already.
    pub fn given(issuer: Arc<pki::Issuer>) -> Self {
        let cell = OnceLock::new();
        // A new cell is empty, so this cannot fail.
        let _ = cell.set(Ok(issuer));
        Self {
            issuer: cell,
            clusters: Mutex::default(),
        }
    }

    fn issuer(
        &self,
        load: impl FnOnce() -> Result<pki::Issuer, String>,
    ) -> Result<Arc<pki::Issuer>, String> {
        self.issuer.get_or_init(|| load().map(Arc::new)).clone()
    }

    fn cluster(
        &self,
        place: usize,
        load: impl FnOnce() -> Result<pki::Issuer, String>,
    ) -> Result<Arc<pki::Issuer>, String> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let signer = clusters.entry(place).or_default().clone();
        drop(clusters);
        signer.get_or_init(|| load().map(Arc::new)).clone()
    }
}

/// The kind of key that the plan asks for; none of a CA brought along, whose key is not made here.
pub fn key_algorithm(plan: &Plan, owner: Owner) -> Option<KeyAlgorithm> {
    match (owner, &plan.root) {
        (Owner::Cluster(c), _) => Some(plan.clusters[c].ca.key),
        (Owner::Workload(w), _) => Some(plan.workloads[w].key),
        (Owner::Root, RootCa::Made(spec)) => Some(spec.key),
        (Owner::Root, RootCa::Given(_)) => None,
    }
}

/// Makes the bytes of a built-in file task.
///
/// `inputs` are the task's, in its order. `previous` is the output as it was, where it may matter: a
/// re-issued root keeps its subject key identifier.
///
/// # Errors
/// A sentence on what is wrong and what to do.
pub fn make(
    plan: &Plan,
    task: &Task,
    inputs: &[Bytes],
    previous: Option<&[u8]>,
    trust: &Trust,
    now: OffsetDateTime,
) -> Result<Bytes, String> {
    let text = |e: pki::PkiError| e.to_string();
    let plain = |bytes| Arc::new(Content::public(bytes));
    let loaded = |inputs: &[Bytes], key: usize| {
        let key = &inputs[key][..];
        trust.issuer(|| {
            let certs: Vec<&[u8]> = match plan.root {
                RootCa::Made(_) => vec![&inputs[1]],
                RootCa::Given(_) => std::iter::once(2)
                    .chain(4..inputs.len())
                    .map(|i| &inputs[i][..])
                    .collect(),
            };
            pki::Issuer::load(&certs, key, now).map_err(joined)
        })
    };
    match task.action {
        Action::Key(owner) => {
            let algorithm = key_algorithm(plan, owner);
            let algorithm = algorithm.ok_or("the key of a CA brought along is not made here")?;
            pki::generate_key(algorithm)
                .map(|key| Arc::new(key.into()))
                .map_err(text)
        }
        Action::RootCert => {
            let RootCa::Made(spec) = &plan.root else {
                return Err("the root brought along is not made here".to_owned());
            };
            let key_id = previous
                .and_then(|p| pki::read_cert(p).ok())
                .and_then(|c| c.key_id);
            pki::self_sign(&inputs[0], &pki::Request::root(spec), key_id, now)
                .map(plain)
                .map_err(text)
        }
        Action::Anchor => Ok(plain(path(inputs, now)?.root_pem())),
        Action::CaCert(c) => {
            let cluster = &plan.clusters[c];
            let issuer = loaded(
                inputs,
                if matches!(plan.root, RootCa::Made(_)) {
                    2
                } else {
                    3
                },
            )?;
            let request = pki::Request::cluster(&cluster.ca, &cluster.name);
            sign(&issuer, &request, &inputs[0], now)
        }
        Action::WorkloadCert(w) => {
            let workload = &plan.workloads[w];
            let issuer = trust.cluster(workload.cluster, || {
                let certs: Vec<&[u8]> = std::iter::once(1)
                    .chain(3..inputs.len())
                    .map(|i| &inputs[i][..])
                    .collect();
                pki::Issuer::for_workloads(&certs, &inputs[2], now).map_err(joined)
            })?;
            let request = pki::Request::workload(workload, &plan.mesh);
            sign(&issuer, &request, &inputs[0], now)
        }
        Action::WorkloadChain(_) => {
            let chain = pki::workload_chain(
                &inputs[0],
                &inputs[1],
                &between(plan, &inputs[3..], now)?,
                &inputs[2],
            )
            .map_err(text)?;
            let findings = pki::judge_chain(&inputs[0], &chain, &inputs[2], now);
            match findings.iter().find(|f| f.is_error()) {
                Some(finding) => Err(format!(
                    "no peer would accept this chain: {} ({})",
                    finding.message, finding.rule
                )),
                None => Ok(plain(chain)),
            }
        }
        Action::Chain(c) => {
            let between = between(plan, &inputs[3..], now)?;
            let chain = pki::chain(&inputs[1], &between, &inputs[2], plan.clusters[c].ca.chain)
                .map_err(text)?;
            let bundle = pki::Bundle {
                ca_cert: &inputs[1],
                ca_key: &inputs[0],
                cert_chain: &chain,
                root_cert: &inputs[2],
            };
            let key = inputs[0].public_key().map(pki::digest);
            match pki::judge_with(&bundle, key, now)
                .iter()
                .find(|f| f.is_error())
            {
                Some(finding) => Err(format!(
                    "istiod would refuse this bundle: {} ({})",
                    finding.message, finding.rule
                )),
                None => Ok(plain(chain)),
            }
        }
        Action::RootCopy(_) => Ok(inputs[0].clone()),
        Action::Install(c) => {
            let bytes = manifest::install_yaml(&plan.mesh, &plan.clusters[c], &plan.clusters);
            bytes.map(plain).map_err(|e| e.to_string())
        }
        Action::Step(..) | Action::Command(_) => Err("this is no file of the mesh".to_owned()),
    }
}

/// Signs for a private key.
fn sign(
    issuer: &pki::Issuer,
    request: &pki::Request,
    key: &Content,
    now: OffsetDateTime,
) -> Result<Bytes, String> {
    let text = |e: pki::PkiError| e.to_string();
    let public_key = key.public_key().map_err(text)?;
    let signed = issuer.sign(request, public_key, now);
    signed.map(|signed| Arc::new(signed.into())).map_err(text)
}

/// What stands between a cluster's CA and the root: nothing, or a CA brought along and those above it.
fn between(plan: &Plan, brought: &[Bytes], now: OffsetDateTime) -> Result<Vec<u8>, String> {
    match plan.root {
        RootCa::Made(_) => Ok(Vec::new()),
        RootCa::Given(_) => Ok(path(brought, now)?.intermediates_pem()),
    }
}

fn path(certs: &[Bytes], now: OffsetDateTime) -> Result<pki::Path, String> {
    let certs: Vec<&[u8]> = certs.iter().map(|c| &c[..]).collect();
    pki::Path::build(&certs, now).map_err(joined)
}

fn joined(errors: Vec<pki::PkiError>) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
