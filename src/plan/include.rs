//! A plan and all that it includes, as one list of nodes in reading order. It knows `include` and
//! nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    num::NonZero,
    thread,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    MAX_BYTES, Request, Surroundings,
    fields::Checker,
    form::Forms,
    normalize,
    problem::{Problem, Sources, Span},
    split::{Chunk, split},
    syntax::{self, Node},
};

/// Includes may be nested this deep.
const MAX_DEPTH: usize = 16;

const FROM_INCLUDER: &str = "paths start from the folder of the file that includes";

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Top-level nodes but `include`.
    pub nodes: Vec<Node>,
    /// Names of variables that `include` nodes read.
    pub variables: BTreeSet<String>,
    /// Some text could not be read as nodes: what is missing may be in it.
    pub broken: bool,
}

/// Reads the plan and its includes. `words` begin top-level nodes.
pub fn read(
    request: &Request,
    around: &dyn Surroundings,
    words: &[&str],
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> Read {
    let path = normalize(&request.cwd.join(request.file));
    let checker = Checker::new(request, around, problems);
    let mut reader = Reader {
        checker,
        words,
        sources,
        included: HashMap::new(),
        forms: Forms::default(),
        read: Read::default(),
    };
    reader.file(
        &Open {
            name: request.file.to_owned(),
            path,
        },
        None,
        &mut Vec::new(),
    );
    reader.read.variables = reader.checker.variables;
    reader.read
}

/// A file on the way from the plan to what is being read.
struct Open {
    /// As the user would reach it from where the plan was named.
    name: Utf8PathBuf,
    /// Absolute.
    path: Utf8PathBuf,
}

struct Reader<'a> {
    checker: Checker<'a>,
    words: &'a [&'a str],
    sources: &'a mut Sources,
    /// Where each file was included first.
    included: HashMap<Utf8PathBuf, Span>,
    forms: Forms,
    read: Read,
}

impl Reader<'_> {
    /// Reads one file. `stack` holds the files that led here.
    fn file(&mut self, open: &Open, from: Option<Span>, stack: &mut Vec<Open>) {
        let missing = match from {
            Some(_) => FROM_INCLUDER,
            None => "check its name and the folder you are in",
        };
        let text = match text(self.checker.around, &open.path, missing) {
            Ok(text) => text,
            Err(Unread {
                code,
                message,
                help,
            }) => {
                let problem = Problem::error(code, format!("cannot read {}: {message}", open.name))
                    .help(help);
                self.checker.problem(match from {
                    Some(span) => problem.label(span, "included here"),
                    None => problem,
                });
                self.read.broken = true;
                return;
            }
        };
        let source = self.sources.add(open.name.clone(), text);
        let before = self.checker.problems.len();
        let chunks = split(
            source,
            self.sources.text(source),
            self.words,
            self.checker.problems,
        );
        self.read.broken |= self.checker.problems.len() > before;
        let chunks: Vec<_> = chunks.into_iter().filter(|c| !c.broken).collect();
        let parsed = parse(self.sources, source, &chunks, &mut self.forms);
        let parsed = parsed.unwrap_or_else(|e| {
            let message = format!("cannot read {}: {e}", open.name);
            let problem = Problem::error("plan::unreadable", message);
            self.checker
                .problem(problem.help("free some memory, then try again"));
            self.read.broken = true;
            Vec::new()
        });
        for (nodes, mut problems) in parsed {
            self.read.broken |= !problems.is_empty();
            self.checker.problems.append(&mut problems);
            for node in nodes {
                if node.name == "include" {
                    self.include(&node, open, stack);
                } else {
                    self.read.nodes.push(node);
                }
            }
        }
    }

    fn include(&mut self, node: &Node, open: &Open, stack: &mut Vec<Open>) {
        self.checker.no_annotation(node);
        for pattern in self.checker.texts(node) {
            match glob(self.checker.around, open, &pattern.value) {
                Ok(found) => {
                    stack.push(Open {
                        name: open.name.clone(),
                        path: open.path.clone(),
                    });
                    for next in found {
                        self.included(&next, pattern.span, stack);
                    }
                    stack.pop();
                }
                Err(message) => {
                    let problem = Problem::error("plan::include", message)
                        .label(pattern.span, "included here");
                    self.checker.problem(problem.help(FROM_INCLUDER));
                    self.read.broken = true;
                }
            }
        }
        if node.arguments.is_empty() {
            self.read.broken = true;
        }
    }

    fn included(&mut self, next: &Open, span: Span, stack: &mut Vec<Open>) {
        let way = || {
            stack
                .iter()
                .chain([next])
                .map(|o| o.name.as_str())
                .collect::<Vec<_>>()
                .join(" → ")
        };
        if stack.iter().any(|s| s.path == next.path) {
            let problem = Problem::error(
                "plan::include-loop",
                format!("a file includes itself: {}", way()),
            );
            let help = "take this include away, or narrow its pattern";
            self.checker
                .problem(problem.label(span, "and round again").help(help));
        } else if stack.len() > MAX_DEPTH {
            let problem = Problem::error(
                "plan::include-loop",
                format!("includes are nested deeper than {MAX_DEPTH}: {}", way()),
            );
            self.checker.problem(
                problem
                    .label(span, "included here")
                    .help("include the files from fewer places"),
            );
        } else if let Some(first) = self.included.insert(next.path.clone(), span) {
            let problem =
                Problem::error("plan::include", format!("{} is included twice", next.name));
            let problem = problem
                .label(first, "the first time")
                .label(span, "the second time");
            self.checker.problem(problem.help("keep one of them"));
        } else {
            self.file(next, Some(span), stack);
        }
    }
}

