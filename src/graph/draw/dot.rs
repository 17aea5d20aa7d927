//! Graphviz: the whole graph as a `digraph` with a cluster for each group.

use std::fmt::Write;

use super::{Drawing, Kind, Node, State, printable};

/// The graph in the DOT language (<https://graphviz.org/doc/info/lang.html>).
pub(super) fn draw(drawing: &Drawing) -> String {
    let mut out = format!("digraph {} {{\n", quoted(&drawing.title));
    out.push_str(
        "    graph [rankdir=LR, fontname=\"Helvetica\", fontsize=12, nodesep=0.2, ranksep=0.5];\n",
    );
    out.push_str("    node [fontname=\"Helvetica\", fontsize=11, height=0.3, margin=\"0.12,0.05\", style=\"rounded,filled\", fillcolor=\"#f6f8fa\"];\n");
    out.push_str("    edge [color=\"#6e7781\", arrowsize=0.6];\n");
    let _ = writeln!(out, "    label={}; labelloc=t;", label(&drawing.title));
    for node in drawing.nodes.iter().filter(|n| n.group.is_none()) {
        let _ = writeln!(out, "    {}", node_line(node));
    }
    for (name, nodes) in drawing.groups() {
        let _ = writeln!(
            out,
            "    subgraph {} {{",
            quoted(&format!("cluster_{name}"))
        );
        let _ = writeln!(
            out,
            "        label={}; style=rounded; color=\"#8c959f\";",
            label(name)
        );
        for i in nodes {
            let _ = writeln!(out, "        {}", node_line(&drawing.nodes[i]));
        }
        out.push_str("    }\n");
    }
    for edge in drawing.sound_edges() {
        let (from, to) = (
            quoted(&drawing.nodes[edge.from].id),
            quoted(&drawing.nodes[edge.to].id),
        );
        let style = if edge.order_only {
            " [style=dashed]"
        } else {
            ""
        };
        let _ = writeln!(out, "    {from} -> {to}{style};");
    }
    out.push_str("}\n");
    out
}

fn node_line(node: &Node) -> String {
    let shape = match node.kind {
        Kind::File => "shape=box",
        Kind::Key => "shape=hexagon, fillcolor=\"#fff3d6\"",
        Kind::Step => "shape=cds, style=filled, fillcolor=\"#ddf4ff\"",
        Kind::Task => "shape=box, peripheries=2, fillcolor=\"#e6f6e6\"",
        Kind::Target => "shape=ellipse, style=\"dashed\"",
    };
    let state = stroke(node.state);
    let word = node.state.call();
    let text = word.map_or(node.label.clone(), |word| format!("{}\n{word}", node.label));
    let note = if node.note.is_empty() {
        &node.id
    } else {
        &node.note
    };
    format!(
        "{} [label={}, {shape}{state}, tooltip={}];",
        quoted(&node.id),
        label(&text),
        label(note)
    )
}

/// The outline of a state, after other attributes.
pub(super) fn stroke(state: State) -> &'static str {
    match state {
        State::Unknown => "",
        State::Current => ", color=\"#1a7f37\"",
        State::Stale => ", color=\"#bf8700\", penwidth=2",
        State::Refused => ", color=\"#cf222e\", penwidth=3",
        State::Undone => ", color=\"#8c959f\", fontcolor=\"#6e7781\"",
    }
}

/// An identifier. In one, only the quote has an escape, but a backslash before the closing quote would
/// be read as one: doubled, backslashes stay apart (graphviz keeps both).
pub(super) fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        printable(text).replace('\\', "\\\\").replace('"', "\\\"")
    )
}

/// A text to be shown: graphviz reads escapes and HTML's entities in it.
pub(super) fn label(text: &str) -> String {
    let text = printable(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('&', "&amp;")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::testing;

    #[test]
    fn any_label_is_escaped() {
        let drawing = testing::labelled("a\"b\\c\nd&lt;<e>\u{7}{|}");
        let text = draw(&drawing);
        assert!(
            text.contains(r#"[label="a\"b\\c\nd&amp;lt;<e>{|}", shape=box"#),
            "{text}"
        );
        assert!(text.contains(r#"subgraph "cluster_a\"b\\c"#), "{text}");
    }

    #[test]
    fn groups_and_order_only_edges_are_told_apart() {
        let text = draw(&testing::mesh(2));
        assert!(
            text.contains("subgraph \"cluster_cluster2\" {\n        label=\"cluster2\""),
            "{text}"
        );
        assert!(
            text.contains("\"cluster1-secret\" -> \"cluster1-install\" [style=dashed];"),
            "{text}"
        );
        assert!(
            text.contains("\"root-key.pem\" -> \"cluster1/ca-cert.pem\";"),
            "{text}"
        );
    }
}
