//! Istio's `tools/certs` Makefiles, stood in for: words, generations, variables and goals, and the plan that
//! follows from them and from what lies in the folder. Nothing here runs anything or writes a file.

pub mod folder;
pub mod generation;
pub mod goals;
pub mod options;
pub mod signer;
pub mod variables;

use std::{fmt::Write, time::Duration};

use camino::Utf8Path;

use crate::{
    action::pki::CertFacts,
    host::Look,
    plan::{
        files::FileNames,
        model::{
            CaSpec, ChainForm, Cluster, DataPlane, IstioVersion, KeyAlgorithm, Mesh, Plan, RootCa,
            Scope, Spoken, Subject, Validity, Workload,
        },
        problem::{Sources, Span},
    },
};
use folder::Pair;
use generation::{Generation, Told};
use goals::{Flow, Goal, Meant};
use variables::Variables;

/// What the Makefiles' `clean` removes besides a root made here: what openssl left, and the copies of a
/// fetched root that later runs would take for whichever cluster is asked (facts B11).
pub const LEFT_BY_OPENSSL: [&str; 6] = [
    "root-ca.conf",
    "root-cert.csr",
    "root-cert.srl",
    "k8s-root-cert.pem",
    "k8s-root-cert.srl",
    "k8s-root-key.pem",
];

/// A CA is re-signed this long before its end (design §2), one of a short life in its last third; a leaf
/// at half its time, as istio-agent does it (facts F2.12).
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// A plan of nothing, for what is done to a folder outside of its tasks.
pub fn bare(dir: &Utf8Path) -> Plan {
    Plan {
        file: "make".into(),
        dir: dir.to_owned(),
        work_dir: dir.to_owned(),
        mesh: Mesh {
            id: String::new(),
            istio_version: IstioVersion {
                major: 1,
                minor: 30,
            },
            namespace: "istio-system".to_owned(),
            trust_domain: None,
            data_plane: DataPlane::Sidecar,
            several_networks: false,
            in_reach: Vec::new(),
            overrides: Vec::new(),
            span: Span::default(),
        },
        root: RootCa::Made(ca(
            "Istio",
            "Root CA",
            KeyAlgorithm::Rsa4096,
            Validity::For(Duration::ZERO),
        )),
        clusters: Vec::new(),
        workloads: Vec::new(),
        tasks: Vec::new(),
        files: FileNames::default(),
        scope: Scope::Files(Spoken::default()),
        sources: Sources::default(),
    }
}

fn ca(organization: &str, common_name: &str, key: KeyAlgorithm, validity: Validity) -> CaSpec {
    CaSpec {
        subject: Subject {
            organization: organization.to_owned(),
            common_name: common_name.to_owned(),
        },
        key,
        validity,
        renew_before: match validity {
            Validity::For(span) => RENEW_BEFORE.min(span / 3),
            Validity::Until(_) => RENEW_BEFORE,
        },
        dns: Vec::new(),
        uris: Vec::new(),
        chain: ChainForm::WithoutRoot,
        span: Span::default(),
    }
}

/// Names of the targets, in the plan's graph, that a goal stands for.
pub fn targets(goal: &Meant) -> Vec<String> {
    match &goal.goal {
        Goal::RootCa => vec!["root-ca".to_owned()],
        Goal::Cluster(name) => vec![format!("{name}-cacerts")],
        Goal::Workload {
            name,
            cluster: false,
        } => vec![format!("{name}-certs")],
        Goal::Workload {
            name,
            cluster: true,
        } => vec![format!("{name}-cacerts"), format!("{name}-certs")],
        Goal::File { path, .. } => vec![path.clone()],
        Goal::Help | Goal::Clean | Goal::FetchRootCa => Vec::new(),
    }
}

