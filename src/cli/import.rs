//! `meshplan import`: reads what a Makefile left in a folder, and writes the plan that describes it. It
//! changes nothing in the folder, and holds the plan against it before it says that they agree.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use camino::{Utf8Path, Utf8PathBuf};
use time::format_description::well_known::Rfc3339;

use super::{
    args::ImportArgs,
    exit::{self, Failure},
    init,
    kdl::{Page, quoted},
};
use crate::{
    action::pki::{self, CertFacts},
    build::{STATE_DIR, freshness, log::Log},
    graph::{self, Action},
    host::{Clock, Look, RealDisk, SystemClock, process},
    make::{
        self,
        folder::{self, Member, Pair, Root},
    },
    plan::{self, files::FileNames, model::Validity},
    report::event::Verdict,
};

pub(super) fn import(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let file = init::place(&args.plan)?;
    if let Err((cause, help)) = plan::label_value(&args.mesh) {
        return Err(Failure::usage(format!("--mesh: {cause}; {help}")));
    }
    let cwd = super::current_dir()?;
    let dir = plan::normalize(&cwd.join(&args.dir));
    if !super::make::is_folder(&dir) {
        return Err(Failure::usage(format!("{} is not a folder", args.dir)));
    }
    let home = file.as_deref().and_then(Utf8Path::parent).unwrap_or(&cwd);
    let mut import = Import::of(&dir);
    if import.root.is_none() && import.clusters.is_empty() && import.findings.is_empty() {
        return Err(Failure::usage(format!(
            "{} holds nothing that Istio's Makefile makes: no root-cert.pem, and no folder with a ca-cert.pem",
            args.dir
        )));
    }
    let text = import.text(&args.mesh, &between(home, &dir), home);
    let made = import.hold(&args.plan, &text, home)?;
    init::write(&args.plan, file.as_deref(), &text)?;
    let mut said = String::new();
    for note in &import.notes {
        let _ = writeln!(said, "note: {note}");
    }
    for finding in &import.findings {
        let _ = writeln!(said, "ATTENTION: {finding}");
    }
    let plan = match args.plan.as_str() {
        "-" => "PLAN",
        file => {
            let _ = writeln!(said, "meshplan: wrote {file}");
            file
        }
    };
    let _ = writeln!(said, "meshplan: {made}");
    let _ = writeln!(
        said,
        "next: meshplan run {plan}    (with -n it only says what it would do)"
    );
    let _ = io::stderr().write_all(said.as_bytes());
    Ok(match import.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::FINDINGS),
    })
}

/// A folder's path from another; absolute where they have nothing in common.
fn between(from: &Utf8Path, to: &Utf8Path) -> Utf8PathBuf {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    if common <= 1 {
        return to.to_owned();
    }
    let up = from.components().skip(common).map(|_| "..");
    let down = to.components().skip(common).map(|c| c.as_str());
    let path: Utf8PathBuf = up.chain(down).collect();
    if path.as_str().is_empty() {
        ".".into()
    } else {
        path
    }
}

/// What one CA says, as a plan's fields.
#[derive(Clone, PartialEq, Eq)]
struct Fields {
    subject: String,
    key: Option<&'static str>,
    validity: String,
    dns: Vec<String>,
    with_root: bool,
}

impl Fields {
    fn of(cert: &CertFacts, key: &Pair, with_root: bool) -> Self {
        let part = |name: &str, value: &Option<String>| {
            value
                .as_ref()
                .map(|v| format!(" {name}={}", quoted(v)))
                .unwrap_or_default()
        };
        Self {
            subject: format!(
                "subject{}{}",
                part("organization", &cert.organization),
                part("common-name", &cert.common_name)
            ),
            key: key.algorithm().map(|a| a.name()),
            validity: validity(cert),
            dns: cert.dns.clone(),
            with_root,
        }
    }

