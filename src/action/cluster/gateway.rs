//! What an east-west gateway exposes, as objects (facts §4.2, §4.3, §4.6). It knows nothing of how they get
//! into a cluster.

use serde_json::{Value, json};

use super::Target;
use crate::{action::manifest::EAST_WEST, plan::model::IstioVersion};

/// Kinds of these objects.
pub(super) const KINDS: [&str; 2] = ["Gateway", "VirtualService"];

/// The objects that a cluster's gateway needs, with `apiVersion`, `kind`, `metadata` and `spec`. A remote has
/// no configuration of its own: its primary's covers both.
pub(super) fn exposed(target: &Target<'_>) -> Vec<Value> {
    let ns = target.namespace;
    // v1 came with 1.22; before, v1beta1 since 1.5 at the latest.
    let api = match target.istio
        >= (IstioVersion {
            major: 1,
            minor: 22,
        }) {
        true => "networking.istio.io/v1",
        false => "networking.istio.io/v1beta1",
    };
    let object = |api: &str, kind: &str, name: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name, "namespace": ns }, "spec": spec });
    if target.ambient {
        let mut gateway = object(
            "gateway.networking.k8s.io/v1",
            "Gateway",
            EAST_WEST,
            json!({
                "gatewayClassName": "istio-east-west",
                "listeners": [{
                    "name": "mesh",
                    "port": 15008,
                    "protocol": "HBONE",
                    "tls": { "mode": "Terminate", "options": { "gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL" } },
                }],
            }),
        );
        if let Some(network) = target.network {
            gateway["metadata"]["labels"] = json!({ "topology.istio.io/network": network });
        }
        return vec![gateway];
    }
    if target.primary.is_some() {
        return Vec::new();
    }
    let passthrough = |name: &str, number: u16, mode: &str, host: &str| {
        json!({
            "port": { "name": name, "number": number, "protocol": "TLS" },
            "tls": { "mode": mode },
            "hosts": [host],
        })
    };
    let selector = json!({ "istio": "eastwestgateway" });
    let mut objects = Vec::new();
    if target.several_networks {
        let servers = [passthrough("tls", 15443, "AUTO_PASSTHROUGH", "*.local")];
        let spec = json!({ "selector": selector, "servers": servers });
        objects.push(object(api, "Gateway", "cross-network-gateway", spec));
    }
    if target.has_remotes {
        let servers = [
            ("tls-istiod", 15012),
            ("tls-istiodwebhook", 15017),
            // As the gateway's Service has it for addresses that are hostnames.
            ("tls-istiodwebhook-host", 443),
        ]
        .map(|(name, port)| passthrough(name, port, "PASSTHROUGH", "*"));
        let spec = json!({ "selector": selector, "servers": servers });
        objects.push(object(api, "Gateway", "istiod-gateway", spec));
        let host = format!("istiod.{ns}.svc.cluster.local");
        let route = |from: u16, to: u16| {
            json!({
                "match": [{ "port": from, "sniHosts": ["*"] }],
                "route": [{ "destination": { "host": host, "port": { "number": to } } }],
            })
        };
        let spec = json!({ "hosts": ["*"], "gateways": ["istiod-gateway"], "tls": [route(15012, 15012), route(15017, 443), route(443, 443)] });
        objects.push(object(api, "VirtualService", "istiod-vs", spec));
    }
    objects
}

/// True where `live` holds all that `wanted` says; what a server fills in beside it is no difference.
pub(super) fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| live.get(key).is_some_and(|l| holds(l, value))),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| holds(l, w))
        }
        _ => live == wanted,
    }
}
