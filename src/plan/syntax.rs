//! The one place that names the parser: a chunk of text to nodes of our own, with places in the whole
//! text. It does not know which nodes a plan has.

use std::borrow::Cow;

use knuffel::{
    ast::{Literal, SpannedNode, Value as AstValue},
    span::Span as AstSpan,
};
use miette::Diagnostic;

use super::{
    problem::{Problem, Sources, Span},
    split::Chunk,
};

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its word.
    pub name: String,
    /// Where its word is.
    pub name_span: Span,
    /// Where it is from its word to its last character.
    pub span: Span,
    /// A type annotation of the node itself.
    pub annotation: Option<(String, Span)>,
    /// Arguments.
    pub arguments: Vec<Value>,
    /// Properties, in the text's order.
    pub properties: Vec<Property>,
    /// Children; `None` without braces.
    pub children: Option<Vec<Node>>,
}

/// `name=value`.
#[derive(Debug, Clone)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Where its name is.
    pub name_span: Span,
    /// Its value.
    pub value: Value,
}

/// An argument or a property's value.
#[derive(Debug, Clone)]
pub struct Value {
    /// `(annotation)` before it.
    pub annotation: Option<(String, Span)>,
    /// What it is.
    pub literal: Scalar,
    /// Where it is.
    pub span: Span,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A quoted string.
    Text(String),
    /// An integer that fits.
    Number(i64),
    /// A bare `true` or `false`, which no plan takes.
    Boolean(bool),
    /// What else a plan does not take: in words, and as written.
    Other(&'static str, String),
}

/// Parses a chunk of a text. What is wrong with it goes to `problems`.
pub fn parse(
    sources: &Sources,
    source: u32,
    chunk: &Chunk,
    problems: &mut Vec<Problem>,
) -> Vec<Node> {
    let text = &sources.text(source)[chunk.start..chunk.end];
    let text = mended(text, chunk);
    let text = text.as_ref();
    let place = Place {
        source,
        offset: chunk.start,
        text,
    };
    match knuffel::parse_ast::<AstSpan>(sources.name(source), text) {
        Ok(document) => document.nodes.iter().map(|node| place.node(node)).collect(),
        Err(error) => {
            let before = problems.len();
            let mut found: Vec<_> = error
                .related()
                .into_iter()
                .flatten()
                .filter_map(|d| place.problem(d))
                .collect();
            // One stretch of text is wrong once: the parser goes on in the middle of it.
            let span = |p: &Problem| p.labels.first().map(|(span, _)| *span);
            found.sort_by_key(|p| span(p).map(|s| s.start));
            found.dedup_by(|next, first| {
                matches!((span(first), span(next)), (Some(f), Some(n)) if n.start < f.end)
            });
            problems.append(&mut found);
            if problems.len() == before {
                let all = place.span(0, text.len());
                let problem =
                    Problem::error("plan::syntax", "this node cannot be read").label(all, "here");
                problems.push(problem.help(SYNTAX));
            }
            Vec::new()
        }
    }
}

/// The chunk's text with a `;` for each blank where one is missing: every place stays where it is.
fn mended<'t>(text: &'t str, chunk: &Chunk) -> Cow<'t, str> {
    if chunk.missing.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut mended = String::with_capacity(text.len());
    let mut from = 0;
    for at in chunk.missing.iter().map(|at| at - chunk.start) {
        mended.push_str(&text[from..at]);
        mended.push(';');
        from = at + 1;
    }
    mended.push_str(&text[from..]);
    Cow::Owned(mended)
}

const SYNTAX: &str = "a node is a word, values in quotes, and children in braces that each end with `;` or a line \
                      break: cluster \"east\" { network \"n1\"; }";

/// What is wrong at a place of a chunk.
struct Finding {
    start: usize,
    end: usize,
    message: String,
    help: String,
}

