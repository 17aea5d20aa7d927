//! A plan's text, split at its top-level nodes without the parser: so that one mistake hides nothing
//! else, and so that nothing reaches the parser that it cannot take (it recurses, and overflows its
//! stack at about 700 levels). It knows strings, comments and braces, not what a node is.

use std::collections::HashSet;

use super::problem::{Problem, Span};

/// Braces and comments may be nested this deep.
const MAX_DEPTH: usize = 64;

/// The text of one top-level node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Something in it is wrong, and told: it is not to be parsed.
    pub broken: bool,
}

/// Splits a text. Problems found on the way are added to `problems`.
pub fn split(source: u32, text: &str, problems: &mut Vec<Problem>) -> Vec<Chunk> {
    let mut scan = Scan {
        source,
        text,
        bytes: text.as_bytes(),
        at: 0,
        problems,
        braces: Vec::new(),
        properties: vec![HashSet::new()],
        word: None,
        unended: vec![None],
        broken: false,
        stopped: false,
    };
    let mut chunks = Vec::new();
    while scan.skip_between() {
        let start = scan.at;
        scan.broken = false;
        scan.node();
        chunks.push(Chunk {
            start,
            end: scan.at,
            broken: scan.broken,
        });
    }
    chunks
}

struct Scan<'a> {
    source: u32,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    problems: &'a mut Vec<Problem>,
    /// Where each open brace is.
    braces: Vec<usize>,
    /// Names of properties of the node at each depth.
    properties: Vec<HashSet<&'a str>>,
    /// The last word or string, which a `=` makes a property.
    word: Option<(usize, usize)>,
    /// Where the last word of an unended node ends, at each depth.
    unended: Vec<Option<usize>>,
    broken: bool,
    stopped: bool,
}

