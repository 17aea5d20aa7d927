//! What lies in a folder that Istio's Makefile, or `meshplan make`, worked in: its roots, and the folders of
//! clusters and workloads in it. It reads and judges nothing but what each file says of itself.

use camino::Utf8Path;

use crate::{
    action::pki::{self, CertFacts, KeyFacts},
    host::{Kind, Look},
    plan::model::KeyAlgorithm,
};

/// Certificate and key of one CA or workload, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    /// What the certificate says.
    pub cert: Option<CertFacts>,
    /// What the key is.
    pub key: Option<KeyFacts>,
    /// There is a file for the certificate, or for the key.
    pub there: bool,
}

impl Pair {
    /// Reads both files.
    pub fn read(disk: &dyn Look, cert: &Utf8Path, key: &Utf8Path) -> Self {
        let bytes = |path: &Utf8Path| disk.read(path).ok().map(zeroize::Zeroizing::new);
        let (cert, key) = (bytes(cert), bytes(key));
        Self {
            there: cert.is_some() || key.is_some(),
            cert: cert.and_then(|b| pki::read_cert(&b).ok()),
            key: key.and_then(|b| pki::read_key(&b).ok()),
        }
    }

    /// The certificate, where it carries the key beside it.
    pub fn sound(&self) -> Option<&CertFacts> {
        let public = self.key.as_ref().map(|k| k.public_key);
        self.cert.as_ref().filter(|c| Some(c.public_key) == public)
    }

    /// Kind of its key, which a plan does not change without leave.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        let of_cert = self.cert.as_ref().and_then(|c| c.algorithm);
        self.key.as_ref().map_or(of_cert, |k| k.algorithm)
    }
}

/// A root whose certificate lies in the folder.
#[derive(Debug, Clone)]
pub struct Root {
    /// What its files begin with: `root`, or `CONTEXT/k8s-root`.
    pub name: String,
    /// What its certificate says.
    pub cert: CertFacts,
    /// The certificate, PEM.
    pub pem: Vec<u8>,
    /// Its key is there too.
    pub has_key: bool,
}

/// A folder of a cluster or a workload.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The root that its `root-cert.pem` holds.
    pub root: Option<CertFacts>,
}

impl Member {
    /// Whether its root is one of these.
    pub fn is_under(&self, roots: &[Root]) -> bool {
        let own = self.root.as_ref().map(|r| r.public_key);
        roots.iter().any(|root| Some(root.cert.public_key) == own)
    }
}

/// Files that make a folder a cluster's or a workload's.
const SIGNS: [&str; 6] = [
    "ca-key.pem",
    "ca-cert.pem",
    "selfSigned-ca-key.pem",
    "selfSigned-ca-cert.pem",
    "key.pem",
    "root-cert.pem",
];

/// What the Makefiles call a root that they fetched.
pub const FETCHED: &str = "k8s-root";

fn is_file(disk: &dyn Look, path: &Utf8Path) -> bool {
    matches!(disk.stat(path), Ok(Some(stat)) if stat.kind == Kind::File)
}

fn folders(disk: &dyn Look, dir: &Utf8Path) -> Vec<String> {
    // A folder that cannot be listed has no members that anything here could use.
    let mut names = disk.list(dir).unwrap_or_default();
    names.sort_unstable();
    let is_folder = |name: &String| {
        let stat = disk.stat(&dir.join(name));
        name != crate::build::STATE_DIR && matches!(stat, Ok(Some(s)) if s.kind == Kind::Folder)
    };
    names.retain(is_folder);
    names
}

/// Folders of clusters and workloads in `dir`, by name.
pub fn members(disk: &dyn Look, dir: &Utf8Path) -> Vec<Member> {
    let has = |name: &String, file: &str| is_file(disk, &dir.join(name).join(file));
    // One with a root key of its own is another mesh's folder.
    let holds = |name: &String| SIGNS.iter().any(|f| has(name, f)) && !has(name, "root-key.pem");
    let member = |name: String| {
        let bytes = disk.read(&dir.join(&name).join("root-cert.pem")).ok();
        Member {
            root: bytes.and_then(|b| pki::read_cert(&b).ok()),
            name,
        }
    };
    folders(disk, dir)
        .into_iter()
        .filter(holds)
        .map(member)
        .collect()
}

/// Roots whose certificates lie in `dir`: the one made there first, then fetched ones by context.
pub fn roots(disk: &dyn Look, dir: &Utf8Path) -> Vec<Root> {
    let fetched = folders(disk, dir)
        .into_iter()
        .map(|f| format!("{f}/{FETCHED}"));
    let names = std::iter::once("root".to_owned()).chain(fetched);
    let root = |name: String| {
        let pem = disk.read(&dir.join(format!("{name}-cert.pem"))).ok()?;
        let cert = pki::read_cert(&pem).ok()?;
        let has_key = is_file(disk, &dir.join(format!("{name}-key.pem")));
        Some(Root {
            name,
            cert,
            pem,
            has_key,
        })
    };
    names.filter_map(root).collect()
}

/// Trust domain, namespace and service account of a SPIFFE ID (facts §1.4).
pub fn spiffe(cert: &CertFacts) -> Option<(String, String, String)> {
    let id = cert.uris.iter().find_map(|u| u.strip_prefix("spiffe://"))?;
    let mut parts = id.split('/');
    match [(); 6].map(|()| parts.next()) {
        [
            Some(domain),
            Some("ns"),
            Some(namespace),
            Some("sa"),
            Some(account),
            None,
        ] => Some((domain.to_owned(), namespace.to_owned(), account.to_owned())),
        _ => None,
    }
}
