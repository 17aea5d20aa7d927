//! What is wrong with a plan, as data: a code, the places, the cause and the remedy; and the same as
//! JSON. It does not know what a plan means, nor how a problem is drawn.

use std::sync::{Arc, OnceLock};

use camino::Utf8PathBuf;

use super::draw;

/// A place in one of the texts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Which text.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The texts that spans point into. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Arc<Source>>);

#[derive(Debug)]
struct Source {
    name: Utf8PathBuf,
    text: String,
    /// Where lines begin; asked for only when something is wrong.
    lines: OnceLock<Vec<usize>>,
}

impl Sources {
    /// Takes in a text; returns its number.
    pub fn add(&mut self, name: Utf8PathBuf, text: String) -> u32 {
        self.0.push(Arc::new(Source {
            name,
            text,
            lines: OnceLock::new(),
        }));
        (self.0.len() - 1) as u32
    }

    /// A text by its number.
    pub fn text(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |s| &s.text)
    }

    /// A text's name by its number.
    pub fn name(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |s| s.name.as_str())
    }

    /// Line and column of a byte, both from 1; columns are characters.
    pub fn position(&self, source: u32, byte: u32) -> (usize, usize) {
        let Some(source) = self.0.get(source as usize) else {
            return (1, 1);
        };
        let lines = source.lines.get_or_init(|| {
            let breaks = source.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect()
        });
        let byte = byte as usize;
        let line = lines.partition_point(|start| *start <= byte);
        let start = line
            .checked_sub(1)
            .and_then(|l| lines.get(l))
            .copied()
            .unwrap_or(0);
        let before = source.text.get(start..byte).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The plan is not run.
    Error,
    /// The plan runs; it should be looked at.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word, such as `plan::unknown-node`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The cause.
    pub message: String,
    /// Places, the first one first, each with a short text; they may be in several texts.
    pub labels: Vec<(Span, String)>,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    /// A problem that keeps the plan from being run.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: String::new(),
        }
    }

    /// A problem that does not.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message)
        }
    }

    /// Adds a place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = text.into();
        self
    }
}

/// All problems of a plan, with the texts they are in.
#[derive(Clone, Debug)]
pub struct Problems {
    /// In the order in which they were found.
    pub list: Vec<Problem>,
    /// The texts.
    pub sources: Sources,
}

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// Columns.
    pub width: usize,
}

impl Problems {
    /// Draws the first 50 in their texts, and says how many more there are.
    pub fn render(&self, style: Style) -> String {
        draw::draw(self, style)
    }

    /// All of them: `code`, `severity`, `message`, `help`, and `places` with `file`, `line` and `column`
    /// (from 1, columns in characters), `start` and `end` (bytes), `text`.
    pub fn to_json(&self) -> serde_json::Value {
        let place = |(span, text): &(Span, String)| {
            let (line, column) = self.sources.position(span.source, span.start);
            serde_json::json!({
                "file": self.sources.name(span.source), "line": line, "column": column,
                "start": span.start, "end": span.end, "text": text,
            })
        };
        let problem = |p: &Problem| {
            serde_json::json!({
                "code": p.code,
                "severity": if p.severity == Severity::Error { "error" } else { "warning" },
                "message": p.message,
                "help": p.help,
                "places": p.labels.iter().map(place).collect::<Vec<_>>(),
            })
        };
        self.list.iter().map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_all_and_counts_columns_in_characters() {
        let mut sources = Sources::default();
        let source = sources.add("a.kdl".into(), "one\n\"é\" x\n".into());
        let span = Span {
            source,
            start: 9,
            end: 10,
        };
        let problem = Problem::error("plan::test", "wrong")
            .label(span, "here")
            .help("right");
        let problems = Problems {
            list: vec![problem; 60],
            sources,
        };
        let json = problems.to_json();
        assert_eq!(json.as_array().map(Vec::len), Some(60));
        assert_eq!(json[59]["places"][0]["line"], 2);
        assert_eq!(json[59]["places"][0]["column"], 5);
        let drawn = problems.render(Style {
            color: false,
            width: 80,
        });
        assert_eq!(drawn.matches("plan::test").count(), 50);
        assert!(
            drawn.ends_with("and 10 more problems (--format json names all)\n"),
            "{drawn}"
        );
    }
}
