//! The clusters of a fleet are written alike. Nodes that differ in nothing but what their strings hold are
//! of one form, and a form is parsed once: for the others, the parsed node takes their strings and
//! places. It does not know what a node means.

use super::{
    problem::Span,
    split::Chunk,
    syntax::{Node, Property, Scalar, Value},
};
use foldhash::{HashMap, HashSet, HashSetExt};

/// A plan with more forms than that gains nothing from keeping them.
const MAX_FORMS: usize = 64;

/// Forms of nodes parsed so far, by their text without what their strings hold.
#[derive(Debug, Default)]
pub struct Forms(HashMap<String, Form>);

#[derive(Debug)]
struct Form {
    /// Where its text begins.
    start: usize,
    /// From where to where its text has strings, quotes left out.
    strings: Vec<(usize, usize)>,
    nodes: Vec<Node>,
}

impl Forms {
    /// Places of chunks that are to be parsed first: one of each form that is not known, and those of none.
    pub fn unknown(&self, text: &str, chunks: &[Chunk]) -> Vec<usize> {
        let (mut key, mut new) = (String::new(), HashSet::new());
        let mut is_unknown = |chunk: &Chunk| {
            let cut = cut(text, chunk, &mut key);
            cut.is_none()
                || !self.0.contains_key(&key) && !new.contains(&key) && new.insert(key.clone())
        };
        let places = 0..chunks.len();
        places.filter(|place| is_unknown(&chunks[*place])).collect()
    }

    /// Notes what a chunk was parsed to.
    pub fn learn(&mut self, text: &str, chunk: &Chunk, nodes: &[Node]) {
        let mut key = String::new();
        if let Some(strings) = cut(text, chunk, &mut key)
            && self.0.len() < MAX_FORMS
        {
            let form = Form {
                start: chunk.start,
                strings,
                nodes: nodes.to_vec(),
            };
            self.0.insert(key, form);
        }
    }

    /// What the parser would make of a chunk; `None` where its form is not known.
    pub fn cast(&self, source: u32, text: &str, chunk: &Chunk) -> Option<Vec<Node>> {
        let mut key = String::new();
        let strings = cut(text, chunk, &mut key)?;
        let form = self.0.get(&key)?;
        let cast = Cast {
            form,
            source,
            start: chunk.start,
            text: &text[chunk.start..chunk.end],
            strings: &strings,
        };
        Some(form.nodes.iter().map(|node| cast.node(node)).collect())
    }
}

/// Where a chunk has strings, from its start; the rest of its text is its `key`. `None` where a quote may be other
/// than the bounds of a string that holds what is between them: near escapes, comments, raw strings and
/// names or annotations in quotes.
fn cut(text: &str, chunk: &Chunk, key: &mut String) -> Option<Vec<(usize, usize)>> {
    let text = &text[chunk.start..chunk.end];
    key.clear();
    if text.contains('\\') || !chunk.missing.is_empty() {
        return None;
    }
    let mut strings = Vec::new();
    let mut at = 0;
    for (number, part) in text.split('"').enumerate() {
        let end = at + part.len();
        if number % 2 == 1 {
            strings.push((at, end));
        } else {
            let name = number > 0 && part.starts_with('=');
            if name || part.ends_with(['r', '(']) || part.contains(['/', '#']) {
                return None;
            }
            key.push_str(part);
            key.push('"');
        }
        at = end + 1;
    }
    Some(strings)
}

/// A text in a form.
struct Cast<'a> {
    form: &'a Form,
    source: u32,
    start: usize,
    text: &'a str,
    strings: &'a [(usize, usize)],
}

