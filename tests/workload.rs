//! Certificates of workloads: before judges that are not us, rebuilt when and only when they should be, and
//! taken over from Istio's Makefiles.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, io, os::unix::fs::MetadataExt, process::Command, sync::Arc};

use camino::Utf8PathBuf;
use meshplan::{
    action::{
        cluster::Tools,
        pki::{self, Issuer, PkiError, Request, Role},
    },
    build::{self, Site},
    graph,
    host::{
        RealDisk, SystemClock,
        process::{self, Interrupt},
    },
    plan::{
        self,
        files::FileNames,
        model::{KeyAlgorithm, Subject, Validity},
    },
    report::{Reporter, event::Event},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use support::World;
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// One cluster with a VM in a folder of its own and one in the cluster's.
const VMS: &str = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { }
workload "vm" { service-account "web"; }
workload "east" { namespace "legacy"; }
"#;

const LEAF: [&str; 2] = ["vm/workload-cert-chain.pem", "vm/workload-cert.pem"];
const NOTHING: [&str; 0] = [];

fn built(plan: &str) -> World {
    let world = World::new(plan);
    world.run(&[]).exits(0);
    world
}

/// Runs openssl, which must succeed. Its standard output.
#[track_caller]
fn openssl(world: &World, args: &str) -> String {
    let mut command = Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(world.path(""));
    let output = output.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args}\n{said}{errors}");
    said
}

