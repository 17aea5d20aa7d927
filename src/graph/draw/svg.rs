//! A picture of the graph that needs no other program: SVG with light and dark colours. It knows shapes
//! and texts; where they stand is `layout`'s.

use std::fmt::Write;

use super::{
    Drawing, Kind, Node, Slugs, State,
    layout::{Layout, Piece, Rect, Route, layout},
    page::{
        GROUP, LABEL, PADDING, Page, SIDE, SMALL, Sample, TEXT, bold_width, cut, escaped, px,
        shape, states, text_width,
    },
};

/// Height of a box with one line, and with the state below it.
const HEIGHT: f64 = 30.0;
const TALL: f64 = 44.0;

/// The picture.
pub(super) fn draw(drawing: &Drawing) -> String {
    let texts: Vec<_> = drawing.nodes.iter().map(Text::new).collect();
    let sizes: Vec<_> = texts.iter().map(|t| (t.width, t.height)).collect();
    let names: Vec<_> = drawing
        .groups()
        .iter()
        .map(|(name, _)| cut(name, LABEL, GROUP))
        .collect();
    let titles: Vec<_> = names
        .iter()
        .map(|n| bold_width(n, GROUP) + 2.0 * PADDING)
        .collect();
    let layout = layout(drawing, &sizes, &titles);
    let page = Page::new(
        &drawing.title,
        (layout.width, layout.height),
        legend(drawing, &layout),
    );
    let label = escaped(&drawing.title);
    let nodes = drawing.nodes.len();
    let mut out = page.start(
        &format!("{label}: {nodes} nodes, drawn left to right by what needs what"),
        "",
    );
    for frame in &layout.frames {
        let Rect {
            x,
            y,
            width,
            height,
        } = *frame;
        let _ = writeln!(
            out,
            "<rect class=\"group\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"10\"/>",
            px(x),
            px(y),
            px(width),
            px(height)
        );
    }
    // Lines that are read lie above those that only order, so that a shared way shows as drawn through.
    let mut routes: Vec<_> = layout.routes.iter().collect();
    routes.sort_by_key(|r| !r.edge.order_only);
    routes
        .into_iter()
        .for_each(|route| edge(&mut out, drawing, route));
    for (frame, name) in layout.frames.iter().zip(&names) {
        let _ = writeln!(
            out,
            "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
            px(frame.x + PADDING),
            px(frame.y + 20.0),
            escaped(name)
        );
    }
    let mut slugs = Slugs::default();
    for ((one, text), rect) in drawing.nodes.iter().zip(&texts).zip(&layout.boxes) {
        node(&mut out, one, text, *rect, &slugs.slug("n", &one.id));
    }
    page.end(&mut out);
    out
}

/// What stands in a box, and the room it needs.
struct Text {
    label: String,
    /// A state that asks for something.
    word: Option<&'static str>,
    width: f64,
    height: f64,
}

impl Text {
    fn new(node: &Node) -> Self {
        let label = cut(&node.label, LABEL, TEXT);
        let word = node.state.call();
        let text = text_width(&label, TEXT).max(word.map_or(0.0, |w| text_width(w, SMALL)));
        let width = (text + 2.0 * padding(node.kind)).ceil().max(48.0);
        Self {
            label,
            word,
            width,
            height: if word.is_some() { TALL } else { HEIGHT },
        }
    }
}

fn padding(kind: Kind) -> f64 {
    match kind {
        Kind::File => PADDING,
        Kind::Key | Kind::Task => PADDING + SIDE - 3.0,
        Kind::Step | Kind::Target => PADDING + 2.0,
    }
}

fn node(out: &mut String, node: &Node, text: &Text, rect: Rect, id: &str) {
    let mut tip = node.id.clone();
    for more in [&node.note, node.state.word().unwrap_or_default()] {
        if !more.is_empty() {
            tip.push('\n');
            tip.push_str(more);
        }
    }
    let _ = write!(out, "<g id=\"{id}\"><title>{}</title>", escaped(&tip));
    shape(out, node.kind, node.state, rect);
    let (x, middle) = (px(rect.x + rect.width / 2.0), rect.y + rect.height / 2.0);
    let y = if text.word.is_some() {
        middle - 3.0
    } else {
        middle + 4.5
    };
    let _ = write!(
        out,
        "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        px(y),
        escaped(&text.label)
    );
    if let Some(word) = text.word {
        let _ = write!(
            out,
            "<text class=\"small\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{word}</text>",
            px(middle + 13.0)
        );
    }
    out.push_str("</g>\n");
}

