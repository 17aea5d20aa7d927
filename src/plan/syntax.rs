//! The one place that names the parser: a chunk of text to nodes of our own, with places in the whole
//! text. It does not know which nodes a plan has.

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
    /// What else a plan does not take, in words.
    Other(&'static str),
}

/// Parses a chunk of a text. What is wrong with it goes to `problems`.
pub fn parse(
    sources: &Sources,
    source: u32,
    chunk: Chunk,
    problems: &mut Vec<Problem>,
) -> Vec<Node> {
    let text = &sources.text(source)[chunk.start..chunk.end];
    let place = Place {
        source,
        offset: chunk.start,
    };
    match knuffel::parse_ast::<AstSpan>(sources.name(source), text) {
        Ok(document) => document.nodes.iter().map(|node| place.node(node)).collect(),
        Err(error) => {
            let before = problems.len();
            problems.extend(
                error
                    .related()
                    .into_iter()
                    .flatten()
                    .filter_map(|d| place.problem(text, d)),
            );
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
    if text[end..].trim_start_matches([' ', '\t']).starts_with('=') {
        return Some(unexpected(text, end));
    }
    Some(unquoted(text, start, end))
}

fn unquoted(text: &str, start: usize, end: usize) -> Finding {
    let word = &text[start..end];
    let message = format!("`{word}` is not in quotes");
    Finding {
        start,
        end,
        message,
        help: format!("write \"{}\"", word.trim_matches('\'')),
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
        (_, '=') | (Some('='), _) => finding("a property is written in one piece", property),
        (_, ',') => finding("values are parted by blanks", "take the comma away"),
        (_, '[') => finding(
            "a list has no brackets",
            "write the values one after another: dns \"a\" \"b\"",
        ),
        (_, ';') => finding("a `;` ends nothing", "take it away"),
        (Some('"' | '}' | ')'), _) => finding("two things stand together", parted),
        _ if text[..at].trim_end_matches([' ', '\t']).ends_with('}') => {
            finding("a node begins behind another", parted)
        }
        _ => finding(&format!("`{}` cannot stand here", c.escape_debug()), SYNTAX),
    }
}

#[derive(Clone, Copy)]
struct Place {
    source: u32,
    offset: usize,
}

impl Place {
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
    fn problem(self, text: &str, diagnostic: &dyn Diagnostic) -> Option<Problem> {
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
        let literal = match &*value.literal {
            Literal::String(text) => Scalar::Text(text.to_string()),
            Literal::Int(number) => {
                i64::try_from(number).map_or(Scalar::Other("a number too large"), Scalar::Number)
            }
            Literal::Decimal(_) => Scalar::Other("a number with a fraction"),
            Literal::Bool(word) => Scalar::Boolean(*word),
            Literal::Null => Scalar::Other("null"),
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
