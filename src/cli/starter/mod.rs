//! A first plan from what clusters already are: its text, and what its reader should know. It asks
//! nobody, and writes no file.

mod names;

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::{args::Topology, kdl::Page};
use crate::{
    action::{
        cluster::survey::{Found, NAMESPACE},
        pki::CertFacts,
    },
    plan::{self, model::IstioVersion},
};

/// What the user asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The plan's file, as the user named it; `None` for standard output.
    pub file: Option<&'a Utf8Path>,
    /// The mesh ID, if the user named one.
    pub mesh: Option<&'a str>,
    /// How the clusters form a mesh.
    pub topology: Topology,
    /// istioctl's release line.
    pub istioctl: Option<IstioVersion>,
}

/// A context, and what was found there or why nothing was.
#[derive(Debug)]
pub struct Asked {
    /// The kubeconfig context.
    pub context: String,
    /// What its cluster is.
    pub found: Result<Found, String>,
}

impl Asked {
    fn known(&self) -> Option<&Found> {
        self.found.as_ref().ok()
    }

    fn is_installed(&self) -> bool {
        self.known().is_some_and(|f| f.istiod.is_some())
    }
}

/// A first plan.
#[derive(Debug)]
pub struct Starter {
    /// The plan's text.
    pub text: String,
    /// What should be known before the first run.
    pub warnings: Vec<String>,
    /// What must be put right before the first run.
    pub findings: Vec<String>,
    /// A root is brought along: its files are to be put in place.
    pub wants_root: bool,
}

/// Drafts a plan.
///
/// # Errors
/// The contexts, or the mesh's name, cannot be as the user says.
pub fn draft(wish: &Wish<'_>, asked: &[Asked]) -> Result<Starter, String> {
    one_server_each(asked)?;
    let mut draft = Draft {
        wish,
        asked,
        names: names::names(asked),
        networks: names::networks(wish.topology, asked),
        page: Page::default(),
        warnings: Vec::new(),
        findings: Vec::new(),
    };
    let mesh = draft.mesh_id()?;
    draft.mesh(&mesh);
    let wants_root = draft.root();
    draft.cluster_ca();
    for place in 0..asked.len() {
        draft.cluster(place);
    }
    draft.network_warnings();
    let nodes = std::mem::take(&mut draft.page.0);
    draft.heading();
    draft.page.0.push_str(&nodes);
    Ok(Starter {
        text: draft.page.0,
        warnings: draft.warnings,
        findings: draft.findings,
        wants_root,
    })
}

/// Two contexts of one API server would be one cluster with two names.
fn one_server_each(asked: &[Asked]) -> Result<(), String> {
    let uid = |a: &Asked| a.known().and_then(|f| f.uid.clone());
    for (place, one) in asked.iter().enumerate() {
        let same = |other: &&Asked| uid(one).is_some() && uid(one) == uid(other);
        if let Some(first) = asked[..place].iter().find(same) {
            return Err(format!(
                "contexts {} and {} reach one and the same API server (kube-system has the UID {}): name one of them only",
                first.context,
                one.context,
                uid(one).unwrap_or_default()
            ));
        }
    }
    Ok(())
}

struct Draft<'a> {
    wish: &'a Wish<'a>,
    asked: &'a [Asked],
    names: Vec<String>,
    networks: Vec<String>,
    page: Page,
    warnings: Vec<String>,
    findings: Vec<String>,
}

