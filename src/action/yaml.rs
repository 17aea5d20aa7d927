//! Data to YAML that YAML 1.1 and 1.2 read alike. It knows nothing of what the data is for.

use std::{borrow::Cow, fmt::Write};

use serde_json::Value;

/// Data to be written. Its texts are borrowed where somebody has them: a fleet has thousands of documents of thirty
/// keys each, which differ in few.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    /// Keys, each once, in their order.
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
    List(Vec<Node<'a>>),
    Text(Cow<'a, str>),
    /// A number, a truth value, or nothing.
    Plain(Value),
}

impl<'a> Node<'a> {
    pub(super) fn map<const N: usize>(entries: [(&'a str, Node<'a>); N]) -> Self {
        Self::Map(entries.map(|(key, value)| (key.into(), value)).into())
    }

    /// What a map has under a key, nothing at first; what is no map becomes one.
    pub(super) fn at(&mut self, key: &'a str) -> &mut Node<'a> {
        if !self.is_map() {
            *self = Self::map([]);
        }
        let Self::Map(entries) = self else {
            return self;
        };
        let place = entries.iter().position(|(name, _)| name == key);
        let place = place.unwrap_or_else(|| {
            entries.push((key.into(), Self::Plain(Value::Null)));
            entries.len() - 1
        });
        &mut entries[place].1
    }

    pub(super) fn set(&mut self, key: &'a str, value: impl Into<Node<'a>>) {
        *self.at(key) = value.into();
    }

    fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    fn is_block(&self) -> bool {
        match self {
            Self::Map(entries) => !entries.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Text(_) | Self::Plain(_) => false,
        }
    }

    /// Merges maps by key; anything else replaces, and null removes (RFC 7386).
    pub(super) fn merge(&mut self, change: &'a Value) {
        let Value::Object(changes) = change else {
            *self = change.into();
            return;
        };
        if !self.is_map() {
            *self = Self::map([]);
        }
        for (key, value) in changes {
            match (value, &mut *self) {
                (Value::Null, Self::Map(entries)) => entries.retain(|(name, _)| name != key),
                _ => self.at(key).merge(value),
            }
        }
    }
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Object(map) => {
                let entries = map.iter();
                Self::Map(entries.map(|(k, v)| (k.into(), v.into())).collect())
            }
            Value::Array(list) => Self::List(list.iter().map(Into::into).collect()),
            Value::String(text) => text.into(),
            plain => Self::Plain(plain.clone()),
        }
    }
}

impl<'a> From<&'a str> for Node<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Node<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Node<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Node<'_> {
    fn from(value: bool) -> Self {
        Self::Plain(value.into())
    }
}

impl From<u16> for Node<'_> {
    fn from(value: u16) -> Self {
        Self::Plain(value.into())
    }
}

impl<'a> From<Vec<Node<'a>>> for Node<'a> {
    fn from(list: Vec<Node<'a>>) -> Self {
        Self::List(list)
    }
}

/// Writes a map or list in block style, `depth` levels in; `begun` where its first line has its indent.
///
/// A general YAML writer follows YAML 1.2, in which `no` and `1_000` are strings. istioctl reads
/// YAML 1.1, in which they are not: a cluster called `no` would lose its name. So every string that is
/// not plainly a word is quoted as in JSON, which both read alike.
pub(super) fn write_block(out: &mut String, depth: usize, node: &Node<'_>, mut begun: bool) {
    let mut indent = |out: &mut String| {
        if !std::mem::take(&mut begun) {
            (0..depth).for_each(|_| out.push_str("  "));
        }
    };
    match node {
        Node::Map(entries) => {
            for (key, value) in entries {
                indent(out);
                out.push_str(&quoted(key));
                out.push(':');
                if value.is_block() {
                    out.push('\n');
                    write_block(out, depth + 1, value, false);
                } else {
                    write_scalar(out, value);
                }
            }
        }
        Node::List(list) => {
            for value in list {
                indent(out);
                out.push('-');
                if value.is_block() {
                    out.push(' ');
                    write_block(out, depth + 1, value, true);
                } else {
                    write_scalar(out, value);
                }
            }
        }
        Node::Text(_) | Node::Plain(_) => {}
    }
}

/// Ends a line with what is no block: an empty map or list is none.
fn write_scalar(out: &mut String, node: &Node<'_>) {
    out.push(' ');
    match node {
        Node::Text(text) => out.push_str(&quoted(text)),
        Node::Plain(value) => _ = write!(out, "{value}"),
        Node::Map(_) => out.push_str("{}"),
        Node::List(_) => out.push_str("[]"),
    }
    out.push('\n');
}

/// A string as YAML 1.1 and 1.2 both read it.
fn quoted(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'))
        && !WORDS.iter().any(|w| w.eq_ignore_ascii_case(text));
    if word {
        return text.into();
    }
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        match c {
            // Line breaks and unprintable characters to YAML, nothing special to JSON.
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn no_string_turns_into_something_else() {
        let odd = [
            "no",
            "On",
            "Y",
            "null",
            "1e3",
            "012",
            "1_000",
            "12:30:45",
            "2020-01-01",
            "~",
            "",
            " ",
            "=",
            "a: b",
            "a\nb",
            "\u{85}\u{2028}ü\"\\",
            "[x]",
        ];
        for text in odd {
            let value = json!({ text: [text, { text: text }] });
            let mut out = String::new();
            write_block(&mut out, 0, &Node::from(&value), false);
            assert!(
                !out.contains(&format!("- {text}\n")),
                "{text:?} is bare in {out}"
            );
            assert_eq!(
                serde_norway::from_str::<Value>(&out).unwrap(),
                value,
                "{out}"
            );
        }
    }
}