impl Scan<'_> {
    fn looking_at(&self, text: &str) -> bool {
        self.bytes[self.at..].starts_with(text.as_bytes())
    }

    fn problem(
        &mut self,
        code: &'static str,
        message: &str,
        at: (usize, usize),
        label: &str,
        help: &str,
    ) {
        let span = Span {
            source: self.source,
            start: at.0 as u32,
            end: at.1 as u32,
        };
        self.problems
            .push(Problem::error(code, message).label(span, label).help(help));
        self.broken = true;
    }

    /// Skips to the next top-level node. False at the end.
    fn skip_between(&mut self) -> bool {
        while self.at < self.bytes.len() && !self.stopped {
            match self.bytes[self.at] {
                b'/' if self.looking_at("//") => self.line_comment(),
                b'/' if self.looking_at("/*") => self.block_comment(),
                b if b.is_ascii_whitespace() || b == b';' => self.at += 1,
                _ if self.looking_at("\u{feff}") => self.at += 3,
                b'}' => {
                    let at = (self.at, self.at + 1);
                    self.problem(
                        "plan::brace",
                        "a `}` closes nothing",
                        at,
                        "no `{` before it",
                        "take it away, or open its node with `{`",
                    );
                    self.at += 1;
                }
                _ => return true,
            }
        }
        false
    }

    /// To the end of one top-level node, its line break or `;` not included.
    fn node(&mut self) {
        self.properties = vec![HashSet::new()];
        self.unended = vec![None];
        self.word = None;
        while self.at < self.bytes.len() && !self.stopped {
            match self.bytes[self.at] {
                b'\n' | b'\r' | b';' if self.braces.is_empty() => return,
                b'\n' | b'\r' | b';' => {
                    self.end_of_node();
                    self.at += 1;
                }
                b'/' if self.looking_at("//") => self.line_comment(),
                b'/' if self.looking_at("/*") => self.block_comment(),
                b'\\' => self.continuation(),
                b'"' => self.string(),
                b'#' => self.hash(),
                b'r' if self.word_starts() && self.is_raw_string() => self.raw_string(1),
                b'{' => self.open(),
                b'}' if self.braces.is_empty() => return,
                b'}' => self.close(),
                b'=' => self.property(),
                b' ' | b'\t' | b'(' | b')' => {
                    self.at += 1;
                    self.word = None;
                }
                _ => self.word(),
            }
        }
        if let Some(&open) = self.braces.first().filter(|_| !self.stopped) {
            self.problem(
                "plan::brace",
                "a `{` is never closed",
                (open, open + 1),
                "opened here",
                "close it with `}`",
            );
            self.braces.clear();
        }
    }

    fn end_of_node(&mut self) {
        if let Some(properties) = self.properties.last_mut() {
            properties.clear();
        }
        if let Some(unended) = self.unended.last_mut() {
            *unended = None;
        }
        self.word = None;
    }

    fn line_comment(&mut self) {
        while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0;
        while self.at < self.bytes.len() {
            if self.looking_at("/*") {
                depth += 1;
                self.at += 2;
                if depth > MAX_DEPTH {
                    self.too_deep((start, start + 2), "comments");
                    return;
                }
            } else if self.looking_at("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
        self.problem(
            "plan::comment",
            "a comment is never closed",
            (start, start + 2),
            "opened here",
            "close it with `*/`",
        );
    }

    fn too_deep(&mut self, at: (usize, usize), what: &str) {
        let message = format!("{what} are nested deeper than {MAX_DEPTH} levels");
        self.problem(
            "plan::depth",
            &message,
            at,
            "from here",
            "a plan needs five levels at most: is this the right file?",
        );
        self.stopped = true;
    }

    fn open(&mut self) {
        if self.braces.len() >= MAX_DEPTH {
            self.too_deep((self.braces[0], self.braces[0] + 1), "nodes");
            return;
        }
        self.braces.push(self.at);
        self.properties.push(HashSet::new());
        self.unended.push(None);
        self.word = None;
        self.at += 1;
    }

    fn close(&mut self) {
        self.braces.pop();
        self.properties.pop();
        if let Some(Some(end)) = self.unended.pop() {
            let help = "the last child ends with `;` or a line break too: cluster \"east\" { network \"n1\"; }";
            self.problem(
                "plan::unended",
                "a child is not ended before `}`",
                (end, end),
                "write `;` here",
                help,
            );
        }
        self.word = None;
        self.at += 1;
        self.took();
    }

    /// A word, string or block ends here; its node does not yet.
    fn took(&mut self) {
        let at = self.at;
        if let Some(unended) = self.unended.last_mut() {
            *unended = Some(at);
        }
    }

    /// `\` before a line break continues the node on the next line.
    fn continuation(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\n' => {
                    self.at += 1;
                    return;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.looking_at("//") => self.line_comment(),
                _ => return,
            }
        }
    }

    fn string(&mut self) {
        let start = self.at;
        if self.looking_at("\"\"\"") {
            self.problem(
                "plan::string",
                "a string in triple quotes is KDL 2's alone",
                (start, start + 3),
                "this string",
                ONE_LINE,
            );
            self.at += 3;
            let rest = self.text[self.at..].find("\"\"\"");
            self.at = rest.map_or(self.bytes.len(), |n| self.at + n + 3);
            return;
        }
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    self.word = Some((start, self.at));
                    self.took();
                    return;
                }
                b'\n' => break,
                0 => {
                    self.problem(
                        "plan::string",
                        "a string holds a NUL",
                        (self.at, self.at + 1),
                        "here",
                        "take it away",
                    );
                    self.at += 1;
                }
                b'\\' => self.escape(),
                _ => self.at += 1,
            }
        }
        let end = self.at.max(start + 1);
        self.problem(
            "plan::string",
            "a string is not closed on its line",
            (start, end),
            "opened here",
            ONE_LINE,
        );
    }

    fn escape(&mut self) {
        let at = (self.at, (self.at + 2).min(self.bytes.len()));
        if self.looking_at("\\/") {
            self.problem(
                "plan::string",
                "`\\/` is an escape of KDL 1 alone",
                at,
                "here",
                "write `/`",
            );
        } else if self.looking_at("\\u{") {
            let digits = self.text[self.at + 3..]
                .split('}')
                .next()
                .unwrap_or_default();
            if !digits.is_empty() && digits.bytes().all(|b| b == b'0') {
                self.problem(
                    "plan::string",
                    "a string holds a NUL",
                    at,
                    "here",
                    "take it away",
                );
            }
        }
        // A line break is the string's end, whatever stands before it.
        self.at += if self.bytes.get(self.at + 1).is_none_or(|b| *b == b'\n') {
            1
        } else {
            2
        };
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
    }

    fn word_starts(&self) -> bool {
        self.at == 0
            || matches!(
                self.bytes[self.at - 1],
                b' ' | b'\t' | b'\n' | b'\r' | b'=' | b';' | b'{' | b')' | b'}'
            )
    }

    fn is_raw_string(&self) -> bool {
        let rest = self.text[self.at + 1..].trim_start_matches('#');
        rest.starts_with('"')
    }

    /// `#"raw"#`, `#true`, `#null` of KDL 2.
    fn hash(&mut self) {
        if self.word_starts()
            && self.text[self.at..]
                .trim_start_matches('#')
                .starts_with('"')
        {
            self.raw_string(0);
            return;
        }
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest
            .find(|c: char| c.is_whitespace() || ";{}()=\"".contains(c))
            .unwrap_or(rest.len())
            .max(1);
        self.at += length;
        let message = format!("`{}` is KDL 2's alone", &rest[..length]);
        self.problem(
            "plan::value",
            &message,
            (start, self.at),
            "here",
            "values are quoted strings and integers: write \"true\" where a word is meant",
        );
    }

    fn raw_string(&mut self, prefix: usize) {
        let start = self.at;
        let body = start + prefix;
        let hashes = self.text[body..].bytes().take_while(|b| *b == b'#').count();
        let close = format!("\"{}", "#".repeat(hashes));
        let from = body + hashes + 1;
        self.at = self.text[from..]
            .find(&close)
            .map_or(self.bytes.len(), |n| from + n + close.len());
        let end = self.text[start..self.at]
            .find('\n')
            .map_or(self.at, |n| start + n);
        self.problem(
            "plan::string",
            "raw strings are written otherwise in KDL 1 and in KDL 2",
            (start, end),
            "this string",
            "write \"…\" with `\\\\` and `\\\"` inside",
        );
    }

    fn word(&mut self) {
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest
            .find(|c: char| c.is_whitespace() || ";{}()=\"/\\#".contains(c))
            .unwrap_or(rest.len());
        // A `/` or `#` within a word is no comment; one character at least is taken.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        self.at += length.max(first);
        self.word = Some((start, self.at));
        self.took();
    }

    fn property(&mut self) {
        self.at += 1;
        let Some((start, end)) = self.word.take() else {
            return;
        };
        let name = self.text[start..end].trim_matches('"');
        let new = self
            .properties
            .last_mut()
            .is_none_or(|names| names.insert(name));
        if !new {
            let message = format!("property `{name}` is given twice");
            self.problem(
                "plan::twice",
                &message,
                (start, end),
                "the second time",
                "keep one of them",
            );
        }
    }
}

const ONE_LINE: &str =
    "a string begins and ends with `\"` on one line; `\\n` stands for a line break";
