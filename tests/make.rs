//! `meshplan make` in the place of Istio's Makefiles: each of their bugs (facts B1–B23) by its name, and
//! make's own ways. OpenSSL judges what is made; a recording kubectl stands for clusters.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use support::{Ran, World};

/// Small keys, quick to make.
const SMALL: [&str; 2] = ["ROOTCA_KEYSZ=2048", "INTERMEDIATE_KEYSZ=2048"];

struct Folder {
    world: World,
}

impl Folder {
    fn new() -> Self {
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bin/kubectl");
        let world = World::new("").env("KUBECTL", fakes.to_str().unwrap());
        let state = world.path("fake");
        fs::create_dir_all(&state).unwrap();
        Self {
            world: world
                .env("FAKE_DIR", state.to_str().unwrap())
                .env("FAKE_CONTEXTS", "east west"),
        }
    }

    /// With a current context.
    fn at(context: &str) -> Self {
        let folder = Self::new();
        Self {
            world: folder.world.env("FAKE_CURRENT", context),
        }
    }

    /// `meshplan make` with small keys.
    fn make(&self, words: &[&str]) -> Ran {
        self.world
            .meshplan(&[&["make"], words, &SMALL[..]].concat())
    }

    fn sh(&self, script: &str) -> String {
        let output = std::process::Command::new("sh")
            .args(["-euc", script])
            .current_dir(self.world.path(""))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        self.world.read(name)
    }

    fn subject(&self, cert: &str) -> String {
        self.sh(&format!(
            "openssl x509 -in '{cert}' -noout -subject -nameopt RFC2253"
        ))
    }

    fn verifies(&self, cluster: &str) {
        self.sh(&format!(
            "openssl verify -x509_strict -CAfile '{cluster}/root-cert.pem' '{cluster}/ca-cert.pem'"
        ));
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.world.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    }

    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.world.path("fake/calls.log")).unwrap_or_default();
        log.lines()
            .map(|l| l.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// The cluster of a context holds a CA in a secret: istiod's own root, or the CA of `signer`'s folder.
    fn holds(&self, context: &str, secret: &str, cert: &str, key: &str) {
        let encode = |name: &str| self.sh(&format!("base64 -w0 '{name}'"));
        let object = format!(
            r#"{{"kind":"Secret","metadata":{{"name":"{secret}"}},"data":{{"ca-cert.pem":"{}","ca-key.pem":"{}","root-cert.pem":""}}}}"#,
            encode(cert),
            encode(key)
        );
        self.world.write(
            &format!("fake/state/{context}/Secret.{secret}.json"),
            object,
        );
    }

    /// Makes a root as istiod makes its own (facts F2.2), and puts it into the cluster.
    fn istiod_signs_itself(&self, context: &str) {
        self.sh(&format!(
            "mkdir -p fake/{context} && cd fake/{context} && openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 3650 -sha256 -utf8 \
             -subj /O=cluster.local -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null"
        ));
        self.holds(
            context,
            "istio-ca-secret",
            &format!("fake/{context}/cert"),
            &format!("fake/{context}/key"),
        );
    }
}

const ROOT_BY_OPENSSL: &str = "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -keyout root-key.pem -out root-cert.pem -days 3650 -sha256 -utf8 \
    -subj '/O=Istio/CN=Root CA' -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign 2>/dev/null";

/// Signs as the Makefile does, with more options for `x509 -req`.
fn signed_by_openssl(name: &str, more: &str) -> String {
    format!(
        "umask 077; mkdir -p {name}; openssl req -newkey rsa:2048 -nodes -keyout {name}/ca-key.pem -out csr -utf8 -subj '/O=Istio/CN=Intermediate CA/L={name}' 2>/dev/null
         printf '%s\\n' basicConstraints=critical,CA:TRUE,pathlen:0 keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign subjectKeyIdentifier=hash subjectAltName=DNS:istiod.istio-system.svc > ext
         openssl x509 -req -sha256 -CA root-cert.pem -CAkey root-key.pem -in csr -extfile ext -out {name}/ca-cert.pem {more} 2>/dev/null
         cat {name}/ca-cert.pem root-cert.pem > {name}/cert-chain.pem; cp root-cert.pem {name}/; rm csr ext"
    )
}

