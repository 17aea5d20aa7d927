//! What is wrong with a plan, as data: a code, the places, the cause and the remedy; drawn in the plan's
//! own text, or as JSON. It does not know what a plan means.

use std::{fmt, sync::Arc};

use camino::Utf8PathBuf;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

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

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Arc<(Utf8PathBuf, String)>>);

impl Sources {
    /// Takes in a text; returns its number.
    pub fn add(&mut self, name: Utf8PathBuf, text: String) -> u32 {
        self.0.push(Arc::new((name, text)));
        (self.0.len() - 1) as u32
    }

    /// A text by its number.
    pub fn text(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |s| &s.1)
    }

    /// A text's name by its number.
    pub fn name(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |s| s.0.as_str())
    }

    /// Line and column of a byte, both from 1; columns are characters.
    fn position(&self, source: u32, byte: u32) -> (usize, usize) {
        let text = self.text(source);
        let before = text.get(..byte as usize).unwrap_or(text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        (line, column)
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
    /// Places, the first one first, each with a short text.
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

/// More than this nobody reads.
const DRAWN: usize = 50;

impl Problems {
    /// Draws the first 50 in their texts.
    pub fn render(&self, style: Style) -> String {
        let theme = if style.color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(style.width.max(20))
            .with_links(false);
        let mut text = String::new();
        for problem in self.list.iter().take(DRAWN) {
            let drawn = Drawn::new(problem, &self.sources);
            if handler.render_report(&mut text, &drawn).is_err() {
                // A place that is not in its text: the words say it as well.
                text.push_str(&format!("{}: {}\n", problem.code, problem.message));
            }
            text.push('\n');
        }
        if self.list.len() > DRAWN {
            text.push_str(&format!(
                "and {} more problems (--format json names all)\n",
                self.list.len() - DRAWN
            ));
        }
        text
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

/// A problem as miette draws it: one text each, so places in other texts follow as related ones.
#[derive(Debug)]
struct Drawn {
    code: Option<&'static str>,
    severity: Severity,
    message: String,
    help: String,
    source: NamedSource<String>,
    labels: Vec<LabeledSpan>,
    related: Vec<Drawn>,
}

impl Drawn {
    fn new(problem: &Problem, sources: &Sources) -> Self {
        let mut numbers: Vec<u32> = problem.labels.iter().map(|(span, _)| span.source).collect();
        numbers.dedup();
        let mut seen = Vec::new();
        numbers.retain(|n| {
            !seen.contains(n) && {
                seen.push(*n);
                true
            }
        });
        let one = |source: u32, first: bool| {
            let here = problem
                .labels
                .iter()
                .filter(|(span, _)| span.source == source);
            let label = |(span, text): &(Span, String)| {
                let length = span.end.saturating_sub(span.start) as usize;
                LabeledSpan::new(Some(harmless(text)), span.start as usize, length)
            };
            Self {
                code: first.then_some(problem.code),
                severity: problem.severity,
                message: if first {
                    harmless(&problem.message)
                } else {
                    format!("and in {}", sources.name(source))
                },
                help: if first {
                    harmless(&problem.help)
                } else {
                    String::new()
                },
                source: NamedSource::new(sources.name(source), harmless(sources.text(source))),
                labels: here.map(label).collect(),
                related: Vec::new(),
            }
        };
        let mut all = numbers.iter().enumerate().map(|(i, n)| one(*n, i == 0));
        let mut drawn = all.next().unwrap_or_else(|| one(u32::MAX, true));
        drawn.related = all.collect();
        drawn
    }
}

/// Text from a plan may hold bytes that steer a terminal; each becomes one harmless byte, so that places
/// stay where they are.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_control() && c != '\n' && c != '\t' && c != '\r' {
                '?'
            } else {
                c
            }
        })
        .collect()
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawn {}

impl Diagnostic for Drawn {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.map(|c| Box::new(c) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.labels.is_empty()).then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let related = self.related.iter().map(|d| d as &dyn Diagnostic);
        (!self.related.is_empty())
            .then(|| Box::new(related) as Box<dyn Iterator<Item = &dyn Diagnostic>>)
    }
}
