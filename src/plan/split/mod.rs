//! A plan's text, split at its top-level nodes without the parser: so that one mistake hides nothing
//! else, and so that nothing reaches the parser that it cannot take (it recurses, and overflows its
//! stack at about 700 levels). It knows strings, comments and braces, and finds what only one of KDL 1
//! and KDL 2 reads; it does not know what a node means.

mod string;

use std::collections::HashSet;

use super::{
    characters,
    problem::{Problem, Span},
};

/// Braces and comments may be nested this deep.
const MAX_DEPTH: usize = 64;

/// A text with more mistakes of spelling is no plan.
const MAX_PROBLEMS: usize = 1_000;

/// How often a lost `}` is made up for. Each time the rest is read again.
const MAX_RESUMES: usize = 20;

/// A node that is longer, in characters, is not repeated in a message.
const LONGEST_QUOTED: usize = 40;

/// The text of one top-level node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Something in it is wrong, and told: it is not to be parsed.
    pub broken: bool,
    /// Blanks in whose place a `;` is missing, which is told. Read as `;`, they let the rest be parsed.
    pub missing: Vec<usize>,
}

/// Splits a text. `words` begin top-level nodes: where a `}` is lost, the next of them at the start of a
/// line is where reading goes on. Problems found on the way are added to `problems`.
pub fn split(source: u32, text: &str, words: &[&str], problems: &mut Vec<Problem>) -> Vec<Chunk> {
    let limit = problems.len() + MAX_PROBLEMS;
    let mut scan = Scan {
        source,
        text,
        bytes: text.as_bytes(),
        words,
        at: 0,
        problems,
        limit,
        braces: Vec::new(),
        properties: vec![HashSet::new()],
        word: None,
        unended: vec![None],
        slashed: false,
        next: None,
        resumes: 0,
        missing: Vec::new(),
        broken: false,
        stopped: false,
    };
    let foreign = scan.characters();
    let mut foreign = foreign.into_iter().peekable();
    let mut chunks = Vec::new();
    while scan.skip_between() {
        let start = scan.at;
        let before = scan.problems.len();
        scan.broken = false;
        scan.node();
        if scan.bytes[start] == b'{' && !scan.stopped {
            // What is in it belongs to no node: to complain of that too would be a second mistake.
            scan.problems.truncate(before);
            let at = (start, start + 1);
            let help = "write it on the line of its node: cluster \"east\" {";
            scan.problem(
                "plan::brace",
                "a `{` stands without its node",
                at,
                "no node before it",
                help,
            );
        }
        while foreign.next_if(|at| *at < scan.at).is_some_and(|at| {
            scan.broken |= at >= start;
            true
        }) {}
        chunks.push(Chunk {
            start,
            end: scan.at,
            broken: scan.broken,
            missing: std::mem::take(&mut scan.missing),
        });
    }
    chunks
}

struct Scan<'a> {
    source: u32,
    text: &'a str,
    bytes: &'a [u8],
    words: &'a [&'a str],
    at: usize,
    problems: &'a mut Vec<Problem>,
    limit: usize,
    /// Where each open brace is.
    braces: Vec<usize>,
    /// Names of properties of the node at each depth.
    properties: Vec<HashSet<&'a str>>,
    /// The last word or string, which a `=` makes a property.
    word: Option<(usize, usize)>,
    /// From where to where the words of an unended node are, at each depth.
    unended: Vec<Option<(usize, usize)>>,
    /// A `/-` takes the next word out.
    slashed: bool,
    /// Inside braces: where a top-level node seems to begin, and how many problems there were then.
    next: Option<(usize, usize)>,
    resumes: usize,
    /// Blanks of this node where a `;` is missing.
    missing: Vec<usize>,
    broken: bool,
    stopped: bool,
}

