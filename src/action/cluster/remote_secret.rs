//! A remote secret: access to one cluster's API server, kept in another (facts §3.3). What istioctl writes
//! is read here, and turned into an object to apply; it knows nothing of when that is done.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::live::Digest;
use crate::plan;

/// What its name begins with; the cluster's follows.
pub(super) const PREFIX: &str = "istio-remote-secret-";

/// Its name.
pub(super) fn name(cluster: &str) -> String {
    format!("{PREFIX}{cluster}")
}

/// With what an API server is reached: equal means the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    token: Digest,
    /// Certificates that the server is known by.
    ca: Digest,
    /// End of the token in seconds since 1970; `None` for one that does not end.
    ends: Option<i64>,
    /// Its URL, where it was read from a kubeconfig.
    pub(super) server: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    clusters: Vec<Named<Server>>,
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    #[serde(alias = "cluster", alias = "user")]
    inner: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Server {
    server: String,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct User {
    token: Option<Zeroizing<String>>,
}

impl Access {
    pub(super) fn new(token: &[u8], ca: &[u8]) -> Self {
        Self {
            token: Digest::of(token),
            ca: Digest::of(ca),
            ends: end_of(token),
            server: None,
        }
    }

    /// From a kubeconfig with a token; `None` for another kind.
    pub(super) fn read(kubeconfig: &[u8]) -> Option<Self> {
        let config: Config = serde_norway::from_slice(kubeconfig).ok()?;
        let (cluster, user) = (
            config.clusters.into_iter().next()?,
            config.users.into_iter().next()?,
        );
        let ca = cluster.inner.certificate_authority_data.unwrap_or_default();
        let ca = STANDARD.decode(ca).ok()?;
        Some(Self {
            server: Some(cluster.inner.server),
            ..Self::new(user.inner.token?.as_bytes(), &ca)
        })
    }

    /// What is wrong with this access to a cluster that gives `own`, if anything.
    pub(super) fn trouble(
        &self,
        own: Option<&Self>,
        server: Option<&str>,
        now: i64,
    ) -> Option<&'static str> {
        if self.ends.is_some_and(|end| end <= now) {
            return Some("its token has expired");
        }
        if server.is_some_and(|s| self.server.as_deref() != Some(s)) {
            return Some("it names another API server than the plan");
        }
        match own {
            None => Some("the token it was made of is gone"),
            Some(own) if own.token != self.token => Some("its token is not the cluster's any more"),
            Some(own) if own.ca != self.ca => Some("it trusts another CA than the cluster's"),
            Some(_) => None,
        }
    }

    /// What it is, in a text that tells any change.
    pub(super) fn digest(&self) -> String {
        format!("{}{}", self.token.hex(), self.ca.hex())
    }
}

/// The claim `exp` of a JWT.
fn end_of(token: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(token).ok()?;
    let claims = URL_SAFE_NO_PAD
        .decode(text.split('.').nth(1)?)
        .ok()
        .map(Zeroizing::new)?;
    serde_json::from_slice::<Value>(&claims).ok()?["exp"].as_i64()
}

/// The object of a remote secret, from what `create-remote-secret` printed.
///
/// # Errors
/// It is not what istioctl prints, or names a server that no other cluster reaches.
pub(super) fn object(
    printed: &[u8],
    cluster: &str,
    namespace: &str,
) -> Result<Zeroizing<Vec<u8>>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Printed {
        string_data: std::collections::BTreeMap<String, Zeroizing<String>>,
    }
    let text = std::str::from_utf8(printed).unwrap_or_default();
    // A comment line and a trailing `---` make several documents of it.
    let document = text.split("\n---").find(|d| d.contains("stringData:"));
    let read = document.and_then(|d| serde_norway::from_str::<Printed>(d).ok());
    let config = read.as_ref().and_then(|r| r.string_data.get(cluster));
    let access = config.and_then(|c| Access::read(c.as_bytes()));
    let (Some(config), Some(access)) = (config, access) else {
        return Err("istioctl printed no remote secret that can be read".to_owned());
    };
    let server = access.server.unwrap_or_default();
    let host = server.strip_prefix("https://").unwrap_or(&server);
    let host = host
        .rsplit_once(':')
        .map_or(host, |(host, _)| host)
        .trim_matches(['[', ']']);
    if plan::is_loopback(host) {
        return Err(format!(
            "its kubeconfig has {server}, which is another machine to every other cluster: write `api-server \"https://…\"` in cluster \"{cluster}\""
        ));
    }
    let metadata = json!({
        "name": name(cluster),
        "namespace": namespace,
        "labels": { "istio/multiCluster": "true" },
        "annotations": { "networking.istio.io/cluster": cluster },
    });
    let mut object = Zeroizing::new(Vec::with_capacity(config.len() * 2 + 512));
    object.extend_from_slice(format!("{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{metadata},\"data\":{{\"{cluster}\":\"").as_bytes());
    let encoded = Zeroizing::new(STANDARD.encode(config.as_bytes()));
    object.extend_from_slice(encoded.as_bytes());
    object.extend_from_slice(b"\"}}");
    Ok(object)
}
