//! Words of a plan to values: durations, names, versions. Each says what is wrong with a word and what
//! to write instead; none knows where the word stands.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::model::{IstioVersion, KeyAlgorithm, Validity};

/// What is wrong with a word, and what to write.
pub type Wrong = (String, String);

/// The longest validity: a century.
const MAX_DAYS: u64 = 36_500;

/// The newest release line whose dialect is known (facts §0).
const NEWEST_ISTIO: u16 = 31;

/// `730d`, `36h`, `90m`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let help = "write a number and d, h or m, such as \"730d\"".to_owned();
    let unit = text.chars().last().unwrap_or(' ');
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        _ => return Err((format!("`{text}` is no duration"), help)),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err((format!("`{text}` is no duration"), help));
    }
    let too_long = || {
        (
            format!("`{text}` is too long"),
            format!("at most \"{MAX_DAYS}d\", a century"),
        )
    };
    let number: u64 = digits.parse().map_err(|_| too_long())?;
    match number.checked_mul(seconds) {
        Some(0) => Err((format!("`{text}` is no time at all"), help)),
        Some(total) if total <= MAX_DAYS * 86_400 => Ok(Duration::from_secs(total)),
        _ => Err(too_long()),
    }
}

/// A duration, or an RFC 3339 date (with or without its time of day).
pub fn validity(text: &str) -> Result<Validity, Wrong> {
    if !text.contains('-') || text.starts_with('-') {
        return duration(text).map(Validity::For);
    }
    let full = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    match OffsetDateTime::parse(&full, &Rfc3339) {
        Ok(date) if (1950..=9998).contains(&date.year()) => {
            Ok(Validity::Until(date.to_offset(time::UtcOffset::UTC)))
        }
        _ => Err((
            format!("`{text}` is no date"),
            "write \"730d\", or an RFC 3339 date such as \"2030-12-31\"".to_owned(),
        )),
    }
}

/// `rsa-4096` and its kin.
pub fn key_algorithm(text: &str) -> Result<KeyAlgorithm, Wrong> {
    let found = KeyAlgorithm::ALL.into_iter().find(|a| a.name() == text);
    found.ok_or_else(|| {
        let names = KeyAlgorithm::ALL.map(KeyAlgorithm::name);
        let near = super::suggest(text, names)
            .map(|n| format!("did you mean \"{n}\"? "))
            .unwrap_or_default();
        (
            format!("`{text}` is no kind of key"),
            format!("{near}there are {}", names.join(", ")),
        )
    })
}

/// `1.30`, `1.30.3`.
pub fn istio_version(text: &str) -> Result<IstioVersion, Wrong> {
    let help = format!("write a release line from \"1.4\" to \"1.{NEWEST_ISTIO}\"");
    let numbers: Vec<Option<u16>> = text.split('.').map(|n| n.parse().ok()).collect();
    let version = match numbers.as_slice() {
        [Some(major), Some(minor)] | [Some(major), Some(minor), Some(_)] => IstioVersion {
            major: *major,
            minor: *minor,
        },
        _ => return Err((format!("`{text}` is no version of Istio"), help)),
    };
    if version.major == 1 && version.minor >= 4 {
        Ok(version)
    } else {
        Err((
            format!("Istio {text} is not among those whose dialect is known"),
            help,
        ))
    }
}

/// A DNS-1123 label: what Kubernetes takes for a name, and what is safe as a folder.
pub fn dns_label(text: &str) -> Result<(), Wrong> {
    let rule = "write lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit";
    let wrong = |cause: String| Err((cause, rule.to_owned()));
    if text.is_empty() {
        return wrong("a name is empty".to_owned());
    }
    if text == ".meshplan" {
        return wrong("`.meshplan` is meshplan's own folder".to_owned());
    }
    if text.contains(['/', '\\']) || text == "." || text == ".." {
        return wrong(format!(
            "`{text}` is a path, and would lead out of the work directory"
        ));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        return wrong(format!(
            "`{text}` has `{c}` (U+{:04X}), which only looks like a letter of a name",
            u32::from(c)
        ));
    }
    if text.len() > 63 {
        return wrong(format!("`{text}` has {} characters", text.len()));
    }
    let lower = text.to_ascii_lowercase();
    let fits = |t: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        t.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && ends(t.chars().next())
            && ends(t.chars().last())
    };
    match (fits(text), fits(&lower)) {
        (true, _) => Ok(()),
        (false, true) => Err((
            format!("`{text}` has upper-case letters"),
            format!("did you mean \"{lower}\"? {rule}"),
        )),
        (false, false) => wrong(format!(
            "`{}` is no name for Kubernetes",
            text.escape_debug()
        )),
    }
}

