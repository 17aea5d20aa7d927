//! Mermaid, as GitHub and GitLab draw it in Markdown: a flowchart with a subgraph for each group.

use std::fmt::Write;

use super::{Drawing, Kind, Node, Slugs, printable};

/// Colours of kinds and states, for mermaid's light and dark themes alike.
const CLASSES: &str = "    classDef key fill:#fff3d6,stroke:#9a6700,color:#1f2328
    classDef task fill:#e6f6e6,stroke:#1a7f37,color:#1f2328
    classDef target stroke-dasharray:4 3
    classDef stale stroke:#bf8700,stroke-width:3px
    classDef refused stroke:#cf222e,stroke-width:4px
    classDef undone stroke-dasharray:2 3
";

/// The graph as a mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>).
pub(super) fn draw(drawing: &Drawing) -> String {
    let mut slugs = Slugs::default();
    let ids: Vec<_> = drawing
        .nodes
        .iter()
        .map(|n| slugs.slug("n", &n.id))
        .collect();
    let mut out = format!("---\ntitle: {}\n---\nflowchart LR\n", yaml(&drawing.title));
    for (node, id) in drawing
        .nodes
        .iter()
        .zip(&ids)
        .filter(|(n, _)| n.group.is_none())
    {
        let _ = writeln!(out, "    {}", shape(node, id));
    }
    for (name, nodes) in drawing.groups() {
        let _ = writeln!(
            out,
            "    subgraph {}[\"{}\"]",
            slugs.slug("g", name),
            escaped(name)
        );
        for i in nodes {
            let _ = writeln!(out, "        {}", shape(&drawing.nodes[i], &ids[i]));
        }
        out.push_str("    end\n");
    }
    for edge in drawing.sound_edges() {
        let arrow = if edge.order_only { "-.->" } else { "-->" };
        let _ = writeln!(out, "    {} {arrow} {}", ids[edge.from], ids[edge.to]);
    }
    out.push_str(CLASSES);
    for (node, id) in drawing.nodes.iter().zip(&ids) {
        let kind =
            matches!(node.kind, Kind::Key | Kind::Task | Kind::Target).then(|| node.kind.word());
        for class in kind.into_iter().chain(node.state.call()) {
            let _ = writeln!(out, "    class {id} {class}");
        }
    }
    out
}

fn shape(node: &Node, id: &str) -> String {
    let (open, close) = match node.kind {
        Kind::File => ("(", ")"),
        Kind::Key => ("{{", "}}"),
        Kind::Step => ("([", "])"),
        Kind::Task => ("[[", "]]"),
        Kind::Target => (">", "]"),
    };
    let word = node
        .state
        .call()
        .map(|word| format!("<br/>{word}"))
        .unwrap_or_default();
    format!("{id}{open}\"{}{word}\"{close}", escaped(&node.label))
}

/// A text within quotes. Everything that mermaid, its Markdown or HTML could read is written as a
/// character's number; a colon too, since a `:` followed by `#…;` is taken for a style.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).trim().chars() {
        match c {
            '\n' => out.push_str("<br/>"),
            '.' | '-' | '_' | '/' | ' ' | ',' | '+' | '=' => out.push(c),
            c if c.is_ascii_punctuation() => _ = write!(out, "#{};", c as u32),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    // An empty label is a syntax error.
    if out.is_empty() {
        "#160;".to_owned()
    } else {
        out
    }
}

/// A YAML string; JSON's form is one.
pub(super) fn yaml(text: &str) -> String {
    serde_json::Value::String(printable(text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::testing;

    #[test]
    fn any_label_is_escaped() {
        let text = draw(&testing::labelled(
            "end: \"x\" #1 `y` <b>&amp;\nstyle: #f00; ]",
        ));
        let label =
            "end#58; #34;x#34; #35;1 #96;y#96; #60;b#62;#38;amp#59;<br/>style#58; #35;f00#59; #93;";
        assert!(text.contains(&format!("(\"{label}\")\n")), "{text}");
        assert!(draw(&testing::labelled("")).contains("n_(\"#160;\")"));
    }

    #[test]
    fn every_line_is_of_a_known_form() {
        let text = draw(&testing::mesh(2));
        assert!(text.starts_with("---\ntitle: \"plans/demo.kdl\"\n---\nflowchart LR\n    n_root_key_pem{{\"root-key.pem\"}}\n"), "{text}");
        assert!(text.contains("    subgraph g_cluster1[\"cluster1\"]\n        n_cluster1_ca_key_pem{{\"ca-key.pem\"}}\n"), "{text}");
        assert!(
            text.contains("    n_cluster1_secret -.-> n_cluster1_install\n"),
            "{text}"
        );
    }
}
