//! Graphviz: the mesh as a `digraph` with a cluster for each network.

use std::fmt::Write;

use super::{
    super::dot::{label, quoted, stroke},
    GATEWAY, Mesh, network_title, parts, role,
};

/// The mesh in the DOT language. Ids have a prefix each, so that no cluster is taken for a root.
pub(super) fn draw(mesh: &Mesh) -> String {
    let heading = mesh.heading();
    let mut out = format!("digraph {} {{\n", quoted(&heading));
    out.push_str("    graph [fontname=\"Helvetica\", fontsize=12, nodesep=0.4, ranksep=0.7];\n");
    out.push_str("    node [fontname=\"Helvetica\", fontsize=11, margin=\"0.15,0.08\", style=filled, fillcolor=\"#f6f8fa\"];\n");
    out.push_str(
        "    edge [fontname=\"Helvetica\", fontsize=9, color=\"#6e7781\", arrowsize=0.6];\n",
    );
    let _ = writeln!(out, "    label={}; labelloc=t;", label(&heading));
    let id = |c: usize| quoted(&format!("c:{}", mesh.clusters[c].name));
    // Two roots of one name are still two.
    let root_id = |r: usize| quoted(&format!("root:{r}"));
    for (i, root) in mesh.roots.iter().enumerate() {
        let _ = writeln!(
            out,
            "    {} [label={}, shape=hexagon, fillcolor=\"#fff3d6\", tooltip={}];",
            root_id(i),
            label(&format!("{}\n{}", root.name, root.role)),
            label(&root.note)
        );
    }
    for (i, (name, clusters)) in mesh.networks().into_iter().enumerate() {
        let _ = writeln!(
            out,
            "    subgraph \"cluster_{i}\" {{\n        label={}; style=rounded; color=\"#8c959f\";",
            label(&network_title(name))
        );
        for c in clusters {
            let _ = writeln!(out, "        {} {};", id(c), attributes(mesh, c));
        }
        out.push_str("    }\n");
    }
    for (root, c) in mesh.signs() {
        let _ = writeln!(
            out,
            "    {} -> {} [color=\"#b07d00\", tooltip=\"signs its CA\"];",
            root_id(root),
            id(c)
        );
    }
    let reads = mesh.folded_reads();
    if let Some(hub) = &reads.hub {
        let _ = writeln!(
            out,
            "    \"hub\" [label=\"{}\", shape=box, style=\"rounded,filled\"];",
            hub.caption
        );
        // Every reader is read too: one edge says both.
        for &c in &hub.read {
            let _ = if hub.readers.contains(&c) {
                writeln!(out, "    {} -> \"hub\" [dir=both, penwidth=2];", id(c))
            } else {
                writeln!(out, "    \"hub\" -> {};", id(c))
            };
        }
    }
    for (a, b) in reads.mutual {
        let _ = writeln!(
            out,
            "    {} -> {} [dir=both, constraint=false, label=\"read each other\"];",
            id(a),
            id(b)
        );
    }
    for (a, b) in reads.single {
        let _ = writeln!(out, "    {} -> {} [label=\"reads\"];", id(a), id(b));
    }
    for (a, b) in mesh.serves() {
        let _ = writeln!(
            out,
            "    {} -> {} [style=dashed, label=\"serves\"];",
            id(a),
            id(b)
        );
    }
    out.push_str("}\n");
    out
}

fn attributes(mesh: &Mesh, c: usize) -> String {
    let cluster = &mesh.clusters[c];
    let shape = match mesh.primary(c) {
        None => "shape=box, style=\"rounded,filled\", fillcolor=\"#ddf4ff\"",
        Some(_) => "shape=box, style=\"diagonals,filled\"",
    };
    let mut lines = vec![
        cluster.name.clone(),
        role(mesh, c),
        parts(mesh, c).join(", "),
    ];
    lines.extend(cluster.gateway.then(|| GATEWAY.to_owned()));
    lines.extend(cluster.state.call().map(str::to_owned));
    format!(
        "[label={}, {shape}{}, tooltip={}]",
        label(&lines.join("\n")),
        stroke(cluster.state),
        label(if cluster.note.is_empty() {
            &cluster.name
        } else {
            &cluster.note
        })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::mesh::testing;

    #[test]
    fn any_name_is_escaped() {
        let text = draw(&testing::named("a\"b\\c\nd&lt;<e>\u{7}{|}"));
        let label = r#"a\"b\\c\nd&amp;lt;<e>{|}"#;
        assert!(
            text.contains(&format!(r#"[label="{label}\nprimary\nistiod, API server"#)),
            "{text}"
        );
        assert!(
            text.contains(&format!(r#"label="network {label}"; "#)),
            "{text}"
        );
        assert!(text.contains(r#""c:a\"b\\c"#), "{text}");
    }

    #[test]
    fn lines_are_told_apart_and_folded() {
        let text = draw(&testing::mesh(1, 1, 1));
        assert!(
            text.contains("\"c:cluster1\" -> \"c:cluster2\" [label=\"reads\"];"),
            "{text}"
        );
        assert!(
            text.contains("\"c:cluster1\" -> \"c:cluster2\" [style=dashed, label=\"serves\"];"),
            "{text}"
        );
        assert!(
            text.contains("cluster2\\nremote of cluster1\\nAPI server, workloads\", shape=box, style=\"diagonals,filled\""),
            "{text}"
        );
        let lines = |text: &str| text.matches(" -> ").count();
        // Who is signed, and who reads and is read: no 132 arrows.
        assert_eq!(lines(&draw(&testing::mesh(12, 0, 4))), 12 + 12);
    }
}