/// The plan of a run's goals. Every folder that was signed here is in it, so that a lost root is seen for
/// what it is; only what is asked for is judged and made.
///
/// What is there stays as it is where no variable speaks of it, as with make; where one does, it changes with
/// it (facts B4).
///
/// # Errors
/// A sentence on a variable whose value cannot be used.
pub fn plan(
    disk: &dyn Look,
    dir: &Utf8Path,
    goals: &[Meant],
    root: &str,
    variables: &Variables,
    generation: Generation,
) -> Result<Plan, String> {
    let signer = if goals.iter().any(|g| g.flow == Flow::OwnPrefixed) {
        "selfSigned-"
    } else {
        ""
    };
    let files = FileNames {
        root: root.to_owned(),
        signer,
    };
    let mut plan = Plan { files, ..bare(dir) };
    let read = |cert: String, key: String| Pair::read(disk, &dir.join(cert), &dir.join(key));
    // A fetched root is as it is.
    let fetched = goals.iter().any(|g| g.flow == Flow::Fetched);
    let set = |name: &str| !fetched && variables.set(name).is_some();
    let found = read(plan.files.root_cert(), plan.files.root_key());
    plan.root = RootCa::Made(root_ca(variables, &found, &set)?);
    plan.scope = Scope::Files(spoken(variables, generation, fetched));
    plan.mesh.namespace = variables.text("ISTIO_NAMESPACE").to_owned();

    let mut names: Vec<String> = Vec::new();
    let asked = goals.iter().filter_map(|g| g.goal.folder());
    let elsewhere: Vec<_> = folder::roots(disk, dir)
        .into_iter()
        .filter(|r| r.name != root)
        .collect();
    let mut members = folder::members(disk, dir);
    members.retain(|m| !m.is_under(&elsewhere));
    for name in asked.chain(members.iter().map(|m| m.name.as_str())) {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    let spec = signing_ca(variables)?;
    let size = variables.signer("KEYSZ");
    for name in names {
        let found = read(plan.files.ca_cert(&name), plan.files.ca_key(&name));
        let key = match (variables.set(&size), found.algorithm()) {
            (None, Some(algorithm)) => algorithm,
            _ => variables.key(&size)?,
        };
        let mut ca = CaSpec {
            key,
            ..spec.clone()
        };
        if generation <= Generation::CitadelWorkloads {
            // Citadel's identity, once for its trust domain and once by the cluster's name (facts §1.4).
            let spiffe = |domain: &str| format!("spiffe://{domain}/ns/istio-system/sa/citadel");
            ca.uris.extend([spiffe("cluster.local"), spiffe(&name)]);
        }
        if let Some(cert) = found.sound().filter(|c| c.is_ca) {
            let set = |what| variables.set(&variables.signer(what)).is_some();
            keep(&mut ca.subject, cert, set("ORG"), set("CN"));
            if !set("DAYS") && is_worth_repeating(cert) {
                ca.validity = lasts(cert);
            }
            if !set("SAN_DNS") {
                ca.dns.clone_from(&cert.dns);
            }
            ca.uris.clone_from(&cert.uris);
        }
        plan.clusters.push(cluster(name, ca));
    }
    for (place, cluster) in plan.clusters.iter().enumerate() {
        if generation < Generation::CitadelWorkloads
            || !goals.iter().any(|g| g.wants_workload(&cluster.name))
        {
            continue;
        }
        let name = cluster.name.clone();
        let found = read(plan.files.workload_cert(&name), plan.files.key(&name));
        plan.workloads
            .push(workload(place, name, &found, variables, generation)?);
    }
    Ok(plan)
}

/// The root that is asked for: what is there, but for what a variable says.
fn root_ca(
    variables: &Variables,
    found: &Pair,
    set: &dyn Fn(&str) -> bool,
) -> Result<CaSpec, String> {
    let key = match found.algorithm() {
        Some(algorithm) if !set("ROOTCA_KEYSZ") => algorithm,
        _ => variables.key("ROOTCA_KEYSZ")?,
    };
    let days = variables.days("ROOTCA_DAYS")?;
    let mut spec = ca(
        variables.text("ROOTCA_ORG"),
        variables.text("ROOTCA_CN"),
        key,
        days,
    );
    let Some(cert) = &found.cert else {
        return named(spec, "ROOTCA_ORG", "ROOTCA_CN");
    };
    keep(&mut spec.subject, cert, set("ROOTCA_ORG"), set("ROOTCA_CN"));
    if !set("ROOTCA_DAYS") {
        spec.validity = lasts(cert);
    }
    spec.dns.clone_from(&cert.dns);
    spec.uris.clone_from(&cert.uris);
    // A root that is there is as it is; a new one needs a name.
    match set("ROOTCA_ORG") || set("ROOTCA_CN") {
        true => named(spec, "ROOTCA_ORG", "ROOTCA_CN"),
        false => Ok(spec),
    }
}

/// Fields that variables speak of, by their names in a recipe.
fn spoken(variables: &Variables, generation: Generation, fetched: bool) -> Spoken {
    let signer = |what| variables.signer(what);
    let of = |fields: &[(String, &'static str)]| {
        let set = fields
            .iter()
            .filter(|(name, _)| variables.set(name).is_some());
        set.map(|(_, field)| *field).collect::<Vec<_>>()
    };
    let root = ["ORG", "CN", "DAYS"].map(|what| format!("ROOTCA_{what}"));
    let [org, cn, days] = root;
    let leaf_name = match generation {
        Generation::CitadelWorkloads => signer("CN"),
        _ => "WORKLOAD_CN".to_owned(),
    };
    let (organization, common_name) = ("organization", "common-name");
    Spoken {
        // A fetched root is as it is.
        root: match fetched {
            true => Vec::new(),
            false => of(&[(org, organization), (cn, common_name), (days, "validity")]),
        },
        clusters: of(&[
            (signer("ORG"), organization),
            (signer("CN"), common_name),
            (signer("DAYS"), "validity"),
            (signer("SAN_DNS"), "dns"),
        ]),
        workloads: of(&[
            (signer("ORG"), organization),
            (leaf_name, common_name),
            ("WORKLOAD_DAYS".to_owned(), "validity"),
            ("NAMESPACE".to_owned(), "uri"),
            ("SERVICE_ACCOUNT".to_owned(), "uri"),
        ]),
    }
}

/// A subject's fields that nothing else is said of, as the certificate has them.
fn keep(subject: &mut Subject, cert: &CertFacts, organization: bool, common_name: bool) {
    if !organization {
        subject.organization = cert.organization.clone().unwrap_or_default();
    }
    if !common_name {
        subject.common_name = cert.common_name.clone().unwrap_or_default();
    }
}

/// Whether it lasts long enough for another one like it.
fn is_worth_repeating(cert: &CertFacts) -> bool {
    cert.not_after - cert.not_before >= time::Duration::HOUR
}

/// How long a certificate lasts, as a plan says it.
pub fn lasts(cert: &CertFacts) -> Validity {
    let span = cert.not_after - cert.not_before;
    Duration::try_from(span).map_or(Validity::Until(cert.not_after), Validity::For)
}

fn named(spec: CaSpec, organization: &str, common_name: &str) -> Result<CaSpec, String> {
    match spec.subject.organization.is_empty() && spec.subject.common_name.is_empty() {
        true => Err(format!(
            "{organization} and {common_name} are both empty: a CA needs a name"
        )),
        false => Ok(spec),
    }
}

fn signing_ca(variables: &Variables) -> Result<CaSpec, String> {
    let name = |what| variables.signer(what);
    let text = |what| variables.text(&name(what)).to_owned();
    let mut spec = ca(
        &text("ORG"),
        &text("CN"),
        KeyAlgorithm::Rsa4096,
        variables.days(&name("DAYS"))?,
    );
    let dns = text("SAN_DNS");
    if !dns.is_empty() {
        if !dns.is_ascii()
            || dns
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == ',')
        {
            return Err(format!("{}={dns}: one DNS name", name("SAN_DNS")));
        }
        spec.dns.push(dns);
    }
    named(spec, &name("ORG"), &name("CN"))
}

fn cluster(name: String, ca: CaSpec) -> Cluster {
    Cluster {
        name,
        ca: ca.into(),
        context: None,
        context_var: None,
        kubeconfig: None,
        api_server: None,
        network: None,
        remote_of: None,
        discovery_address: None,
        gateway: false,
        has_remotes: false,
        overrides: Vec::new(),
        span: Span::default(),
    }
}

fn workload(
    cluster: usize,
    name: String,
    found: &Pair,
    variables: &Variables,
    generation: Generation,
) -> Result<Workload, String> {
    let (mut namespace, common_name) = match generation {
        // There the folder has a name of its own, and the subject that of the CA (facts §1.2, §1.4).
        Generation::CitadelWorkloads => (
            variables.text("NAMESPACE").to_owned(),
            variables.text("CITADEL_CN"),
        ),
        _ => (name.clone(), variables.text("WORKLOAD_CN")),
    };
    let mut service_account = variables.text("SERVICE_ACCOUNT").to_owned();
    let mut subject = Subject {
        organization: variables.text(&variables.signer("ORG")).to_owned(),
        common_name: common_name.to_owned(),
    };
    let mut validity = variables.days("WORKLOAD_DAYS")?;
    if let Some(cert) = found.sound().filter(|c| !c.is_ca) {
        let spoken = spoken(variables, generation, false).workloads;
        let set = |field| spoken.contains(&field);
        keep(&mut subject, cert, set("organization"), set("common-name"));
        if !set("validity") && is_worth_repeating(cert) {
            validity = lasts(cert);
        }
        if let Some((_, ns, account)) = folder::spiffe(cert).filter(|_| !set("uri")) {
            (namespace, service_account) = (ns, account);
        }
    }
    for (what, value) in [
        ("namespace", &namespace),
        ("service account", &service_account),
    ] {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if value.is_empty() || !value.chars().all(fits) {
            return Err(format!(
                "{what} `{value}`: it goes into a SPIFFE ID, which takes letters, digits, `.`, `_` and `-`"
            ));
        }
    }
    let size = variables.signer("KEYSZ");
    let key = match (variables.set(&size), found.algorithm()) {
        (None, Some(algorithm)) => algorithm,
        _ => variables.key(&size)?,
    };
    Ok(Workload {
        cluster,
        namespace,
        service_account,
        subject,
        key,
        renew_before: match validity {
            Validity::For(span) => span / 2,
            Validity::Until(_) => RENEW_BEFORE,
        },
        validity,
        name,
        span: Span::default(),
    })
}

/// What `help` prints.
pub fn help(told: &Told) -> String {
    use Generation::{Citadel, CitadelWorkloads, Joint, Kubernetes, SelfSigned};
    let mut text = String::new();
    let all = [SelfSigned, Kubernetes, Joint, CitadelWorkloads, Citadel];
    for generation in all
        .into_iter()
        .filter(|g| told.generation.is_none_or(|wanted| wanted == *g))
    {
        let _ = writeln!(
            text,
            "Targets of {}, {}:",
            generation.file(),
            generation.releases()
        );
        for (name, does) in goals::listed(generation) {
            let _ = writeln!(text, "  {name:<26} {does}");
        }
        text.push('\n');
    }
    let generation = told.generation.unwrap_or(SelfSigned);
    let _ = writeln!(
        text,
        "Variables, NAME=VALUE or in the environment, and what they are worth unset:"
    );
    for (name, value) in variables::listed(generation, told) {
        let _ = writeln!(text, "  {name:<26} {value}");
    }
    text
}