fn edge(out: &mut String, drawing: &Drawing, route: &Route) {
    let key = drawing.nodes[route.edge.from].kind == Kind::Key;
    let class = format!(
        "e{}{}",
        if key { " k" } else { "" },
        if route.edge.order_only { " o" } else { "" }
    );
    let mut path = format!("M{} {}", px(route.start.0), px(route.start.1));
    for piece in &route.pieces {
        let _ = match *piece {
            Piece::Line((x, y)) => write!(path, "L{} {}", px(x), px(y)),
            Piece::Curve(a, b, c) => write!(
                path,
                "C{} {} {} {} {} {}",
                px(a.0),
                px(a.1),
                px(b.0),
                px(b.1),
                px(c.0),
                px(c.1)
            ),
        };
    }
    let head = if key { "mp-headk" } else { "mp-head" };
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#{head})\"/>"
    );
}

/// What the shapes and lines of this picture mean.
fn legend(drawing: &Drawing, layout: &Layout) -> Vec<Sample<'static>> {
    let has_kind = |kind| drawing.nodes.iter().any(|n| n.kind == kind);
    let kinds = [
        (Kind::File, "file"),
        (Kind::Key, "private key"),
        (Kind::Step, "step in a cluster"),
        (Kind::Task, "command of the plan"),
        (Kind::Target, "name for several"),
    ];
    let kinds = kinds.into_iter().filter(|(kind, _)| has_kind(*kind));
    let kinds = kinds.map(|(kind, text)| {
        Sample::new(text, move |out, rect| {
            shape(out, kind, State::Unknown, rect)
        })
    });
    let states = states(|state| drawing.nodes.iter().any(|n| n.state == state));
    let dashed = layout.routes.iter().any(|r| r.edge.order_only);
    let dashed = dashed.then(|| {
        Sample::new("only comes before", |out, rect| {
            let (x, y, width) = (px(rect.x), px(rect.y + rect.height / 2.0), rect.width);
            let _ = write!(
                out,
                "<path class=\"e o\" d=\"M{x} {y}h{width}\" marker-end=\"url(#mp-head)\"/>"
            );
        })
    });
    kinds.chain(states).chain(dashed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::testing;

    #[test]
    fn any_label_is_escaped() {
        let text = draw(&testing::labelled("a<b>&\"c\"\n]]>\u{1b}[0m\u{ffff}"));
        assert!(
            text.contains(">a&lt;b&gt;&amp;&quot;c&quot; ]]&gt;[0m</text>"),
            "{text}"
        );
        assert!(!text.contains(['\u{1b}', '\u{ffff}']));
    }

    #[test]
    fn every_label_fits_its_box() {
        let long = "very/long/path/".repeat(20);
        let labels = [
            "x",
            "ca-cert.pem",
            "WWWWWWWWMMMM@@@",
            "集群一/証明書.pem",
            "🚀🚀🚀",
            long.as_str(),
        ];
        for kind in [Kind::File, Kind::Key, Kind::Step, Kind::Task, Kind::Target] {
            for state in [
                State::Unknown,
                State::Current,
                State::Stale,
                State::Refused,
                State::Undone,
            ] {
                for label in labels {
                    let mut drawing = testing::labelled(label);
                    (drawing.nodes[0].kind, drawing.nodes[0].state) = (kind, state);
                    let text = Text::new(&drawing.nodes[0]);
                    assert!(
                        text_width(&text.label, TEXT) <= text.width - 2.0 * PADDING,
                        "{label}"
                    );
                    assert!(text.width <= LABEL + 4.0 * PADDING);
                    let layout = layout(&drawing, &[(text.width, text.height)], &[0.0]);
                    assert!(layout.boxes[0].width >= text.width);
                }
            }
        }
    }

    #[test]
    fn states_are_words_and_the_legend_names_only_what_is_there() {
        let mut drawing = testing::mesh(1);
        let plain = draw(&drawing);
        assert!(
            plain.contains("private key</text>")
                && !plain.contains("name for several")
                && !plain.contains("stale: will")
        );
        drawing.nodes[2].state = State::Stale;
        assert!(
            draw(&drawing).contains(">stale</text>")
                && draw(&drawing).contains("stale: will be made</text>")
        );
    }
}