impl Draft<'_> {
    // ---- what the clusters agree on

    /// What the installed clusters say, with who says it, each once.
    fn said(&self, what: impl Fn(&Found) -> Option<String>) -> Vec<(String, &str)> {
        let mut said: Vec<(String, &str)> = Vec::new();
        for (asked, name) in self.asked.iter().zip(&self.names) {
            if let Some(value) = asked.known().and_then(&what)
                && !said.iter().any(|(other, _)| *other == value)
            {
                said.push((value, name));
            }
        }
        said
    }

    fn differ(&mut self, what: &str, then: &str, said: &[(String, String)]) {
        if said.len() > 1 {
            let each: Vec<_> = said.iter().map(|(v, by)| format!("{v} ({by})")).collect();
            let text = format!(
                "the clusters have different {what}: {}. {then}",
                each.join(", ")
            );
            self.findings.push(text);
        }
    }

    fn mesh_id(&mut self) -> Result<String, String> {
        let of = |f: &Found| f.mesh_id.clone().filter(|m| plan::shown(m).is_ok());
        let said = owned(self.said(of));
        if let (Some(mesh), Some((found, by))) = (self.wish.mesh, said.first())
            && mesh != found
        {
            return Err(format!(
                "cluster {by} has an istiod of the mesh {found}, not {mesh}: leave --mesh out, or leave that cluster out"
            ));
        }
        let then = "`run` refuses to move a cluster to another mesh (--allow other-mesh)";
        self.differ("mesh IDs", then, &said);
        let found = said.into_iter().next().map(|(mesh, _)| mesh);
        let wished = self.wish.mesh.map(str::to_owned);
        Ok(found.or(wished).unwrap_or_else(|| "mesh1".to_owned()))
    }

    fn version(&mut self) -> (IstioVersion, String) {
        let of = |f: &Found| Some(f.istiod.as_ref()?.version()?.to_string());
        let said = owned(self.said(of));
        let found = said
            .iter()
            .filter_map(|(v, by)| Some((plan::istio_version(v).ok()?, by)));
        if let Some((version, by)) = found.max_by_key(|(v, _)| *v) {
            if said.len() > 1 {
                self.warnings.push(format!(
                    "the clusters run different releases of Istio; the plan has the newest, {version}, and `run` brings the others to it"
                ));
            }
            return (version, format!("as installed in {by}"));
        }
        match self.wish.istioctl {
            Some(version) => (version, "as istioctl is".to_owned()),
            None => (
                IstioVersion {
                    major: 1,
                    minor: 30,
                },
                "istioctl must be of it".to_owned(),
            ),
        }
    }

    fn trust_domain(&mut self) -> Option<String> {
        let of = |f: &Found| {
            f.trust_domain
                .clone()
                .filter(|t| plan::trust_domain(t).is_ok())
        };
        let said = owned(self.said(of));
        let then = "Workloads of one mesh need the same";
        self.differ("trust domains", then, &said);
        let found = said.into_iter().next().map(|(domain, _)| domain);
        // Where the plan says nothing, this is what Istio has.
        found.filter(|domain| domain != "cluster.local")
    }

    // ---- writing

    fn heading(&mut self) {
        let count = self.asked.len();
        self.page.comment(&format!(
            "A mesh of {count} cluster{}, drafted by `meshplan init` from kubeconfig contexts. Change it as you like, then:",
            if count == 1 { "" } else { "s" }
        ));
        let file = self.wish.file.map_or("mesh.kdl", Utf8Path::as_str);
        for (command, does) in [
            ("check", "finds mistakes"),
            ("run -n", "says what would be done, changes nothing"),
            ("run", "does it; a second time, only what is not so yet"),
        ] {
            let (word, flags) = command.split_once(' ').unwrap_or((command, ""));
            let command = format!("meshplan {word} {file} {flags}");
            self.page
                .comment(&format!("  {:<28}{does}", command.trim_end()));
        }
        for finding in self.findings.clone() {
            self.page.comment(&format!("ATTENTION: {finding}."));
        }
    }

    fn mesh(&mut self, mesh: &str) {
        let (version, source) = self.version();
        let domain = self.trust_domain();
        self.page.0.push('\n');
        self.page
            .comment("What all clusters share. The name is the mesh ID.");
        self.page.open("mesh", mesh);
        self.page.field(
            "istio-version",
            &version.to_string(),
            &format!("release of Istio and istioctl: {source}"),
        );
        self.page.field(
            "work-dir",
            "out",
            "what is built goes here, private keys too: keep it to yourself",
        );
        if let Some(domain) = domain {
            self.page.field(
                "trust-domain",
                &domain,
                "first part of every workload's identity: as installed",
            );
        }
        let ambient = |a: &&Asked| {
            let istiod = a.known().and_then(|f| f.istiod.as_ref());
            istiod.is_some_and(|i| i.ambient)
        };
        if let Some(asked) = self.asked.iter().find(ambient) {
            if self.wish.topology.has_remotes() {
                self.findings.push(format!(
                    "the cluster of context {} has an ambient mesh, which has primaries only: take --topology multi-primary",
                    asked.context
                ));
            } else {
                self.page.field(
                    "data-plane",
                    "ambient",
                    "ztunnels in place of sidecars: as installed",
                );
            }
        }
        self.page.0.push_str("}\n");
    }

    /// The root; true where it is brought along.
    fn root(&mut self) -> bool {
        let asked = self.names.iter().zip(self.asked);
        let known = asked.filter_map(|(name, a)| Some((name.clone(), a.known()?)));
        let known: Vec<(String, &Found)> = known.collect();
        let with_secret = known.iter().filter(|(_, f)| f.cacerts.is_some());
        let holders: Vec<_> = with_secret.map(|(name, _)| name.as_str()).collect();
        let (brought, holders) = (!holders.is_empty(), holders.join(", "));
        let trusted: Vec<_> = known
            .iter()
            .filter(|(_, f)| !f.roots().is_empty())
            .collect();

        self.page.0.push('\n');
        self.page
            .comment("The root CA: what every workload of the mesh trusts.");
        if brought {
            self.page.comment(&format!(
                "It is there already (secret cacerts in {NAMESPACE} of {holders}), so no other one is made. Put its certificate and its private key (mode 0600) where the two lines below say, from this file's folder; until then nothing is run. An issuing CA below it does too, with its issuers in `chain`."
            ));
            self.warnings.push(format!(
                "{holders}: the secret cacerts is there, and its root stays: put the root's certificate and key where the plan's root-ca says; where somebody else owns the secret, `run` asks for --allow take-over"
            ));
        } else if !trusted.is_empty() {
            self.page.comment("ATTENTION: istiod has a root already, and this plan makes another one. `run` refuses to replace it: workloads would lose trust until they restart. To do it all the same: --allow other-root. To keep it, bring it along: cert \"FILE\"; key \"FILE\";");
            self.warnings.push("istiod has a root of its own already: `run` refuses to replace it, since its workloads would lose trust until they restart (--allow other-root does it all the same)".to_owned());
        }
        for (name, found) in &known {
            self.roots_of(name, found);
        }
        let same = |a: &Found, b: &Found| {
            let among = |r: &CertFacts| b.roots().iter().any(|o| o.fingerprint == r.fingerprint);
            a.roots().iter().any(among)
        };
        if let Some((first, one)) = trusted.first()
            && let Some((other, _)) = trusted.iter().find(|(_, f)| !same(one, f))
        {
            self.findings.push(format!(
                "{first} and {other} have DIFFERENT ROOTS: their workloads do not trust each other. Choose one root for the mesh; the other cluster moves to it by `run --allow other-root`, and its workloads lose trust until they restart"
            ));
        }
        self.page.0.push_str("root-ca {\n");
        if brought {
            let how = "its fingerprint: openssl x509 -noout -fingerprint -sha256 -in org/root.pem";
            self.page.field("cert", "org/root.pem", how);
            self.page.field(
                "key",
                "org/root-key.pem",
                "only read, and never taken to a cluster",
            );
        } else {
            self.page.field(
                "validity",
                "3650d",
                "its key is made once, and never leaves the work-dir",
            );
        }
        self.page.0.push_str("}\n");
        brought
    }

    /// The roots that a cluster's workloads trust.
    fn roots_of(&mut self, name: &str, found: &Found) {
        match &found.cacerts {
            None if found.served.is_empty() => return,
            None => self.page.comment(&format!(
                "  {name}, from its istiod, which has no secret cacerts:"
            )),
            Some(_) => self
                .page
                .comment(&format!("  {name}, from its secret cacerts:")),
        }
        if found.roots().is_empty() {
            self.page
                .comment("    no root certificate that can be read");
        }
        for root in found.roots() {
            let ends = root.not_after.date();
            self.page
                .comment(&format!("    {}, ends {ends}", root.subject));
            self.page
                .comment(&format!("    SHA-256 {}", fingerprint(root)));
        }
        if let Some(key) = found.cacerts.as_ref().and_then(|s| s.foreign.as_ref()) {
            self.warnings.push(format!(
                "the secret cacerts of {name} holds {key}, so it is not meshplan's to change: `run` will say what to do"
            ));
        }
    }

    fn cluster_ca(&mut self) {
        self.page.0.push('\n');
        self.page.comment("The CA of each cluster, signed by the root: its istiod signs workload certificates with it.");
        self.page.0.push_str("cluster-ca {\n");
        self.page.field("validity", "730d", "how long it lasts");
        self.page.field(
            "renew-before",
            "30d",
            "a run this long before its end signs it anew",
        );
        self.page.0.push_str("}\n");
    }

    fn cluster(&mut self, place: usize) {
        let (asked, name) = (&self.asked[place], self.names[place].clone());
        let (remotes, context) = (self.wish.topology.has_remotes(), &asked.context);
        let is_remote = remotes && place > 0;
        self.page.0.push('\n');
        self.page.comment(&match (is_remote, remotes) {
            (true, _) => format!(
                "A remote: it has no istiod of its own, {} serves it.",
                self.names[0]
            ),
            (_, true) => "The primary: its istiod serves the remotes too.".to_owned(),
            _ => "A primary: it has an istiod of its own.".to_owned(),
        });
        match &asked.found {
            Ok(found) => {
                let here = here(found);
                self.page.comment(&format!("Found there: {here}."));
                for unknown in &found.unknown {
                    self.page.comment(&format!("Not known: {unknown}"));
                    self.warnings
                        .push(format!("not all is known of {name}: {unknown}"));
                }
            }
            Err(why) => {
                self.page
                    .comment("ATTENTION: it could not be asked what it is, so this is a guess:");
                self.page.comment(&format!("  {why}"));
                self.warnings
                    .push(format!("{why}; it is in the plan all the same, by guess"));
            }
        }
        let installed = asked.known().and_then(|f| f.cluster_name.as_deref());
        if asked.is_installed() && installed != Some(name.as_str()) {
            let was = installed.unwrap_or("no name (Istio's default, Kubernetes)");
            let text = format!("its istiod has {was}; `run` installs it as {name}");
            self.page.comment(&format!("ATTENTION: {text}."));
            self.warnings.push(format!("{name}: {text}"));
        }
        if is_remote && asked.is_installed() {
            let text = "it runs an istiod, which a remote has no use for; --topology multi-primary keeps it";
            self.page.comment(&format!("ATTENTION: {text}."));
            self.warnings.push(format!("{name}: {text}"));
        }
        let network = self.networks[place].clone();
        self.page.open("cluster", &name);
        self.page.field(
            "context",
            context,
            "kubeconfig context: how kubectl and istioctl reach it",
        );
        self.page.field(
            "network",
            &network,
            "pods of one network reach each other directly",
        );
        if is_remote {
            let primary = self.names[0].clone();
            self.page.field("remote-of", &primary, "its primary");
        }
        self.page.0.push_str("}\n");
    }

    fn network_warnings(&mut self) {
        let distinct: BTreeSet<_> = self.networks.iter().collect();
        let (count, several) = (distinct.len(), self.wish.topology.several_networks());
        if several && count < self.networks.len() {
            self.warnings.push("clusters share a network, as their labels say: between those, traffic goes directly, not through east-west gateways".to_owned());
        } else if !several && count > 1 {
            self.warnings.push("the clusters' labels name different networks: between those, traffic goes through east-west gateways".to_owned());
        }
    }
}

fn owned(said: Vec<(String, &str)>) -> Vec<(String, String)> {
    said.into_iter().map(|(v, by)| (v, by.to_owned())).collect()
}

/// What was found, in a few words.
fn here(found: &Found) -> String {
    let mut here = Vec::new();
    if let Some(istiod) = &found.istiod {
        let release = istiod.release.as_deref().unwrap_or("of an unknown release");
        here.push(format!("Istio {release}"));
    }
    if let Some(mesh) = &found.mesh_id {
        here.push(format!("mesh ID {mesh}"));
    }
    if let Some(network) = &found.network {
        here.push(format!("network {network}"));
    }
    if found.cacerts.is_some() {
        here.push("secret cacerts".to_owned());
    }
    match here.is_empty() {
        true => "nothing of Istio yet".to_owned(),
        false => here.join(", "),
    }
}

/// As OpenSSL shows it.
fn fingerprint(cert: &CertFacts) -> String {
    let bytes: Vec<_> = cert
        .fingerprint
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    bytes.join(":")
}