#[test]
fn b1_clean_makes_no_second_root() {
    let folder = Folder::new();
    folder.make(&["cluster1-cacerts"]).exits(0);
    let root = folder.read("root-cert.pem");
    folder
        .make(&["clean"])
        .exits(0)
        .says("keep root-cert.pem, root-key.pem: cluster1");
    folder.make(&["cluster2-cacerts"]).exits(0);
    assert_eq!(folder.read("cluster2/root-cert.pem"), root);
    // The Makefile's clean took the key: no other root is made in its place.
    folder.sh("rm root-key.pem root-cert.pem");
    folder
        .make(&["cluster3-cacerts"])
        .exits(2)
        .says("--allow rekey,root-reissue");
    assert!(!folder.world.exists("root-key.pem") && !folder.world.exists("cluster3/ca-cert.pem"));
    // Where it has happened already, it is told.
    folder.sh(&format!("{ROOT_BY_OPENSSL}; true"));
    folder
        .make(&["cluster4-cacerts"])
        .exits(0)
        .says("cluster1, cluster2: another root than root-cert.pem");
    let old = folder.read("cluster1/ca-cert.pem");
    folder
        .make(&["cluster1-cacerts"])
        .exits(2)
        .says("cluster1 is under another root than root-cert.pem");
    assert_eq!(folder.read("cluster1/ca-cert.pem"), old);
    folder
        .make(&["cluster1-cacerts", "--allow", "other-root"])
        .exits(0);
    folder.verifies("cluster1");
    // A root that signed nothing here goes to the archive.
    let other = Folder::new();
    other
        .make(&["root-ca", "clean"])
        .exits(0)
        .says("move root-cert.pem, root-key.pem to .meshplan/archive");
    assert!(!other.world.exists("root-key.pem"));
    assert_eq!(other.sh("ls .meshplan/archive | wc -l"), "2");
}

#[test]
fn b2_clusters_of_1_7_share_a_root_and_make_clean_is_not_run() {
    let folder = Folder::new();
    folder.make(&["a-cacerts-selfSigned"]).exits(0);
    folder.make(&["b-cacerts-selfSigned"]).exits(0);
    assert_eq!(
        folder.read("a/root-cert.pem"),
        folder.read("b/root-cert.pem")
    );
    let files = folder.sh("ls b");
    assert_eq!(
        files,
        "root-cert.pem\nselfSigned-ca-cert-chain.pem\nselfSigned-ca-cert.pem\nselfSigned-ca-key.pem"
    );
    folder.sh("openssl verify -x509_strict -CAfile b/root-cert.pem b/selfSigned-ca-cert.pem");
}

#[test]
fn b3_a_chain_that_holds_a_key_does_not_stay() {
    let folder = Folder::new();
    folder.make(&["vm-certs"]).exits(0);
    let chain = folder.read("vm/workload-cert-chain.pem");
    let leaf_to_root = folder.sh("openssl crl2pkcs7 -nocrl -certfile vm/workload-cert-chain.pem | openssl pkcs7 -print_certs -noout | grep ^subject | grep -o 'CN = .*'");
    assert_eq!(
        leaf_to_root,
        "CN = Workload, L = vm\nCN = Intermediate CA, L = vm\nCN = Root CA"
    );
    // As the Makefile of mid-2020 wrote it, and with no log to know better.
    folder.sh("rm -r .meshplan; cat root-key.pem >> vm/workload-cert-chain.pem");
    folder.make(&["vm-certs"]).exits(0);
    assert_eq!(folder.read("vm/workload-cert-chain.pem"), chain);
}

