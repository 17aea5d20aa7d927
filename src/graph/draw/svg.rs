//! A picture of the graph that needs no other program: SVG with light and dark colours. It knows shapes
//! and texts; where they stand is `layout`'s.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::{
    Drawing, Kind, Node, Slugs, State,
    layout::{Layout, Piece, Rect, Route, layout},
    printable,
};

/// Sizes of text in pixels: nodes, small print, group titles, the heading.
const TEXT: f64 = 13.0;
const SMALL: f64 = 11.0;
const GROUP: f64 = 13.0;
const HEADING: f64 = 16.0;
/// Around everything.
const MARGIN: f64 = 24.0;
/// A label is cut in its middle beyond this width; the tooltip has all of it.
const LABEL: f64 = 300.0;
/// Between a box's side and its text; shapes with pointed or doubled sides need more.
const PADDING: f64 = 13.0;
/// How far the sides of a key's box point out, and how far those of a command's are doubled.
const SIDE: f64 = 8.0;
/// Height of a box with one line, and with the state below it.
const HEIGHT: f64 = 30.0;
const TALL: f64 = 44.0;

/// Shapes tell kinds apart without colour, words and line widths tell states apart.
const STYLE: &str = "\
.mp text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;fill:#1f2328}
.mp .bg{fill:#fff}
.mp .heading{font-size:16px;font-weight:600}
.mp .group{fill:#f6f8fa;stroke:#d0d7de}
.mp .name{font-weight:600}
.mp .small,.mp .legend{font-size:11px;fill:#57606a}
.mp .n{stroke-width:1.3}
.mp .file{fill:#fff;stroke:#8c959f}
.mp .key{fill:#fff4d6;stroke:#b07d00}
.mp .step{fill:#e3f1ff;stroke:#3b7fc4}
.mp .task{fill:#e6f6e8;stroke:#3c8d46}
.mp .target{fill:none;stroke:#57606a;stroke-dasharray:5 3}
.mp .current{stroke:#1a7f37}
.mp .stale{stroke:#c77700;stroke-width:2.4}
.mp .refused{stroke:#cf222e;stroke-width:3}
.mp .undone{stroke:#8c959f;stroke-dasharray:2 3}
.mp .e{fill:none;stroke:#7d8793;stroke-width:1.3}
.mp .k{stroke:#b58a1f}
.mp .o{stroke-dasharray:4 4}
.mp .head{fill:#7d8793}
.mp .headk{fill:#b58a1f}
@media (prefers-color-scheme:dark){
.mp text{fill:#e6edf3}
.mp .bg{fill:#0d1117}
.mp .group{fill:#151b23;stroke:#3d444d}
.mp .small,.mp .legend{fill:#9198a1}
.mp .file{fill:#21262d;stroke:#7d8590}
.mp .key{fill:#3a2d0c;stroke:#d4a72c}
.mp .step{fill:#10263f;stroke:#4493f8}
.mp .task{fill:#12301a;stroke:#3fb950}
.mp .target{fill:none;stroke:#9198a1}
.mp .current{stroke:#3fb950}
.mp .stale{stroke:#e3b341}
.mp .refused{stroke:#f85149}
.mp .undone{stroke:#7d8590}
.mp .e{stroke:#6e7681}
.mp .k{stroke:#a8862f}
.mp .head{fill:#6e7681}
.mp .headk{fill:#a8862f}
}
";

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
    let heading = cut(&drawing.title, 2.0 * LABEL, HEADING);
    let top = if heading.is_empty() {
        MARGIN
    } else {
        MARGIN + HEADING + 18.0
    };
    let inner = layout.width.max(bold_width(&heading, HEADING)).max(LABEL);
    let legend = Legend::new(drawing, &layout, inner);
    let (width, height) = (
        (inner + 2.0 * MARGIN).ceil(),
        (top + layout.height + legend.height + MARGIN).ceil(),
    );

    let mut out = String::new();
    let label = escaped(&drawing.title);
    let nodes = drawing.nodes.len();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mp\" role=\"img\" aria-label=\"{label}: {nodes} nodes, drawn left to right by what needs what\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    );
    let _ = writeln!(out, "<style>\n{STYLE}</style>\n<defs>");
    for class in ["head", "headk"] {
        let _ = writeln!(
            out,
            "<marker id=\"mp-{class}\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"{class}\" d=\"M0 0.8L8 4L0 7.2z\"/></marker>"
        );
    }
    let _ = writeln!(
        out,
        "</defs>\n<rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>"
    );
    if !heading.is_empty() {
        let _ = writeln!(
            out,
            "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            MARGIN + HEADING,
            escaped(&heading)
        );
    }
    let _ = writeln!(out, "<g transform=\"translate({MARGIN} {top})\">");
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
    out.push_str("</g>\n");
    legend.draw(&mut out, top + layout.height);
    out.push_str("</svg>\n");
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
        let word = node.state.word().filter(|_| node.state != State::Current);
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

fn shape(out: &mut String, kind: Kind, state: State, rect: Rect) {
    let class = format!(
        "n {}{}",
        kind.word(),
        state.word().map(|w| format!(" {w}")).unwrap_or_default()
    );
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    let (left, right, top, bottom, middle) = (
        px(x),
        px(rect.right()),
        px(y),
        px(rect.bottom()),
        px(y + height / 2.0),
    );
    let (inner_left, inner_right) = (px(x + SIDE), px(rect.right() - SIDE));
    let _ = match kind {
        Kind::Key => write!(
            out,
            "<path class=\"{class}\" stroke-linejoin=\"round\" d=\"M{left} {middle}L{inner_left} {top}H{inner_right}L{right} {middle}L{inner_right} {bottom}H{inner_left}z\"/>"
        ),
        _ => {
            let radius = match kind {
                Kind::Step | Kind::Target => height / 2.0,
                Kind::Task => 2.0,
                _ => 6.0,
            };
            write!(
                out,
                "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>",
                px(width),
                px(height),
                px(radius)
            )
        }
    };
    if kind == Kind::Task {
        let inner = SIDE - 3.0;
        let _ = write!(
            out,
            "<path class=\"{class}\" d=\"M{} {top}V{bottom}M{} {top}V{bottom}\"/>",
            px(x + inner),
            px(rect.right() - inner)
        );
    }
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
struct Legend {
    entries: Vec<(Sample, &'static str, f64, f64)>,
    height: f64,
}

#[derive(Clone, Copy)]
enum Sample {
    Kind(Kind),
    State(State),
    OrderOnly,
}

impl Legend {
    const SAMPLE: f64 = 34.0;
    const ROW: f64 = 24.0;

    fn new(drawing: &Drawing, layout: &Layout, width: f64) -> Self {
        let has_kind = |kind| drawing.nodes.iter().any(|n| n.kind == kind);
        let has_state = |state| drawing.nodes.iter().any(|n| n.state == state);
        let kinds = [
            (Kind::File, "file"),
            (Kind::Key, "private key"),
            (Kind::Step, "step in a cluster"),
            (Kind::Task, "command of the plan"),
            (Kind::Target, "name for several"),
        ];
        let states = [
            (State::Current, "current"),
            (State::Stale, "stale: will be made"),
            (State::Refused, "refused: needs a flag"),
            (State::Undone, "left undone"),
        ];
        let kinds = kinds
            .into_iter()
            .filter(|(k, _)| has_kind(*k))
            .map(|(k, text)| (Sample::Kind(k), text));
        let states = states
            .into_iter()
            .filter(|(s, _)| has_state(*s))
            .map(|(s, text)| (Sample::State(s), text));
        let dashed = layout
            .routes
            .iter()
            .any(|r| r.edge.order_only)
            .then_some((Sample::OrderOnly, "only comes before"));
        let (mut x, mut y) = (0.0, 28.0);
        let mut entries = Vec::new();
        for (sample, text) in kinds.chain(states).chain(dashed) {
            let room = Self::SAMPLE + 8.0 + text_width(text, SMALL);
            if x > 0.0 && x + room > width {
                (x, y) = (0.0, y + Self::ROW);
            }
            entries.push((sample, text, x, y));
            x += room + 22.0;
        }
        let height = if entries.is_empty() {
            0.0
        } else {
            y + Self::ROW - 6.0
        };
        Self { entries, height }
    }

    fn draw(&self, out: &mut String, top: f64) {
        let _ = writeln!(out, "<g transform=\"translate({MARGIN} {top})\">");
        for &(sample, text, x, y) in &self.entries {
            let rect = Rect {
                x,
                y,
                width: Self::SAMPLE,
                height: 16.0,
            };
            match sample {
                Sample::Kind(kind) => shape(out, kind, State::Unknown, rect),
                Sample::State(state) => shape(out, Kind::File, state, rect),
                Sample::OrderOnly => {
                    let (x, y) = (px(x), px(y + 8.0));
                    let _ = write!(
                        out,
                        "<path class=\"e o\" d=\"M{x} {y}h{}\" marker-end=\"url(#mp-head)\"/>",
                        Self::SAMPLE
                    );
                }
            }
            let _ = writeln!(
                out,
                "<text class=\"legend\" x=\"{}\" y=\"{}\">{text}</text>",
                px(x + Self::SAMPLE + 8.0),
                px(y + 12.0)
            );
        }
        out.push_str("</g>\n");
    }
}

/// A length with at most one decimal.
fn px(length: f64) -> f64 {
    // Plus zero, so that no minus stands before a zero.
    (length * 10.0).round() / 10.0 + 0.0
}

/// Width of a text in pixels, generously: after DejaVu Sans, the widest of the fonts that systems have.
fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '\'' => 0.29,
            '.' | ',' | ':' | ';' | '!' | '|' | ' ' | '/' | '\\' => 0.36,
            'f' | 't' | 'r' | '-' | '(' | ')' | '[' | ']' | 'I' | 'J' => 0.42,
            'm' | 'M' | 'W' | '@' | '%' | '…' | '→' | '—' => 1.0,
            'w' | 'O' | 'Q' | 'D' | 'H' | 'N' | 'U' | 'G' | '#' | '+' | '=' | '<' | '>' | '~'
            | '^' => 0.85,
            'A'..='Z' => 0.72,
            '0'..='9' | 'a'..='z' | '_' => 0.645,
            // Scripts whose letters are wider than Latin ones have no narrower bound in common.
            c => match c.width().unwrap_or(0) {
                0 => 0.0,
                1 => 0.85,
                _ => 1.15,
            },
        })
        .sum();
    em * size
}

fn bold_width(text: &str, size: f64) -> f64 {
    text_width(text, size) * 1.12
}

/// A text on one line, with an ellipsis in its middle where it is wider than `width`.
fn cut(text: &str, width: f64, size: f64) -> String {
    let text = printable(text).replace(['\n', '\t'], " ");
    let text = text.trim();
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let half = |chars: &mut dyn Iterator<Item = char>| {
        let mut left = width / 2.0 - size;
        let fits = chars.take_while(|c| {
            left -= text_width(c.encode_utf8(&mut [0; 4]), size);
            left >= 0.0
        });
        fits.collect::<Vec<_>>()
    };
    let (start, mut end) = (half(&mut text.chars()), half(&mut text.chars().rev()));
    end.reverse();
    start.into_iter().chain(['…']).chain(end).collect()
}

/// Text and attribute values of XML 1.0.
fn escaped(text: &str) -> String {
    printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
    fn a_long_text_keeps_its_ends() {
        let short = cut(&format!("start{}end", "-".repeat(200)), LABEL, TEXT);
        assert!(
            short.starts_with("start")
                && short.ends_with("end")
                && short.contains('…')
                && text_width(&short, TEXT) <= LABEL
        );
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