    /// Lines of what is not as in `other`; all of them where there is none.
    fn lines(&self, other: Option<&Self>) -> Vec<String> {
        let mut lines = Vec::new();
        let differs = |same: &dyn Fn(&Self) -> bool| !other.is_some_and(same);
        if differs(&|o| o.subject == self.subject) {
            lines.push(self.subject.clone());
        }
        if differs(&|o| o.key == self.key) {
            lines.extend(self.key.map(|k| format!("key {}", quoted(k))));
        }
        if differs(&|o| o.validity == self.validity) {
            lines.push(format!("validity {}", quoted(&self.validity)));
        }
        if differs(&|o| o.dns == self.dns) && !self.dns.is_empty() {
            let names: Vec<_> = self.dns.iter().map(|d| quoted(d)).collect();
            lines.push(format!("dns {}", names.join(" ")));
        }
        if self.with_root && differs(&|o| o.with_root) {
            lines.push("chain \"with-root\"".to_owned());
        }
        if !self.with_root && other.is_some_and(|o| o.with_root) {
            lines.push("chain \"without-root\"".to_owned());
        }
        lines
    }
}

/// A plan's word for how long a certificate lasts.
fn validity(cert: &CertFacts) -> String {
    let text = make::lasts(cert).to_string();
    match make::lasts(cert) {
        Validity::For(_) if !text.ends_with('s') => text,
        _ => cert.not_after.format(&Rfc3339).unwrap_or(text),
    }
}

struct Cluster {
    name: String,
    fields: Fields,
    workload: Option<CertFacts>,
}

struct Import<'a> {
    dir: &'a Utf8Path,
    root: Option<Root>,
    clusters: Vec<Cluster>,
    /// What keeps a run from finding all as it is.
    findings: Vec<String>,
    /// What no plan would make so, and a run leaves as it is.
    notes: Vec<String>,
}

impl<'a> Import<'a> {
    fn of(dir: &'a Utf8Path) -> Self {
        let members = folder::members(&RealDisk, dir);
        let roots = folder::roots(&RealDisk, dir);
        let signs = |root: &&Root| {
            let under = |m: &Member| {
                m.root
                    .as_ref()
                    .is_some_and(|r| r.public_key == root.cert.public_key)
            };
            members.iter().any(under)
        };
        // The root under which the clusters are; before there are any, the one made here.
        let root = roots.iter().find(signs).or(roots.first()).cloned();
        let mut import = Self {
            dir,
            root,
            clusters: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
        };
        for member in &members {
            import.member(member);
        }
        import
    }

    fn read(&self, name: &str) -> Vec<u8> {
        RealDisk.read(&self.dir.join(name)).unwrap_or_default()
    }

    fn member(&mut self, member: &Member) {
        let files = FileNames::default();
        let name = &member.name;
        let pair = |cert: String, key: String| {
            Pair::read(&RealDisk, &self.dir.join(cert), &self.dir.join(key))
        };
        let found = pair(files.ca_cert(name), files.ca_key(name));
        let prefixed = FileNames {
            signer: "selfSigned-",
            ..files.clone()
        };
        if !found.there && pair(prefixed.ca_cert(name), prefixed.ca_key(name)).there {
            self.findings.push(format!(
                "{name} is left out: its files have the names of Istio 1.7's -cacerts-selfSigned. Name them {}, {} and {}, and import again",
                files.ca_key(name), files.ca_cert(name), files.cert_chain(name)
            ));
            return;
        }
        // A folder of a context, with a fetched root in it, is no cluster's.
        let Some(cert) = found.cert.as_ref().filter(|_| found.there) else {
            if found.there {
                self.findings.push(format!(
                    "{name} is left out: {} holds no certificate",
                    files.ca_cert(name)
                ));
            }
            return;
        };
        if let Err((cause, _)) = plan::cluster_name(name) {
            self.findings.push(format!(
                "{name} is left out: {cause}; a plan's clusters are named as namespaces are"
            ));
            return;
        }
        let root_pem = self
            .root
            .as_ref()
            .map(|r| r.pem.clone())
            .unwrap_or_default();
        let ca_cert = self.read(&files.ca_cert(name));
        if let Err(e) = pki::signed_by(&ca_cert, &root_pem) {
            self.findings.push(format!(
                "{name} is left out: {} was not signed by the root of this folder ({e}); a run would sign it anew",
                files.ca_cert(name)
            ));
            return;
        }
        let key = zeroize::Zeroizing::new(self.read(&files.ca_key(name)));
        let chain = self.read(&files.cert_chain(name));
        let bundle = pki::Bundle {
            ca_cert: &ca_cert,
            ca_key: &key,
            cert_chain: &chain,
            root_cert: &root_pem,
        };
        let with_root = pki::judge(&bundle, SystemClock.now())
            .iter()
            .any(|f| f.rule == "C10");
        let workload = pki::read_cert(&self.read(&files.workload_cert(name))).ok();
        let mut fields = Fields::of(cert, &found, with_root);
        // What was asked for may be longer than what it got: it is cut to its root's end.
        if let Some(asked) = self.asked_validity(&files.ca_cert(name), &ca_cert) {
            fields.validity = asked;
        }
        self.clusters.push(Cluster {
            name: name.clone(),
            fields,
            workload,
        });
    }