#[test]
fn b4_changed_variables_rebuild_what_they_touch() {
    let folder = Folder::new();
    folder.make(&["cluster1-cacerts"]).exits(0);
    let (key, root) = (
        folder.read("cluster1/ca-key.pem"),
        folder.read("root-cert.pem"),
    );
    folder
        .make(&["cluster1-cacerts"])
        .exits(0)
        .says("nothing to do");
    folder
        .make(&[
            "cluster1-cacerts",
            "INTERMEDIATE_ORG=Acme",
            "INTERMEDIATE_DAYS=90",
        ])
        .exits(0);
    assert_eq!(
        folder.subject("cluster1/ca-cert.pem"),
        "subject=L=cluster1,CN=Intermediate CA,O=Acme"
    );
    folder.sh("openssl x509 -in cluster1/ca-cert.pem -noout -checkend 7600000 >/dev/null && ! openssl x509 -in cluster1/ca-cert.pem -noout -checkend 7800000 >/dev/null");
    assert_eq!(
        (
            folder.read("cluster1/ca-key.pem"),
            folder.read("root-cert.pem")
        ),
        (key, root)
    );
    folder.verifies("cluster1");
    // What no variable speaks of stays as it is, as with make.
    folder
        .make(&["cluster1-cacerts"])
        .exits(0)
        .says("nothing to do");
    // What every cluster trusts is not replaced by a variable alone.
    folder
        .make(&["root-ca", "ROOTCA_ORG=Acme"])
        .exits(2)
        .says("organization Istio → Acme");
    folder
        .make(&["root-ca", "ROOTCA_ORG=Acme", "--allow", "root-reissue"])
        .exits(0);
    folder.make(&["cluster1-cacerts"]).exits(0);
    assert_eq!(folder.subject("root-cert.pem"), "subject=CN=Root CA,O=Acme");
    folder.verifies("cluster1");
    // What the Makefile made is changed too, where a variable asks for it, and only there.
    let theirs = Folder::new();
    theirs.sh(&format!(
        "{ROOT_BY_OPENSSL}\n{}",
        signed_by_openssl("c", "-CAcreateserial -days 700")
    ));
    let cert = theirs.read("c/ca-cert.pem");
    theirs.make(&["c-cacerts"]).exits(0);
    assert_eq!(theirs.read("c/ca-cert.pem"), cert);
    // A lost root certificate is brought back from its copy, and a key that others may read waits for its owner.
    theirs.sh("rm -r .meshplan root-cert.pem; chmod 644 root-key.pem");
    let told = theirs.make(&["c-cacerts"]).exits(2).says("chmod 600");
    assert!(!told.stderr.contains("root-reissue"), "{}", told.stderr);
    theirs.sh("chmod 600 root-key.pem");
    theirs.make(&["c-cacerts"]).exits(0);
    assert_eq!(theirs.read("c/ca-cert.pem"), cert);
    theirs.sh("rm -r .meshplan");
    theirs
        .make(&["c-cacerts", "INTERMEDIATE_ORG=Acme"])
        .exits(0);
    assert_eq!(
        theirs.subject("c/ca-cert.pem"),
        "subject=L=c,CN=Intermediate CA,O=Acme"
    );
    theirs.verifies("c");
    // The variables that the Makefile ignores.
    let bits = folder.sh("openssl rsa -in cluster1/ca-key.pem -noout -text | head -1");
    assert!(bits.contains("2048 bit"), "{bits}");
}

#[test]
fn a_root_of_a_plan_is_left_as_it_is() {
    let folder = Folder::new();
    folder.world.write("plan.kdl", "mesh \"m\" { }\nroot-ca { key \"ecdsa-p256\"; validity \"2040-01-01\"; subject organization=\"Org\"; }\ncluster-ca { key \"ecdsa-p256\"; }\ncluster \"a\" { }\n");
    folder.world.meshplan(&["run", "plan.kdl"]).exits(0);
    let root = folder.read("root-cert.pem");
    folder
        .world
        .meshplan(&["make", "b-cacerts", "INTERMEDIATE_KEYSZ=2048"])
        .exits(0);
    folder.world.meshplan(&["make", "a-cacerts"]).exits(0);
    assert_eq!(folder.read("root-cert.pem"), root);
    ["a", "b"].iter().for_each(|c| folder.verifies(c));
}

#[test]
fn b5_interrupted_runs_heal_and_lost_keys_are_told() {
    let folder = Folder::new();
    folder.make(&["cluster1-cacerts"]).exits(0);
    for damage in [
        ": > cluster1/ca-cert.pem",
        "head -c 100 cluster1/ca-cert.pem > x; mv x cluster1/ca-cert.pem",
        "cp root-cert.pem cluster1/cert-chain.pem",
        "rm cluster1/root-cert.pem",
    ] {
        folder.sh(damage);
        folder.make(&["cluster1-cacerts"]).exits(0);
        folder.verifies("cluster1");
        folder
            .make(&["cluster1-cacerts"])
            .exits(0)
            .says("nothing to do");
    }
    // A chain that was made elsewhere, of a certificate that is no more.
    folder.sh("rm -r .meshplan; cat cluster1/ca-cert.pem root-cert.pem > cluster1/cert-chain.pem");
    folder.make(&["-B", "cluster1/ca-cert.pem"]).exits(0);
    folder.make(&["cluster1-cacerts"]).exits(0);
    assert_eq!(
        folder.read("cluster1/cert-chain.pem"),
        folder.read("cluster1/ca-cert.pem")
    );
    folder.sh("rm cluster1/ca-key.pem");
    folder
        .make(&["cluster1-cacerts"])
        .exits(2)
        .says("cluster1/ca-cert.pem was made with it");
    // What openssl left when it was cut off in a new folder is no key and no certificate.
    let other = Folder::new();
    other.sh("umask 077; : > root-key.pem; : > root-cert.pem; mkdir c; : > c/ca-key.pem");
    other.make(&["c-cacerts"]).exits(0);
    other.verifies("c");
}

