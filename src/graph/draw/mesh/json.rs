//! The mesh as JSON, for programs: clusters by name, every read by itself. Nothing is folded.

use serde::Serialize;

use super::{Mesh, State};

/// Name and version of the form; a field may be added within a version, never changed.
const SCHEMA: &str = "meshplan.mesh/1";

#[derive(Serialize)]
struct Whole<'a> {
    schema: &'static str,
    title: &'a str,
    mesh: &'a str,
    roots: Vec<Root<'a>>,
    networks: Vec<Network<'a>>,
    clusters: Vec<Cluster<'a>>,
    reads: Vec<Read<'a>>,
}

#[derive(Serialize)]
struct Root<'a> {
    name: &'a str,
    role: &'a str,
    note: &'a str,
}

#[derive(Serialize)]
struct Network<'a> {
    /// Null for clusters whose network has no name.
    name: Option<&'a str>,
    clusters: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster<'a> {
    name: &'a str,
    network: Option<&'a str>,
    role: &'static str,
    /// The primary of a remote, or null.
    remote_of: Option<&'a str>,
    east_west_gateway: bool,
    /// Name of the root that signs its CA, or null.
    signed_by: Option<&'a str>,
    state: State,
    note: &'a str,
}

/// `reader`'s istiod reads the API server of `read`.
#[derive(Serialize)]
struct Read<'a> {
    reader: &'a str,
    read: &'a str,
}

/// The mesh as one JSON object.
pub(super) fn draw(mesh: &Mesh) -> String {
    let name = |c: usize| mesh.clusters[c].name.as_str();
    let roots = mesh.roots.iter().map(|r| Root {
        name: &r.name,
        role: &r.role,
        note: &r.note,
    });
    let networks = mesh.networks().into_iter().map(|(network, of)| Network {
        name: network,
        clusters: of.into_iter().map(name).collect(),
    });
    let clusters = mesh.clusters.iter().enumerate().map(|(i, c)| Cluster {
        name: &c.name,
        network: c.network.as_deref(),
        role: mesh.primary(i).map_or("primary", |_| "remote"),
        remote_of: mesh.primary(i).map(name),
        east_west_gateway: c.gateway,
        signed_by: c
            .root
            .and_then(|r| mesh.roots.get(r))
            .map(|r| r.name.as_str()),
        state: c.state,
        note: &c.note,
    });
    let reads = mesh.sound_reads().into_iter().map(|(a, b)| Read {
        reader: name(a),
        read: name(b),
    });
    let whole = Whole {
        schema: SCHEMA,
        title: &mesh.title,
        mesh: &mesh.id,
        roots: roots.collect(),
        networks: networks.collect(),
        clusters: clusters.collect(),
        reads: reads.collect(),
    };
    // Strings and lists always have a JSON form.
    serde_json::to_string_pretty(&whole)
        .map(|text| text + "\n")
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::graph::draw::mesh::testing;

    #[test]
    fn clusters_are_named_and_no_read_is_folded() {
        let mesh: serde_json::Value = serde_json::from_str(&draw(&testing::mesh(2, 1, 2))).unwrap();
        assert_eq!(
            (&mesh["schema"], &mesh["mesh"]),
            (&SCHEMA.into(), &"mesh1".into())
        );
        let remote = serde_json::json!({
            "name": "cluster3", "network": "network1", "role": "remote", "remote-of": "cluster1",
            "east-west-gateway": true, "signed-by": "Root CA", "state": "unknown", "note": "",
        });
        assert_eq!(mesh["clusters"][2], remote);
        let network =
            serde_json::json!({ "name": "network1", "clusters": ["cluster1", "cluster3"] });
        assert_eq!(mesh["networks"][0], network);
        let reads = mesh["reads"].as_array().unwrap();
        assert_eq!(reads.len(), 4);
        assert_eq!(
            reads[1],
            serde_json::json!({ "reader": "cluster1", "read": "cluster3" })
        );
    }
}
