//! The graph as JSON, for programs: nodes and edges, named by id.

use serde::Serialize;

use super::{Drawing, Kind, State};

/// Name and version of the form; a field may be added within a version, never changed.
const SCHEMA: &str = "meshplan.graph/1";

#[derive(Serialize)]
struct Graph<'a> {
    schema: &'static str,
    title: &'a str,
    nodes: Vec<Node<'a>>,
    edges: Vec<Edge<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    id: &'a str,
    label: &'a str,
    kind: Kind,
    /// The cluster it belongs to, or null.
    group: Option<&'a str>,
    state: State,
    note: &'a str,
}

/// `to` needs `from`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    order_only: bool,
}

/// The graph as one JSON object.
pub(super) fn draw(drawing: &Drawing) -> String {
    let nodes = drawing.nodes.iter().map(|n| Node {
        id: &n.id,
        label: &n.label,
        kind: n.kind,
        group: n.group.as_deref(),
        state: n.state,
        note: &n.note,
    });
    let id = |i: usize| drawing.nodes[i].id.as_str();
    let edges = drawing.sound_edges().into_iter().map(|e| Edge {
        from: id(e.from),
        to: id(e.to),
        order_only: e.order_only,
    });
    let graph = Graph {
        schema: SCHEMA,
        title: &drawing.title,
        nodes: nodes.collect(),
        edges: edges.collect(),
    };
    // Strings and lists always have a JSON form.
    serde_json::to_string_pretty(&graph)
        .map(|text| text + "\n")
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::graph::draw::testing;

    #[test]
    fn nodes_and_edges_are_named() {
        let graph: serde_json::Value = serde_json::from_str(&draw(&testing::mesh(1))).unwrap();
        assert_eq!(graph["schema"], SCHEMA);
        let node = serde_json::json!({
            "id": "root-key.pem", "label": "root-key.pem", "kind": "key", "group": null, "state": "unknown",
            "note": "private key of the root CA",
        });
        assert_eq!(graph["nodes"][0], node);
        let edge = serde_json::json!({ "from": "root-key.pem", "to": "root-cert.pem", "order-only": false });
        assert_eq!(graph["edges"][0], edge);
    }
}