#[test]
fn b6_what_is_about_to_end_is_signed_again() {
    let folder = Folder::new();
    folder.sh(&format!(
        "{ROOT_BY_OPENSSL}\n{}",
        signed_by_openssl("cluster1", "-CAcreateserial -days 0")
    ));
    folder.make(&["cluster1-cacerts"]).exits(0);
    folder.sh("openssl x509 -in cluster1/ca-cert.pem -noout -checkend 300000000");
    folder.verifies("cluster1");
}

#[test]
fn b7_b8_b9_side_by_side_nothing_races() {
    let folder = Folder::new();
    let goals: Vec<_> = (1..=12)
        .map(|n| format!("c{n}-cacerts"))
        .chain((1..=4).map(|n| format!("vm{n}-certs")))
        .collect();
    let words: Vec<_> = goals.iter().map(String::as_str).chain(["-j16"]).collect();
    folder.make(&words).exits(0);
    let mut serials = BTreeSet::new();
    for n in 1..=12 {
        folder.verifies(&format!("c{n}"));
        serials.insert(folder.sh(&format!("openssl x509 -in c{n}/ca-cert.pem -noout -serial")));
    }
    assert_eq!(serials.len(), 12);
    for n in 1..=4 {
        folder.sh(&format!("openssl verify -CAfile vm{n}/root-cert.pem -untrusted vm{n}/ca-cert.pem vm{n}/workload-cert.pem"));
    }
}

