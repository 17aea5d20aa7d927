//! Text fit for a terminal: cleaned of control characters, cut, indented, coloured. It knows nothing
//! of events.

use std::{
    borrow::Cow,
    fmt::{Display, Write},
    time::Duration,
};

use unicode_width::UnicodeWidthChar;

/// So many names are listed where a failure may have thousands.
const NAMES: usize = 12;

/// One of the eight ANSI colours, or the bold and dim that every terminal has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    Cyan = 36,
}

/// Colours text, or leaves it alone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn ink(self, ink: Ink, text: impl Display) -> String {
        if self.0 && !text.to_string().is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", ink as u8)
        } else {
            text.to_string()
        }
    }
}

/// Text of unknown origin without escape sequences, control characters and marks that turn the
/// direction of writing; line ends and tabs stay. A terminal shows what it says, and does nothing.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || turns(c));
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            // A progress meter's return to the line's start would let it overwrite what stands there.
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => kept.push('\n'),
            c if harmless(c) => kept.push(c),
            _ => {}
        }
    }
    Cow::Owned(kept)
}

/// As [`clean`], on a single line.
pub(super) fn clean_line(text: &str) -> Cow<'_, str> {
    match clean(text) {
        t if t.contains(['\n', '\t']) => Cow::Owned(t.trim().replace(['\n', '\t'], " ")),
        t => t,
    }
}

/// Bidirectional controls and line separators (Unicode TR9; "Trojan Source").
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What follows an ESC (ECMA-48 §5.3–5.6).
fn skip_escape(rest: &mut Chars) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        // Strings: OSC, DCS, SOS, PM, APC, ended by BEL or ESC \. One without an end takes its line only.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\x07' || (c == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {
            while rest.next_if(|c| (' '..='/').contains(c)).is_some() {}
            rest.next_if(|c| ('0'..='~').contains(c));
        }
    }
}

fn skip_control_sequence(rest: &mut Chars) {
    while rest.next_if(|c| (' '..='?').contains(c)).is_some() {}
    rest.next_if(|c| ('@'..='~').contains(c));
}

/// Columns that a text takes, emoji sequences counted by their parts: terminals differ, and this is
/// the most that any of them takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The text on one line of at most `width` columns, with an ellipsis where something was cut.
pub(super) fn fit(text: &str, width: usize) -> String {
    // Without the emoji selector a symbol is one column wide everywhere; with it terminals differ.
    let text = clean_line(text).replace('\u{fe0f}', "");
    if columns(&text) <= width {
        return text;
    }
    let mut kept = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(char_columns(c)) else {
            break;
        };
        left = rest;
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// A clock for a display: `0:07`, `12:34`, `1:02:03`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 {
        format!("{h}:{m:02}:{s:02}")
    } else {
        format!("{m}:{s:02}")
    }
}

/// A length of time in a sentence: `0.01 s`, `12.3 s`, `3 min 5 s`.
pub(super) fn length(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{:.2} s", millis as f64 / 1000.0),
        10_000..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
    }
}

/// `1 task`, `2 tasks`.
pub(super) fn count(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// A text after a label: its further lines are indented.
pub(super) fn hang(text: &str, indent: &str) -> String {
    let text = clean(text);
    let mut lines = text.trim_end().lines();
    let mut hung = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        hung.push('\n');
        if !line.is_empty() {
            hung.push_str(indent);
            hung.push_str(line);
        }
    }
    hung.push('\n');
    hung
}

/// A text as a block of its own, each line behind a margin.
pub(super) fn block(text: &str, margin: &str) -> String {
    clean(text)
        .trim_end()
        .lines()
        .map(|line| format!("{margin}{line}\n"))
        .collect()
}

/// Names in a row, the first of them where there are many.
pub(super) fn names(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(NAMES)
        .map(|n| clean_line(n))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES {
        let _ = write!(text, " and {} more", names.len() - NAMES);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_control_characters_do_not_reach_the_terminal() {
        let cases = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[31mred\x1b[0m \x1b[2J\x1b[1;1Hx", "red x"),
            (
                "\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1bP1$q\x1b\\c",
                "abc",
            ),
            ("\x1b]never ended\nnext", "\nnext"),
            ("\x1b(Ba\x1b7b\u{9b}31mc\x08\x00\x7f", "abc"),
            ("10%\r20%\r\ndone", "10%\n20%\ndone"),
            ("a\u{202e}b\u{2066}c\u{2028}d", "abc\nd"),
            ("\x1b", ""),
            ("\x1b[", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected, "{text:?}");
        }
        assert_eq!(clean_line("a\nb\tc\n"), "a b c");
    }

    #[test]
    fn a_cut_text_is_never_wider_than_asked() {
        for text in [
            "cluster1/ca-cert.pem",
            "集群一/証明書.pem",
            "👨‍👩‍👧 ❤️ 🚀",
            "e\u{301}e\u{301}",
            "\x1b[1mx\n",
        ] {
            for width in 0..24 {
                let cut = fit(text, width);
                assert!(columns(&cut) <= width, "{cut:?} at {width}");
            }
        }
        assert_eq!(
            (fit("abcdef", 4), fit("集群", 4), fit("集群一", 4)),
            ("abc…".into(), "集群".into(), "集…".into())
        );
    }

    #[test]
    fn times_are_short_and_have_a_unit() {
        assert_eq!(
            [12, 12_345, 65_000].map(length),
            ["0.01 s", "12.3 s", "1 min 5 s"]
        );
        assert_eq!(
            [7, 754, 3723].map(|s| clock(Duration::from_secs(s))),
            ["0:07", "12:34", "1:02:03"]
        );
    }
}