    /// The validity that a certificate was signed with here, where the build log knows it.
    fn asked_validity(&self, name: &str, cert: &[u8]) -> Option<String> {
        let path = self.dir.join(STATE_DIR).join("log");
        let log = Log::open(Arc::new(RealDisk), path).ok()?;
        let record = log.task(name)?;
        let same = record.output == Some(pki::digest(cert));
        let asked = record.recipe.0.get("validity").filter(|_| same)?;
        (!asked.ends_with('s')).then(|| asked.to_string())
    }

    fn text(&mut self, mesh: &str, work_dir: &Utf8Path, home: &Utf8Path) -> String {
        let mut page = Page::default();
        page.comment(&format!(
            "What was found in {work_dir}, read from its certificates."
        ));
        page.line("");
        page.open("mesh", mesh);
        if self.dir != home {
            page.line(&format!("    work-dir {}", quoted(work_dir.as_str())));
        }
        let domain = self
            .clusters
            .iter()
            .filter_map(|c| c.workload.as_ref())
            .find_map(folder::spiffe)
            .map(|s| s.0);
        if let Some(domain) = domain.filter(|d| d != "cluster.local") {
            page.line(&format!("    trust-domain {}", quoted(&domain)));
        }
        page.line("}");
        self.root_text(&mut page, work_dir);
        let Some(first) = self.clusters.first().map(|c| c.fields.clone()) else {
            return page.0;
        };
        page.line("");
        block(&mut page, "cluster-ca", first.lines(None));
        for cluster in &self.clusters {
            page.line("");
            page.open("cluster", &cluster.name);
            let own = cluster.fields.lines(Some(&first));
            if !own.is_empty() {
                page.line("    ca {");
                own.iter()
                    .for_each(|line| page.line(&format!("        {line}")));
                page.line("    }");
            }
            page.line("    // context \"CONTEXT\"; network \"NETWORK\"   for its cluster steps");
            page.line("}");
        }
        for cluster in &self.clusters {
            let Some(cert) = &cluster.workload else {
                continue;
            };
            page.line("");
            page.open("workload", &cluster.name);
            page.line(&format!("    cluster {}", quoted(&cluster.name)));
            if let Some((_, namespace, account)) = folder::spiffe(cert) {
                if namespace != cluster.name {
                    page.line(&format!("    namespace {}", quoted(&namespace)));
                }
                page.line(&format!("    service-account {}", quoted(&account)));
            }
            let files = FileNames::default();
            let key = Pair::read(
                &RealDisk,
                &self.dir.join(files.workload_cert(&cluster.name)),
                &self.dir.join(files.key(&cluster.name)),
            );
            let fields = Fields {
                dns: Vec::new(),
                ..Fields::of(cert, &key, false)
            };
            fields
                .lines(None)
                .iter()
                .for_each(|line| page.line(&format!("    {line}")));
            page.line("}");
        }
        page.0
    }

