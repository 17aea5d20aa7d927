//! Characters that a plan may not hold anywhere: those that KDL 2 refuses, and those that only one of
//! KDL 1 and KDL 2 takes for a line break. It knows nothing of what stands around them.

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Foreign {
    /// Its first byte.
    pub(super) at: usize,
    pub(super) character: char,
    pub(super) what: &'static str,
    pub(super) help: &'static str,
}

/// Finds them in a text, the first one first.
pub(super) fn foreign(text: &str) -> impl Iterator<Item = Foreign> {
    text.char_indices().filter_map(|(at, character)| {
        let (what, help) = wrong(character)?;
        Some(Foreign {
            at,
            character,
            what,
            help,
        })
    })
}

fn wrong(character: char) -> Option<(&'static str, &'static str)> {
    Some(match character {
        '\t' | '\n' | '\r' => return None,
        '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => (
            "a line break of another kind",
            "end lines with a plain line break",
        ),
        '\0' => ("a NUL", "take it away"),
        '\0'..='\u{1F}' | '\u{7F}' => (
            "a control character",
            "take it away; in a string, write `\\u{…}`",
        ),
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => (
            "a character that turns the direction of text",
            "take it away: it makes a plan look like another",
        ),
        '\u{FEFF}' => (
            "a byte order mark",
            "take it away: it may only begin a file",
        ),
        _ => return None,
    })
}
