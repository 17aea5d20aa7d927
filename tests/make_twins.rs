//! `meshplan make` next to Istio's own Makefiles of every generation: the same words in twin folders, the same
//! table of OpenSSL's over both (`fixtures/istio/make`, recorded by `record-make.sh`). Every difference has its
//! reason below, and every reason a difference.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use support::World;

/// One line that is not the same: of which recording, in which section, and whether the Makefile has it.
struct Line<'a> {
    of: &'a str,
    section: &'a str,
    makefile: bool,
    text: &'a str,
}

type Reason = (&'static str, fn(&Line) -> bool);

/// Why a line differs. The first that fits is its reason.
const REASONS: &[Reason] = &[
    (
        "requests, configurations and counters are openssl's own: nobody reads them later, and with them variables froze (B4)",
        |l| {
            l.makefile
                && l.section.is_empty()
                && [".csr ", ".conf ", ".srl "]
                    .iter()
                    .any(|end| l.text.contains(end))
        },
    ),
    ("a private key is its owner's alone (B16)", |l| {
        l.section.is_empty() && l.text.contains("k8s-root-key.pem mode ")
    }),
    (
        "1.7 ran `make clean` after its work, and failed where there was no Makefile: the root stays, for the next cluster (B2)",
        |l| l.of.starts_with("1.7-") && (l.text.starts_with("exit ") || l.of.ends_with("-inside")),
    ),
    (
        "the Makefile asked before it had fetched, or for a key that was never there: it made nothing, or halves (B14, B15)",
        |l| {
            [
                "1.7-foo-certs-k8s",
                "1.8-k8s-cluster1-cacerts",
                "1.8-k8s-foo-certs",
                "1.8-k8s-cluster1-cacerts-other-root",
            ]
            .contains(&l.of)
        },
    ),
    (
        "a cluster without a CA has nothing to fetch: no empty files, and for a cluster's CA a root is made here (B14, F0.2)",
        |l| {
            l.of.ends_with("-nothing")
                || [
                    "1.8-k8s-fetch-root-ca-cacerts",
                    "1.14-k8s-cluster1-cacerts-cacerts",
                ]
                .contains(&l.of)
        },
    ),
    (
        "an intermediate with pathlen:0 is no root: refused (B13)",
        |l| l.of.starts_with("1.30-k8s-") && l.of.ends_with("-cacerts"),
    ),
    (
        "`clean` keeps the root of clusters that are here (B1)",
        |l| l.of.ends_with("-clean"),
    ),
    (
        "a variable that is changed changes what it touches; a root is refused instead (B4)",
        |l| {
            l.of == "1.30-root-ca-again" && l.text.starts_with("exit ")
                || l.of == "1.30-cluster1-cacerts-again"
                    && l.text.contains("Acme") != l.makefile
                    && l.text.contains("Intermediate CA")
        },
    ),
    (
        "CAs may sign revocation lists, which ca-crl.pem needs (F2.14)",
        |l| {
            !l.section.contains("workload")
                && l.text.starts_with(
                    "Digital Signature, Non Repudiation, Key Encipherment, Certificate Sign",
                )
        },
    ),
    (
        "cert-chain.pem ends below the root, which istiod adds itself (B21)",
        |l| {
            l.makefile
                && l.section.contains("chain.pem]")
                && !l.section.contains("workload")
                && l.text.starts_with("holds ")
        },
    ),
    ("serial numbers are random (B17)", |l| {
        l.text.starts_with("serial ")
    }),
    (
        "a SPIFFE ID is a URI, and no DNS name (RFC 5280 §4.2.1.6)",
        |l| l.section.contains("workload-cert.pem]") && l.text.starts_with("URI:spiffe://"),
    ),
    ("a leaf's keyUsage is critical (RFC 5280 §4.2.1.3)", |l| {
        l.section.contains("workload-cert.pem]") && l.text.starts_with("X509v3 Key Usage:")
    }),
    ("names of one extension stand in another order", |l| {
        l.text.contains("/sa/citadel")
    }),
];

fn istio() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/istio")
}