/// The nodes of each chunk with its problems.
type Parsed = (Vec<Node>, Vec<Problem>);

/// Parses what is of no known form, then takes the rest for what it is.
///
/// # Errors
/// As of `parse_all`.
fn parse(
    sources: &Sources,
    source: u32,
    chunks: &[Chunk],
    forms: &mut Forms,
) -> io::Result<Vec<Parsed>> {
    let text = sources.text(source);
    let mut read: Vec<Option<Parsed>> = chunks.iter().map(|_| None).collect();
    let first = forms.unknown(text, chunks);
    for (place, parsed) in parse_all(sources, source, chunks, &first)? {
        if parsed.1.is_empty() {
            forms.learn(text, &chunks[place], &parsed.0);
        }
        read[place] = Some(parsed);
    }
    let mut rest = Vec::new();
    for (place, chunk) in chunks.iter().enumerate() {
        if read[place].is_none() {
            let nodes = forms.cast(source, text, chunk);
            read[place] = nodes.map(|nodes| (nodes, Vec::new()));
            rest.extend(read[place].is_none().then_some(place));
        }
    }
    for (place, parsed) in parse_all(sources, source, chunks, &rest)? {
        read[place] = Some(parsed);
    }
    Ok(read.into_iter().flatten().collect())
}

/// Bytes of a stack that the parser cannot overflow at the depth that `split` lets through: it recurses, and
/// takes some 100 KiB a level where it is not optimised.
const STACK: usize = 64 * 1024 * 1024;

/// Chunks to parse that a thread is worth.
const WORTH: usize = 64;

/// Parses the chunks at these places, on all cores where they are many.
///
/// # Errors
/// There is no room for a thread, or the parser gave up.
fn parse_all(
    sources: &Sources,
    source: u32,
    chunks: &[Chunk],
    places: &[usize],
) -> io::Result<Vec<(usize, Parsed)>> {
    let one = |place: &usize| {
        let mut problems = Vec::new();
        let nodes = syntax::parse(sources, source, &chunks[*place], &mut problems);
        (*place, (nodes, problems))
    };
    let all = |places: &[usize]| places.iter().map(one).collect::<Vec<_>>();
    // To be told of the cores costs as much as to parse some of these.
    let cores = match places.len() {
        ..=WORTH => 1,
        _ => thread::available_parallelism().map_or(1, NonZero::get),
    };
    let share = places.len().div_ceil(cores).max(WORTH);
    thread::scope(|scope| {
        let all = &all;
        let threads: Vec<_> = places
            .chunks(share)
            .map(|part| {
                let builder = thread::Builder::new().stack_size(STACK);
                builder.spawn_scoped(scope, move || all(part))
            })
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let gave_up = |_| io::Error::other("the parser gave up");
            thread.and_then(|thread| thread.join().map_err(gave_up))
        });
        // All are waited for before one's error is told.
        let ended: Vec<_> = ended.collect();
        let parsed: Vec<_> = ended.into_iter().collect::<io::Result<_>>()?;
        Ok(parsed.into_iter().flatten().collect())
    })
}

