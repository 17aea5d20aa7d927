//! Words of a plan to values: durations, names, versions. Each says what is wrong with a word and what
//! to write instead; none knows where the word stands.

use std::time::Duration;

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::model::{DataPlane, IstioVersion, KeyAlgorithm, Validity};

/// What is wrong with a word, and what to write.
pub type Wrong = (String, String);

/// The longest duration: a century.
const MAX_DAYS: u64 = 36_500;

/// The newest release line whose dialect is known (facts, header).
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

/// A duration, or an RFC 3339 date (with or without its time of day). The years are those that a
/// certificate can hold (RFC 5280, 4.1.2.5), and it holds no parts of a second.
pub fn validity(text: &str) -> Result<Validity, Wrong> {
    if !text.contains('-') || text.starts_with('-') {
        return duration(text).map(Validity::For);
    }
    let full = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let date = OffsetDateTime::parse(&full, &Rfc3339).ok();
    let date = date
        .and_then(|d| d.checked_to_offset(UtcOffset::UTC))
        .and_then(|d| d.replace_nanosecond(0).ok());
    match date {
        Some(date) if (1950..=9999).contains(&date.year()) => Ok(Validity::Until(date)),
        Some(_) => Err((
            format!("`{text}` is no date that a certificate can have"),
            DATE.to_owned(),
        )),
        None => Err((
            format!("`{text}` is neither a duration nor a date"),
            DATE.to_owned(),
        )),
    }
}

const DATE: &str = "write \"730d\", or an RFC 3339 date such as \"2030-12-31\"";

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

/// A word as a message shows it.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        "an empty text".to_owned()
    } else {
        format!("`{}`", text.escape_debug())
    }
}

/// What to write for `$NAME` and `${NAME}`, which a shell would have replaced.
fn from_shell(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    let name = name
        .strip_prefix('{')
        .and_then(|n| n.strip_suffix('}'))
        .unwrap_or(name);
    variable(name)
        .is_ok()
        .then(|| format!("a variable is read with (env)\"{name}\""))
}

/// Numbers with dots between them.
pub fn numbers(text: &str) -> Option<Vec<u32>> {
    // `parse` alone would take a `+`.
    let number = |n: &str| {
        n.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| n.parse().ok())?
    };
    text.split('.').map(number).collect()
}

/// `1.30`, `1.30.3`.
pub fn istio_version(text: &str) -> Result<IstioVersion, Wrong> {
    let help = format!("write a release line from \"1.4\" to \"1.{NEWEST_ISTIO}\"");
    let line = match numbers(text).as_deref() {
        Some([major, minor] | [major, minor, _]) => {
            u16::try_from(*major).ok().zip(u16::try_from(*minor).ok())
        }
        _ => None,
    };
    match line {
        Some((1, minor)) if minor >= 4 => Ok(IstioVersion { major: 1, minor }),
        Some(_) => Err((
            format!("Istio {text} is not among those whose dialect is known"),
            help,
        )),
        None => Err((format!("`{text}` is no version of Istio"), help)),
    }
}

const LABEL: &str = "write lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit";

/// The name of a cluster or a workload: a DNS-1123 label, as it becomes a folder and `L=`, and of a cluster
/// `clusterName` and a secret's name.
pub fn cluster_name(text: &str) -> Result<(), Wrong> {
    if text == ".meshplan" {
        return Err((
            "`.meshplan` is meshplan's own folder".to_owned(),
            LABEL.to_owned(),
        ));
    }
    if text.contains(['/', '\\']) || text == "." || text == ".." {
        let cause =
            format!("`{text}` is a path, and the name becomes one folder in the work directory");
        return Err((cause, LABEL.to_owned()));
    }
    dns_label(text)
}

/// A DNS-1123 label: what Kubernetes takes for the name of a namespace.
pub fn dns_label(text: &str) -> Result<(), Wrong> {
    let wrong = |cause: String| Err((cause, LABEL.to_owned()));
    if text.is_empty() {
        return wrong("the name is empty".to_owned());
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        let cause = format!(
            "`{text}` has `{c}` (U+{:04X}), which is none of the letters a to z",
            u32::from(c)
        );
        return wrong(cause);
    }
    if text.len() > 63 {
        return wrong(format!("`{text}` has {} characters", text.len()));
    }
    let lower = text.to_ascii_lowercase();
    let fits = |t: &str| {
        let inner = t
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !t.starts_with('-') && !t.ends_with('-')
    };
    match (fits(text), fits(&lower)) {
        (true, _) => Ok(()),
        (false, true) => Err((
            format!("`{text}` has upper-case letters"),
            format!("did you mean \"{lower}\"? {LABEL}"),
        )),
        (false, false) => {
            let cause = format!("{} is no name for Kubernetes", quoted(text));
            Err((cause, from_shell(text).unwrap_or_else(|| LABEL.to_owned())))
        }
    }
}

