//! Text of a plan as it is written: nodes, fields and comments that KDL 1 and KDL 2 both read, whatever they
//! hold. It knows nothing of what a plan means.

use std::fmt::Write;

/// Where the text of a comment is broken.
const WIDTH: usize = 110;

/// A plan's text, as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// A comment, broken into lines; what indents its text indents them all.
    pub(super) fn comment(&mut self, text: &str) {
        let text = harmless(text);
        let indent = text.len() - text.trim_start().len();
        let indent = " ".repeat(indent);
        if text.chars().count() <= WIDTH {
            let _ = writeln!(self.0, "// {text}");
            return;
        }
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(self.0, "// {indent}{line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(self.0, "// {indent}{line}");
    }

    /// A line as it is, for nodes of more than one value.
    pub(super) fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub(super) fn open(&mut self, node: &str, name: &str) {
        let _ = writeln!(self.0, "{node} {} {{", quoted(name));
    }

    pub(super) fn field(&mut self, word: &str, value: &str, why: &str) {
        let field = format!("{word} {}", quoted(value));
        let _ = writeln!(self.0, "    {field:<27} // {}", harmless(why));
    }
}

/// Signs that no plan may hold, and those that would end a comment.
fn is_harmless(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmless(c) { c } else { '?' })
        .collect()
}

/// A string as KDL 1 and KDL 2 both read it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_harmless(c) => out.push(c),
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_stays_where_it_is_put() {
        assert_eq!(quoted("a\"\\\u{202e}é"), "\"a\\\"\\\\\\u{202e}é\"");
        assert_eq!(harmless("O=Ä\nroot-ca\u{2028}"), "O=Ä?root-ca?");
    }
}