impl Cast<'_> {
    /// A place of the form in the text, both from their start: behind as many strings, and as far from the last.
    fn place(&self, at: usize) -> usize {
        let behind = self.form.strings.partition_point(|(_, end)| *end < at);
        match behind.checked_sub(1) {
            Some(last) => self.strings[last].1 + (at - self.form.strings[last].1),
            None => at,
        }
    }

    fn span(&self, span: Span) -> Span {
        let place = |at: u32| (self.start + self.place(at as usize - self.form.start)) as u32;
        Span {
            source: self.source,
            start: place(span.start),
            end: place(span.end),
        }
    }

    /// What has that span now: between its quotes, where it has any, or what it was.
    fn text(&self, was: &str, span: Span) -> String {
        let (start, end) = (span.start as usize, span.end as usize);
        let text = &self.text[start - self.start..end - self.start];
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        quoted.unwrap_or(was).to_owned()
    }

    fn word(&self, (word, span): &(String, Span)) -> (String, Span) {
        let span = self.span(*span);
        (self.text(word, span), span)
    }

    fn node(&self, node: &Node) -> Node {
        let name_span = self.span(node.name_span);
        let children = node.children.as_ref();
        Node {
            name: self.text(&node.name, name_span),
            name_span,
            span: self.span(node.span),
            annotation: node.annotation.as_ref().map(|a| self.word(a)),
            arguments: node.arguments.iter().map(|v| self.value(v)).collect(),
            properties: node.properties.iter().map(|p| self.property(p)).collect(),
            children: children.map(|c| c.iter().map(|n| self.node(n)).collect()),
        }
    }

    fn property(&self, property: &Property) -> Property {
        Property {
            name: property.name.clone(),
            name_span: self.span(property.name_span),
            value: self.value(&property.value),
        }
    }

    fn value(&self, value: &Value) -> Value {
        let span = self.span(value.span);
        Value {
            annotation: value.annotation.as_ref().map(|a| self.word(a)),
            literal: match &value.literal {
                Scalar::Text(text) => Scalar::Text(self.text(text, span)),
                other => other.clone(),
            },
            span,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use camino::Utf8Path;

    use super::*;
    use crate::plan::{problem::Sources, split::split, syntax};

    /// Every node of every plan here, with its strings and with others, is what the parser makes of it.
    #[test]
    fn a_form_gives_what_the_parser_gives() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut plans = vec![
            "a \"\" {\n b \"é\" (env)\"c\" d=\"e\" f=1 { \"g\" \"h\"; }\n}\n(t)i \"j\" k=2.5 \"l\"; m".to_owned(),
            "a \"b\" \"c\"=\"d\"\na r\"b\" \"c\"\na \"b\\\"\" \"c\"\na \"b\" /* \" */ \"c\"\na /-\"b\" \"c\"\na (\"b\")\"c\" (\"d\")1".to_owned(),
        ];
        let mut folders = vec![root.join("plans"), root.join("fixtures")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension() == Some("kdl") {
                    plans.extend(std::fs::read_to_string(path));
                }
            }
        }
        let (mut nodes, mut cast) = (0, 0);
        for plan in plans {
            let changed = |by: &str| {
                let parts = plan.split('"').enumerate();
                let parts = parts.map(|(n, part)| match n % 2 {
                    1 if !part.contains(['\\', '\n', '/', '#']) => format!("{by}{n}{part}"),
                    _ => part.to_owned(),
                });
                parts.collect::<Vec<_>>().join("\"")
            };
            let texts = [plan.clone(), changed("ü"), changed("longer ")];
            let mut forms = Forms::default();
            for text in texts {
                let mut sources = Sources::default();
                let source = sources.add("plan.kdl".into(), text);
                let chunks = split(source, sources.text(source), &[], &mut Vec::new());
                for chunk in chunks.iter().filter(|c| !c.broken) {
                    let (text, mut problems) = (sources.text(source), Vec::new());
                    let want = syntax::parse(&sources, source, chunk, &mut problems);
                    nodes += 1;
                    match forms.cast(source, text, chunk) {
                        Some(found) => {
                            assert_eq!(format!("{found:?}"), format!("{want:?}"));
                            assert!(problems.is_empty(), "{text}");
                            cast += 1;
                        }
                        None if problems.is_empty() => forms.learn(text, chunk, &want),
                        None => {}
                    }
                }
            }
        }
        assert!(
            cast * 2 > nodes,
            "{cast} of {nodes} were of a form that was known"
        );
    }
}
