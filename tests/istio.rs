//! Istio's own Makefile as the judge: the same field table, and its files taken over as they are.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use support::World;

/// The Makefile's defaults, as a plan.
const MAKEFILE: &str = r#"
mesh "mesh1" { work-dir "out"; }
root-ca { validity "3650d"; }
cluster-ca { validity "3650d"; }
cluster "cluster1" { }
"#;

fn fields(folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/istio/fields.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(folder)
        .arg("cluster1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Lines with the section they stand in, so that equal lines of two certificates are told apart.
fn lines(table: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut lines = BTreeSet::new();
    for line in table.lines().filter(|l| !l.is_empty()) {
        if line.starts_with('[') {
            section = format!("{line} ");
        } else {
            lines.insert(format!("{section}{line}"));
        }
    }
    lines
}

#[test]
fn fields_are_the_makefiles_but_for_the_differences_that_the_readme_lists() {
    if !support::judge("openssl") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = lines(&fs::read_to_string(root.join("fixtures/istio/makefile.txt")).unwrap());
    let world = World::new(MAKEFILE);
    world.run(&[]).exits(0);
    let ours = lines(&fields(&world.path("out")));
    let minus = makefile.difference(&ours).map(|l| format!("- {l}\n"));
    let plus = ours.difference(&makefile).map(|l| format!("+ {l}\n"));
    let found: String = minus.chain(plus).collect();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let listed = readme
        .split("```diff\n")
        .nth(1)
        .and_then(|t| t.split("```").next())
        .unwrap();
    assert_eq!(
        found, listed,
        "the README's list of differences is not what is"
    );
}

#[test]
fn what_the_makefile_made_is_taken_over_and_not_rebuilt() {
    if !support::judge("openssl") {
        return;
    }
    let world = World::new(MAKEFILE);
    // The Makefile's own openssl calls (facts §1.3, §1.4), without the Makefile.
    world.sh("", r#"
mkdir -p out/cluster1 && cd out && umask 022
openssl req -x509 -newkey rsa:4096 -nodes -keyout root-key.pem -out root-cert.pem -days 3650 -sha256 -utf8 \
    -subj '/O=Istio/CN=Root CA' -addext 'basicConstraints=critical,CA:TRUE' \
    -addext 'keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign'
openssl req -newkey rsa:4096 -nodes -keyout cluster1/ca-key.pem -out csr -utf8 -subj '/O=Istio/CN=Intermediate CA/L=cluster1'
printf '%s\n' 'basicConstraints=critical,CA:TRUE,pathlen:0' \
    'keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign' \
    'subjectKeyIdentifier=hash' 'subjectAltName=DNS:istiod.istio-system.svc' > ext
openssl x509 -req -sha256 -days 3650 -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -in csr -extfile ext -out cluster1/ca-cert.pem
cat cluster1/ca-cert.pem root-cert.pem > cluster1/cert-chain.pem
cp root-cert.pem cluster1/root-cert.pem
rm -f csr ext
"#);
    let before = world.tree("out");
    let first = world.run(&[]).exits(0);
    assert_eq!(first.ran(), ["cluster1/install.yaml"]);
    let told: Vec<_> = first
        .events("warning")
        .iter()
        .map(|w| w["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        told.iter()
            .any(|m| m.contains("cluster1/ca-cert.pem") && m.contains("cRLSign")),
        "{told:?}"
    );
    let mut after = world.tree("out");
    after.remove("cluster1/install.yaml");
    assert_eq!(before, after);
    let second = world.run(&[]).exits(0);
    assert_eq!(
        (second.ran(), second.events("warning").len()),
        (Vec::<String>::new(), 0)
    );

    // The plan is applied where that is asked for: same key, new certificate, chain without the root.
    let ran = world
        .run(&["--force", "cluster1/ca-cert.pem"])
        .exits(0)
        .ran();
    assert_eq!(ran, ["cluster1/ca-cert.pem", "cluster1/cert-chain.pem"]);
    assert_eq!(
        world.read("out/cluster1/ca-key.pem"),
        before["cluster1/ca-key.pem"]
    );
    // What meshplan did not make, it does not clean away.
    world.meshplan(&["clean", "plan.kdl", "--keys"]).exits(0);
    assert!(world.exists("out/cluster1/ca-key.pem") && world.exists("out/root-cert.pem"));
}

#[test]
fn two_cas_with_one_serial_number_do_not_stay_so() {
    if !support::judge("openssl") {
        return;
    }
    let world = World::new(support::TWO);
    // Istio 1.6's Makefile numbered every certificate of a run with its own process (facts B17).
    world.sh("", r#"
umask 077; mkdir -p out/east out/west && cd out
ca='basicConstraints=critical,CA:TRUE'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout root-key.pem -out root-cert.pem -days 3650 \
    -sha256 -utf8 -subj '/O=Istio/CN=Root CA' -addext "$ca" -addext 'keyUsage=critical,keyCertSign,cRLSign'
for c in east west; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $c/ca-key.pem -out csr -utf8 -subj "/O=Istio/CN=Intermediate CA/L=$c"
    printf '%s\n' "$ca,pathlen:0" 'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash' > ext
    openssl x509 -req -sha256 -days 730 -CA root-cert.pem -CAkey root-key.pem -set_serial 4711 -in csr -extfile ext -out $c/ca-cert.pem
done
rm csr ext
"#,
    );
    let ran = world.run(&[]).exits(0);
    assert!(
        ran.stdout
            .contains("it has the serial number of east/ca-cert.pem"),
        "{}",
        ran.stdout
    );
    let signed = ran.ran().into_iter().filter(|t| t.ends_with("ca-cert.pem"));
    assert_eq!(signed.collect::<Vec<_>>(), ["west/ca-cert.pem"]);
    assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
}