/// A DNS-1123 subdomain: what Kubernetes takes for the name of a service account. Each is a segment of a
/// SPIFFE ID's path (SPIFFE-ID 2.2), which may hold other letters and signs too.
pub fn dns_subdomain(text: &str) -> Result<(), Wrong> {
    if text.len() <= 253 && text.split('.').all(|label| dns_label(label).is_ok()) {
        return Ok(());
    }
    let lower = text.to_ascii_lowercase();
    let near = match lower != text && dns_subdomain(&lower).is_ok() {
        true => format!("did you mean \"{lower}\"? "),
        false => String::new(),
    };
    Err((
        format!("{} is no name of a service account", quoted(text)),
        format!("{near}write lower-case letters, digits, `-` and `.`, such as \"default\""),
    ))
}

/// A SPIFFE trust domain (SPIFFE-ID 2.1): lower-case letters, digits, `.`, `-` and `_`.
pub fn trust_domain(text: &str) -> Result<String, Wrong> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(inner)
        && !text.split('.').any(str::is_empty)
    {
        return Ok(text.to_owned());
    }
    let help = "write lower-case letters, digits, `.`, `-` and `_`, such as \"cluster.local\"";
    Err((
        format!("{} is no trust domain", quoted(text)),
        help.to_owned(),
    ))
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
        let help = "write letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or digit";
        let cause = format!("{} cannot be the value of a label", quoted(text));
        Err((cause, from_shell(text).unwrap_or_else(|| help.to_owned())))
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
            format!("{} is no DNS name", quoted(text)),
            "write a name such as \"istiod.istio-system.svc\"".to_owned(),
        ))
    }
}

/// An address that other clusters reach: an IP address, or a host's name.
pub fn address(text: &str) -> Result<String, Wrong> {
    if text.parse::<std::net::IpAddr>().is_ok() || dns_name(text).is_ok() {
        Ok(text.to_owned())
    } else {
        let help = "write an IP address or a host's name".to_owned();
        Err((format!("{} is no address", quoted(text)), help))
    }
}

/// Where other clusters reach an API server. One of this machine's own means another server there, or none
/// (istio#58047).
pub fn api_server(text: &str) -> Result<String, Wrong> {
    let host = text.strip_prefix("https://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    if address(name).is_err() {
        let help = "write its URL, such as \"https://api.east.example:6443\"".to_owned();
        Err((format!("{} is no API server", quoted(text)), help))
    } else if is_loopback(name) {
        let help = "write an address that the other clusters reach".to_owned();
        Err((
            format!("{} is another machine to every other cluster", quoted(text)),
            help,
        ))
    } else {
        Ok(text.to_owned())
    }
}

/// True for a host that means the asking machine itself.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// What carries the workloads' traffic.
pub fn data_plane(text: &str) -> Result<DataPlane, Wrong> {
    match text {
        "sidecar" => Ok(DataPlane::Sidecar),
        "ambient" => Ok(DataPlane::Ambient),
        _ => Err((
            format!("{} is no data plane", quoted(text)),
            "write \"sidecar\" or \"ambient\"".to_owned(),
        )),
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
            "write at most 64, which is what RFC 5280 allows".to_owned(),
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
    } else if text.is_empty() {
        Err((
            "the name of the variable is empty".to_owned(),
            "write (env)\"NAME\", or (env)\"NAME:-fallback\"".to_owned(),
        ))
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
        let end = |text: &str| validity(text).map(|v| v.to_string());
        assert_eq!(
            end("2030-01-01T02:00:00.5+02:00").unwrap(),
            "2030-01-01T00:00:00Z"
        );
        assert_eq!(
            end("9999-12-31T23:59:59Z").unwrap(),
            "9999-12-31T23:59:59Z",
            "RFC 5280: no known end"
        );
        for wrong in [
            "2030-13-01",
            "-1d",
            "9999-12-31T23:59:59-01:00",
            "1949-12-31",
        ] {
            assert!(validity(wrong).is_err(), "{wrong}");
        }
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
            assert!(cluster_name(wrong).is_err(), "{wrong}");
        }
        assert!(cluster_name(&"a".repeat(63)).is_ok() && cluster_name("1-a").is_ok());
        assert!(
            cluster_name("East")
                .unwrap_err()
                .1
                .starts_with("did you mean \"east\"?")
        );
    }

    #[test]
    fn versions_are_digits() {
        assert_eq!(
            istio_version("1.30.3").unwrap(),
            IstioVersion {
                major: 1,
                minor: 30
            }
        );
        for wrong in ["1.3", "2.0", "1", "1.+30", "1.30.0-rc.1", "1.99999", ""] {
            assert!(istio_version(wrong).is_err(), "{wrong}");
        }
    }
}
