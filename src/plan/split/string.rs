//! Strings, and what looks like one: KDL 1's as they are read, KDL 2's as they are told of.

use std::collections::HashSet;

use super::{MAX_DEPTH, Scan};

const ONE_LINE: &str =
    "a string begins and ends with `\"` on one line; `\\n` stands for a line break";
const ESCAPES: &str = "strings have `\\\"`, `\\\\`, `\\n`, `\\r`, `\\t`, `\\b`, `\\f` and `\\u{…}`";

impl Scan<'_> {
    pub(super) fn string(&mut self) {
        let start = self.at;
        if self.looking_at("\"\"\"") {
            let message = "a string in triple quotes is KDL 2's alone";
            self.problem(
                "plan::string",
                message,
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
                    self.note(start);
                    return;
                }
                b'\n' | b'\r' => break,
                b'\\' => self.escape(),
                _ => self.at += 1,
            }
        }
        let end = self.at.max(start + 1);
        let code = "plan::string";
        if let Some(close) = self.closed_below() {
            let message = "a line break stands in a string";
            self.problem(code, message, (start, end), "opened here", ONE_LINE);
            self.at = close;
            return;
        }
        self.swallowed(start);
        let message = "a string is not closed on its line";
        self.problem(code, message, (start, end), "opened here", ONE_LINE);
    }

    /// Past the quote that closes a string of several lines, where the next line with quotes has an odd
    /// number of them and the first looks like an end: else that quote opens another string.
    fn closed_below(&self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let quote = rest.find('"')?;
        let line = &rest[quote..];
        let line = line.split(['\n', '\r']).next().unwrap_or(line);
        let ends = line[1..]
            .chars()
            .next()
            .is_none_or(|c| " \t;{}".contains(c));
        let odd = line.matches('"').count() % 2 == 1;
        (ends && odd).then_some(self.at + quote + 1)
    }

    /// Most likely the quote was lost before the braces that end the line: they count.
    fn swallowed(&mut self, start: usize) {
        let text = self.text[start..self.at].trim_end_matches([' ', '\t', ';']);
        if !text.ends_with(['{', '}']) {
            return;
        }
        for brace in text.bytes() {
            if brace == b'{' && self.braces.len() < MAX_DEPTH {
                self.braces.push(start);
                self.properties.push(HashSet::new());
                self.unended.push(None);
            } else if brace == b'}' && self.braces.pop().is_some() {
                self.properties.pop();
                self.unended.pop();
            }
        }
    }

    fn escape(&mut self) {
        let next = self.text[self.at + 1..].chars().next();
        // A line break is the string's end, whatever stands before it.
        let length = next
            .filter(|c| !matches!(c, '\n' | '\r'))
            .map_or(0, char::len_utf8);
        let at = (self.at, self.at + 1 + length);
        match next {
            Some('/') => self.problem(
                "plan::string",
                "`\\/` is an escape of KDL 1 alone",
                at,
                "here",
                "write `/`",
            ),
            Some('u') => {
                self.unicode();
                return;
            }
            Some(c) if length > 0 && !"\"\\nrtbfu".contains(c) => {
                let message = format!("`\\{}` is no escape", c.escape_debug());
                self.problem("plan::string", &message, at, "here", ESCAPES);
            }
            _ => {}
        }
        self.at = at.1;
    }

    /// `\u{…}`: of one to six digits, and neither a NUL nor half of a surrogate pair.
    fn unicode(&mut self) {
        let start = self.at;
        self.at += 2;
        let mut digits = "";
        if self.text[self.at..].starts_with('{') {
            let rest = &self.text[self.at + 1..];
            let end = rest.find(|c: char| c.is_whitespace() || "}\"\\".contains(c));
            digits = &rest[..end.unwrap_or(rest.len())];
            self.at += 1 + digits.len();
            if self.text[self.at..].starts_with('}') {
                self.at += 1;
            } else {
                digits = "";
            }
        }
        // `from_str_radix` alone would take a `+`.
        let hex = digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| hex);
        let (message, help) = match code.and_then(char::from_u32) {
            Some('\0') => ("a string holds a NUL".to_owned(), "take it away"),
            Some(_) => return,
            None => (
                format!("`{}` is no character", &self.text[start..self.at]),
                "write `\\u{…}` with the character's number in hexadecimal, such as `\\u{e9}` for é",
            ),
        };
        self.problem("plan::string", &message, (start, self.at), "here", help);
    }

    pub(super) fn is_raw_string(&self) -> bool {
        self.text[self.at + 1..]
            .trim_start_matches('#')
            .starts_with('"')
    }

    /// `#"raw"#`, `#true`, `#null` of KDL 2; in KDL 1 a word may hold `#`.
    pub(super) fn hash(&mut self) {
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
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        let first = before.is_empty() || before.ends_with(['\n', '\r', ';', '{', '}']);
        if first || (self.word_starts() && rest[1..].starts_with([' ', '\t', '#', '\n'])) {
            let (message, help) = ("`#` begins no comment", "write `//`");
            self.problem("plan::comment", message, (start, start + 1), "here", help);
            // What follows is talk.
            self.line_comment();
            return;
        }
        let length = rest
            .find(|c: char| c.is_whitespace() || ";{}()=\"".contains(c))
            .unwrap_or(rest.len())
            .max(1);
        self.at += length;
        let (word, at) = (&rest[..length], (start, start + length));
        let help = match word {
            "#true" | "#false" => {
                let word = &word[1..];
                format!(
                    "write \"{word}\"; in `operator`, where a boolean is meant, (bool)\"{word}\""
                )
            }
            "#null" => "leave the value out".to_owned(),
            _ => {
                "values are strings in quotes, and integers; a comment begins with `//`".to_owned()
            }
        };
        let message = format!(
            "`{}` is not the same to KDL 1 and KDL 2",
            word.escape_debug()
        );
        self.problem("plan::value", &message, at, "here", &help);
    }

    pub(super) fn raw_string(&mut self, prefix: usize) {
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
        let message = "raw strings are written otherwise in KDL 1 and in KDL 2";
        let help = "write \"…\", with `\\\\` and `\\\"` inside";
        self.problem("plan::string", message, (start, end), "this string", help);
    }
}