/// A word where a value should be. `None` where a `=` follows at once: the parser has more to say then.
fn bare_word(text: &str, start: usize) -> Option<Finding> {
    let end = start + token(&text[start..]);
    if text[end..].starts_with('=') {
        return None;
    }
    let blank = |c| matches!(c, ' ' | '\t');
    let after = text[end..].trim_start_matches(blank);
    if after.starts_with('=') {
        return Some(unexpected(text, end));
    }
    // `network "n1" context "c"`: a word behind a value, and before one, begins a node.
    if text[..start].trim_end_matches(blank).ends_with(['"', '}']) && after.starts_with(['"', '('])
    {
        let word = &text[start..end];
        return Some(Finding {
            start,
            end,
            message: format!("`{word}` begins behind another node"),
            help: format!("write `;` before `{word}`, or begin a new line with it"),
        });
    }
    Some(unquoted(text, start, end))
}

/// Quotes that word processors put in place of `"`, and those of other languages.
const OTHER_QUOTES: [char; 8] = ['\'', '`', '“', '”', '„', '‘', '’', '«'];

fn unquoted(text: &str, start: usize, end: usize) -> Finding {
    let (word, message);
    let mut end = end;
    if text[start..end].starts_with(OTHER_QUOTES) {
        let line = text[start..].lines().next().unwrap_or_default();
        let close = line
            .char_indices()
            .skip(1)
            .find(|(_, c)| OTHER_QUOTES.contains(c) || *c == '»');
        end = close.map_or(end, |(at, c)| start + at + c.len_utf8());
        word = &text[start..end];
        message = format!("`{word}` has quotes of another kind");
    } else {
        word = &text[start..end];
        message = format!("`{word}` is not in quotes");
    }
    let bare = word.trim_matches(|c| OTHER_QUOTES.contains(&c) || c == '»');
    Finding {
        start,
        end,
        message,
        help: format!("write \"{bare}\""),
    }
}

/// Length of what a reader would take for one word.
fn token(text: &str) -> usize {
    let end = |c: char| c.is_whitespace() || ";{}()=\",[]".contains(c);
    text.find(end).unwrap_or(text.len())
}

/// What does not fit where it stands, told by itself and by what is before it.
fn unexpected(text: &str, at: usize) -> Finding {
    let rest = text.get(at..).unwrap_or_default();
    let Some(c) = rest.chars().next() else {
        let message = "the node ends too early".to_owned();
        return Finding {
            start: at,
            end: at,
            message,
            help: SYNTAX.to_owned(),
        };
    };
    let before = text[..at].chars().next_back();
    let end = at + c.len_utf8();
    let finding = |message: &str, help: &str| Finding {
        start: at,
        end,
        message: message.to_owned(),
        help: help.to_owned(),
    };
    let parted = "put a blank between values, and a line break or `;` between nodes";
    let property = "write name=\"value\", without blanks around `=`";
    match (before, c) {
        // `10y`: the number is part of the word.
        (Some('0'..='9'), c) if c.is_alphanumeric() || "-_.:".contains(c) => {
            let start = at
                - text[..at]
                    .bytes()
                    .rev()
                    .take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
                    .count();
            unquoted(text, start, at + token(rest))
        }
        (Some(')' | '='), c) if c.is_alphanumeric() => unquoted(text, at, at + token(rest)),
        (Some(')'), ' ' | '\t') => finding(
            "a blank parts an annotation from its value",
            "write (env)\"NAME\"",
        ),
        (_, '=') if begins_node(text, at) => finding(
            "a node's value stands behind its word, without `=`",
            &format!("write {} \"…\"", last_word(text, at)),
        ),
        (_, '=') | (Some('='), _) => finding("a property is written in one piece", property),
        (_, ',') => finding("values are parted by blanks", "take the comma away"),
        (_, '[') => finding(
            "a list has no brackets",
            "write the values one after another: dns \"a\" \"b\"",
        ),
        (_, ';') => finding("a `;` ends nothing", "take it away"),
        (_, '{')
            if matches!(
                text[..at].trim_end_matches([' ', '\t']).chars().next_back(),
                Some('\n' | '\r')
            ) =>
        {
            finding(
                "a `{` stands without its node",
                "write it on the line of its node: cluster \"east\" {",
            )
        }
        (Some('"' | '}' | ')'), _) => finding("two things stand together", parted),
        _ if text[..at].trim_end_matches([' ', '\t']).ends_with('}') => {
            finding("a node begins behind another", parted)
        }
        _ => finding(&format!("`{}` cannot stand here", c.escape_debug()), SYNTAX),
    }
}