/// What was run, with which secret in the cluster, how it ended, and the table.
struct Recording {
    name: String,
    commands: Vec<String>,
    secret: String,
    exit: String,
    table: String,
}

fn recordings() -> Vec<Recording> {
    let mut found = Vec::new();
    for entry in fs::read_dir(istio().join("make")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Of equals, the first one speaks; where the Makefile lies makes no difference here.
        let inside = name.ends_with("-inside") && name != "1.7-cluster1-cacerts-selfSigned-inside";
        if inside || body.starts_with("same as ") {
            continue;
        }
        let (said, table) = body.split_once("\n\n").unwrap();
        let exit = said
            .lines()
            .rfind(|l| l.starts_with("exit "))
            .unwrap()
            .to_owned();
        let mut commands: Vec<_> = head.split("; ").skip(2).map(str::to_owned).collect();
        let secret = match commands.last().unwrap().strip_prefix("the cluster has ") {
            Some(secret) => secret.to_owned(),
            None => "istio-ca-secret".to_owned(),
        };
        commands.retain(|c| !c.starts_with("the cluster has "));
        found.push(Recording {
            name,
            commands,
            secret,
            exit,
            table: table.to_owned(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The cluster's secrets, as `record-make.sh` makes them.
const SECRETS: &str = r"
printf '%s\n' '[req]' prompt=no string_mask=default distinguished_name=dn x509_extensions=ca '[dn]' O=cluster.local '[ca]' \
    keyUsage=critical,keyCertSign basicConstraints=critical,CA:TRUE subjectKeyIdentifier=hash > conf
openssl genrsa -traditional -out istio-ca-secret.key 2048
openssl req -x509 -new -sha256 -days 3650 -config conf -key istio-ca-secret.key -out istio-ca-secret.cert
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj '/O=Istio/CN=Root CA' -keyout root.key -out root.cert
openssl req -newkey rsa:2048 -nodes -subj '/O=Istio/CN=Intermediate CA/L=east' -keyout cacerts.key -out csr
printf '%s\n' basicConstraints=critical,CA:TRUE,pathlen:0 keyUsage=critical,keyCertSign,cRLSign subjectKeyIdentifier=hash > conf
openssl x509 -req -sha256 -days 730 -CA root.cert -CAkey root.key -in csr -extfile conf -out cacerts.cert
";

/// Folders of a kubectl's state, one for each secret that the cluster may have.
fn clusters() -> World {
    let world = World::new("");
    world.sh("", SECRETS);
    for secret in ["istio-ca-secret", "cacerts"] {
        let encoded = |kind: &str| {
            let output = Command::new("base64")
                .arg("-w0")
                .arg(world.path(&format!("{secret}.{kind}")))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let object = serde_json::json!({
            "kind": "Secret",
            "metadata": { "name": secret },
            "data": { "ca-cert.pem": encoded("cert"), "ca-key.pem": encoded("key") },
        });
        world.write(
            &format!("{secret}/state/east/Secret.{secret}.json"),
            object.to_string(),
        );
    }
    world.write("nothing/empty", "");
    world
}

/// Words of a command, as a shell splits those of the recordings.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// Runs a recording's commands by meshplan. Returns the last one's exit code and the table of the folder.
fn ours(recording: &Recording, clusters: &World) -> (String, String) {
    let full = recording.name == FULL_SIZE;
    let small: &[&str] = if full {
        &[]
    } else {
        &["ROOTCA_KEYSZ=2048", "INTERMEDIATE_KEYSZ=2048"]
    };
    let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bin/kubectl");
    let folder = World::new("")
        .env("KUBECTL", fakes.to_str().unwrap())
        .env(
            "FAKE_DIR",
            clusters.path(&recording.secret).to_str().unwrap(),
        )
        .env("FAKE_CONTEXTS", "east")
        .env("FAKE_CURRENT", "east");
    fs::remove_file(folder.path("plan.kdl")).unwrap();
    let release = recording.name.split('-').next().unwrap();
    let mut exit = String::new();
    for command in &recording.commands {
        let words = words(command);
        let Some(("make", rest)) = words
            .split_first()
            .map(|(first, rest)| (first.as_str(), rest))
        else {
            folder.sh("", command);
            continue;
        };
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        let ran = folder.meshplan(&[&["make", "--istio", release], &rest[..], small].concat());
        exit = format!("exit {}", ran.code.unwrap());
    }
    fs::remove_dir_all(folder.path(".meshplan")).ok();
    // Here a fetched root stays in the folder of its context, where no other cluster's is taken for it (facts
    // B11); the Makefile makes copies beside it, which this puts in place, so that all else can be compared.
    for file in ["k8s-root-cert.pem", "k8s-root-key.pem"] {
        if recording.table.contains(&format!("\n{file} mode "))
            || recording.table.starts_with(&format!("{file} mode "))
        {
            fs::copy(folder.path(&format!("east/{file}")), folder.path(file)).ok();
        }
    }
    let table = Command::new("sh")
        .arg(istio().join("fields.sh"))
        .arg(folder.path(""))
        .output()
        .unwrap();
    assert!(
        table.status.success(),
        "{}",
        String::from_utf8_lossy(&table.stderr)
    );
    (exit, String::from_utf8(table.stdout).unwrap())
}

/// The recording that is made with keys of full size; small ones do for all that is not size.
const FULL_SIZE: &str = "1.30-foo-certs";

/// Lines with the section they stand in.
fn lines(exit: &str, table: &str, full: bool) -> BTreeSet<(String, String)> {
    let mut section = String::new();
    let mut lines = BTreeSet::from([(String::new(), exit.to_owned())]);
    for line in table.lines().filter(|l| !l.is_empty()) {
        if line.starts_with('[') {
            section = line.to_owned();
            continue;
        }
        let size = if full {
            line.to_owned()
        } else {
            line.replace("(4096 bit", "(2048 bit")
        };
        lines.insert((section.clone(), size));
    }
    lines
}

#[test]
fn every_generation_and_target_has_its_twin() {
    if !support::judge("openssl") {
        return;
    }
    let clusters = clusters();
    let recordings = recordings();
    assert!(recordings.len() > 30, "{}", recordings.len());
    let (next, results) = (Mutex::new(recordings.iter()), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(recording) = next.lock().unwrap().next() else {
                        break;
                    };
                    let (exit, table) = ours(recording, &clusters);
                    let full = recording.name == FULL_SIZE;
                    let both = (
                        lines(&recording.exit, &recording.table, full),
                        lines(&exit, &table, full),
                    );
                    results
                        .lock()
                        .unwrap()
                        .insert(recording.name.as_str(), both);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut used = BTreeSet::new();
    let mut unexplained = String::new();
    for (of, (makefile, ours)) in &results {
        let of_makefile = makefile.difference(ours).map(|l| (true, l));
        for (makefile, (section, text)) in
            of_makefile.chain(ours.difference(makefile).map(|l| (false, l)))
        {
            let line = Line {
                of,
                section,
                makefile,
                text,
            };
            match REASONS.iter().position(|(_, fits)| fits(&line)) {
                Some(reason) => drop(used.insert(reason)),
                None => unexplained.push_str(&format!(
                    "{of}: {} {section} {text}\n",
                    if makefile { '-' } else { '+' }
                )),
            }
        }
    }
    let idle: Vec<_> = (0..REASONS.len())
        .filter(|r| !used.contains(r))
        .map(|r| REASONS[r].0)
        .collect();
    assert!(
        unexplained.is_empty(),
        "differences without a reason:\n{unexplained}"
    );
    assert_eq!(idle, Vec::<&str>::new(), "reasons without a difference");
}