    fn root_text(&mut self, page: &mut Page, work_dir: &Utf8Path) {
        let Some(root) = &self.root else {
            self.findings.push(
                "there is no root-cert.pem: bring back the root's certificate and key before a run"
                    .to_owned(),
            );
            return;
        };
        page.line("");
        if root.name == "root" {
            let files = FileNames::default();
            let pair = Pair::read(
                &RealDisk,
                &self.dir.join(files.root_cert()),
                &self.dir.join(files.root_key()),
            );
            let fields = Fields {
                dns: Vec::new(),
                ..Fields::of(&root.cert, &pair, false)
            };
            block(page, "root-ca", fields.lines(None));
        } else {
            // Fetched from a cluster: read, and never written.
            let file =
                |end: &str| quoted(work_dir.join(format!("{}-{end}.pem", root.name)).as_str());
            block(
                page,
                "root-ca",
                vec![
                    format!("cert {}", file("cert")),
                    format!("key {}", file("key")),
                ],
            );
        }
        if !root.has_key {
            self.findings.push(format!(
                "{}-key.pem is missing: a run can sign nothing new until it is back (Istio's `make clean` removes it)",
                root.name
            ));
        }
    }

    /// Reads the plan as a run would and holds it against the folder. Returns what a run would do.
    fn hold(&mut self, file: &Utf8Path, text: &str, home: &Utf8Path) -> Result<String, Failure> {
        let around = Draft {
            file: home.join(file),
            text,
        };
        let request = plan::Request {
            file: &around.file,
            cwd: home,
            assignments: &[],
            work_dir: None,
        };
        let style = plan::problem::Style {
            color: false,
            width: 100,
        };
        let unsound = |problems: plan::problem::Problems| {
            Failure::task(format!(
                "the plan that follows from these files is not sound:\n{}",
                problems.render(style)
            ))
        };
        let loaded = plan::load(&request, &around).map_err(unsound)?;
        let graph = graph::lower(&loaded.plan).map_err(unsound)?;
        let given = crate::action::given(&loaded.plan, &RealDisk, SystemClock.now(), &|path| {
            graph.is_made(path)
        })
        .map_err(unsound)?;
        let log_path = loaded.plan.state_dir().join("log");
        let site = super::site_of(
            loaded.plan,
            graph,
            given.map(Into::into),
            process::Interrupt::new(process::GRACE),
        );
        let log = Log::open(site.disk.clone(), log_path)
            .map_err(|e| Failure::task(format!("cannot read the build log: {e}")))?;
        let order: Vec<_> = site
            .graph
            .task_ids()
            .filter(|id| site.graph.task(*id).action.is_built_in_file())
            .collect();
        let order = site.graph.cone(&order);
        let judged = freshness::judge(&site, &RealDisk, &log, &freshness::Ask::default(), &order);
        let mut made = Vec::new();
        let mut current = 0;
        for id in order {
            let task = site.graph.task(id);
            let Some(judgement) = judged.tasks.get(id) else {
                continue;
            };
            let why = || judgement.why.to_string();
            match judgement.verdict {
                Verdict::Current | Verdict::Adopted => current += 1,
                // What no Makefile makes is new, and takes nothing away.
                Verdict::Stale if matches!(task.action, Action::Install(_)) => {
                    made.push(task.name.clone())
                }
                Verdict::Stale
                    if site
                        .disk
                        .stat(&site.graph.file_at(task.outputs[0]).path)
                        .is_ok_and(|s| s.is_none()) =>
                {
                    made.push(task.name.clone());
                }
                _ => self.findings.push(format!("{}: {}", task.name, why())),
            }
        }
        self.notes
            .extend(judged.notices.iter().map(|n| n.message.clone()));
        let new = match made.as_slice() {
            [] => "a run would write nothing".to_owned(),
            names => format!("a run would write {}", names.join(", ")),
        };
        Ok(format!("{current} files are as the plan has them; {new}"))
    }
}

fn block(page: &mut Page, node: &str, lines: Vec<String>) {
    page.line(&format!("{node} {{"));
    lines
        .iter()
        .for_each(|line| page.line(&format!("    {line}")));
    page.line("}");
}

/// The plan before it is a file.
struct Draft<'a> {
    file: Utf8PathBuf,
    text: &'a str,
}

impl plan::Surroundings for Draft<'_> {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        match path == self.file {
            true => Ok(self.text.as_bytes().to_vec()),
            false => plan::Surroundings::read(&RealDisk, path),
        }
    }

    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        match path == self.file {
            true => Ok(self.text.len() as u64),
            false => plan::Surroundings::len(&RealDisk, path),
        }
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        plan::Surroundings::list(&RealDisk, dir)
    }
}
