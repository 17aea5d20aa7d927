//! What can be wrong with a key or a certificate, each with what to do about it.

/// A mistake in PKI material. Texts hold names, algorithms and dates, never key bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// No PEM block at all.
    #[error("it is empty")]
    Empty,
    /// No whole PEM block of the kind wanted.
    #[error("it holds no whole PEM block: it is cut short, or another kind of file")]
    NoPem,
    /// A block of another kind comes first.
    #[error("it begins with a `{0}` block")]
    WrongBlock(String),
    /// A key that asks for a passphrase (facts F2.7).
    #[error(
        "the key is encrypted; istiod and meshplan need it in clear: `openssl pkey -in KEY -out KEY.clear` writes it so"
    )]
    EncryptedKey,
    /// `openssl ecparam -genkey` writes parameters before the key; istiod takes the first block for the key.
    #[error(
        "an EC PARAMETERS block stands before the key; `openssl pkey -in KEY -out KEY.pkcs8` writes the key alone"
    )]
    EcParameters,
    /// OpenSSH's own format.
    #[error(
        "the key is in OpenSSH's own format; `ssh-keygen -p -m PKCS8 -f KEY` converts it in place"
    )]
    OpenSsh,
    /// The block's bytes are no key.
    #[error("its bytes are no private key that can be read")]
    BadKey,
    /// The block's bytes are no certificate.
    #[error("its bytes are no X.509 certificate: {0}")]
    BadCert(String),
    /// A private key where only certificates belong (istio's B3).
    #[error("it holds a private key beside certificates: take that out")]
    KeyAmongCerts,
    /// A kind of key that istiod does not take.
    #[error(
        "keys of kind {0} are not for a mesh: RSA of 2048 to 8192 bits, ECDSA P-256 and P-384 are"
    )]
    Algorithm(String),
    /// The certificate is for another key.
    #[error("the certificate `{0}` does not carry this private key")]
    OtherKey(String),
    /// The names do not lead from one to the other.
    #[error("`{subject}` names `{issuer}` as its issuer, not `{found}`")]
    OtherIssuer {
        /// The certificate looked at.
        subject: String,
        /// Whom it names.
        issuer: String,
        /// Whom it was held against.
        found: String,
    },
    /// The key identifiers do not fit, though the names do.
    #[error("`{0}` names another key identifier than its issuer has")]
    OtherKeyId(String),
    /// The signature does not hold.
    #[error("the signature of `{0}` does not verify with its issuer's key")]
    Signature(String),
    /// A signature that Go refuses (facts F2.8).
    #[error(
        "`{subject}` is signed with {algorithm}, which istiod refuses: have it signed with SHA-256 or better"
    )]
    WeakSignature {
        /// The certificate.
        subject: String,
        /// Its algorithm.
        algorithm: String,
    },
    /// Not a CA.
    #[error("`{0}` is not a CA (basicConstraints without CA:TRUE): it may not sign others")]
    NotCa(String),
    /// Loaded, and checked, for workloads.
    #[error("`{0}` is the CA of a cluster: it signs workloads, and no CA below it")]
    WorkloadsOnly(String),
    /// No room below it.
    #[error(
        "`{subject}` has pathlen:{pathlen}, but {below} CAs would stand below it: it needs pathlen {below} or none"
    )]
    PathLength {
        /// The certificate.
        subject: String,
        /// Its limit.
        pathlen: u32,
        /// What would stand below it.
        below: usize,
    },
    /// keyUsage without keyCertSign.
    #[error("`{0}` may not sign certificates (keyUsage without keyCertSign)")]
    KeyUsage(String),
    /// extendedKeyUsage that forbids TLS servers or clients (facts F2.4, C07).
    #[error(
        "`{0}` has an extendedKeyUsage without serverAuth and clientAuth, which forbids mTLS below it"
    )]
    ExtendedKeyUsage(String),
    /// Over.
    #[error("`{subject}` expired on {end}")]
    Expired {
        /// The certificate.
        subject: String,
        /// Its end, a date.
        end: String,
    },
    /// Not begun.
    #[error("`{subject}` is not valid before {begin}; is this machine's clock right?")]
    NotYet {
        /// The certificate.
        subject: String,
        /// Its begin, a date.
        begin: String,
    },
    /// A validity that is over before it begins.
    #[error("its validity would end on {0}, which is over")]
    Over(String),
    /// The path does not reach a root.
    #[error(
        "the issuer of `{0}`, `{1}`, is not among the certificates: add it with `chain \"FILE\"`"
    )]
    NoPath(String, String),
    /// A workload's chain without its certificate.
    #[error("`{0}` is not in its chain")]
    NotInChain(String),
    /// The library's own word.
    #[error("cannot sign: {0}")]
    Signing(String),
}