#[test]
fn makes_that_are_started_at_once_take_turns() {
    let folder = Folder::new();
    let start = |n: usize| {
        let goal = format!("c{n}-cacerts");
        let words = [&["make", &goal][..], &SMALL[..]].concat();
        folder
            .world
            .command(&words)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let started: Vec<_> = (0..6).map(start).collect();
    for run in started {
        let ended = run.wait_with_output().unwrap();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }
    let roots: BTreeSet<_> = (0..6)
        .map(|n| folder.read(&format!("c{n}/root-cert.pem")))
        .collect();
    assert_eq!(roots.len(), 1);
    (0..6).for_each(|n| folder.verifies(&format!("c{n}")));
}

#[test]
fn b10_b15_a_rerun_with_a_clusters_root_keeps_key_and_certificate() {
    let folder = Folder::at("east");
    folder.istiod_signs_itself("east");
    let made = folder
        .make(&["-f", "tools/certs/Makefile.k8s.mk", "cluster1-cacerts"])
        .exits(0);
    made.says("context east: the root is `O=cluster.local`");
    let (key, cert) = (
        folder.read("cluster1/ca-key.pem"),
        folder.read("cluster1/ca-cert.pem"),
    );
    assert_eq!(
        folder.read("cluster1/root-cert.pem"),
        folder.read("fake/east/cert")
    );
    folder.verifies("cluster1");
    folder
        .make(&["-f", "Makefile.k8s.mk", "cluster1-cacerts"])
        .exits(0)
        .says("nothing to do");
    assert_eq!(
        (
            folder.read("cluster1/ca-key.pem"),
            folder.read("cluster1/ca-cert.pem")
        ),
        (key, cert)
    );
}

#[test]
fn b11_after_a_switch_of_context_no_stale_root_signs() {
    let folder = Folder::at("east");
    folder.istiod_signs_itself("east");
    folder.istiod_signs_itself("west");
    folder.make(&["cluster1-cacerts-k8s"]).exits(0);
    let other = folder
        .make(&["cluster2-cacerts-k8s", "--context", "west"])
        .exits(2);
    other.says("clusters of one mesh need one root");
    assert!(!folder.world.exists("cluster2"));
    // A cluster without a CA of its own joins the folder's root, and the output says whose it is.
    folder.sh("rm fake/state/west/*");
    folder
        .make(&["cluster2-cacerts-k8s", "KUBECONTEXT=west"])
        .exits(0)
        .says("context west has no CA yet")
        .says("east/k8s-root-cert.pem of this folder signs");
    assert_eq!(
        folder.read("cluster2/root-cert.pem"),
        folder.read("cluster1/root-cert.pem")
    );
}

#[test]
fn b12_a_context_is_always_named_and_offline_targets_ask_nobody() {
    let folder = Folder::at("east");
    folder.istiod_signs_itself("east");
    folder
        .make(&["cluster1-cacerts", "x-cacerts-selfSigned", "help", "clean"])
        .exits(0);
    assert_eq!(folder.calls(), Vec::<String>::new());
    folder
        .make(&["-C", ".", "fetch-root-ca"])
        .exits(0)
        .says("context east: the root is");
    let calls = folder.calls();
    assert_eq!(calls[0], "kubectl config current-context");
    assert!(
        calls[1].starts_with("kubectl --context east -n istio-system "),
        "{calls:?}"
    );
}

#[test]
fn b13_an_intermediate_is_no_root() {
    let folder = Folder::at("east");
    folder.sh(&format!(
        "mkdir elsewhere; cd elsewhere; {ROOT_BY_OPENSSL}\n{}",
        signed_by_openssl("cluster1", "-CAcreateserial -days 90")
    ));
    folder.holds(
        "east",
        "cacerts",
        "elsewhere/cluster1/ca-cert.pem",
        "elsewhere/cluster1/ca-key.pem",
    );
    for goal in ["cluster2-cacerts-k8s", "vm-certs-k8s", "fetch-root-ca"] {
        folder
            .make(&[goal])
            .exits(2)
            .says("holds no root")
            .says("pathlen:0");
    }
    assert!(!folder.world.exists("cluster2") && !folder.world.exists("east"));
    // What istiod signed with before a CA was plugged in is not what it signs with.
    folder.istiod_signs_itself("east");
    folder
        .make(&["cluster2-cacerts-k8s"])
        .exits(2)
        .says("in cacerts is a CA below another");
    // Where the root that signed it is here, that one signs.
    folder
        .make(&["cluster2-cacerts-k8s", "-C", "elsewhere"])
        .exits(0)
        .says("signs with a CA below root-cert.pem");
    assert_eq!(
        folder.read("elsewhere/cluster2/root-cert.pem"),
        folder.read("elsewhere/root-cert.pem")
    );
}

#[test]
fn b14_what_cannot_be_asked_leaves_nothing_behind() {
    let folder = Folder::at("nowhere");
    folder
        .make(&["cluster1-cacerts-k8s"])
        .exits(2)
        .says("nowhere");
    folder.make(&["fetch-root-ca"]).exits(2);
    folder.holds("east", "istio-ca-secret", "/dev/null", "/dev/null");
    folder
        .make(&["fetch-root-ca", "--context", "east"])
        .exits(2)
        .says("holds a ca-cert.pem that is no certificate (it is empty)");
    assert_eq!(folder.sh("ls -A"), "fake\nplan.kdl");
    // Who names a kubeconfig means a cluster.
    let unset = Folder::new();
    unset
        .make(&["c-cacerts-k8s", "KUBECONFIG=kc"])
        .exits(2)
        .says("KUBECONFIG has no current context");
    assert!(!unset.world.exists("root-key.pem"));
    // Nothing to fetch is told; so is a cluster's CA that is yet to be.
    folder
        .make(&["fetch-root-ca", "--context", "west"])
        .exits(2)
        .says("has no CA yet");
}

#[test]
fn b16_b23_keys_are_0600_and_no_root_key_lies_in_a_clusters_folder() {
    let folder = Folder::at("east");
    folder.istiod_signs_itself("east");
    let told = folder.make(&["fetch-root-ca"]).exits(0);
    told.says("whoever reads it can be any workload of that mesh");
    folder
        .make(&["cluster1-cacerts-k8s", "cluster2-cacerts-k8s"])
        .exits(0);
    assert_eq!(
        folder.sh("ls cluster1 cluster2 east"),
        "cluster1:\nca-cert.pem\nca-key.pem\ncert-chain.pem\nroot-cert.pem\n\ncluster2:\nca-cert.pem\nca-key.pem\ncert-chain.pem\nroot-cert.pem\n\neast:\nk8s-root-cert.pem\nk8s-root-key.pem"
    );
    for key in [
        "east/k8s-root-key.pem",
        "cluster1/ca-key.pem",
        "cluster2/ca-key.pem",
    ] {
        assert_eq!(folder.mode(key), 0o600, "{key}");
    }
    // A context's name, or a link, leads no key out of the folder.
    folder
        .make(&["fetch-root-ca", "--context", ".."])
        .exits(2)
        .says("lead out of this folder");
    folder.istiod_signs_itself("west");
    folder.sh("mkdir outside; ln -s outside west");
    folder
        .make(&["fetch-root-ca", "--context", "west"])
        .exits(2)
        .says("west is no folder, or a link");
    assert_eq!(folder.sh("ls outside"), "");
    let said = folder.sh("cat fake/calls.log .meshplan/log");
    let key = String::from_utf8(folder.read("east/k8s-root-key.pem")).unwrap();
    let secret = key.lines().nth(3).unwrap();
    assert!(!said.contains(secret));
}

#[test]
fn b17_serial_numbers_are_never_shared() {
    let folder = Folder::new();
    let two = ["c1", "c2"]
        .map(|c| signed_by_openssl(c, "-set_serial 4711 -days 700"))
        .join("\n");
    folder.sh(&format!("{ROOT_BY_OPENSSL}\n{two}"));
    let told = folder
        .make(&["--istio", "1.6", "c1-certs", "c2-certs", "CITADEL_SERIAL=7"])
        .exits(0);
    told.says("CITADEL_SERIAL is not used");
    let serials: BTreeSet<_> = ["c1", "c2"]
        .map(|c| folder.sh(&format!("openssl x509 -in {c}/ca-cert.pem -noout -serial")))
        .into();
    assert_eq!(serials.len(), 2);
}

#[test]
fn b18_b19_b21_an_intermediate_ends_with_its_root_is_signed_with_sha_256_and_leads_a_chain_without_it()
 {
    let folder = Folder::new();
    folder.make(&["cluster1-cacerts"]).exits(0);
    let end = |cert: &str| {
        folder
            .sh(&format!(
                "date -d \"$(openssl x509 -in {cert} -noout -enddate | cut -d= -f2)\" +%s"
            ))
            .parse::<u64>()
            .unwrap()
    };
    assert!(end("cluster1/ca-cert.pem") <= end("root-cert.pem"));
    assert_eq!(folder.sh("openssl x509 -in cluster1/ca-cert.pem -noout -text | grep -c 'Signature Algorithm: sha256WithRSA'"), "2");
    assert_eq!(
        folder.read("cluster1/cert-chain.pem"),
        folder.read("cluster1/ca-cert.pem")
    );
}

#[test]
fn b20_names_and_values_are_taken_as_they_are() {
    let folder = Folder::new();
    let name = r#"Ac"me $HOME `id` $(id) \ 'x' #1"#;
    folder
        .make(&[
            "Eu_West.1-cacerts",
            "all-cacerts",
            &format!("INTERMEDIATE_CN={name}"),
        ])
        .exits(0);
    let subject = folder.sh(
        "openssl x509 -in Eu_West.1/ca-cert.pem -noout -subject -nameopt utf8,sep_multiline,lname",
    );
    assert!(subject.contains(&format!("commonName={name}")), "{subject}");
    assert!(
        folder
            .subject("all/ca-cert.pem")
            .starts_with("subject=L=all,")
    );
    folder
        .make(&["Ä b-certs"])
        .exits(2)
        .says("namespace `Ä b`: it goes into a SPIFFE ID");
    let long = format!("{}-cacerts", "x".repeat(129));
    for (goal, says) in [
        ("eu/west-cacerts", "one folder's"),
        ("..-cacerts", "out of this folder"),
        (&long, "128"),
        (".meshplan-cacerts", "own state"),
    ] {
        folder.make(&[goal]).exits(2).says(says);
    }
}

#[test]
fn b22_what_was_signed_with_what_is_on_record() {
    let folder = Folder::new();
    folder
        .make(&["cluster1-cacerts", "INTERMEDIATE_ORG=Acme"])
        .exits(0);
    let log = folder.sh("cat .meshplan/log");
    let line = log
        .lines()
        .find(|l| l.contains("cluster1/ca-cert.pem") && l.contains("organization"))
        .unwrap();
    assert!(line.contains("Acme") && line.contains("3650d"), "{line}");
}

#[test]
fn the_seeds_own_order_makes_the_root_that_no_cluster_has_yet() {
    let folder = Folder::at("east");
    folder
        .make(&["cluster1-cacerts-k8s"])
        .exits(0)
        .says("context east has no CA yet")
        .says("root-key.pem and root-cert.pem");
    // The second cluster's, with the first one's bundle in its cluster by now.
    folder.holds(
        "east",
        "cacerts",
        "cluster1/ca-cert.pem",
        "cluster1/ca-key.pem",
    );
    folder
        .make(&["cluster2-cacerts-k8s", "--context=west"])
        .exits(0)
        .says("context west has no CA yet");
    folder
        .make(&["cluster1-cacerts-k8s"])
        .exits(0)
        .says("signs with a CA below root-cert.pem")
        .says("nothing to do");
    assert_eq!(
        folder.read("cluster1/root-cert.pem"),
        folder.read("cluster2/root-cert.pem")
    );
    assert_eq!(
        folder.sh("ls cluster2"),
        "ca-cert.pem\nca-key.pem\ncert-chain.pem\nroot-cert.pem"
    );
    // Without any cluster to ask, too.
    let alone = Folder::new();
    alone
        .make(&["cluster1-cacerts-k8s"])
        .exits(0)
        .says("none is current");
    alone.verifies("cluster1");
}

#[test]
fn makes_own_ways() {
    let folder = Folder::new();
    // -n changes nothing; help is the default goal; -C may be repeated; -k goes on and exits with 2.
    folder
        .make(&["-n", "cluster1-cacerts"])
        .exits(0)
        .says("root-key.pem: there is none yet");
    folder.make(&[]).exits(0).says("NAME-cacerts-selfSigned");
    folder.sh("mkdir -p a/b");
    assert_eq!(folder.sh("ls -A a/b"), "");
    folder
        .make(&["-C", "a", "-Cb", "-k", "nonsense", "x-cacerts"])
        .exits(2)
        .says("no rule to make target `nonsense`");
    assert!(folder.world.exists("a/b/x/ca-cert.pem"));
    // Silence, and a run that is up to date.
    let quiet = folder.make(&["-sC", "a/b", "x-cacerts"]).exits(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    // One file; -B signs anew and keeps keys.
    let key = folder.read("a/b/x/ca-key.pem");
    let cert = folder.read("a/b/x/ca-cert.pem");
    folder.make(&["-C", "a/b", "-B", "x/ca-cert.pem"]).exits(0);
    assert_eq!(folder.read("a/b/x/ca-key.pem"), key);
    assert_ne!(folder.read("a/b/x/ca-cert.pem"), cert);
    folder.make(&["-C", "a", "--", "-x-cacerts"]).exits(0);
    assert!(folder.world.exists("a/-x/ca-cert.pem"));
    // Refused by name, and slips of the pen.
    folder
        .make(&["-i", "x-cacerts"])
        .exits(2)
        .says("make's -i (--ignore-errors)");
    folder
        .make(&["x-cacerts", "INTERMEDIATE_DAY=3", "-n"])
        .exits(0)
        .says("did you mean INTERMEDIATE_DAYS");
    folder
        .make(&["x-cacerts", "INTERMEDIATE_DAYS=never"])
        .exits(2)
        .says("a number of days");
    // The environment counts, and less than the command line.
    let env = Folder {
        world: folder
            .world
            .env("INTERMEDIATE_ORG", "Env")
            .env("INTERMEDIATE_CN", "Env CA"),
    };
    env.make(&["y-cacerts", "INTERMEDIATE_CN=Typed CA"])
        .exits(0);
    assert_eq!(
        env.subject("y/ca-cert.pem"),
        "subject=L=y,CN=Typed CA,O=Env"
    );
    // Somebody else's Makefile is not executed.
    env.world.write("Makefile", "all:\n\ttouch executed\n");
    env.make(&["all"])
        .exits(2)
        .says("no rule to make target `all`");
    env.make(&["-f", "Makefile", "all"])
        .exits(2)
        .says("none of Istio's");
    assert!(!env.world.exists("executed"));
}
