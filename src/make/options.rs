//! make's command line: the options people type, goals and variables, in any order. It knows nothing of
//! what a goal means, nor of what is in the folder.

use std::ffi::OsString;

use camino::Utf8PathBuf;
use lexopt::{Arg, Parser, ValueExt};

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `-C`, in their order: each from the one before it.
    pub directories: Vec<Utf8PathBuf>,
    /// `-f`: the Makefile that is stood in for.
    pub makefile: Option<Utf8PathBuf>,
    /// `-j N`; `None` where no number was given.
    pub jobs: Option<u16>,
    /// `-n`
    pub dry_run: bool,
    /// `-B`
    pub always: bool,
    /// `-k`
    pub keep_going: bool,
    /// `-s`
    pub silent: bool,
    /// Targets, in their order.
    pub goals: Vec<String>,
    /// `NAME=VALUE`, in their order.
    pub variables: Vec<(String, String)>,
    /// `--istio`: the release whose Makefile is meant.
    pub istio: Option<String>,
    /// `--context`: the kubeconfig context that a root is fetched from.
    pub context: Option<String>,
    /// `--allow`: gates.
    pub allow: Vec<String>,
    /// `--explain`
    pub explain: bool,
    /// `--format`
    pub format: Option<String>,
    /// `--color`
    pub color: Option<String>,
    /// `-h`
    pub help: bool,
    /// `-v`
    pub version: bool,
}

/// make's other options, by all their names, with what stands in their way.
const REFUSED: &[(&[&str], &str)] = &[
    (&["b", "m"], "make itself ignores it: leave it out"),
    (
        &["d", "debug", "trace"],
        "`-n` says of every file why it would be built",
    ),
    (
        &["e", "environment-overrides"],
        "variables of the environment count already, as Istio's Makefiles set theirs with ?=",
    ),
    (&["E", "eval"], "no Makefile is executed"),
    (
        &["i", "ignore-errors"],
        "a step that failed is never taken for done; -k goes on with what does not depend on it",
    ),
    (&["I", "include-dir"], "no Makefile is executed"),
    (&["l", "load-average", "max-load"], "-j N limits the work"),
    (
        &["L", "check-symlink-times"],
        "files are judged by what they hold",
    ),
    (
        &["o", "old-file", "assume-old"],
        "files are judged by what they hold",
    ),
    (
        &["O", "output-sync"],
        "lines of tasks that run at once are never mixed: leave it out",
    ),
    (
        &["p", "print-data-base"],
        "no Makefile is executed; `help` names the targets",
    ),
    (
        &["q", "question"],
        "-n says what would be done, and exits with 0",
    ),
    (
        &["r", "no-builtin-rules", "R", "no-builtin-variables"],
        "there are none: leave it out",
    ),
    (
        &["S", "no-keep-going", "stop"],
        "it stops at a failure unless -k is given: leave it out",
    ),
    (
        &["t", "touch"],
        "a certificate does not become current by its date",
    ),
    (
        &["w", "print-directory", "no-print-directory"],
        "folders are not announced: leave it out",
    ),
    (
        &["W", "what-if", "new-file", "assume-new"],
        "files are judged by what they hold; -B builds anew",
    ),
    (
        &["warn-undefined-variables"],
        "unknown variables are warned of always: leave it out",
    ),
];

/// Reads the words after `meshplan make`.
///
/// # Errors
/// A sentence on the first option that is not taken, with its name and what to do instead.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Typed, String> {
    let mut typed = Typed::default();
    let mut parser = Parser::from_args(words);
    let text = |value: Result<OsString, lexopt::Error>| {
        value.and_then(|v| v.string()).map_err(|e| e.to_string())
    };
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let name = match &arg {
            Arg::Value(word) => {
                let word = word
                    .to_str()
                    .ok_or_else(|| format!("{word:?} is not UTF-8"))?;
                typed.word(word)?;
                continue;
            }
            Arg::Short(c) => c.to_string(),
            Arg::Long(name) => (*name).to_owned(),
        };
        match name.as_str() {
            "n" | "just-print" | "dry-run" | "recon" => typed.dry_run = true,
            "B" | "always-make" => typed.always = true,
            "k" | "keep-going" => typed.keep_going = true,
            "s" | "silent" | "quiet" => typed.silent = true,
            "h" | "help" => typed.help = true,
            "v" | "version" => typed.version = true,
            "j" | "jobs" => typed.jobs = jobs(&mut parser)?,
            "C" | "directory" => typed.directories.push(text(parser.value())?.into()),
            "f" | "file" | "makefile" => {
                let file = text(parser.value())?;
                if file == "-" {
                    return Err(
                        "-f -: a Makefile is looked at, never executed; name its file".to_owned(),
                    );
                }
                if typed.makefile.replace(file.into()).is_some() {
                    return Err("-f is given twice: one Makefile at a time".to_owned());
                }
            }
            "explain" => typed.explain = true,
            "istio" => typed.istio = Some(text(parser.value())?),
            "context" => typed.context = Some(text(parser.value())?),
            "allow" => typed
                .allow
                .extend(text(parser.value())?.split(',').map(str::to_owned)),
            "format" => typed.format = Some(text(parser.value())?),
            "color" => typed.color = Some(text(parser.value())?),
            other => return Err(refusal(other)),
        }
    }
    Ok(typed)
}

