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
    /// What a plan does not take, in words.
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
        Ok(document) => document
            .nodes
            .into_iter()
            .map(|node| place.node(node))
            .collect(),
        Err(error) => {
            let found: Vec<_> = error
                .related()
                .into_iter()
                .flatten()
                .map(|d| place.problem(d))
                .collect();
            if found.is_empty() {
                problems.push(Problem::error("plan::syntax", error.to_string()).help(SYNTAX));
            }
            problems.extend(found);
            Vec::new()
        }
    }
}

const SYNTAX: &str = "a node is a word, values in quotes, and children in braces that each end with `;` or a line break: cluster \"east\" { network \"n1\"; }";

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

    fn problem(self, diagnostic: &dyn Diagnostic) -> Problem {
        let help = diagnostic
            .help()
            .map_or_else(|| SYNTAX.to_owned(), |h| h.to_string());
        let mut problem = Problem::error("plan::syntax", diagnostic.to_string()).help(help);
        for label in diagnostic.labels().into_iter().flatten() {
            let span = self.span(label.offset(), label.offset() + label.len());
            problem = problem.label(span, label.label().unwrap_or("here"));
        }
        problem
    }

    fn node(self, node: SpannedNode<AstSpan>) -> Node {
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
                .map(|c| c.iter().cloned().map(|n| self.node(n)).collect()),
        }
    }

    fn value(self, value: &AstValue<AstSpan>) -> Value {
        let literal = match &*value.literal {
            Literal::String(text) => Scalar::Text(text.to_string()),
            Literal::Int(number) => {
                i64::try_from(number).map_or(Scalar::Other("a number too large"), Scalar::Number)
            }
            Literal::Decimal(_) => Scalar::Other("a number with a fraction"),
            Literal::Bool(_) => Scalar::Other("a boolean"),
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
