//! A plan and all that it includes, as one list of nodes in reading order. It knows `include` and
//! nothing else.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    MAX_BYTES, Request, Surroundings, normalize,
    problem::{Problem, Sources, Span},
    split::split,
    syntax::{self, Node, Scalar},
};

/// Includes may be nested this deep.
const MAX_DEPTH: usize = 16;

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Top-level nodes but `include`.
    pub nodes: Vec<Node>,
    /// Some text could not be read as nodes: what is missing may be in it.
    pub broken: bool,
}

/// Reads the plan and its includes.
pub fn read(
    request: &Request,
    around: &dyn Surroundings,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> Read {
    let mut reader = Reader {
        around,
        sources,
        problems,
        read: Read::default(),
    };
    let path = normalize(&request.cwd.join(request.file));
    reader.file(request.file, &path, None, &mut vec![path.clone()]);
    reader.read
}

struct Reader<'a> {
    around: &'a dyn Surroundings,
    sources: &'a mut Sources,
    problems: &'a mut Vec<Problem>,
    read: Read,
}

impl Reader<'_> {
    /// Reads one file. `stack` holds the files that led here, itself last.
    fn file(
        &mut self,
        name: &Utf8Path,
        path: &Utf8Path,
        from: Option<Span>,
        stack: &mut Vec<Utf8PathBuf>,
    ) {
        let text = match text(self.around, path) {
            Ok(text) => text,
            Err(Unread {
                code,
                message,
                help,
            }) => {
                let problem =
                    Problem::error(code, format!("cannot read the plan {name}: {message}"))
                        .help(help);
                self.problems.push(match from {
                    Some(span) => problem.label(span, "included here"),
                    None => problem,
                });
                self.read.broken = true;
                return;
            }
        };
        let source = self.sources.add(name.to_owned(), text);
        let before = self.problems.len();
        let chunks = split(source, self.sources.text(source), self.problems);
        self.read.broken |= self.problems.len() > before;
        let dir = path.parent().unwrap_or(path).to_owned();
        for chunk in chunks.into_iter().filter(|c| !c.broken) {
            let before = self.problems.len();
            let nodes = syntax::parse(self.sources, source, chunk, self.problems);
            self.read.broken |= self.problems.len() > before;
            for node in nodes {
                if node.name == "include" {
                    self.include(&node, name, &dir, stack);
                } else {
                    self.read.nodes.push(node);
                }
            }
        }
    }

    fn include(
        &mut self,
        node: &Node,
        from: &Utf8Path,
        dir: &Utf8Path,
        stack: &mut Vec<Utf8PathBuf>,
    ) {
        if node.arguments.is_empty() || !node.properties.is_empty() || node.children.is_some() {
            self.problems.push(
                Problem::error("plan::include", "`include` takes paths, and nothing else")
                    .label(node.span, "here")
                    .help("write include \"clusters/*.kdl\""),
            );
            return;
        }
        for value in &node.arguments {
            let Scalar::Text(pattern) = &value.literal else {
                self.problems.push(
                    Problem::error("plan::include", "`include` takes paths in quotes")
                        .label(value.span, "here")
                        .help("write include \"clusters/*.kdl\""),
                );
                continue;
            };
            let found = match glob(self.around, dir, pattern) {
                Ok(found) => found,
                Err(message) => {
                    self.problems.push(
                        Problem::error("plan::include", message)
                            .label(value.span, "included here")
                            .help("paths start from the folder of the file that includes"),
                    );
                    self.read.broken = true;
                    continue;
                }
            };
            for path in found {
                self.included(&path, from, dir, value.span, stack);
            }
        }
    }

    fn included(
        &mut self,
        path: &Utf8Path,
        from: &Utf8Path,
        dir: &Utf8Path,
        span: Span,
        stack: &mut Vec<Utf8PathBuf>,
    ) {
        if stack.iter().any(|s| s == path) || stack.len() > MAX_DEPTH {
            let names: Vec<_> = stack
                .iter()
                .map(|s| s.file_name().unwrap_or_default())
                .chain(path.file_name())
                .collect();
            let message = if stack.len() > MAX_DEPTH {
                format!(
                    "includes are nested deeper than {MAX_DEPTH}: {}",
                    names.join(" → ")
                )
            } else {
                format!("a plan includes itself: {}", names.join(" → "))
            };
            self.problems.push(
                Problem::error("plan::include-loop", message)
                    .label(span, "included here")
                    .help("take this include away, or narrow its pattern"),
            );
            return;
        }
        // Named as the user would reach it from where the plan was named.
        let name = path.strip_prefix(dir).map_or_else(
            |_| path.to_owned(),
            |below| from.parent().unwrap_or(Utf8Path::new("")).join(below),
        );
        stack.push(path.to_owned());
        self.file(&name, path, Some(span), stack);
        stack.pop();
    }
}

/// Why a text could not be had.
pub(super) struct Unread {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// A file's text, refused before it is read where it is too large.
pub(super) fn text(around: &dyn Surroundings, path: &Utf8Path) -> Result<String, Unread> {
    let unreadable = |e: io::Error| Unread {
        code: "plan::unreadable",
        message: e.to_string(),
        help: if e.kind() == io::ErrorKind::NotFound {
            "check its name and the folder you are in"
        } else {
            "make it a file that this user can read"
        },
    };
    let size = around.len(path).map_err(unreadable)?;
    if size > MAX_BYTES {
        let message = format!(
            "it has {} MiB, and {} are the limit",
            size / 1024 / 1024,
            MAX_BYTES / 1024 / 1024
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
fn glob(
    around: &dyn Surroundings,
    dir: &Utf8Path,
    pattern: &str,
) -> Result<Vec<Utf8PathBuf>, String> {
    let path = normalize(&dir.join(pattern));
    let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else {
        return Err(format!("`{pattern}` names no file"));
    };
    if parent.as_str().contains(['*', '?']) {
        return Err(format!(
            "`{pattern}` has `*` or `?` in a folder's name; only a file's may"
        ));
    }
    if !last.contains(['*', '?']) {
        return Ok(vec![path]);
    }
    let names = around
        .list(parent)
        .map_err(|e| format!("cannot look for `{pattern}`: {e}"))?;
    let wanted: Vec<char> = last.chars().collect();
    let mut found: Vec<_> = names
        .iter()
        .filter(|n| matches(&wanted, &n.chars().collect::<Vec<_>>()))
        .map(|n| parent.join(n))
        .collect();
    found.sort();
    if found.is_empty() {
        Err(format!("`{pattern}` finds no file"))
    } else {
        Ok(found)
    }
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
