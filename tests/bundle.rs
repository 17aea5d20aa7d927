//! What istiod would refuse, and what workloads' handshakes would fail on: each rule of facts §2.9 by a
//! bundle that breaks it and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::LazyLock;

use meshplan::action::pki::{self, Bundle};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512,
};
use time::{Duration, OffsetDateTime};

/// One moment for all: certificates made a second apart would outlive each other.
static NOW: LazyLock<OffsetDateTime> = LazyLock::new(OffsetDateTime::now_utc);

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = *NOW - Duration::HOUR;
    params.not_after = *NOW + Duration::days(100);
    params
}

fn root(change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = params("root");
    change(&mut params);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { params, key, pem }
}

impl Ca {
    fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        self.signs_for(
            name,
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            change,
        )
    }

    fn signs_for(
        &self,
        name: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Ca {
        let mut params = params(name);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let pem = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .unwrap()
            .pem();
        Ca { params, key, pem }
    }
}

/// Rules of errors, then of warnings, that a bundle breaks.
fn broken(ca: &str, key: &str, chain: &str, roots: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let bundle = Bundle {
        ca_cert: ca.as_bytes(),
        ca_key: key.as_bytes(),
        cert_chain: chain.as_bytes(),
        root_cert: roots.as_bytes(),
    };
    let mut found = pki::judge(&bundle, OffsetDateTime::now_utc());
    found.dedup_by_key(|f| f.rule);
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|f| f.is_error());
    (
        errors.iter().map(|f| f.rule).collect(),
        warnings.iter().map(|f| f.rule).collect(),
    )
}

#[track_caller]
fn breaks(rule: &'static str, ca: &Ca, chain: &str, roots: &str) {
    assert_eq!(
        broken(&ca.pem, &ca.key.serialize_pem(), chain, roots).0,
        [rule]
    );
}

#[test]
fn a_sound_bundle_breaks_nothing_in_any_order_of_its_chain() {
    let root = root(|_| {});
    let mid = root.signs("mid", |_| {});
    let ca = mid.signs("ca", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))
    });
    let key = ca.key.serialize_pem();
    assert_eq!(
        broken(&ca.pem, &key, &format!("{}{}", ca.pem, mid.pem), &root.pem),
        (vec![], vec![])
    );
    assert_eq!(
        broken(&ca.pem, &key, &format!("{}{}", mid.pem, ca.pem), &root.pem),
        (vec![], vec!["C11"])
    );
    let with_root = format!("{}{}{}", ca.pem, mid.pem, root.pem);
    assert_eq!(
        broken(&ca.pem, &key, &with_root, &root.pem),
        (vec![], vec!["C10"])
    );
    // Several roots, as in the middle of a rotation.
    let other = self::root(|_| {});
    assert_eq!(
        broken(
            &ca.pem,
            &key,
            &format!("{}{}", ca.pem, mid.pem),
            &format!("{}{}", other.pem, root.pem)
        )
        .0,
        [""; 0]
    );
}

#[test]
fn each_rule_is_broken_by_what_it_forbids() {
    let top = root(|_| {});
    let ca = top.signs("ca", |_| {});
    let key = ca.key.serialize_pem();

    assert_eq!(broken(&ca.pem, &key, "", &top.pem).0, ["C01"]);
    assert_eq!(
        broken(&ca.pem, &key, ca.pem.trim_end(), &top.pem).0,
        ["C17"]
    );
    breaks("C03", &ca, &ca.pem, &root(|_| {}).pem);
    let mid = top.signs("mid", |_| {});
    let below = mid.signs("below", |_| {});
    breaks("C03", &below, &below.pem, &top.pem);
    let expired = top.signs("ca", |p| p.not_after = *NOW - Duration::MINUTE);
    breaks("C03", &expired, &expired.pem, &top.pem);
    assert_eq!(
        broken(&ca.pem, &mid.key.serialize_pem(), &ca.pem, &top.pem).0,
        ["C04"]
    );
    let parameters = format!(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{key}"
    );
    assert_eq!(broken(&ca.pem, &parameters, &ca.pem, &top.pem).0, ["C04"]);
    let leaf = top.signs("ca", |p| {
        p.is_ca = IsCa::ExplicitNoCa;
    });
    breaks("C05", &leaf, &leaf.pem, &top.pem);
    let no_sign = top.signs("ca", |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    });
    breaks("C05", &no_sign, &no_sign.pem, &top.pem);
    // Istio's B13: a CA below an intermediate that may have none, which istiod itself takes.
    let last = top.signs("last", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))
    });
    let one_more = last.signs("ca", |_| {});
    breaks(
        "C06",
        &one_more,
        &format!("{}{}", one_more.pem, last.pem),
        &top.pem,
    );
    let client = top.signs("ca", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    });
    breaks("C07", &client, &client.pem, &top.pem);
    let odd = top.signs_for(
        "ca",
        KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap(),
        |_| {},
    );
    breaks("C08", &odd, &odd.pem, &top.pem);
    let long = top.signs("ca", |p| p.not_after = *NOW + Duration::days(200));
    assert_eq!(
        broken(&long.pem, &long.key.serialize_pem(), &long.pem, &top.pem),
        (vec![], vec!["C12"])
    );
}

#[test]
fn weak_signatures_and_negative_serial_numbers_are_refused() {
    if !support::judge("openssl") {
        return;
    }
    let world = support::World::new("");
    for (rule, digest, serial) in [("C08", "-sha1", "5"), ("C09", "-sha256", "-5")] {
        world.sh(
            "",
            &format!(
                "ca=basicConstraints=critical,CA:TRUE
                openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out root -days 9 -subj /CN=r -addext $ca
                openssl req -newkey rsa:2048 -nodes -keyout key -out csr -subj /CN=c; echo $ca > ext
                openssl x509 -req -in csr -CA root -CAkey k -set_serial {serial} {digest} -days 8 -extfile ext -out ca"
            ),
        );
        let [ca, key, root] =
            ["ca", "key", "root"].map(|f| String::from_utf8(world.read(f)).unwrap());
        assert_eq!(broken(&ca, &key, &ca, &root).0, [rule]);
    }
}
