//! `meshplan import`: what a Makefile left behind becomes a plan that a run finds to be so.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::World;

/// The calls of Istio's Makefile (facts §1.3, §1.4), with small keys and without the Makefile.
const MAKEFILE: &str = r#"
umask 022
ca() { printf '%s\n' "basicConstraints=critical,CA:TRUE${1:-}" keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign subjectKeyIdentifier=hash; }
key() { (umask 077; openssl genrsa -out "$1" 2048 2>/dev/null); }
root() {
    key root-key.pem; ca > ext
    openssl req -new -utf8 -subj '/O=Istio/CN=Root CA' -key root-key.pem -out csr
    openssl x509 -req -sha256 -days 3650 -signkey root-key.pem -extfile ext -in csr -out root-cert.pem 2>/dev/null
}
cacerts() { # NAME ORG DAYS
    mkdir -p $1; key $1/ca-key.pem; { ca ,pathlen:0; echo subjectAltName=DNS:istiod.istio-system.svc; } > ext
    openssl req -new -utf8 -subj "/O=$2/CN=Intermediate CA/L=$1" -key $1/ca-key.pem -out csr
    openssl x509 -req -sha256 -days $3 -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -extfile ext -in csr -out $1/ca-cert.pem 2>/dev/null
    cat $1/ca-cert.pem root-cert.pem > $1/cert-chain.pem; cp root-cert.pem $1/
}
certs() { # NAMESPACE ACCOUNT
    cacerts $1 Istio 3650; rm $1/cert-chain.pem; key $1/key.pem
    printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=digitalSignature,keyEncipherment extendedKeyUsage=serverAuth,clientAuth \
        subjectKeyIdentifier=hash "subjectAltName=URI:spiffe://cluster.local/ns/$1/sa/$2" > ext
    openssl req -new -utf8 -subj "/O=Istio/CN=Workload/L=$1" -key $1/key.pem -out csr
    openssl x509 -req -sha256 -days 7 -CA $1/ca-cert.pem -CAkey $1/ca-key.pem -CAcreateserial -extfile ext -in csr -out $1/workload-cert.pem 2>/dev/null
    cat $1/workload-cert.pem $1/ca-cert.pem root-cert.pem > $1/workload-cert-chain.pem
}
"#;

fn made(script: &str) -> World {
    let world = World::new("");
    world.sh("mk", &format!("{MAKEFILE}\n{script}\nrm -f csr ext"));
    world
}

#[test]
fn a_run_finds_all_of_it_up_to_date() {
    if !support::judge("openssl") {
        return;
    }
    let world = made("root; cacerts east Istio 3650; cacerts west Acme 730; certs vm web");
    let before = world.tree("mk");
    let said = world.meshplan(&["import", "mk", "found.kdl"]).exits(0);
    said.says("a run would write east/install.yaml, vm/cert-chain.pem, vm/install.yaml, west/install.yaml")
        .says("keyUsage has no cRLSign");
    let plan = String::from_utf8(world.read("found.kdl")).unwrap();
    for line in [
        "work-dir \"mk\"",
        "subject organization=\"Acme\" common-name=\"Intermediate CA\"",
        "validity \"730d\"",
        "chain \"with-root\"",
        "service-account \"web\"",
        "validity \"7d\"",
    ] {
        assert!(plan.contains(line), "{line}:\n{plan}");
    }
    let ran = world
        .meshplan(&["run", "found.kdl", "--format", "json"])
        .exits(0)
        .ran();
    assert_eq!(
        ran,
        [
            "east/install.yaml",
            "vm/cert-chain.pem",
            "vm/install.yaml",
            "west/install.yaml"
        ]
    );
    let mut after = world.tree("mk");
    ran.iter().for_each(|new| drop(after.remove(new)));
    assert_eq!(before, after);
    world
        .meshplan(&["run", "found.kdl"])
        .exits(0)
        .says("nothing to do");
    // One file, once; standard output is data.
    world
        .meshplan(&["import", "mk", "found.kdl"])
        .exits(2)
        .says("never overwritten");
    assert!(
        world
            .meshplan(&["import", "mk", "-"])
            .exits(0)
            .stdout
            .contains("work-dir \"mk\"")
    );
    world
        .meshplan(&["import", "."])
        .exits(2)
        .says("nothing that Istio's Makefile makes");
}

#[test]
fn what_no_run_could_take_over_is_told_and_left_out() {
    if !support::judge("openssl") {
        return;
    }
    // `clean` between two clusters (facts B1), 1.7's names, a name that no namespace has.
    let world = made(
        "root; cacerts old Istio 90; rm root-key.pem; root; cacerts new Istio 90; cacerts Big_1 Istio 90
         cacerts x Istio 90; mkdir seven; for f in ca-key ca-cert; do mv x/$f.pem seven/selfSigned-$f.pem; done; rm -r x; rm root-key.pem",
    );
    let said = world.meshplan(&["import", "mk"]).exits(4);
    said.says("old is left out: old/ca-cert.pem was not signed by the root")
        .says("Big_1 is left out")
        .says("seven is left out: its files have the names of Istio 1.7's")
        .says("root-key.pem is missing");
    let plan = String::from_utf8(world.read("mesh.kdl")).unwrap();
    assert_eq!(plan.matches("cluster \"").count(), 1, "{plan}");
}

#[test]
fn what_meshplan_make_made_is_found_to_be_so_too() {
    let world = World::new("");
    std::fs::create_dir(world.path("mk")).unwrap();
    let small = ["ROOTCA_KEYSZ=2048", "INTERMEDIATE_KEYSZ=2048"];
    // Asked to last longer than its root, and so cut to its end.
    let words = ["make", "-C", "mk", "east-cacerts", "INTERMEDIATE_DAYS=4000"];
    world.meshplan(&[&words[..], &small].concat()).exits(0);
    world
        .meshplan(&["import", "mk"])
        .exits(0)
        .says("a run would write east/install.yaml");
    let ran = world
        .meshplan(&["run", "mesh.kdl", "--format", "json"])
        .exits(0)
        .ran();
    assert_eq!(ran, ["east/install.yaml"]);
}

/// A root that was fetched, with a cluster below it.
#[test]
fn a_root_that_was_brought_along_is_the_clusters_own() {
    let world = World::new("");
    world.sh(
        "mk/east",
        "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -keyout k8s-root-key.pem -out k8s-root-cert.pem -days 3650 -sha256 \
         -subj /O=cluster.local -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
         cp k8s-root-cert.pem ../root-cert.pem; cp k8s-root-key.pem ../root-key.pem",
    );
    // Made with that root as its own, then left with the fetched one alone.
    let words = ["make", "-C", "mk", "a-cacerts", "INTERMEDIATE_KEYSZ=2048"];
    world.meshplan(&words).exits(0);
    world.sh("mk", "rm -r .meshplan root-key.pem root-cert.pem");
    let before = world.read("mk/a/ca-cert.pem");
    world
        .meshplan(&["import", "mk"])
        .exits(0)
        .says("a run would write root-cert.pem, a/install.yaml");
    let ran = world
        .meshplan(&["run", "mesh.kdl", "--format", "json"])
        .exits(0)
        .ran();
    assert_eq!(ran, ["a/install.yaml", "root-cert.pem"]);
    assert_eq!(world.read("mk/a/ca-cert.pem"), before);
    world
        .meshplan(&["run", "mesh.kdl"])
        .exits(0)
        .says("nothing to do");
}