/// `-j8`, `-j 8`, `--jobs=8`, and `-j` alone, which leaves it to the machine's cores.
fn jobs(parser: &mut Parser) -> Result<Option<u16>, String> {
    let value = match parser.optional_value() {
        Some(value) => Some(value),
        // As make does it: the next word belongs to -j where it is a number.
        None => parser.try_raw_args().and_then(|mut rest| {
            rest.next_if(|word| {
                word.to_str()
                    .is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()))
            })
        }),
    };
    let Some(value) = value else { return Ok(None) };
    match value.to_str().and_then(|v| v.parse::<u16>().ok()) {
        Some(0) | None => Err(format!(
            "-j {}: a number of tasks, at least 1",
            value.to_string_lossy()
        )),
        number => Ok(number),
    }
}

fn refusal(name: &str) -> String {
    let dashed = |name: &str| match name.chars().count() {
        1 => format!("-{name}"),
        _ => format!("--{name}"),
    };
    match REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        Some((names, why)) => {
            let others: Vec<_> = names
                .iter()
                .filter(|n| **n != name)
                .map(|n| dashed(n))
                .collect();
            let also = match others.is_empty() {
                true => String::new(),
                false => format!(" ({})", others.join(", ")),
            };
            format!("make's {}{also} is not taken: {why}", dashed(name))
        }
        None => format!(
            "make has no option {}; `meshplan make --help` names what is taken",
            dashed(name)
        ),
    }
}

impl Typed {
    /// A goal, or a variable: make takes every word with `=` for one.
    fn word(&mut self, word: &str) -> Result<(), String> {
        let Some((name, value)) = word.split_once('=') else {
            self.goals.push(word.to_owned());
            return Ok(());
        };
        // `:=` and `::=` set a variable as `=` does where values are taken as they are.
        let (name, kind) = match name.trim_end_matches(':') {
            bare if bare.len() + 2 >= name.len() => (bare, &name[bare.len()..]),
            _ => (name, ""),
        };
        if let Some(bare) = name
            .strip_suffix(['?', '+', '!'])
            .filter(|_| kind.is_empty())
        {
            return Err(format!(
                "`{word}`: on the command line a variable is set with {}=…",
                bare.trim()
            ));
        }
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("`{word}` names no variable"));
        }
        self.variables
            .push((name.to_owned(), value.trim_start().to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> Result<Typed, String> {
        read(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn words_are_read_as_make_reads_them() -> Result<(), String> {
        let all = typed(
            "-kj 4 cluster1-cacerts -C a -Cb INTERMEDIATE_DAYS=730 -f x/Makefile -B --dry-run root-ca ROOTCA_CN:=a=b",
        )?;
        assert_eq!(
            all,
            Typed {
                directories: vec!["a".into(), "b".into()],
                makefile: Some("x/Makefile".into()),
                jobs: Some(4),
                dry_run: true,
                always: true,
                keep_going: true,
                goals: vec!["cluster1-cacerts".to_owned(), "root-ca".to_owned()],
                variables: vec![
                    ("INTERMEDIATE_DAYS".to_owned(), "730".to_owned()),
                    ("ROOTCA_CN".to_owned(), "a=b".to_owned())
                ],
                ..Typed::default()
            }
        );
        // A word after -j that is no number is a goal; after -- all words are.
        let goals = typed("-j a-cacerts -j16 -- -b-cacerts")?;
        assert_eq!(
            (goals.jobs, goals.goals),
            (
                Some(16),
                vec!["a-cacerts".to_owned(), "-b-cacerts".to_owned()]
            )
        );
        for (words, says) in [
            (
                "-i",
                "make's -i (--ignore-errors) is not taken: a step that failed",
            ),
            ("--touch", "make's --touch (-t) is not taken"),
            ("-x", "make has no option -x"),
            ("-j0", "at least 1"),
            ("-f a -f b", "twice"),
            ("A+=b", "A=…"),
        ] {
            let told = typed(words).err().unwrap_or_default();
            assert!(told.contains(says), "{words}: {told}");
        }
        Ok(())
    }
}
