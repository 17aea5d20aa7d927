//! Mermaid, as GitHub and GitLab draw it in Markdown: a flowchart with a subgraph for each network.

use std::fmt::Write;

use super::{
    super::{
        Slugs,
        mermaid::{escaped, yaml},
    },
    GATEWAY, Mesh, network_title, parts, role,
};

/// Colours for mermaid's light and dark themes alike.
const CLASSES: &str = "    classDef root fill:#fff3d6,stroke:#9a6700,color:#1f2328
    classDef primary fill:#ddf4ff,stroke:#0969da,color:#1f2328
    classDef stale stroke:#bf8700,stroke-width:3px
    classDef refused stroke:#cf222e,stroke-width:4px
    classDef undone stroke-dasharray:2 3
";

/// The mesh as a mermaid flowchart.
pub(super) fn draw(mesh: &Mesh) -> String {
    let mut slugs = Slugs::default();
    let ids: Vec<_> = mesh
        .clusters
        .iter()
        .map(|c| slugs.slug("c", &c.name))
        .collect();
    let mut out = format!("---\ntitle: {}\n---\nflowchart TB\n", yaml(&mesh.heading()));
    for (i, root) in mesh.roots.iter().enumerate() {
        let _ = writeln!(
            out,
            "    root_{i}{{{{\"{}<br/>{}\"}}}}",
            escaped(&root.name),
            escaped(&root.role)
        );
    }
    for (i, (name, clusters)) in mesh.networks().into_iter().enumerate() {
        let _ = writeln!(
            out,
            "    subgraph net_{i}[\"{}\"]",
            escaped(&network_title(name))
        );
        for c in clusters {
            let _ = writeln!(out, "        {}", shape(mesh, c, &ids[c]));
        }
        out.push_str("    end\n");
    }
    for (root, c) in mesh.signs() {
        let _ = writeln!(out, "    root_{root} --> {}", ids[c]);
    }
    let reads = mesh.folded_reads();
    if let Some(hub) = &reads.hub {
        let _ = writeln!(out, "    hub[/\"{}\"/]", hub.caption);
        // Every reader is read too: one line says both.
        for &c in &hub.read {
            let _ = if hub.readers.contains(&c) {
                writeln!(out, "    {} <==> hub", ids[c])
            } else {
                writeln!(out, "    hub --> {}", ids[c])
            };
        }
    }
    for (a, b) in reads.mutual {
        let _ = writeln!(out, "    {} <-->|read each other| {}", ids[a], ids[b]);
    }
    for (a, b) in reads.single {
        let _ = writeln!(out, "    {} -->|reads| {}", ids[a], ids[b]);
    }
    for (a, b) in mesh.serves() {
        let _ = writeln!(out, "    {} -.->|serves| {}", ids[a], ids[b]);
    }
    out.push_str(CLASSES);
    for i in 0..mesh.roots.len() {
        let _ = writeln!(out, "    class root_{i} root");
    }
    for (c, id) in ids.iter().enumerate() {
        let primary = mesh.primary(c).is_none().then_some("primary");
        for class in primary.into_iter().chain(mesh.clusters[c].state.call()) {
            let _ = writeln!(out, "    class {id} {class}");
        }
    }
    out
}

/// A primary is a box, a remote a stadium.
fn shape(mesh: &Mesh, c: usize, id: &str) -> String {
    let cluster = &mesh.clusters[c];
    let (open, close) = mesh.primary(c).map_or(("[", "]"), |_| ("([", "])"));
    let mut lines = vec![
        escaped(&cluster.name),
        escaped(&role(mesh, c)),
        parts(mesh, c).join(", "),
    ];
    lines.extend(cluster.gateway.then(|| GATEWAY.to_owned()));
    lines.extend(cluster.state.call().map(str::to_owned));
    format!("{id}{open}\"{}\"{close}", lines.join("<br/>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::mesh::testing;

    #[test]
    fn any_name_is_escaped() {
        let text = draw(&testing::named("end: \"x\" #1 `y` <b>&amp; ]"));
        let name = "end#58; #34;x#34; #35;1 #96;y#96; #60;b#62;#38;amp#59; #93;";
        assert!(
            text.contains(&format!("[\"{name}<br/>primary<br/>istiod, API server")),
            "{text}"
        );
        assert!(
            text.contains(&format!("subgraph net_0[\"network {name}\"]\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("root_0{{{{\"{name}<br/>{name}\"}}}}\n")),
            "{text}"
        );
    }

    #[test]
    fn every_line_is_of_a_known_form() {
        let text = draw(&testing::mesh(2, 1, 2));
        for line in [
            "    subgraph net_1[\"network network2\"]\n        c_cluster2[\"cluster2<br/>primary<br/>istiod, API server<br/>east-west gateway\"]\n    end\n",
            "        c_cluster3([\"cluster3<br/>remote of cluster1<br/>API server, workloads<br/>east-west gateway\"])\n",
            "    root_0 --> c_cluster3\n    hub[/\"every primary reads every cluster\"/]\n    c_cluster1 <==> hub\n",
            "    hub --> c_cluster3\n    c_cluster1 -.->|serves| c_cluster3\n",
            "    class c_cluster2 primary\n",
        ] {
            assert!(text.contains(line), "{line}\nmissing in\n{text}");
        }
        let two = draw(&testing::mesh(2, 0, 1));
        assert!(
            two.contains("    c_cluster1 <-->|read each other| c_cluster2\n"),
            "{two}"
        );
    }
}