/// Why a text could not be had.
pub(super) struct Unread {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// A file's text, refused before it is read where it is too large. `missing` helps where there is none.
pub(super) fn text(
    around: &dyn Surroundings,
    path: &Utf8Path,
    missing: &'static str,
) -> Result<String, Unread> {
    let unreadable = |e: io::Error| Unread {
        code: "plan::unreadable",
        message: e.to_string(),
        help: if e.kind() == io::ErrorKind::NotFound {
            missing
        } else {
            "make it a file that this user can read"
        },
    };
    let size = around.len(path).map_err(unreadable)?;
    if size > MAX_BYTES {
        let message = format!(
            "it has {} MiB, and at most {} are read",
            size.div_ceil(1 << 20),
            MAX_BYTES >> 20
        );
        return Err(Unread {
            code: "plan::size",
            message,
            help: "is this the right file? A large mesh can be split with `include`",
        });
    }
    let mut bytes = around.read(path).map_err(unreadable)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|e| Unread {
        code: "plan::utf8",
        message: format!(
            "it is not UTF-8 from byte {} on",
            e.utf8_error().valid_up_to()
        ),
        help: "save it as UTF-8",
    })
}

/// Files that a pattern names: `*` and `?` in its last part, sorted. A pattern that finds none is a mistake.
fn glob(around: &dyn Surroundings, open: &Open, pattern: &str) -> Result<Vec<Open>, String> {
    let here = Utf8Path::new("");
    let dir = |p: &Utf8Path| p.parent().unwrap_or(here).to_owned();
    let (name, path) = (
        dir(&open.name).join(pattern),
        normalize(&dir(&open.path).join(pattern)),
    );
    let Some(last) = Utf8Path::new(pattern).file_name() else {
        return Err(format!("`{pattern}` names no file"));
    };
    let (folder, shown) = (dir(&path), dir(&name));
    if Utf8Path::new(pattern)
        .parent()
        .is_some_and(|p| p.as_str().contains(['*', '?']))
    {
        return Err(format!(
            "`{pattern}` has `*` or `?` in a folder's name; only a file's may"
        ));
    }
    if !last.contains(['*', '?']) {
        return Ok(vec![Open { name, path }]);
    }
    let names = around
        .list(&folder)
        .map_err(|e| format!("cannot look for `{pattern}`: {e}"))?;
    let wanted: Vec<char> = last.chars().collect();
    let mut found: Vec<_> = names
        .iter()
        .filter(|n| matches(&wanted, &n.chars().collect::<Vec<_>>()))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(format!("`{pattern}` finds no file"));
    }
    Ok(found
        .into_iter()
        .map(|n| Open {
            name: shown.join(n),
            path: folder.join(n),
        })
        .collect())
}

/// As a shell matches, but for brackets; a leading dot needs a dot.
fn matches(pattern: &[char], name: &[char]) -> bool {
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    // After a mismatch, the last `*` takes one character more.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let matches = |p: &str, n: &str| {
            matches(
                &p.chars().collect::<Vec<_>>(),
                &n.chars().collect::<Vec<_>>(),
            )
        };
        assert!(
            matches("*.kdl", "a.kdl")
                && matches("a*b?", "axxbbc")
                && matches("*", "x")
                && matches("?é", "éé")
        );
        assert!(
            !matches("*.kdl", ".kdl")
                && !matches("a*b", "abc")
                && !matches("?", "")
                && !matches("a", "b")
        );
    }
}
