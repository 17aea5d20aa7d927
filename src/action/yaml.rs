//! Data to YAML that YAML 1.1 and 1.2 read alike. It knows nothing of what the data is for.

use std::borrow::Cow;

use serde_json::Value;

/// Writes a map or list in block style, `depth` levels in; `begun` where its first line has its indent.
///
/// A general YAML writer follows YAML 1.2, in which `no` and `1_000` are strings. istioctl reads
/// YAML 1.1, in which they are not: a cluster called `no` would lose its name. So every string that is
/// not plainly a word is quoted as in JSON, which both read alike.
pub(super) fn write_block(out: &mut String, depth: usize, value: &Value, mut begun: bool) {
    let mut indent = |out: &mut String| {
        if !std::mem::take(&mut begun) {
            (0..depth).for_each(|_| out.push_str("  "));
        }
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                indent(out);
                out.push_str(&quoted(key));
                out.push(':');
                if is_block(value) {
                    out.push('\n');
                    write_block(out, depth + 1, value, false);
                } else {
                    write_scalar(out, value);
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                indent(out);
                out.push('-');
                if is_block(value) {
                    out.push(' ');
                    write_block(out, depth + 1, value, true);
                } else {
                    write_scalar(out, value);
                }
            }
        }
        _ => {}
    }
}

/// Ends a line with what is no block: an empty map or list is none.
fn write_scalar(out: &mut String, value: &Value) {
    out.push(' ');
    match value.as_str() {
        Some(text) => out.push_str(&quoted(text)),
        None => out.push_str(&value.to_string()),
    }
    out.push('\n');
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|m| !m.is_empty())
        || value.as_array().is_some_and(|l| !l.is_empty())
}

/// A string as YAML 1.1 and 1.2 both read it.
fn quoted(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
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
            write_block(&mut out, 0, &value, false);
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
