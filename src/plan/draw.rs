//! Problems drawn in the plan's own text, for people. It knows texts and places, not what they mean.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use super::problem::{Problem, Problems, Severity, Sources, Style};

/// More than this nobody reads.
const DRAWN: usize = 50;

/// A text with a longer line, in bytes, is not drawn: a place in it is said in words.
const LONGEST_LINE: usize = 2_000;

/// Draws the first 50 problems, each with all of its places.
pub(super) fn draw(problems: &Problems, style: Style) -> String {
    let theme = if style.color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(style.width.max(20))
        .with_links(false);
    let mut artist = Artist {
        sources: &problems.sources,
        shown: HashMap::new(),
    };
    let mut text = String::new();
    for problem in problems.list.iter().take(DRAWN) {
        for drawn in artist.drawn(problem) {
            if handler.render_report(&mut text, &drawn).is_err() {
                // A place outside its text: the words say it as well.
                text.push_str(&format!("{}: {}\n", problem.code, drawn.message));
            }
        }
        text.push('\n');
    }
    if let Some(more) = problems.list.len().checked_sub(DRAWN).filter(|n| *n > 0) {
        text.push_str(&format!(
            "and {more} more problems (--format json names all)\n"
        ));
    }
    text
}

/// Makes drawable problems, and each text drawable once.
struct Artist<'a> {
    sources: &'a Sources,
    shown: HashMap<u32, Option<Shown>>,
}

/// A text as it can be shown.
#[derive(Debug, Clone)]
struct Shown {
    name: Arc<str>,
    text: Arc<str>,
}

impl Artist<'_> {
    fn shown(&mut self, source: u32) -> Option<Shown> {
        let sources = self.sources;
        let make = || {
            let text = sources.text(source);
            let drawable = text.split('\n').all(|line| line.len() <= LONGEST_LINE);
            drawable.then(|| Shown {
                name: harmless(sources.name(source)).into(),
                text: harmless(text).into(),
            })
        };
        self.shown.entry(source).or_insert_with(make).clone()
    }

    /// One text is drawn at a time: places in other texts follow the first.
    fn drawn(&mut self, problem: &Problem) -> Vec<Drawn> {
        let mut order: Vec<u32> = Vec::new();
        for (span, _) in &problem.labels {
            if !order.contains(&span.source) {
                order.push(span.source);
            }
        }
        let mut parts: Vec<Drawn> = order
            .into_iter()
            .map(|source| self.part(problem, source))
            .collect();
        if parts.is_empty() {
            parts.push(Drawn::default());
        }
        for (index, part) in parts.iter_mut().enumerate() {
            if index == 0 {
                part.code = Some(problem.code);
                part.severity = Some(problem.severity);
                part.message.insert_str(0, &harmless(&problem.message));
            } else {
                part.message.insert_str(0, "and here");
            }
        }
        if let Some(last) = parts.last_mut() {
            last.help = harmless(&problem.help).into_owned();
        }
        parts
    }

    /// The places that a problem has in one text.
    fn part(&mut self, problem: &Problem, source: u32) -> Drawn {
        let here = problem
            .labels
            .iter()
            .filter(|(span, _)| span.source == source);
        if let Some(shown) = self.shown(source) {
            let label = |(span, text): &(_, String)| {
                let span: &super::problem::Span = span;
                let length = span.end.saturating_sub(span.start) as usize;
                LabeledSpan::new(
                    Some(harmless(text).into_owned()),
                    span.start as usize,
                    length,
                )
            };
            return Drawn {
                labels: here.map(label).collect(),
                source: Some(shown),
                ..Drawn::default()
            };
        }
        let words = here.map(|(span, text)| {
            let (line, column) = self.sources.position(source, span.start);
            format!(
                "\n{}:{line}:{column}: {}",
                harmless(self.sources.name(source)),
                harmless(text)
            )
        });
        Drawn {
            message: words.collect(),
            ..Drawn::default()
        }
    }
}

/// Text from a plan may hold characters that steer a terminal or turn a line around. Each becomes as many
/// `?` as it has bytes, so that places stay where they are.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(std::iter::repeat_n('?', c.len_utf8()))
        } else {
            safe.push(c)
        }
    }
    Cow::Owned(safe)
}

fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
}

/// A problem as miette takes it.
#[derive(Debug, Default)]
struct Drawn {
    code: Option<&'static str>,
    /// `None` for what follows the first place.
    severity: Option<Severity>,
    message: String,
    help: String,
    source: Option<Shown>,
    labels: Vec<LabeledSpan>,
}

impl SourceCode for Shown {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_string(),
            found.data(),
            *found.span(),
            found.line(),
            found.column(),
            found.line_count(),
        )))
    }
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
            Some(Severity::Error) => miette::Severity::Error,
            Some(Severity::Warning) => miette::Severity::Warning,
            None => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = _>>)
    }
}
