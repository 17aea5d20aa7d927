//! Names of the mesh's files below the work directory: the one place that spells them. It knows no
//! tasks, and not what a file holds.

/// Names as Istio's `tools/certs` has them (facts §1.2): today's, which istiod and istio-agent mount, and
/// by two knobs those of older releases' Makefiles. A plan has the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNames {
    /// What the root's key and certificate begin with, folders included: `root`, or `east/k8s-root`.
    pub root: String,
    /// What names of a cluster's CA and of a workload's certificate begin with: nothing, or Istio 1.7's
    /// `selfSigned-`.
    pub signer: &'static str,
}

impl Default for FileNames {
    fn default() -> Self {
        Self {
            root: "root".to_owned(),
            signer: "",
        }
    }
}

impl FileNames {
    /// The root's private key.
    pub fn root_key(&self) -> String {
        format!("{}-key.pem", self.root)
    }

    /// The root certificate.
    pub fn root_cert(&self) -> String {
        format!("{}-cert.pem", self.root)
    }

    /// The private key of a cluster's CA.
    pub fn ca_key(&self, name: &str) -> String {
        format!("{name}/{}ca-key.pem", self.signer)
    }

    /// The certificate of a cluster's CA.
    pub fn ca_cert(&self, name: &str) -> String {
        format!("{name}/{}ca-cert.pem", self.signer)
    }

    /// Certificates from a cluster's CA upwards. Only the prefixed name has a `ca-` in it (facts §1.2).
    pub fn cert_chain(&self, name: &str) -> String {
        match self.signer {
            "" => format!("{name}/cert-chain.pem"),
            prefix => format!("{name}/{prefix}ca-cert-chain.pem"),
        }
    }

    /// A copy of the root certificate in the folder of a cluster or a workload.
    pub fn root_copy(&self, name: &str) -> String {
        format!("{name}/root-cert.pem")
    }

    /// A cluster's IstioOperator.
    pub fn install(&self, name: &str) -> String {
        format!("{name}/install.yaml")
    }

    /// A workload's private key.
    pub fn key(&self, name: &str) -> String {
        format!("{name}/key.pem")
    }

    /// A workload's certificate.
    pub fn workload_cert(&self, name: &str) -> String {
        format!("{name}/{}workload-cert.pem", self.signer)
    }

    /// Certificates from a workload's up to the root.
    pub fn workload_chain(&self, name: &str) -> String {
        format!("{name}/{}workload-cert-chain.pem", self.signer)
    }

    /// True for the name that a root certificate, or a copy of one, has in the archive, where folders are
    /// part of the name.
    pub fn is_archived_root(&self, name: &str) -> bool {
        let copy = self.root_copy("");
        name.ends_with(&self.root_cert().replace('/', "-"))
            || name.ends_with(copy.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_makefiles() {
        let today = FileNames::default();
        let names = [
            today.root_key(),
            today.root_cert(),
            today.ca_key("c"),
            today.cert_chain("c"),
            today.workload_chain("c"),
        ];
        let wanted = [
            "root-key.pem",
            "root-cert.pem",
            "c/ca-key.pem",
            "c/cert-chain.pem",
            "c/workload-cert-chain.pem",
        ];
        assert_eq!(names, wanted);
        let old = FileNames {
            root: "east/k8s-root".to_owned(),
            signer: "selfSigned-",
        };
        let names = [
            old.root_key(),
            old.ca_cert("c"),
            old.cert_chain("c"),
            old.workload_cert("c"),
            old.key("c"),
            old.root_copy("c"),
        ];
        let wanted = [
            "east/k8s-root-key.pem",
            "c/selfSigned-ca-cert.pem",
            "c/selfSigned-ca-cert-chain.pem",
            "c/selfSigned-workload-cert.pem",
            "c/key.pem",
            "c/root-cert.pem",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn roots_are_known_in_the_archive() {
        let names = FileNames {
            root: "east/top".to_owned(),
            ..FileNames::default()
        };
        for root in ["20260101T000000Z-east-top-cert.pem", "1-c-root-cert.pem"] {
            assert!(names.is_archived_root(root), "{root}");
        }
        assert!(!names.is_archived_root("1-c-ca-cert.pem"));
    }
}
