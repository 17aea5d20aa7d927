//! Keys and certificates that others made, with OpenSSL's every whim: what is read of them, what may sign
//! a cluster's CA and what may not, and whether others follow what is signed below them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{env, ffi::OsString, path::Path as File, process::Command, time::Duration as Span};

use meshplan::{
    action::pki::{self, Bundle, Issuer, Path, PkiError, Request, Role},
    plan::model::{KeyAlgorithm, Subject, Validity},
};
use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use support::World;
use time::{Duration, OffsetDateTime, macros::datetime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Shell words: `key FILE [CURVE]`, `root NAME SUBJECT`, `below NAME ISSUER [EXTENSIONS] [OPTIONS]`. A CA is
/// NAME and NAME.key.
const WORDS: &str = r"
umask 077
CA=basicConstraints=critical,CA:TRUE
SIGN=keyUsage=critical,keyCertSign,cRLSign
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:${2:-P-256} -out $1; }
root() {
    [ -e $1.key ] || key $1.key
    name=$1 subject=$2; shift 2
    openssl req -x509 -sha256 -key $name.key -out $name -days 900 -utf8 -subj $subject -addext $CA -addext $SIGN $@
}
below() {
    [ -e $1.key ] || key $1.key
    name=$1 issuer=$2 extensions=${3:-$CA $SIGN}; shift; shift; [ $# = 0 ] || shift
    openssl req -new -key $name.key -subj /O=org/CN=$name -out csr
    printf '%s\n' $extensions > ext
    openssl x509 -req -in csr -CA $issuer -CAkey $issuer.key -CAcreateserial -days 400 -extfile ext -out $name ${@:--sha256}
}
";

fn made(script: &str) -> Option<World> {
    support::judge("openssl").then(|| {
        let world = World::new("");
        world.sh("", &format!("{WORDS}{script}"));
        world
    })
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn request(days: u64) -> Request {
    Request {
        subject: Subject {
            organization: "Istio".to_owned(),
            common_name: "Intermediate CA".to_owned(),
        },
        locality: Some("east".to_owned()),
        dns: vec!["istiod.istio-system.svc".to_owned()],
        uris: vec![],
        validity: Validity::For(Span::from_secs(days * 86_400)),
        role: Role::Ca { pathlen: Some(0) },
    }
}

fn p256() -> (Vec<u8>, Vec<u8>) {
    let key = pki::generate_key(KeyAlgorithm::EcdsaP256)
        .unwrap()
        .pem
        .to_vec();
    let public = pki::public_key(&key).unwrap();
    (key, public)
}

/// Loads the CA of that name with more certificates beside it.
fn load(
    world: &World,
    name: &str,
    more: &[&str],
    now: OffsetDateTime,
) -> Result<Issuer, Vec<PkiError>> {
    let texts: Vec<_> = [name].iter().chain(more).map(|f| world.read(f)).collect();
    let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
    Issuer::load(&texts, &world.read(&format!("{name}.key")), now)
}

/// PATH with the judges that CI installs.
fn path() -> OsString {
    let judges = File::new(env!("CARGO_MANIFEST_DIR")).join("target/judges/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([judges].into_iter().chain(env::split_paths(&path))).unwrap()
}

/// Runs a tool; it must succeed. Its standard output.
#[track_caller]
fn tool(world: &World, program: &str, args: &str) -> String {
    let output = Command::new(program)
        .args(args.split(' '))
        .env("PATH", path())
        .current_dir(world.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}\n{said}{errors}");
    said
}

/// What a peer written with rustls would say of a server's certificate.
fn webpki_follows(world: &World, cert: &str, between: &str, root: &str) {
    let certs = |name: &str| -> Vec<CertificateDer> {
        let text = world.read(name);
        CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let (leaf, between, root) = (certs(cert), certs(between), certs(root));
    let anchors = [anchor_from_trusted_cert(&root[0]).unwrap()];
    let path = EndEntityCert::try_from(&leaf[0]).unwrap();
    let path = path.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &between,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    assert!(path.is_ok(), "{cert}: {:?}", path.err());
}

const LEAF: &str = r"
below leaf east 'subjectAltName=DNS:server.example extendedKeyUsage=serverAuth,clientAuth keyUsage=critical,digitalSignature'
";

#[test]
fn verifiers_find_the_issuer_whatever_its_name_is_made_of() {
    // OpenSSL's string masks: 4 T61String, 256 UniversalString, 2048 BMPString.
    let script = r"
        root dc /DC=com/DC=example/OU=one/OU=two/CN=Root
        root rdn /O=org/OU=b+CN=a
        root printable /C=DE/O=org/CN=Root
        root utf8 /O=Örg/CN=中文
        root no-ski /O=org/CN=bare -addext subjectKeyIdentifier=none
        for mask in T61String:4 BMPString:2048 UniversalString:256; do
            printf '[req]\nstring_mask=MASK:%s\ndistinguished_name=d\n[d]\n' ${mask#*:} > conf
            root ${mask%:*} /O=Örg/CN=Root -config conf -addext subjectKeyIdentifier=hash
        done
        openssl genrsa -out rsa.key 2048; root rsa /DC=com/DC=example/OU=one/OU=two/CN=RSA
    ";
    let Some(world) = made(script) else { return };
    for (root, name) in [
        ("dc", "DC=com, DC=example, OU=one, OU=two, CN=Root"),
        ("rdn", "O=org, CN=a, OU=b"),
        ("printable", "C=DE, O=org, CN=Root"),
        ("utf8", "O=Örg, CN=中文"),
        ("no-ski", "O=org, CN=bare"),
        ("T61String", "O=Örg, CN=Root"),
        ("BMPString", "O=Örg, CN=Root"),
        ("UniversalString", "O=Örg, CN=Root"),
        ("rsa", "DC=com, DC=example, OU=one, OU=two, CN=RSA"),
    ] {
        let issuer = load(&world, root, &[], now()).unwrap();
        let (key, public) = p256();
        let signed = issuer.sign(&request(30), &public, now()).unwrap();
        world.write("east", &signed.pem);
        world.write("east.key", key);
        let facts = pki::read_cert(&signed.pem).unwrap();
        assert_eq!(
            (facts.issuer.as_str(), facts.key_usage.unwrap().len()),
            (name, 4),
            "{root}"
        );
        assert_eq!(
            pki::signed_by(&signed.pem, &world.read(root)),
            Ok(()),
            "{root}"
        );
        // OpenSSL's strict form asks for an identifier in the root too, which is not ours to add.
        let strict = if root == "no-ski" {
            ""
        } else {
            " -x509_strict"
        };
        world.sh("", &format!("{WORDS}{LEAF}"));
        let verify =
            format!("verify{strict} -purpose sslserver -CAfile {root} -untrusted east leaf");
        tool(&world, "openssl", &verify);
        webpki_follows(&world, "leaf", "east", root);
    }
    let mut lint = Command::new("lint_pkix_cert");
    if lint.arg("-h").env("PATH", path()).output().is_err() {
        return support::skip("pkilint");
    }
    assert_eq!(
        tool(&world, "lint_pkix_cert", "lint -s NOTICE east").trim(),
        ""
    );
}

#[test]
fn a_key_is_the_same_in_each_of_its_forms_and_whatever_stands_around_it() {
    let script = r"
        key ec; openssl ec -in ec -out ec-sec1
        openssl genrsa -out rsa 2048; openssl rsa -in rsa -traditional -out rsa-pkcs1
        for k in ec rsa; do { echo 'some words'; cat $k; } | sed 's/$/\r/' | head -c -2 > $k-windows; done
        { printf 'Schl\374ssel\n'; cat ec; } > ec-latin1
    ";
    let Some(world) = made(script) else { return };
    for (name, forms, algorithm) in [
        (
            "ec",
            &["ec-sec1", "ec-windows", "ec-latin1"][..],
            KeyAlgorithm::EcdsaP256,
        ),
        ("rsa", &["rsa-pkcs1", "rsa-windows"], KeyAlgorithm::Rsa2048),
    ] {
        let facts = pki::read_key(&world.read(name)).unwrap();
        assert_eq!(facts.algorithm, Some(algorithm));
        for form in forms {
            assert_eq!(
                pki::read_key(&world.read(form)).as_ref(),
                Ok(&facts),
                "{form}"
            );
        }
    }
}

#[test]
fn each_mistake_with_a_key_file_is_told_for_what_it_is() {
    let script = r"
        key ec; openssl pkcs8 -topk8 -in ec -passout pass:secret -out encrypted
        openssl ec -in ec -aes128 -passout pass:secret -out proc-type
        openssl ecparam -name prime256v1 -genkey -out parameters
        openssl genrsa -out rsa-1024 1024; openssl rsa -in rsa-1024 -traditional -out rsa-1024-pkcs1
        openssl genpkey -algorithm ed448 -out ed448
        key secp256k1 secp256k1; openssl ec -in secp256k1 -out secp256k1-sec1
        openssl req -x509 -key ec -subj /CN=x -out certificate
        openssl pkey -in ec -pubout -out public
        head -c 100 ec > cut; sed 2d ec > garbled; : > empty
        sed 's/ PRIVATE/ OPENSSH PRIVATE/' ec > openssh
    ";
    let Some(world) = made(script) else { return };
    let kind = |kind: &str| PkiError::Algorithm(kind.to_owned());
    let block = |label: &str| PkiError::WrongBlock(label.to_owned());
    for (file, error, remedy) in [
        ("encrypted", PkiError::EncryptedKey, "openssl pkey -in KEY"),
        ("proc-type", PkiError::EncryptedKey, "openssl pkey -in KEY"),
        ("parameters", PkiError::EcParameters, "openssl pkey -in KEY"),
        ("openssh", PkiError::OpenSsh, "ssh-keygen -p -m PKCS8"),
        ("rsa-1024", kind("RSA 1024"), "RSA of 2048"),
        ("rsa-1024-pkcs1", kind("RSA 1024"), "RSA of 2048"),
        ("ed448", kind("1.3.101.113"), "ECDSA P-256"),
        ("secp256k1", kind("EC on curve 1.3.132.0.10"), "ECDSA P-256"),
        (
            "secp256k1-sec1",
            kind("EC on curve 1.3.132.0.10"),
            "ECDSA P-256",
        ),
        ("certificate", block("CERTIFICATE"), "`CERTIFICATE`"),
        ("public", block("PUBLIC KEY"), "`PUBLIC KEY`"),
        ("cut", PkiError::NoPem, "cut short"),
        ("garbled", PkiError::BadKey, "no private key"),
        ("empty", PkiError::Empty, "empty"),
    ] {
        assert_eq!(
            pki::read_key(&world.read(file)),
            Err(error.clone()),
            "{file}"
        );
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn a_ca_that_may_not_sign_a_clusters_is_refused_for_its_reason() {
    let script = r"
        root top /CN=top
        below leaf top 'basicConstraints=CA:FALSE'
        below last top $CA,pathlen:0
        below usage top $CA\ keyUsage=digitalSignature
        below tls top $CA\ extendedKeyUsage=serverAuth
        key p521.key P-521; below p521 top
        openssl genpkey -algorithm ed25519 -out ed25519.key; below ed25519 top
        openssl genrsa -out rsa.key 2048; root rsa /CN=rsa
        below sha1 rsa $CA -sha1; below md5 rsa $CA -md5; below sha1-ec top $CA -sha1
        openssl genrsa -out weak.key 1024; root weak /CN=weak; below under-weak weak
        below fine top
        mkdir twin; cd twin; root top /CN=top -addext subjectKeyIdentifier=none
        cd ..; cp twin/top twin-top; cp fine other; key other.key
    ";
    let Some(world) = made(script) else { return };
    let name = |n: &str| format!("O=org, CN={n}");
    let weak = |n: &str, algorithm: &str| PkiError::WeakSignature {
        subject: name(n),
        algorithm: algorithm.to_owned(),
    };
    let pathlen = PkiError::PathLength {
        subject: name("last"),
        pathlen: 0,
        below: 1,
    };
    for (ca, more, error) in [
        ("leaf", "top", PkiError::NotCa(name("leaf"))),
        ("last", "top", pathlen),
        ("usage", "top", PkiError::KeyUsage(name("usage"))),
        ("tls", "top", PkiError::ExtendedKeyUsage(name("tls"))),
        (
            "p521",
            "top",
            PkiError::Algorithm("EC on curve 1.3.132.0.35".to_owned()),
        ),
        (
            "ed25519",
            "top",
            PkiError::Algorithm("1.3.101.112".to_owned()),
        ),
        ("sha1", "rsa", weak("sha1", "SHA-1 with RSA")),
        ("md5", "rsa", weak("md5", "MD5 with RSA")),
        ("sha1-ec", "top", weak("sha1-ec", "ECDSA with SHA-1")),
        (
            "under-weak",
            "weak",
            PkiError::Algorithm("RSA 1024".to_owned()),
        ),
        (
            "fine",
            "rsa",
            PkiError::NoPath(name("fine"), "CN=top".to_owned()),
        ),
        ("fine", "twin-top", PkiError::Signature(name("fine"))),
        ("other", "top", PkiError::OtherKey(name("fine"))),
    ] {
        let refused = load(&world, ca, &[more], now()).unwrap_err();
        assert_eq!(refused, [error], "{ca} below {more}");
    }
    // Both in one go, and the dates of every certificate of the path.
    let late = load(&world, "leaf", &["top"], now() + Duration::days(1000)).unwrap_err();
    assert!(
        matches!(
            late[..],
            [
                PkiError::Expired { .. },
                PkiError::NotCa(_),
                PkiError::Expired { .. }
            ]
        ),
        "{late:?}"
    );
    let early = load(&world, "fine", &["top"], now() - Duration::DAY).unwrap_err();
    assert!(
        matches!(
            early[..],
            [PkiError::NotYet { .. }, PkiError::NotYet { .. }]
        ),
        "{early:?}"
    );
    let both = Issuer::load(&[&world.read("last"), &world.read("top")], b"", now()).unwrap_err();
    assert!(
        matches!(both[..], [PkiError::PathLength { .. }, PkiError::Empty]),
        "{both:?}"
    );
    let key = [world.read("fine"), world.read("fine.key")].concat();
    assert_eq!(
        Path::build(&[&key], now()).unwrap_err(),
        [PkiError::KeyAmongCerts]
    );
}

#[test]
fn the_way_up_is_found_in_any_order_and_among_look_alikes() {
    let script = r"
        root top /CN=top; below mid top; below low mid
        cp top.key cross.key; root cross /CN=top -days 1
        { printf 'Gr\374\337e\n'; cat cross top low; printf 'some words\n'; cat mid; } | sed 's/$/\r/' | head -c -2 > pile
        key p384.key P-384; openssl req -x509 -key p384.key -sha256 -subj /CN=p384 -addext $CA -days 900 -out p384
        openssl genrsa -out rsa.key 2048; root rsa /CN=rsa
        below on-384 p384; below sha512 top $CA -sha512; below sha512-384 p384 $CA -sha512
        below pss rsa $CA '-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sha256'
    ";
    let Some(world) = made(script) else { return };
    let pile = world.read("pile");
    // A root that ended is no way up where another has its name and key.
    for (at, root) in [(now(), "cross"), (now() + Duration::days(2), "top")] {
        let low = world.read("low");
        let path = Path::build(&[&low, &pile], at).unwrap();
        assert_eq!(
            path.intermediates_pem(),
            [low.clone(), world.read("mid")].concat()
        );
        assert!(path.is_root(&world.read(root)), "{root}");
    }
    let (_, public) = p256();
    for (name, root) in [
        ("on-384", "p384"),
        ("sha512", "top"),
        ("sha512-384", "p384"),
        ("pss", "rsa"),
    ] {
        let issuer = load(&world, name, &[root], now()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        world.write(
            "east",
            issuer.sign(&request(30), &public, now()).unwrap().pem,
        );
        tool(
            &world,
            "openssl",
            &format!("verify -CAfile {root} -untrusted {name} east"),
        );
    }
}

#[test]
fn what_is_signed_lives_within_its_issuers_days_and_has_a_serial_number_of_its_own() {
    let Some(world) = made("root top /CN=top") else {
        return;
    };
    let top = pki::read_cert(&world.read("top")).unwrap();
    let issuer = load(&world, "top", &[], top.not_before).unwrap();
    let (_, public) = p256();
    let mut serials = Vec::new();
    for (days, at, cut_short) in [
        (30, top.not_before, false),
        (30, top.not_before + Duration::seconds(59), false),
        (30, top.not_before + Duration::DAY, false),
        (5000, top.not_before, true),
        (30, top.not_after - Duration::SECOND, true),
    ] {
        let signed = issuer.sign(&request(days), &public, at).unwrap();
        let facts = pki::read_cert(&signed.pem).unwrap();
        let begin = (at - Duration::MINUTE).max(top.not_before);
        let end = (begin + Duration::days(days as i64)).min(top.not_after);
        assert_eq!(
            (facts.not_before, facts.not_after, signed.cut_short),
            (begin, end, cut_short)
        );
        assert!(
            facts.serial.len() == 20 && (0x40..0x80).contains(&facts.serial[0]),
            "{:?}",
            facts.serial
        );
        assert!(!serials.contains(&facts.serial));
        serials.push(facts.serial);
    }
    let refused = issuer
        .sign(&request(30), &public, top.not_after)
        .unwrap_err();
    assert!(matches!(refused, PkiError::Expired { .. }), "{refused}");
    let mut over = request(30);
    over.validity = Validity::Until(top.not_before);
    let refused = issuer.sign(&over, &public, now()).unwrap_err();
    assert!(matches!(refused, PkiError::Over(_)), "{refused}");
}

#[test]
fn dates_are_written_as_rfc_5280_has_it_on_both_sides_of_2050() {
    let (key, _) = p256();
    let world = World::new("");
    for (end, tag, said) in [
        // An offset's own year is another than UTC's at the edge.
        (datetime!(2050-01-01 00:30 +1), "UTCTIME", "491231233000Z"),
        (
            datetime!(2049-12-31 23:30 -1),
            "GENERALIZEDTIME",
            "20500101003000Z",
        ),
        (
            datetime!(9999-12-31 23:59:59 UTC),
            "GENERALIZEDTIME",
            "99991231235959Z",
        ),
    ] {
        let mut root = request(1);
        root.validity = Validity::Until(end);
        let cert = pki::self_sign(&key, &root, None, now()).unwrap();
        assert_eq!(pki::read_cert(&cert).unwrap().not_after, end);
        if support::judge("openssl") {
            world.write("root", &cert);
            let text = tool(&world, "openssl", "asn1parse -in root");
            let line = text.lines().find(|l| l.ends_with(&format!(":{said}")));
            assert!(line.is_some_and(|l| l.contains(tag)), "{text}");
        }
    }
}

#[test]
fn a_root_signed_anew_keeps_an_identifier_of_any_making() {
    let script = r"
        root top /O=Istio/CN=Root\ CA -addext subjectKeyIdentifier=0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
        below east top
    ";
    let Some(world) = made(&script.replace(r"\ ", "-")) else {
        return;
    };
    let old = pki::read_cert(&world.read("top")).unwrap();
    let mut root = request(900);
    root.subject.common_name = "Root-CA".to_owned();
    (root.locality, root.role, root.dns) = (None, Role::Ca { pathlen: None }, Vec::new());
    let new = pki::self_sign(&world.read("top.key"), &root, old.key_id.clone(), now()).unwrap();
    let facts = pki::read_cert(&new).unwrap();
    assert_eq!(
        (facts.key_id.as_ref(), facts.public_key),
        (old.key_id.as_ref(), old.public_key)
    );
    assert_ne!(facts.serial, old.serial);
    world.write("new", &new);
    tool(&world, "openssl", "verify -x509_strict -CAfile new east");
    let issuer = load(&world, "top", &[], now()).unwrap();
    let below = issuer.sign(&request(30), &p256().1, now()).unwrap();
    assert_eq!(pki::signed_by(&below.pem, &new), Ok(()));
}

/// Rules that a bundle breaks.
fn broken(
    world: &World,
    ca: &str,
    chain: &[&str],
    roots: &[&str],
    now: OffsetDateTime,
) -> Vec<&'static str> {
    let join = |names: &[&str]| names.iter().flat_map(|n| world.read(n)).collect::<Vec<_>>();
    let bundle = Bundle {
        ca_cert: &world.read(ca),
        ca_key: &world.read(&format!("{ca}.key")),
        cert_chain: &join(chain),
        root_cert: &join(roots),
    };
    pki::judge(&bundle, now).iter().map(|f| f.rule).collect()
}

#[test]
fn a_bundle_is_judged_by_the_best_of_its_ways_up() {
    let script = r"
        root top /CN=top -days 20
        below ca top $CA,pathlen:0 '-sha256 -days 10'
        mkdir old; cp top.key old/; cd old; root top /CN=top -days 1; cd ..; mv old/top old-top
        openssl genrsa -out rsa.key 2048; root rsa /CN=rsa; below md5 rsa $CA,pathlen:0 -md5
        # One name, one key, many certificates: the ways among them are more than can be walked.
        mkdir all; key all/mid.key; cp top top.key all; cd all
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
            openssl req -x509 -key mid.key -subj /CN=mid -addext $CA -days 9 -out mid-$i
        done
        cp mid-1 mid; below low mid; cp low low.key ..; cat mid-* > ../mids
    ";
    let Some(world) = made(script) else { return };
    let later = now() + Duration::days(2);
    // Go tries every root of the bundle; during a rotation an old one stands beside the new.
    assert_eq!(
        broken(&world, "ca", &["ca"], &["old-top", "top"], later),
        [""; 0]
    );
    assert_eq!(
        broken(&world, "ca", &["ca"], &["old-top"], later),
        ["C03", "C12"]
    );
    assert_eq!(broken(&world, "md5", &["md5"], &["rsa"], now()), ["C08"]);
    assert_eq!(
        broken(&world, "low", &["low", "mids"], &["top"], now()),
        ["C03"]
    );
}

#[test]
fn what_differs_from_the_plan_is_told_in_the_plans_words() {
    let (key, public) = p256();
    let mut root = request(900);
    (root.locality, root.role) = (None, Role::Ca { pathlen: None });
    let top = pki::self_sign(&key, &root, None, now()).unwrap();
    let issuer = Issuer::load(&[&top], &key, now()).unwrap();
    let cert = pki::read_cert(&issuer.sign(&request(30), &public, now()).unwrap().pem).unwrap();
    let told = |change: &dyn Fn(&mut Request), algorithm| {
        let mut wanted = request(30);
        change(&mut wanted);
        pki::differences(&cert, &wanted, algorithm)
    };
    let same = |_: &mut Request| {};
    let p256 = KeyAlgorithm::EcdsaP256;
    assert_eq!(told(&same, p256), [""; 0]);
    assert_eq!(
        told(&same, KeyAlgorithm::Rsa4096),
        ["key ECDSA P-256 (wanted: rsa-4096)"]
    );
    assert_eq!(
        told(&|r| r.locality = Some("west".to_owned()), p256),
        [
            "subject O=Istio, CN=Intermediate CA, L=east (wanted: O=Istio, CN=Intermediate CA, L=west)"
        ]
    );
    assert_eq!(
        told(&|r| r.dns.clear(), p256),
        ["dns istiod.istio-system.svc (wanted: none)"]
    );
    assert_eq!(
        told(&|r| r.role = Role::Ca { pathlen: None }, p256),
        ["pathlen 0 (wanted: none)"]
    );
    assert_eq!(
        told(&|r| r.validity = request(31).validity, p256),
        ["validity 30d (wanted: 31d)"]
    );
    let end = datetime!(2051-06-01 12:00 UTC);
    let until = told(&|r| r.validity = Validity::Until(end), p256);
    assert_eq!(
        until,
        [format!(
            "validity until {} (wanted: 2051-06-01)",
            cert.not_after.date()
        )]
    );
}

/// Everything that reads, on the same bytes.
fn read_all(bytes: &[u8], key: &[u8], roots: &[u8]) {
    let now = now();
    if let Ok(cert) = pki::read_cert(bytes) {
        pki::differences(&cert, &request(30), KeyAlgorithm::Rsa4096);
    }
    let _ = pki::read_key(bytes);
    let _ = pki::public_key(bytes);
    let _ = pki::signed_by(bytes, roots);
    let _ = pki::chain(
        bytes,
        bytes,
        roots,
        meshplan::plan::model::ChainForm::WithRoot,
    );
    let _ = Path::build(&[bytes, roots], now);
    if let Ok(issuer) = Issuer::load(&[bytes, roots], key, now) {
        let _ = issuer.sign(&request(30), bytes, now).is_ok();
    }
    let _ = Issuer::load(&[roots], bytes, now).is_ok();
    for [ca_cert, ca_key, cert_chain, root_cert] in
        [[bytes, key, bytes, roots], [roots, bytes, roots, bytes]]
    {
        let _ = pki::judge(
            &Bundle {
                ca_cert,
                ca_key,
                cert_chain,
                root_cert,
            },
            now,
        )
        .len();
    }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    ::pem::encode(&::pem::Pem::new(label, der)).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), label in 0..4usize) {
        let label = ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"][label];
        read_all(&bytes, &bytes, &bytes);
        read_all(&pem(label, &bytes), &bytes, &pem("CERTIFICATE", &bytes));
    }

    #[test]
    fn no_flipped_or_cut_bytes_make_reading_panic(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        armour in any::<bool>(),
    ) {
        for (label, whole, key) in VICTIMS.iter() {
            let mut bytes = if armour { whole.clone() } else { ::pem::parse(whole).unwrap().into_contents() };
            for (at, with) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            bytes.truncate(cut.map_or(bytes.len(), |c| c.index(bytes.len())));
            let text = if armour { bytes } else { pem(label, &bytes) };
            read_all(&text, key, &VICTIMS[0].1);
        }
    }
}

/// Label, PEM, and the key that belongs to it.
type Victim = (&'static str, Vec<u8>, Vec<u8>);

/// A root, a CA below it, and keys in each form.
static VICTIMS: std::sync::LazyLock<Vec<Victim>> = std::sync::LazyLock::new(|| {
    let (key, public) = p256();
    let root = pki::self_sign(
        &key,
        &Request {
            locality: None,
            role: Role::Ca { pathlen: None },
            ..request(900)
        },
        None,
        now(),
    )
    .unwrap();
    let signed = Issuer::load(&[&root], &key, now())
        .unwrap()
        .sign(&request(30), &public, now())
        .unwrap()
        .pem;
    let rsa = pki::generate_key(KeyAlgorithm::Rsa2048)
        .unwrap()
        .pem
        .to_vec();
    vec![
        ("CERTIFICATE", root, key.clone()),
        ("CERTIFICATE", signed, key.clone()),
        ("PRIVATE KEY", key.clone(), key.clone()),
        ("PRIVATE KEY", rsa, key),
    ]
});
