//! What pictures have in common: the page with its heading, colours and legend, shapes, and how wide a
//! text is. It knows nothing of what a picture shows.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::{Kind, State, layout::Rect, printable};

/// Sizes of text in pixels: nodes, small print, group titles, the heading.
pub(super) const TEXT: f64 = 13.0;
pub(super) const SMALL: f64 = 11.0;
pub(super) const GROUP: f64 = 13.0;
const HEADING: f64 = 16.0;
/// Around everything.
const MARGIN: f64 = 24.0;
/// A label is cut in its middle beyond this width; the tooltip has all of it.
pub(super) const LABEL: f64 = 300.0;
/// Between a box's side and its text; shapes with pointed or doubled sides need more.
pub(super) const PADDING: f64 = 13.0;
/// How far the sides of a key's box point out, and how far those of a command's are doubled.
pub(super) const SIDE: f64 = 8.0;

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

/// The outline of a kind of node, in a state.
pub(super) fn shape(out: &mut String, kind: Kind, state: State, rect: Rect) {
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

/// Samples of the states that are there.
pub(super) fn states(has: impl Fn(State) -> bool) -> impl Iterator<Item = Sample<'static>> {
    let states = [
        (State::Current, "current"),
        (State::Stale, "stale: will be made"),
        (State::Refused, "refused: needs a flag"),
        (State::Undone, "left undone"),
    ];
    let states = states.into_iter().filter(move |(state, _)| has(*state));
    states.map(|(state, text)| {
        Sample::new(text, move |out, rect| shape(out, Kind::File, state, rect))
    })
}

/// Draws a sample into its room.
type Draw<'a> = dyn Fn(&mut String, Rect) + 'a;

/// A line of the legend: a shape, and what it means.
pub(super) struct Sample<'a> {
    draw: Box<Draw<'a>>,
    text: &'a str,
}

impl<'a> Sample<'a> {
    pub(super) fn new(text: &'a str, draw: impl Fn(&mut String, Rect) + 'a) -> Self {
        let draw = Box::new(draw);
        Self { draw, text }
    }
}

/// A picture with its heading above and its legend below.
pub(super) struct Page<'a> {
    heading: String,
    width: f64,
    height: f64,
    /// Where the picture starts, and how high it is.
    top: f64,
    inner: f64,
    /// Samples with their places below the picture.
    legend: Vec<(Sample<'a>, f64, f64)>,
}

impl<'a> Page<'a> {
    const SAMPLE: f64 = 34.0;
    const ROW: f64 = 24.0;

    /// Room for a picture of that `size`.
    pub(super) fn new(heading: &str, size: (f64, f64), samples: Vec<Sample<'a>>) -> Self {
        let heading = cut(heading, 2.0 * LABEL, HEADING);
        let top = if heading.is_empty() {
            MARGIN
        } else {
            MARGIN + HEADING + 18.0
        };
        let room = |sample: &Sample| Self::SAMPLE + 8.0 + text_width(sample.text, SMALL);
        let inner = samples.iter().map(room).fold(
            size.0.max(bold_width(&heading, HEADING)).max(LABEL),
            f64::max,
        );
        let (mut x, mut y) = (0.0, 28.0);
        let mut legend = Vec::new();
        for sample in samples {
            let room = room(&sample);
            if x > 0.0 && x + room > inner {
                (x, y) = (0.0, y + Self::ROW);
            }
            legend.push((sample, x, y));
            x += room + 22.0;
        }
        let below = if legend.is_empty() {
            0.0
        } else {
            y + Self::ROW - 6.0
        };
        Self {
            heading,
            width: (inner + 2.0 * MARGIN).ceil(),
            height: (top + size.1 + below + MARGIN).ceil(),
            top,
            inner: size.1,
            legend,
        }
    }

    /// The document up to the picture. `label` is escaped; `style` is added to the common one.
    pub(super) fn start(&self, label: &str, style: &str) -> String {
        let Self {
            width, height, top, ..
        } = self;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mp\" role=\"img\" aria-label=\"{label}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
        );
        let _ = writeln!(out, "<style>\n{STYLE}{style}</style>\n<defs>");
        for class in ["head", "headk"] {
            marker(&mut out, class, class);
        }
        let _ = writeln!(
            out,
            "</defs>\n<rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>"
        );
        if !self.heading.is_empty() {
            let _ = writeln!(
                out,
                "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
                MARGIN + HEADING,
                escaped(&self.heading)
            );
        }
        let _ = writeln!(out, "<g transform=\"translate({MARGIN} {top})\">");
        out
    }

    /// Legend and end of the document.
    pub(super) fn end(&self, out: &mut String) {
        let top = self.top + self.inner;
        let _ = writeln!(out, "</g>\n<g transform=\"translate({MARGIN} {top})\">");
        for &(ref sample, x, y) in &self.legend {
            let rect = Rect {
                x,
                y,
                width: Self::SAMPLE,
                height: 16.0,
            };
            (sample.draw)(out, rect);
            let _ = writeln!(
                out,
                "<text class=\"legend\" x=\"{}\" y=\"{}\">{}</text>",
                px(x + Self::SAMPLE + 8.0),
                px(y + 12.0),
                sample.text
            );
        }
        out.push_str("</g>\n</svg>\n");
    }
}

/// An arrow's head in the colour of a class.
pub(super) fn marker(out: &mut String, id: &str, class: &str) {
    let _ = writeln!(
        out,
        "<marker id=\"mp-{id}\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"{class}\" d=\"M0 0.8L8 4L0 7.2z\"/></marker>"
    );
}

/// A length with at most one decimal.
pub(super) fn px(length: f64) -> f64 {
    // Plus zero, so that no minus stands before a zero.
    (length * 10.0).round() / 10.0 + 0.0
}

/// Width of a text in pixels, generously: after DejaVu Sans, the widest of the fonts that systems have.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
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

pub(super) fn bold_width(text: &str, size: f64) -> f64 {
    text_width(text, size) * 1.12
}

/// A text on one line, with an ellipsis in its middle where it is wider than `width`.
pub(super) fn cut(text: &str, width: f64, size: f64) -> String {
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
pub(super) fn escaped(text: &str) -> String {
    printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
