//! A picture of the mesh that needs no other program: SVG with light and dark colours. It knows shapes and
//! texts; where they stand is `place`'s, which way lines go is `route`'s.

use std::fmt::Write;

use super::{
    super::{
        Kind, Slugs, State,
        layout::Rect,
        page::{PADDING, Page, Sample, escaped, marker, px, shape, states},
    },
    Mesh, network_title,
    place::{Cell, Grid, Part, Text},
    role,
    route::{Line, Port, Wire, nets, route},
};

/// How much is cut off the corners of a remote's box.
const CORNER: f64 = 9.0;

/// Colours of lines, by the ends of their classes.
const TONES: [&str; 3] = ["", "1", "2"];

/// What the common style lacks.
const STYLE: &str = "\
.mp .w{stroke-linecap:square}
.mp .bus{stroke-width:2.4}
.mp .both{stroke-width:1.8}
.mp .in{stroke-width:1}
.mp .joint{fill:#7d8793}
.mp .jointk{fill:#b58a1f}
.mp .e1{stroke:#3c8d46}
.mp .head1,.mp .joint1{fill:#3c8d46}
.mp .e2{stroke:#3b7fc4}
.mp .head2,.mp .joint2{fill:#3b7fc4}
@media (prefers-color-scheme:dark){
.mp .joint{fill:#6e7681}
.mp .jointk{fill:#a8862f}
.mp .e1{stroke:#3fb950}
.mp .head1,.mp .joint1{fill:#3fb950}
.mp .e2{stroke:#4493f8}
.mp .head2,.mp .joint2{fill:#4493f8}
}
";

/// The picture.
pub(super) fn draw(mesh: &Mesh) -> String {
    let reads = mesh.folded_reads();
    let nets = nets(mesh, &reads);
    let mut grid = Grid::new(mesh, reads.hub.as_ref(), &nets);
    let wires = route(&nets, &mut grid);
    let samples = legend(mesh, &wires);
    let page = Page::new(&mesh.heading(), (grid.width, grid.height), samples);
    let networks = mesh.networks();
    let label = format!(
        "{}: clusters: {}, networks: {}",
        escaped(&mesh.heading()),
        mesh.clusters.len(),
        networks.len()
    );
    let mut out = page.start(&label, STYLE);
    out.push_str("<defs>\n");
    for tone in TONES.iter().filter(|t| !t.is_empty()) {
        let class = format!("head{tone}");
        marker(&mut out, &class, &class);
    }
    out.push_str("</defs>\n");
    for ((rect, title), (name, _)) in grid.networks.iter().zip(&networks) {
        let _ = write!(out, "<g><title>{}</title>", escaped(&network_title(*name)));
        plain(&mut out, "group", *rect, 10.0);
        text(&mut out, "name", rect.x + PADDING, rect.y + 20.0, title);
        out.push_str("</g>\n");
    }
    for (root, drawn) in mesh.roots.iter().zip(&grid.roots) {
        let rect = drawn.rect;
        let _ = write!(
            out,
            "<g><title>{}</title>",
            tip(&[&root.name, &root.role, &root.note])
        );
        shape(&mut out, Kind::Key, State::Unknown, rect);
        let x = rect.x + rect.width / 2.0;
        middle(&mut out, "name", x, rect.y + 19.0, &drawn.name);
        middle(&mut out, "small", x, rect.y + 34.0, &drawn.small);
        out.push_str("</g>\n");
    }
    if let Some(hub) = &grid.hub {
        let class = "n step";
        part(&mut out, class, hub, hub.rect.height / 2.0);
        out.push('\n');
    }
    let mut slugs = Slugs::default();
    for (c, drawn) in grid.cells.iter().enumerate() {
        let id = slugs.slug("c", &mesh.clusters[c].name);
        cluster(&mut out, mesh, c, drawn, &id);
    }
    // Lines that each start from a cluster of their own are easier to follow in turns of colour.
    let mut own: Vec<_> = wires.iter().filter_map(|w| w.of).collect();
    own.sort_unstable();
    own.dedup();
    for one in &wires {
        let turn = own.iter().position(|c| Some(*c) == one.of).unwrap_or(0);
        wire(&mut out, one, TONES[turn % TONES.len()]);
    }
    page.end(&mut out);
    out
}

fn cluster(out: &mut String, mesh: &Mesh, c: usize, cell: &Cell, id: &str) {
    let cluster = &mesh.clusters[c];
    let rect = cell.head.rect;
    let state = cluster.state.word().unwrap_or_default();
    let tip = tip(&[&cluster.name, &role(mesh, c), state, &cluster.note]);
    let _ = write!(out, "<g id=\"{id}\"><title>{tip}</title>");
    outline(out, mesh.primary(c).is_none(), cluster.state, rect);
    text(
        out,
        "name",
        rect.x + PADDING,
        rect.y + 19.0,
        &cell.head.name,
    );
    text(
        out,
        "small",
        rect.x + PADDING,
        rect.y + 35.0,
        &cell.head.small,
    );
    if let Some(gateway) = &cell.gateway {
        part(out, "n in file", gateway, gateway.rect.height / 2.0);
    }
    for (port, one) in &cell.parts {
        match port {
            Port::Istiod => part(out, "n in task", one, 6.0),
            Port::Workloads => part(out, "n in target", one, 6.0),
            Port::Api => part(out, "n in file", one, 2.0),
            Port::Top | Port::Bottom => {}
        }
    }
    out.push_str("</g>\n");
}

/// A primary's box is round, a remote's has its corners cut.
fn outline(out: &mut String, primary: bool, state: State, rect: Rect) {
    let state = state.word().map(|w| format!(" {w}")).unwrap_or_default();
    if primary {
        plain(out, &format!("n step{state}"), rect, 8.0);
        return;
    }
    let corner = CORNER.min(rect.height / 3.0);
    let (width, height) = (
        px(rect.width - 2.0 * corner),
        px(rect.height - 2.0 * corner),
    );
    let (x, y, c) = (px(rect.x + corner), px(rect.y), px(corner));
    let _ = write!(
        out,
        "<path class=\"n file{state}\" d=\"M{x} {y}h{width}l{c} {c}v{height}l-{c} {c}h-{width}l-{c} -{c}v-{height}z\"/>"
    );
}

fn plain(out: &mut String, class: &str, rect: Rect, radius: f64) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>",
        px(rect.x),
        px(rect.y),
        px(rect.width),
        px(rect.height),
        px(radius)
    );
}

fn part(out: &mut String, class: &str, part: &Part, radius: f64) {
    let rect = part.rect;
    plain(out, class, rect, radius);
    let (x, y) = (rect.x + rect.width / 2.0, rect.y + rect.height / 2.0 + 4.0);
    middle(out, "small", x, y, &part.text);
}

fn text(out: &mut String, class: &str, x: f64, y: f64, text: &Text) {
    let _ = write!(
        out,
        "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
        px(x),
        px(y),
        escaped(&text.text)
    );
}

fn middle(out: &mut String, class: &str, x: f64, y: f64, text: &Text) {
    let _ = write!(
        out,
        "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        px(x),
        px(y),
        escaped(&text.text)
    );
}

/// Lines of a tooltip, those that say something.
fn tip(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().copied().filter(|l| !l.is_empty()).collect();
    escaped(&lines.join("\n"))
}

fn class(line: Line) -> &'static str {
    match line {
        Line::Signs => "e w k",
        Line::Reads => "e w",
        Line::ReadEachOther => "e w both",
        Line::AllRead => "e w bus",
        Line::Serves => "e w o",
    }
}

/// Which arrow's head and which dot a line has.
fn key(line: Line) -> &'static str {
    if line == Line::Signs { "k" } else { "" }
}

fn wire(out: &mut String, wire: &Wire, tone: &str) {
    let key = match key(wire.line) {
        "" => tone,
        key => key,
    };
    let class = match tone {
        "" => class(wire.line).to_owned(),
        tone => format!("{} e{tone}", class(wire.line)),
    };
    let path = |pieces: &[[(f64, f64); 2]]| {
        let pieces = pieces
            .iter()
            .map(|[from, to]| format!("M{} {}L{} {}", px(from.0), px(from.1), px(to.0), px(to.1)));
        pieces.collect::<String>()
    };
    let _ = write!(
        out,
        "<path class=\"{class}\" d=\"{}\"/>",
        path(&wire.pieces)
    );
    for head in &wire.heads {
        let _ = write!(
            out,
            "<path class=\"{class}\" d=\"{}\" marker-end=\"url(#mp-head{key})\"/>",
            path(&[*head])
        );
    }
    for joint in &wire.joints {
        let _ = write!(
            out,
            "<circle class=\"joint{key}\" cx=\"{}\" cy=\"{}\" r=\"2.6\"/>",
            px(joint.0),
            px(joint.1)
        );
    }
    out.push('\n');
}

fn legend(mesh: &Mesh, wires: &[Wire]) -> Vec<Sample<'static>> {
    let clusters = 0..mesh.clusters.len();
    let has_primary = clusters.clone().any(|c| mesh.primary(c).is_none());
    let has_remote = clusters.clone().any(|c| mesh.primary(c).is_some());
    let kinds = [
        (has_primary, true, "primary cluster"),
        (has_remote, false, "remote cluster"),
    ];
    let kinds = kinds.into_iter().filter(|k| k.0).map(|(_, primary, text)| {
        Sample::new(text, move |out, rect| {
            outline(out, primary, State::Unknown, rect);
        })
    });
    let lines = [
        (Line::Signs, "signs the cluster's CA"),
        (
            Line::Reads,
            "istiod reads the API server, by a remote secret",
        ),
        (
            Line::ReadEachOther,
            "istiods read each other's API server, by remote secrets",
        ),
        (
            Line::AllRead,
            "istiods on this line read all API servers on it, by remote secrets",
        ),
        (Line::Serves, "istiod serves the workloads"),
    ];
    let lines = lines
        .into_iter()
        .filter(|l| wires.iter().any(|w| w.line == l.0));
    let lines = lines.map(|(line, text)| {
        Sample::new(text, move |out, rect| {
            let (x, y, width) = (px(rect.x), px(rect.y + rect.height / 2.0), rect.width);
            let (class, key) = (class(line), key(line));
            let _ = write!(
                out,
                "<path class=\"{class}\" d=\"M{x} {y}h{width}\" marker-end=\"url(#mp-head{key})\"/>"
            );
            if line == Line::ReadEachOther {
                let _ = write!(
                    out,
                    "<path class=\"{class}\" d=\"M{} {y}H{x}\" marker-end=\"url(#mp-head)\"/>",
                    px(rect.right())
                );
            }
        })
    });
    let states = states(|state| mesh.clusters.iter().any(|c| c.state == state));
    kinds.chain(lines).chain(states).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::draw::mesh::testing;

    #[test]
    fn any_name_is_escaped() {
        let text = draw(&testing::named("a<b>&\"c\"\n]]>\u{1b}[0m\u{ffff}"));
        let name = "a&lt;b&gt;&amp;&quot;c&quot; ]]&gt;[0m</text>";
        for before in ["", ">network ", ">remote of "] {
            assert!(text.contains(&format!("{before}{name}")), "{text}");
        }
        assert!(!text.contains(['\u{1b}', '\u{ffff}']));
    }

    #[test]
    fn roles_and_states_are_words_and_the_legend_names_only_what_is_there() {
        let mut mesh = testing::mesh(2, 0, 1);
        let plain = draw(&mesh);
        for there in [
            ">primary</text>",
            ">primary cluster<",
            "read each other's API server",
        ] {
            assert!(plain.contains(there), "{there} in {plain}");
        }
        for away in ["remote cluster", "serves", "east-west", "every ", "stale"] {
            assert!(!plain.contains(&format!(">{away}")), "{away} in {plain}");
        }
        mesh = testing::mesh(3, 9, 4);
        mesh.clusters[5].state = State::Stale;
        let text = draw(&mesh);
        for there in [
            ">every primary reads every cluster</text>",
            ">remote of cluster3: stale</text>",
            ">stale: will be made</text>",
            ">istiod serves the workloads</text>",
        ] {
            assert!(text.contains(there), "{there} in {text}");
        }
        assert_eq!(text.matches(">east-west gateway</text>").count(), 12);
    }

    /// Whether tags close in their order, quotes and references are whole, and ids are each there once.
    fn is_well_formed(text: &str) -> bool {
        let mut open = Vec::new();
        let mut ids = std::collections::HashSet::new();
        let references = ["amp;", "lt;", "gt;", "quot;"];
        let is_text = |text: &str| {
            !text.contains('<')
                && text
                    .split('&')
                    .skip(1)
                    .all(|rest| references.iter().any(|r| rest.starts_with(r)))
        };
        let Some(rest) = text.strip_prefix('<') else {
            return false;
        };
        for piece in rest.split('<') {
            let Some((tag, text)) = piece.split_once('>') else {
                return false;
            };
            if let Some(name) = tag.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else {
                let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
                let name = tag.split(' ').next().unwrap_or_default();
                let values: Vec<_> = tag.split('"').collect();
                if values.len() % 2 == 0 || !values.iter().all(|v| is_text(v)) {
                    return false;
                }
                let id = values.windows(2).find(|pair| pair[0].ends_with(" id="));
                if id.is_some_and(|pair| !ids.insert(pair[1])) {
                    return false;
                }
                if !closed {
                    open.push(name);
                }
            }
            if !is_text(text) {
                return false;
            }
        }
        open.is_empty()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

        #[test]
        fn any_mesh_is_well_formed_xml(mesh in testing::arbitrary()) {
            let text = draw(&mesh);
            prop_assert!(is_well_formed(&text), "{text}");
            prop_assert!(!is_well_formed(&text.replacen("</g>", "", 1)));
        }
    }
}
