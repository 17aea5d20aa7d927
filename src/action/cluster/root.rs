//! The CA that a cluster signs with: where `fetch-root-ca` of Istio's Makefiles looks, asked of one named
//! context. It is the one question whose answer is a private key; it knows nothing of files.

use std::{collections::BTreeMap, io};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Kind, StepError, Target, Tools, live, survey, trouble};
use crate::{
    action::pki,
    host::process::{Command, Finished},
};

/// Secrets that hold a CA, in the Makefiles' order: istiod's own, then the one that was plugged in.
pub const SECRETS: [&str; 2] = ["istio-ca-secret", "cacerts"];

/// Who is asked, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// kubeconfig context.
    pub context: &'a str,
    /// Namespace of istiod.
    pub namespace: &'a str,
    /// `KUBECONFIG`, where it is not the environment's.
    pub kubeconfig: Option<&'a str>,
}

/// A CA with its private key, as a cluster's secret holds it.
pub struct Held {
    /// The secret's name.
    pub secret: &'static str,
    /// `ca-cert.pem`.
    pub cert: Vec<u8>,
    /// `ca-key.pem`.
    pub key: Zeroizing<Vec<u8>>,
    /// What the certificate says.
    pub facts: pki::CertFacts,
}

impl Held {
    /// Whether it can be the root of clusters: it signed itself, and lets CAs stand below it (facts B13).
    pub fn is_root(&self) -> bool {
        self.facts.self_issued && self.facts.pathlen != Some(0)
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Vec<Secret<'a>>,
}

#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(borrow)]
    metadata: Named<'a>,
    #[serde(borrow, default)]
    data: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: &'a str,
}

/// The current context, which is only ever named, never left to kubectl; `None` where there is none.
///
/// # Errors
/// kubectl cannot be run.
pub fn current_context(
    tools: &Tools,
    kubeconfig: Option<&str>,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> io::Result<Option<String>> {
    let mut command = Command {
        program: tools.kubectl.clone(),
        args: ["config", "current-context"].map(str::to_owned).to_vec(),
        timeout: Some(live::CALL),
        capture_stdout: true,
        ..Command::default()
    };
    point(&mut command, kubeconfig);
    let finished = run(&command)?;
    let name = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
    Ok((finished.success() && !name.is_empty()).then_some(name))
}

fn point(command: &mut Command, kubeconfig: Option<&str>) {
    command
        .env
        .extend(kubeconfig.map(|path| ("KUBECONFIG".to_owned(), path.to_owned())));
}

/// Asks a cluster for its CAs, in the order of [`SECRETS`]; none before istiod's first start.
///
/// # Errors
/// It cannot be asked, or what it holds cannot be read. Never with a word of the key.
pub fn fetch(
    asked: &Asked<'_>,
    tools: &Tools,
    run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
) -> Result<Vec<Held>, StepError> {
    let target = Target {
        namespace: asked.namespace,
        ..survey::bare(asked.context)
    };
    let names = SECRETS;
    let args = [
        "get",
        "secret",
        names[0],
        names[1],
        "--ignore-not-found",
        "-o",
        "json",
    ];
    let mut command = live::kubectl(&target, tools, &args);
    command.capture_stdout = true;
    point(&mut command, asked.kubeconfig);
    let finished = run(&command).map_err(|e| StepError::not_run(&command, tools, &target, &e))?;
    if !finished.success() {
        return Err(trouble::explain(&command, &target, &finished));
    }
    if finished.stdout.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    // Borrowed: no copy of the key stays behind in memory.
    let found = serde_json::from_slice::<List>(&finished.stdout)
        .map(|list| list.items)
        .or_else(|_| serde_json::from_slice::<Secret>(&finished.stdout).map(|one| vec![one]))
        .map_err(|_| StepError::garbled(&target, "what is not the JSON of secrets"))?;
    let mut held = Vec::new();
    for secret in names {
        let Some(object) = found.iter().find(|o| o.metadata.name == secret) else {
            continue;
        };
        let field = |name: &str| STANDARD.decode(object.data.get(name)?).ok();
        let unfit = |why: String| {
            StepError::new(Kind::Failed, &target, &format!("its secret {secret} {why}"))
        };
        // The Makefile would write empty files (facts B14).
        let (Some(cert), Some(key)) = (
            field("ca-cert.pem"),
            field("ca-key.pem").map(Zeroizing::new),
        ) else {
            return Err(unfit(
                "has no ca-cert.pem and ca-key.pem: its CA is not to be had this way".to_owned(),
            ));
        };
        let facts = pki::read_cert(&cert)
            .map_err(|e| unfit(format!("holds a ca-cert.pem that is no certificate ({e})")))?;
        pki::carries_key(&cert, &key)
            .map_err(|e| unfit(format!("holds a key that is not its certificate's ({e})")))?;
        held.push(Held {
            secret,
            cert,
            key,
            facts,
        });
    }
    Ok(held)
}