/// OpenSSL, webpki and the order of the chain, for the workload of a folder.
#[track_caller]
fn judged(world: &World, folder: &str, id: &str, usage: &str) {
    let [cert, chain, root] = [
        "workload-cert.pem",
        "workload-cert-chain.pem",
        "root-cert.pem",
    ]
    .map(|f| format!("out/{folder}/{f}"));
    for purpose in ["sslserver", "sslclient"] {
        let verify = format!("verify -x509_strict -purpose {purpose} -CAfile {root}");
        openssl(world, &format!("{verify} -untrusted {chain} {cert}"));
    }
    let names = "basicConstraints,keyUsage,extendedKeyUsage,subjectAltName";
    let said = openssl(world, &format!("x509 -in {cert} -noout -ext {names}"));
    let text: Vec<_> = said.split_whitespace().collect();
    let text = text.join(" ");
    for part in [
        "X509v3 Basic Constraints: critical CA:FALSE",
        &format!("X509v3 Key Usage: {usage} X509v3"),
        "TLS Web Server Authentication, TLS Web Client Authentication",
        &format!("URI:{id}"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // As a TLS server sends them: its own first, each signed by the next, the root last.
    let read = |name: &str| -> Vec<CertificateDer> {
        CertificateDer::pem_slice_iter(&world.read(name))
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let (leaf, sent, roots) = (read(&cert), read(&chain), read(&root));
    assert_eq!((sent.first(), sent.last()), (leaf.first(), roots.first()));
    for pair in pems(&world.read(&chain)).windows(2) {
        assert_eq!(pki::signed_by(&pair[0], &pair[1]), Ok(()), "{folder}");
    }
    let anchors = [anchor_from_trusted_cert(&roots[0]).unwrap()];
    let cert = EndEntityCert::try_from(&leaf[0]).unwrap();
    assert_eq!(cert.valid_uri_names().collect::<Vec<_>>(), [id]);
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let now = UnixTime::now();
        let way = cert.verify_for_usage(algorithms, &anchors, &sent[1..], now, usage, None, None);
        assert!(way.is_ok(), "{folder}: {:?}", way.err());
    }
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().mode() & 0o777;
    assert_eq!(mode(&format!("out/{folder}/key.pem")), 0o600);
}

/// Certificates of a text, one by one.
fn pems(text: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
    blocks.map(|b| b.as_bytes().to_vec()).collect()
}

#[test]
fn openssl_and_webpki_accept_workloads_of_every_kind_of_ca() {
    if !support::judge("openssl") {
        return;
    }
    let world = built(
        r#"
        mesh "mesh1" { work-dir "out"; trust-domain "example.org"; }
        root-ca { key "ecdsa-p384"; }
        cluster "ec" { ca { key "ecdsa-p256"; }; }
        cluster "rsa" { ca { key "rsa-2048"; }; }
        workload "vm1" { cluster "ec"; namespace "shop"; service-account "web.v1"; }
        workload "vm2" { cluster "rsa"; }
        workload "rsa" { cluster "rsa"; key "ecdsa-p256"; validity "9999d"; }
        "#,
    );
    let ec = "critical Digital Signature";
    let rsa = "critical Digital Signature, Key Encipherment";
    judged(&world, "vm1", "spiffe://example.org/ns/shop/sa/web.v1", ec);
    judged(&world, "vm2", "spiffe://example.org/ns/vm2/sa/default", rsa);
    judged(&world, "rsa", "spiffe://example.org/ns/rsa/sa/default", ec);
    let ends = ["workload-cert.pem", "ca-cert.pem"].map(|f| {
        pki::read_cert(&world.read(&format!("out/rsa/{f}")))
            .unwrap()
            .not_after
    });
    assert_eq!(ends[0], ends[1], "it outlives its issuer");
    // What was cut short is not renewed again and again.
    assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);
}

#[test]
fn a_workload_below_a_ca_brought_along_leads_to_that_ones_root() {
    if !support::judge("openssl") {
        return;
    }
    let world = World::new(
        r#"
        mesh "mesh1" { work-dir "out"; }
        root-ca { cert "mid.pem"; key "mid-key.pem"; chain "root.pem"; }
        cluster "east" { ca { key "ecdsa-p256"; }; }
        workload "vm" { }
        "#,
    );
    world.sh("", r"
umask 077; ca=basicConstraints=critical,CA:TRUE sign=keyUsage=critical,keyCertSign,cRLSign
for k in root mid; do openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $k-key.pem; done
openssl req -x509 -key root-key.pem -out root.pem -days 900 -subj /DC=com/DC=example/CN=Root -addext $ca -addext $sign
openssl req -new -key mid-key.pem -subj /DC=com/DC=example/CN=mid -out csr
printf '%s\n' $ca $sign subjectKeyIdentifier=hash > ext
openssl x509 -req -sha256 -in csr -CA root.pem -CAkey root-key.pem -CAcreateserial -days 400 -extfile ext -out mid.pem
");
    world.run(&[]).exits(0);
    let id = "spiffe://cluster.local/ns/vm/sa/default";
    judged(&world, "vm", id, "critical Digital Signature");
    assert_eq!(pems(&world.read("out/vm/workload-cert-chain.pem")).len(), 4);
    assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);
}

#[test]
fn one_target_builds_four_files_and_what_they_need() {
    let world = World::new(VMS);
    let ran = world.run(&["vm-certs"]).exits(0).ran();
    let made = [
        "east/ca-cert.pem",
        "east/ca-key.pem",
        "root-cert.pem",
        "root-key.pem",
        "vm/key.pem",
        "vm/root-cert.pem",
        "vm/workload-cert-chain.pem",
        "vm/workload-cert.pem",
    ];
    assert_eq!(ran, made);
    // A workload of its own cluster's name shares that folder, and its copy of the root.
    let ran = world.run(&["east-certs"]).exits(0).ran();
    let made = ["key", "root-cert", "workload-cert-chain", "workload-cert"];
    assert_eq!(ran, made.map(|f| format!("east/{f}.pem")));
}

#[test]
fn a_certificate_is_signed_again_when_the_plan_or_its_time_asks_and_its_key_kept() {
    let world = built(VMS);
    assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);
    // Nor where the log is lost: files are known by what they hold.
    fs::remove_dir_all(world.path("out/.meshplan")).unwrap();
    assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);
    let key = world.read("out/vm/key.pem");
    let runs = |plan: String| {
        world.write("plan.kdl", plan);
        let ran = world.run(&[]).exits(0).ran();
        assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);
        ran
    };
    let vm = |more: &str| VMS.replace(r#"account "web";"#, &format!(r#"account "web"; {more}"#));
    let domain = VMS.replace(r#""out";"#, r#""out"; trust-domain "example.org";"#);
    let both = [
        "east/install.yaml",
        "east/workload-cert-chain.pem",
        "east/workload-cert.pem",
        LEAF[0],
        LEAF[1],
    ];
    assert_eq!(runs(domain), both);
    let cert = pki::read_cert(&world.read("out/vm/workload-cert.pem")).unwrap();
    assert_eq!(cert.uris, ["spiffe://example.org/ns/vm/sa/web"]);
    assert_eq!(runs(VMS.to_owned()), both);
    // A day less the minute of backdating is left, more than half of it: not yet.
    assert_eq!(runs(vm("renew-before \"1438m\";")), NOTHING);
    world.write("plan.kdl", vm("renew-before \"1439m\";"));
    assert_eq!(world.run(&[]).exits(0).ran(), LEAF);
    world.write("plan.kdl", VMS);
    let ca = r#"cluster "east" { ca { validity "300d"; }; }"#;
    let below = runs(VMS.replace(r#"cluster "east" { }"#, ca));
    assert!(below.contains(&LEAF[1].to_owned()), "{below:?}");
    world.run(&["-B"]).exits(0);
    assert_eq!(
        world.read("out/vm/key.pem"),
        key,
        "a sound key was replaced"
    );
}

#[test]
fn a_key_that_is_lost_broken_or_another_kind_is_made_anew_without_a_gate() {
    let world = built(VMS);
    let keys = || -> Vec<String> {
        let archive = fs::read_dir(world.path("out/.meshplan/archive"));
        let names = archive.into_iter().flatten();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with("-vm-key.pem")).collect()
    };
    let anew = ["vm/key.pem", LEAF[0], LEAF[1]];
    fs::remove_file(world.path("out/vm/key.pem")).unwrap();
    assert_eq!(world.run(&[]).exits(0).ran(), anew);
    assert_eq!(keys(), NOTHING);
    world.write("out/vm/key.pem", "-----BEGIN PRIVATE KEY-----\n");
    assert_eq!(world.run(&[]).exits(0).ran(), anew);
    assert_eq!(keys().len(), 1);
    let other = VMS.replace(r#"account "web";"#, r#"account "web"; key "ecdsa-p384";"#);
    world.write("plan.kdl", other);
    let ran = world.run(&[]).exits(0);
    assert_eq!(ran.ran(), anew);
    assert!(
        ran.stdout.contains("key ecdsa-p256 → ecdsa-p384"),
        "{}",
        ran.stdout
    );
    assert_eq!(world.run(&["--force", "vm/key.pem"]).exits(0).ran(), anew);
    assert_eq!(keys().len(), 3);
    let facts = pki::read_key(&world.read("out/vm/key.pem")).unwrap();
    assert_eq!(facts.algorithm, Some(KeyAlgorithm::EcdsaP384));
    assert_eq!(world.run(&[]).exits(0).ran(), NOTHING);

    // Cleaning leaves keys, and no folder without one.
    world.meshplan(&["clean", "plan.kdl"]).exits(0);
    let left: Vec<_> = world.tree("out/vm").into_keys().collect();
    assert_eq!(left, ["key.pem"]);
    world.meshplan(&["clean", "plan.kdl", "--keys"]).exits(0);
    assert!(!world.exists("out/vm"));
}

/// What Istio's Makefile leaves behind (facts §1.2, §1.4), by its own openssl calls, but with small keys.
const MAKEFILE: &str = r"
umask 022; mkdir -p out/vm && cd out
ca='basicConstraints=critical,CA:TRUE' usage='digitalSignature,nonRepudiation,keyEncipherment,keyCertSign'
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1; chmod 600 $1; }
sign() { openssl x509 -req -sha256 -CA $1-cert.pem -CAkey $1-key.pem -CAcreateserial -in csr -extfile ext -days $2 -out $3; }
key root-key.pem; key vm/ca-key.pem; key vm/key.pem
openssl req -x509 -key root-key.pem -out root-cert.pem -days 3650 -sha256 -utf8 -subj '/O=Istio/CN=Root CA' \
    -addext $ca -addext keyUsage=critical,$usage
openssl req -new -key vm/ca-key.pem -out csr -utf8 -subj '/O=Istio/CN=Intermediate CA/L=vm'
printf '%s\n' $ca,pathlen:0 keyUsage=critical,$usage subjectKeyIdentifier=hash subjectAltName=DNS:istiod.istio-system.svc > ext
sign root 730 vm/ca-cert.pem
openssl req -new -key vm/key.pem -out csr -utf8 -subj /O=Istio/CN=Workload/L=vm
printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=digitalSignature,keyEncipherment subjectKeyIdentifier=hash \
    extendedKeyUsage=serverAuth,clientAuth subjectAltName=URI:spiffe://cluster.local/ns/vm/sa/default > ext
sign vm/ca 1 vm/workload-cert.pem
cp root-cert.pem vm/root-cert.pem
rm csr ext
";

const MADE: &str = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "vm" { }
workload "vm" { }
"#;

#[test]
fn what_makefiles_made_is_taken_over_but_no_chain_with_a_key() {
    if !support::judge("openssl") {
        return;
    }
    let join = |world: &World, files: &str| {
        world.sh("out", &format!("cat {files} > vm/workload-cert-chain.pem"));
    };
    let today = "vm/workload-cert.pem vm/ca-cert.pem root-cert.pem";
    // Istio 1.7 to 1.10 joined it upside down (facts §1.3).
    let upside_down = "root-cert.pem vm/ca-cert.pem vm/workload-cert.pem";
    for (files, differs) in [(today, 0), (upside_down, 1)] {
        let world = World::new(MADE);
        world.sh("", MAKEFILE);
        join(&world, files);
        let mut before = world.tree("out");
        let first = world.run(&[]).exits(0);
        let made = ["vm/cert-chain.pem", "vm/install.yaml"];
        assert_eq!(first.ran(), made, "{files}");
        let warnings = first.events("warning");
        let of_chain = warnings
            .iter()
            .filter(|w| w["message"].as_str().unwrap().contains("cert-chain.pem"));
        assert_eq!(of_chain.count(), differs, "{warnings:?}");
        let mut after = world.tree("out");
        after.retain(|name, _| !made.contains(&name.as_str()));
        before.retain(|name, _| !made.contains(&name.as_str()));
        assert_eq!(before, after);
        let second = world.run(&[]).exits(0);
        assert_eq!((second.ran().len(), second.events("warning").len()), (0, 0));
    }

    // Before July 2020 the root's private key went into the chain (facts B3).
    let world = World::new(MADE);
    world.sh("", MAKEFILE);
    join(&world, &format!("{today} root-key.pem"));
    let leaking = world.read("out/vm/workload-cert-chain.pem");
    let ran = world.run(&[]).exits(0).says("holds a private key");
    assert!(ran.ran().contains(&LEAF[0].to_owned()), "{:?}", ran.ran());
    assert!(!pki::holds_key(
        &world.read("out/vm/workload-cert-chain.pem")
    ));
    let archive = world.tree("out/.meshplan/archive");
    assert!(
        archive.values().any(|bytes| *bytes == leaking),
        "{archive:?}"
    );
    judged(
        &world,
        "vm",
        "spiffe://cluster.local/ns/vm/sa/default",
        // As the Makefile wrote it: taken over, not signed again.
        "Digital Signature, Key Encipherment",
    );
}

struct Silent;

impl Reporter for Silent {
    fn event(&mut self, _: std::time::Duration, _: &Event) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the plan with Istio 1.7's names and the URIs of 1.6's CAs, which no plan can ask for. How many tasks ran.
fn run_as_of_old(world: &World) -> usize {
    let cwd = Utf8PathBuf::try_from(world.path("")).unwrap();
    let request = plan::Request {
        file: &cwd.join("plan.kdl"),
        cwd: &cwd,
        assignments: &[],
        work_dir: None,
    };
    let mut plan = plan::load(&request, &RealDisk).unwrap().plan;
    plan.files = FileNames {
        root: "east/k8s-root".to_owned(),
        signer: "selfSigned-",
    };
    std::sync::Arc::make_mut(&mut plan.clusters[0].ca).uris =
        vec!["spiffe://east/ns/istio-system/sa/citadel".to_owned()];
    let site = Site {
        graph: Arc::new(graph::lower(&plan).unwrap()),
        plan: Arc::new(plan),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        tools: Tools::from_vars(|_| None),
        interrupt: Interrupt::new(process::GRACE),
        given: None,
    };
    let request = build::Request {
        cwd,
        jobs: 2,
        cluster_jobs: 1,
        ..build::Request::default()
    };
    let summary = build::run(&site, &request, None, &mut Silent).unwrap();
    assert_eq!(summary.exit_code, 0);
    summary.ran
}

#[test]
fn names_of_old_are_names_like_others() {
    let world = World::new(VMS);
    let made = run_as_of_old(&world);
    let names: Vec<_> = world.tree("out").into_keys().collect();
    let wanted = [
        "east/install.yaml",
        "east/k8s-root-cert.pem",
        "east/k8s-root-key.pem",
        "east/key.pem",
        "east/root-cert.pem",
        "east/selfSigned-ca-cert-chain.pem",
        "east/selfSigned-ca-cert.pem",
        "east/selfSigned-ca-key.pem",
        "east/selfSigned-workload-cert-chain.pem",
        "east/selfSigned-workload-cert.pem",
        "vm/key.pem",
        "vm/root-cert.pem",
        "vm/selfSigned-workload-cert-chain.pem",
        "vm/selfSigned-workload-cert.pem",
    ];
    assert_eq!(
        (made, names),
        (wanted.len(), wanted.map(String::from).to_vec())
    );
    let ca = pki::read_cert(&world.read("out/east/selfSigned-ca-cert.pem")).unwrap();
    assert_eq!(ca.uris, ["spiffe://east/ns/istio-system/sa/citadel"]);
    assert_eq!(run_as_of_old(&world), 0);
    // The root comes back from a copy, byte for byte.
    let root = world.read("out/east/k8s-root-cert.pem");
    fs::remove_file(world.path("out/east/k8s-root-cert.pem")).unwrap();
    fs::remove_file(world.path("out/east/root-cert.pem")).unwrap();
    assert_eq!(run_as_of_old(&world), 2);
    assert_eq!(world.read("out/east/k8s-root-cert.pem"), root);
}

#[test]
fn a_ca_of_pathlen_0_signs_workloads_and_no_ca() {
    let now = OffsetDateTime::now_utc();
    let request = |name: &str, role| Request {
        subject: Subject {
            organization: "Istio".to_owned(),
            common_name: name.to_owned(),
        },
        locality: None,
        dns: vec![],
        uris: vec![format!("spiffe://cluster.local/ns/x/sa/{name}")],
        validity: Validity::For(std::time::Duration::from_secs(3_600)),
        role,
    };
    let any = Role::Ca { pathlen: None };
    let last = Role::Ca { pathlen: Some(0) };
    let key = pki::generate_key(KeyAlgorithm::EcdsaP256).unwrap().pem;
    let public = pki::public_key(&key).unwrap();
    let root = pki::self_sign(&key, &request("root", any), None, now).unwrap();
    let sign = |issuer: &Issuer, name: &str, role| {
        let signed = issuer.sign(&request(name, role), &public, now);
        signed.map(|signed| signed.pem)
    };
    let top = Issuer::load(&[&root], &key, now).unwrap();
    let ca = sign(&top, "ca", last).unwrap();
    // URIs are for CAs too: Makefiles up to 1.6 wrote two.
    let facts = pki::read_cert(&ca).unwrap();
    assert_eq!(facts.uris, ["spiffe://cluster.local/ns/x/sa/ca"]);
    let mut other = request("ca", last);
    other.uris.clear();
    assert_eq!(
        pki::differences(&facts, &other, KeyAlgorithm::EcdsaP256),
        ["uri spiffe://cluster.local/ns/x/sa/ca (wanted: none)"]
    );

    let wrong = Issuer::load(&[&ca, &root], &key, now).unwrap_err();
    assert!(
        matches!(wrong[..], [PkiError::PathLength { .. }]),
        "{wrong:?}"
    );
    let issuer = Issuer::for_workloads(&[&ca, &root], &key, now).unwrap();
    let refused = sign(&issuer, "ca2", last).unwrap_err();
    assert!(matches!(refused, PkiError::WorkloadsOnly(_)), "{refused:?}");
    let leaf = sign(&issuer, "leaf", Role::Workload).unwrap();

    // What keeps a CA from signing CAs keeps one from signing workloads.
    let wrong = Issuer::for_workloads(&[&leaf, &ca, &root], &key, now).unwrap_err();
    let is = |wanted: fn(&PkiError) -> bool| wrong.iter().any(wanted);
    assert!(is(|e| matches!(e, PkiError::NotCa(_))), "{wrong:?}");
    assert!(is(|e| matches!(e, PkiError::KeyUsage(_))), "{wrong:?}");
    let later = now + time::Duration::DAY;
    let wrong = Issuer::for_workloads(&[&ca, &root], &key, later).unwrap_err();
    let over = |e: &PkiError| matches!(e, PkiError::Expired { .. });
    assert!(wrong.iter().all(over), "{wrong:?}");
}