/// The word that ends before `at`, but for blanks.
fn last_word(text: &str, at: usize) -> &str {
    let before = text[..at].trim_end_matches([' ', '\t', '=']);
    let start = before.rfind(|c: char| c.is_whitespace() || ";{}()=\"".contains(c));
    &before[start.map_or(0, |s| {
        s + before[s..].chars().next().map_or(1, char::len_utf8)
    })..]
}

/// Whether the word before `at` is a node's own.
fn begins_node(text: &str, at: usize) -> bool {
    let word = last_word(text, at);
    let before = text[..at].trim_end_matches([' ', '\t', '=']);
    let before = before[..before.len() - word.len()].trim_end_matches([' ', '\t']);
    !word.is_empty() && (before.is_empty() || before.ends_with(['{', ';', '\n', '\r']))
}

#[derive(Clone, Copy)]
struct Place<'t> {
    source: u32,
    offset: usize,
    text: &'t str,
}

impl Place<'_> {
    fn span(self, start: usize, end: usize) -> Span {
        Span {
            source: self.source,
            start: (self.offset + start) as u32,
            end: (self.offset + end) as u32,
        }
    }

    fn of(self, span: &AstSpan) -> Span {
        self.span(span.0, span.1)
    }

    /// The parser's finding in plain words: it lists what it would have taken, and a plan takes less.
    fn problem(self, diagnostic: &dyn Diagnostic) -> Option<Problem> {
        let text = self.text;
        let Some(label) = diagnostic.labels().into_iter().flatten().next() else {
            return Some(Problem::error("plan::syntax", diagnostic.to_string()).help(SYNTAX));
        };
        let word = diagnostic.to_string().starts_with("identifiers cannot");
        let found = if word {
            bare_word(text, label.offset())?
        } else {
            unexpected(text, label.offset())
        };
        let Finding {
            start,
            end,
            message,
            help,
        } = found;
        Some(
            Problem::error("plan::syntax", message)
                .label(self.span(start, end), "here")
                .help(help),
        )
    }

    fn node(self, node: &SpannedNode<AstSpan>) -> Node {
        let span = self.of(node.span());
        let annotation = node
            .type_name
            .as_ref()
            .map(|t| (t.as_str().to_owned(), self.of(t.span())));
        let mut properties: Vec<_> = node
            .properties
            .iter()
            .map(|(name, value)| Property {
                name: name.to_string(),
                name_span: self.of(name.span()),
                value: self.value(value),
            })
            .collect();
        // The parser keeps them by name; order of the text is order of the result.
        properties.sort_by_key(|p| p.name_span.start);
        Node {
            name: node.node_name.to_string(),
            name_span: self.of(node.node_name.span()),
            span,
            annotation,
            arguments: node.arguments.iter().map(|v| self.value(v)).collect(),
            properties,
            children: node
                .children
                .as_ref()
                .map(|c| c.iter().map(|n| self.node(n)).collect()),
        }
    }

    fn value(self, value: &AstValue<AstSpan>) -> Value {
        let AstSpan(start, end) = *value.literal.span();
        let other = |what| Scalar::Other(what, self.text[start..end].to_owned());
        let literal = match &*value.literal {
            Literal::String(text) => Scalar::Text(text.to_string()),
            Literal::Int(number) => {
                i64::try_from(number).map_or_else(|_| other("a number too large"), Scalar::Number)
            }
            Literal::Decimal(_) => other("a number with a fraction"),
            Literal::Bool(word) => Scalar::Boolean(*word),
            Literal::Null => other("null"),
        };
        let annotation = value
            .type_name
            .as_ref()
            .map(|t| (t.as_str().to_owned(), self.of(t.span())));
        Value {
            annotation,
            literal,
            span: self.of(value.literal.span()),
        }
    }
}