impl Scan<'_> {
    fn looking_at(&self, text: &str) -> bool {
        self.bytes[self.at..].starts_with(text.as_bytes())
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span {
            source: self.source,
            start: start as u32,
            end: end as u32,
        }
    }

    fn problem(
        &mut self,
        code: &'static str,
        message: &str,
        at: (usize, usize),
        label: &str,
        help: &str,
    ) {
        let span = self.span(at.0, at.1);
        self.tell(Problem::error(code, message).label(span, label).help(help));
    }

    fn tell(&mut self, problem: Problem) {
        self.broken = true;
        self.add(problem);
    }

    /// Tells of what the parser can be helped over.
    fn add(&mut self, problem: Problem) {
        if self.stopped {
            return;
        }
        self.problems.push(problem);
        if self.problems.len() >= self.limit {
            let message = format!("the text has more than {MAX_PROBLEMS} mistakes");
            let span = self.span(self.at.min(self.bytes.len()), self.at.min(self.bytes.len()));
            let problem = Problem::error("plan::text", message).label(span, "reading ends here");
            self.problems.push(problem.help("is this the right file?"));
            self.broken = true;
            self.stopped = true;
        }
    }

    /// Tells of characters that no plan holds. Returns where they are.
    fn characters(&mut self) -> Vec<usize> {
        let mut found = Vec::new();
        for foreign in characters::foreign(self.text) {
            let message = format!(
                "{}, U+{:04X}, stands in the text",
                foreign.what,
                u32::from(foreign.character)
            );
            let end = foreign.at + foreign.character.len_utf8();
            self.at = foreign.at;
            self.problem(
                "plan::character",
                &message,
                (foreign.at, end),
                "here",
                foreign.help,
            );
            found.push(foreign.at);
            if self.stopped {
                break;
            }
        }
        self.at = 0;
        found
    }

    /// Skips to the next top-level node. False at the end.
    fn skip_between(&mut self) -> bool {
        while self.at < self.bytes.len() && !self.stopped {
            match self.bytes[self.at] {
                b'/' if self.looking_at("//") => self.line_comment(),
                b'/' if self.looking_at("/*") => self.block_comment(),
                b if b.is_ascii_whitespace() || b == b';' => self.at += 1,
                b'}' => {
                    let at = (self.at, self.at + 1);
                    let help = "take it away, or open its node with `{`";
                    self.problem(
                        "plan::brace",
                        "a `}` closes nothing",
                        at,
                        "no `{` before it",
                        help,
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
        self.slashed = false;
        self.next = None;
        while self.at < self.bytes.len() && !self.stopped {
            match self.bytes[self.at] {
                b'\n' | b'\r' | b';' if self.braces.is_empty() => return,
                b'\n' | b'\r' | b';' => self.end_of_node(),
                b'/' if self.looking_at("//") => self.line_comment(),
                b'/' if self.looking_at("/*") => self.block_comment(),
                b'/' if self.looking_at("/-") => {
                    self.at += 2;
                    self.slashed = true;
                }
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
        if !self.stopped {
            self.unclosed();
        }
    }

    /// At the end of the text, with braces open.
    fn unclosed(&mut self) {
        let Some(&open) = self.braces.first() else {
            return;
        };
        self.braces.clear();
        let resume = self.next.filter(|_| self.resumes < MAX_RESUMES);
        if let Some((next, problems)) = resume {
            // What was found behind it is found again.
            self.problems.truncate(problems);
            self.resumes += 1;
            self.at = next;
        }
        let mut problem = Problem::error("plan::brace", "a `{` is never closed")
            .label(self.span(open, open + 1), "opened here");
        if let Some((next, _)) = resume {
            problem = problem.label(
                self.span(next, next + 1),
                "a `}` is missing before this node",
            );
        }
        self.tell(problem.help("close it with `}`"));
    }

    fn end_of_node(&mut self) {
        if let Some(properties) = self.properties.last_mut() {
            properties.clear();
        }
        if let Some(unended) = self.unended.last_mut() {
            *unended = None;
        }
        self.word = None;
        self.slashed = false;
        let line = self.bytes[self.at] != b';';
        self.at += 1;
        if line && self.next.is_none() {
            let rest = &self.text[self.at..];
            let begins = |word: &&str| {
                rest.strip_prefix(*word)
                    .is_some_and(|r| r.starts_with([' ', '\t', '{']))
            };
            if self.words.iter().any(begins) {
                self.next = Some((self.at, self.problems.len()));
            }
        }
    }

    fn line_comment(&mut self) {
        while self.at < self.bytes.len() && !matches!(self.bytes[self.at], b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let (mut depth, mut nested) = (0, false);
        while self.at < self.bytes.len() {
            if self.looking_at("/*") {
                nested |= depth > 0;
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
        // The rest of the text is comment: to look for braces in it would be a guess.
        let (code, message) = ("plan::comment", "a comment is never closed");
        let help = if nested {
            "comments nest: close every `/*` in it with a `*/` of its own"
        } else {
            "close it with `*/`"
        };
        self.problem(code, message, (start, start + 2), "opened here", help);
        self.braces.clear();
    }

    fn too_deep(&mut self, at: (usize, usize), what: &str) {
        let message = format!("{what} are nested deeper than {MAX_DEPTH} levels");
        let help = "a plan needs few levels: is this the right file?";
        self.problem("plan::depth", &message, at, "from here", help);
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
        self.slashed = false;
        self.at += 1;
    }

    fn close(&mut self) {
        self.braces.pop();
        self.properties.pop();
        if let Some(Some(node)) = self.unended.pop() {
            self.not_ended(node);
        }
        self.word = None;
        self.at += 1;
        self.took(self.at - 1);
    }

    /// Both KDLs differ here: 2 lets `}` end a node, 1 does not.
    fn not_ended(&mut self, (start, end): (usize, usize)) {
        let node = &self.text[start..end];
        let short = node.chars().nth(LONGEST_QUOTED).is_none() && !node.contains(['\n', '\r']);
        let (message, help) = if short {
            (
                format!("a `;` is missing between `{node}` and `}}`"),
                format!("write {node}; }}"),
            )
        } else {
            (
                "a `;` is missing before `}`".to_owned(),
                "write `; }`, or put the `}` on a line of its own".to_owned(),
            )
        };
        let span = self.span(end, end);
        let problem = Problem::error("plan::unended", message).label(span, "`;` is missing here");
        self.add(problem.help(help));
        if matches!(self.bytes.get(end), Some(b' ' | b'\t')) {
            self.missing.push(end);
        } else {
            self.broken = true;
        }
    }

    /// A word, string or block that began at `start` ends here; its node does not yet.
    fn took(&mut self, start: usize) {
        let at = self.at;
        if let Some(unended) = self.unended.last_mut() {
            *unended = Some((unended.map_or(start, |(first, _)| first), at));
        }
    }

    /// `\` before a line break continues the node on the next line.
    fn continuation(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() && !self.stopped {
            match self.bytes[self.at] {
                b'\r' if self.looking_at("\r\n") => self.at += 1,
                b'\n' | b'\r' => {
                    self.at += 1;
                    return;
                }
                b' ' | b'\t' => self.at += 1,
                b'/' if self.looking_at("//") => self.line_comment(),
                b'/' if self.looking_at("/*") => self.block_comment(),
                _ => return,
            }
        }
    }

    fn word_starts(&self) -> bool {
        let before = self.at.checked_sub(1).map(|at| self.bytes[at]);
        before.is_none_or(|b| b" \t\n\r=;{})".contains(&b))
    }

    fn word(&mut self) {
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest
            .find(|c: char| c.is_whitespace() || ";{}()=\"/\\#".contains(c))
            .unwrap_or(rest.len());
        // What no word has is taken alone, for the parser to complain of.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        self.at += length.max(first);
        self.note(start);
    }

    /// Keeps a word or string, which may turn out to be a property's name.
    fn note(&mut self, start: usize) {
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        let value = self.bytes[start] == b'"' || self.bytes.get(self.at) == Some(&b'=');
        if let (false, true, Some(unended)) =
            (value, before.ends_with('"'), self.unended.last_mut())
        {
            // A word behind a value: the node before it lacks its end too, and the parser tells that.
            *unended = None;
        }
        self.took(start);
        self.word = (!std::mem::take(&mut self.slashed)).then_some((start, self.at));
    }

    fn property(&mut self) {
        self.at += 1;
        let Some((start, end)) = self.word.take() else {
            return;
        };
        let name = self.text[start..end].trim_matches('"');
        if name.contains('\\') {
            let (message, help) = (
                "an escape stands in the name of a property",
                "write the name as it is",
            );
            self.problem("plan::string", message, (start, end), "this name", help);
        }
        if self
            .properties
            .last_mut()
            .is_some_and(|names| !names.insert(name))
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str) -> (Vec<&str>, Vec<&'static str>) {
        let mut problems = Vec::new();
        let chunks = split(0, text, &["mesh", "cluster"], &mut problems);
        let sound = chunks
            .into_iter()
            .filter(|c| !c.broken)
            .map(|c| &text[c.start..c.end]);
        (
            sound.collect(),
            problems.into_iter().map(|p| p.code).collect(),
        )
    }

    #[test]
    fn nodes_end_at_line_breaks_and_semicolons_outside_of_braces() {
        let text = "a \"{ ; // \\\" \"; b { c\n d; } // e {\n/* f { /* g */ ; */ /- h \"x\" { i; } \r j \\ /* k */ // l\n  m";
        let (found, codes) = chunks(text);
        assert_eq!(found.len(), 4);
        assert!(
            found[1].starts_with("b {") && found[3].ends_with("  m"),
            "{found:?}"
        );
        assert_eq!(codes, Vec::<&str>::new());
    }

    #[test]
    fn a_lost_brace_and_an_open_string_hide_nothing_behind_them() {
        let (found, codes) =
            chunks("cluster {\n  a \"x\n}\ncluster { b {\n }\ncluster \"c\" { d; }\nmesh");
        assert_eq!(found, ["cluster \"c\" { d; }", "mesh"]);
        assert_eq!(codes, ["plan::string", "plan::brace"]);
    }

    #[test]
    fn what_only_one_kdl_reads_is_told() {
        for (text, code) in [
            ("a #true", "plan::value"),
            ("a \"\"\"b\"\"\"", "plan::string"),
            ("a r#\"b\"#", "plan::string"),
            ("a #\"b\"#", "plan::string"),
            ("a \"\\/\"", "plan::string"),
            ("a \"\\s\"", "plan::string"),
            ("a \"\\u{0}\"", "plan::string"),
            ("a \"b\u{85}c\"", "plan::character"),
            ("a \u{202E}", "plan::character"),
            ("a b=1 \"b\"=2", "plan::twice"),
            ("a {", "plan::brace"),
            ("a /* {", "plan::comment"),
        ] {
            assert_eq!(chunks(text), (vec![], vec![code]), "{text}");
        }
        assert_eq!(chunks("a b=1 /-b=2").1, Vec::<&str>::new());
    }

    #[test]
    fn depth_and_number_of_mistakes_are_bounded() {
        for deep in ["a {".repeat(100_000), "/*".repeat(100_000)] {
            assert_eq!(chunks(&deep).1, ["plan::depth"]);
        }
        assert_eq!(chunks(&"}".repeat(100_000)).1.len(), MAX_PROBLEMS + 1);
    }
}
