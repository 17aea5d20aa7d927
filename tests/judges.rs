//! Every kind of certificate that a plan can ask for, before judges that are not us: OpenSSL, webpki
//! and pkilint; and workloads' certificates under them, as a peer's TLS would see them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{env, ffi::OsString, path::Path, process::Command, thread};

use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use support::World;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

const KINDS: [&str; 5] = [
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ecdsa-p256",
    "ecdsa-p384",
];

/// PATH with the judges that CI installs.
fn path() -> OsString {
    let judges = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/judges/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(judges).chain(env::split_paths(&path))).unwrap()
}

#[track_caller]
fn tool(world: &World, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", path())
        .current_dir(world.path(""))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {args:?}\n{said}");
    said
}

/// A root of one kind, and clusters of three kinds under it.
fn mesh(root: &str) -> World {
    let world = World::new(&format!(
        r#"
        mesh "mesh1" {{ work-dir "out"; }}
        root-ca {{ key "{root}"; }}
        cluster "a" {{ ca {{ key "rsa-2048"; subject organization="Ünï ✓" common-name="中文"; }}; }}
        cluster "b" {{ ca {{ key "ecdsa-p256"; dns "a.example" "b.example"; chain "with-root"; }}; }}
        cluster "c" {{ ca {{ key "ecdsa-p384"; validity "2051-01-01"; }}; }}
        "#
    ).replace(r#"root-ca {"#, r#"root-ca { validity "2055-06-01";"#));
    world.run(&[]).exits(0);
    world
}

fn leaf(world: &World, cluster: &str) {
    let ext = "subjectAltName=critical,URI:spiffe://cluster.local/ns/x/sa/default,DNS:server.example\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n";
    world.write("ext", ext);
    tool(
        world,
        "openssl",
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "leaf-key",
            "-out",
            "csr",
            "-subj",
            "/O=x",
        ],
    );
    let (cert, key) = (
        format!("out/{cluster}/ca-cert.pem"),
        format!("out/{cluster}/ca-key.pem"),
    );
    tool(
        world,
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            "csr",
            "-CA",
            &cert,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-days",
            "1",
            "-sha256",
            "-extfile",
            "ext",
            "-out",
            "leaf",
        ],
    );
}

/// What a peer written with rustls would say of the leaf, given the chain that istiod hands out.
fn webpki_accepts(world: &World, cluster: &str) {
    let certs = |name: &str| {
        CertificateDer::pem_slice_iter(&world.read(name))
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
    };
    let (leaf, roots) = (
        certs("leaf"),
        certs(&format!("out/{cluster}/root-cert.pem")),
    );
    let anchors = [anchor_from_trusted_cert(&roots[0]).unwrap()];
    let chain = certs(&format!("out/{cluster}/cert-chain.pem"));
    let cert = EndEntityCert::try_from(&leaf[0]).unwrap();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let path = cert.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain,
            UnixTime::now(),
            usage,
            None,
            None,
        );
        assert!(path.is_ok(), "{cluster}: {:?}", path.err());
    }
}

#[test]
fn openssl_and_webpki_accept_every_kind_and_workloads_under_it() {
    if !support::judge("openssl") {
        return;
    }
    for root in KINDS {
        let world = mesh(root);
        for cluster in ["a", "b", "c"] {
            let [anchor, cert, chain] = ["root-cert.pem", "ca-cert.pem", "cert-chain.pem"]
                .map(|f| format!("out/{cluster}/{f}"));
            tool(
                &world,
                "openssl",
                &["verify", "-x509_strict", "-CAfile", &anchor, &cert],
            );
            leaf(&world, cluster);
            tool(
                &world,
                "openssl",
                &[
                    "verify",
                    "-x509_strict",
                    "-purpose",
                    "sslserver",
                    "-CAfile",
                    &anchor,
                    "-untrusted",
                    &chain,
                    "leaf",
                ],
            );
            webpki_accepts(&world, cluster);
        }
    }
}

#[test]
fn pkilint_finds_nothing_to_notice() {
    if Command::new("lint_pkix_cert")
        .arg("-h")
        .env("PATH", path())
        .output()
        .is_err()
    {
        support::skip("pkilint");
        return;
    }
    let threads = KINDS.map(|root| {
        thread::spawn(move || {
            let world = mesh(root);
            for cert in [
                "root-cert.pem",
                "a/ca-cert.pem",
                "b/ca-cert.pem",
                "c/ca-cert.pem",
            ] {
                let findings = tool(
                    &world,
                    "lint_pkix_cert",
                    &["lint", "-s", "NOTICE", &format!("out/{cert}")],
                );
                assert_eq!(findings.trim(), "", "{root} {cert}");
            }
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
}

/// An organisation's root, a CA below it and one below that, with names that repeat attributes.
const ORG: &str = r#"
umask 077
openssl req -x509 -newkey rsa:2048 -nodes -keyout root-key.pem -out root.pem -days 900 -subj '/C=DE/O=Örg/CN=Root' -utf8 \
    -addext 'basicConstraints=critical,CA:TRUE' -addext keyUsage=critical,keyCertSign
below() {
    openssl req -newkey $3 -nodes -keyout $1-key.pem -out csr -subj "/DC=com/DC=example/OU=a/OU=b/CN=$1"
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' > ext
    openssl x509 -req -sha256 -in csr -CA $2.pem -CAkey $2-key.pem -CAcreateserial -days 400 -extfile ext -out $1.pem
}
below mid root rsa:2048
below rsa mid rsa:2048
below ec mid 'ec -pkeyopt ec_paramgen_curve:secp384r1'
openssl rsa -in rsa-key.pem -traditional -out pkcs1.pem
openssl ec -in ec-key.pem -out sec1.pem
# In any order, as Windows would save it, with words between, without a last line break.
{ cat root.pem; echo 'some words'; cat mid.pem; } | sed 's/$/\r/' | head -c -1 > chain.pem
"#;

#[test]
fn an_issuing_ca_below_a_root_signs_whatever_form_its_key_has() {
    if !support::judge("openssl") {
        return;
    }
    let org = World::new("");
    org.sh("", ORG);
    for (cert, key, begins) in [
        ("rsa", "pkcs1", "BEGIN RSA"),
        ("ec", "sec1", "BEGIN EC"),
        ("rsa", "rsa-key", "BEGIN PRIVATE"),
    ] {
        let org = org.path("").display().to_string();
        let world = World::new(&format!(
            r#"
            mesh "mesh1" {{ work-dir "out"; }}
            root-ca {{ cert "{org}{cert}.pem"; key "{org}{key}.pem"; chain "{org}chain.pem"; }}
            cluster-ca {{ key "ecdsa-p256"; }}
            cluster "a" {{ }}
            "#
        ));
        assert!(
            String::from_utf8(std::fs::read(format!("{org}{key}.pem")).unwrap())
                .unwrap()
                .contains(begins)
        );
        world.run(&[]).exits(0);
        tool(
            &world,
            "openssl",
            &[
                "verify",
                "-x509_strict",
                "-CAfile",
                "out/a/root-cert.pem",
                "-untrusted",
                "out/a/cert-chain.pem",
                "out/a/ca-cert.pem",
            ],
        );
        assert_eq!(
            String::from_utf8(world.read("out/a/cert-chain.pem"))
                .unwrap()
                .matches("BEGIN")
                .count(),
            3
        );
        leaf(&world, "a");
        webpki_accepts(&world, "a");
        assert_eq!(world.run(&[]).exits(0).ran(), Vec::<String>::new());
    }
}