/// A label's value, as `topology.istio.io/network` has it.
pub fn label_value(text: &str) -> Result<(), Wrong> {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        Ok(())
    } else {
        let help = "write letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or digit".to_owned();
        Err((
            format!("`{}` cannot be the value of a label", text.escape_debug()),
            help,
        ))
    }
}

/// A DNS name. A wildcard is none: RFC 5280 §4.2.1.6 gives it no meaning in a certificate's name.
pub fn dns_name(text: &str) -> Result<(), Wrong> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(())
    } else {
        Err((
            format!("`{}` is no DNS name", text.escape_debug()),
            "write a name such as \"istiod.istio-system.svc\"".to_owned(),
        ))
    }
}

/// A mesh ID, a context: any text that can be shown.
pub fn shown(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        Err(("it is empty".to_owned(), "write a name".to_owned()))
    } else if text.chars().any(char::is_control) {
        Err((
            format!("`{}` has control characters", text.escape_debug()),
            "write letters, digits and signs only".to_owned(),
        ))
    } else {
        Ok(())
    }
}

/// An attribute of a subject (RFC 5280 A.1: ub-organization-name and ub-common-name are 64).
pub fn attribute(text: &str) -> Result<(), Wrong> {
    match text.chars().count() {
        _ if text.chars().any(char::is_control) => Err((
            format!("`{}` has control characters", text.escape_debug()),
            "write plain text".to_owned(),
        )),
        n if n > 64 => Err((
            format!("it has {n} characters"),
            "RFC 5280 allows 64".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// A task's name: one that can be typed as a target.
pub fn task_name(text: &str) -> Result<(), Wrong> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '=' || c == '/';
    if text.is_empty() || text.starts_with('-') || text.contains(bad) {
        let help =
            "write a name without blanks, `=` and `/`, and not beginning with `-`".to_owned();
        Err((
            format!("`{}` cannot be typed as a target", text.escape_debug()),
            help,
        ))
    } else {
        Ok(())
    }
}

/// The name of a variable.
pub fn variable(text: &str) -> Result<(), Wrong> {
    let first = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(())
    } else {
        Err((
            format!("`{}` is no name of a variable", text.escape_debug()),
            "write letters, digits and `_`, not beginning with a digit".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_positive_have_a_unit_and_end_within_a_century() {
        assert_eq!(duration("90m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(duration("36500d").unwrap().as_secs(), MAX_DAYS * 86_400);
        for wrong in [
            "",
            "d",
            "0d",
            "-1d",
            "10",
            "10y",
            "1.5d",
            "36501d",
            "1000000d",
            "99999999999999999999d",
            "١d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(
            validity("2030-01-01").is_ok()
                && validity("2030-13-01").is_err()
                && validity("-1d").is_err()
        );
    }

    #[test]
    fn names_stay_in_the_work_directory() {
        for wrong in [
            "",
            ".",
            "..",
            "../x",
            "/etc",
            ".meshplan",
            "a/b",
            "a\\b",
            "East",
            "-a",
            "a-",
            "a.b",
            "a\0b",
            "еast",
            &"a".repeat(64),
        ] {
            assert!(dns_label(wrong).is_err(), "{wrong}");
        }
        assert!(dns_label(&"a".repeat(63)).is_ok() && dns_label("1-a").is_ok());
    }
}
