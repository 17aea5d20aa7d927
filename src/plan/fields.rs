//! Reading a node's fields: which words may stand where, how often, and with what kind of value. It
//! knows the shape of nodes, not what a mesh is.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::{
    Request, Surroundings, normalize,
    problem::{Problem, Span},
    suggest,
    syntax::{Node, Scalar, Value},
    value::Wrong,
};

/// More problems than this are not looked for: a file of another kind would have millions.
const MAX_PROBLEMS: usize = 10_000;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A word that may stand in a node.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) repeats: bool,
}

/// At most once.
pub(super) const fn once(name: &'static str) -> Field {
    Field {
        name,
        repeats: false,
    }
}

/// Any number of times; what it says adds up.
pub(super) const fn often(name: &'static str) -> Field {
    Field {
        name,
        repeats: true,
    }
}

/// Children of a node by their words.
pub(super) type Fields<'n> = HashMap<&'static str, Vec<&'n Node>>;

/// What the walk over the nodes carries along.
pub(super) struct Checker<'a> {
    pub(super) around: &'a dyn Surroundings,
    /// NAME=VALUE of the command line; of two for one name, the last.
    assignments: HashMap<&'a str, &'a str>,
    /// Folder of the plan, absolute: where paths start.
    pub(super) dir: Utf8PathBuf,
    pub(super) problems: &'a mut Vec<Problem>,
    /// Names of variables that the plan reads.
    pub(super) variables: BTreeSet<String>,
    /// Pairs of places that a problem was told of: what many clusters inherit is told once.
    told: HashSet<(&'static str, Span, Span)>,
    /// Where an `operator` node, known by its place, gives a value of that name below `values.global`.
    pub(super) globals: HashMap<(Span, &'static str), Span>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        request: &Request<'a>,
        around: &'a dyn Surroundings,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let file = normalize(&request.cwd.join(request.file));
        let dir = file.parent().unwrap_or(Utf8Path::new("/")).to_owned();
        let assignments = request
            .assignments
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        Self {
            around,
            assignments,
            dir,
            problems,
            variables: BTreeSet::new(),
            told: HashSet::new(),
            globals: HashMap::new(),
        }
    }
}

impl Checker<'_> {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether a problem of these places is still to be told.
    pub(super) fn first_time(&mut self, code: &'static str, one: Span, other: Span) -> bool {
        self.told.insert((code, one, other))
    }

    /// A word's mistake, at its place.
    pub(super) fn wrong<T>(
        &mut self,
        code: &'static str,
        span: Span,
        what: &str,
        result: Result<T, Wrong>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err((cause, help)) => {
                self.problem(
                    Problem::error(code, format!("{what}: {cause}"))
                        .label(span, "here")
                        .help(help),
                );
                None
            }
        }
    }

    /// Sorts children by their words; unknown ones and second ones are problems.
    pub(super) fn fields<'n>(
        &mut self,
        parent: &str,
        nodes: &'n [Node],
        allowed: &[Field],
    ) -> Fields<'n> {
        let mut fields = Fields::new();
        for node in nodes {
            if self.problems.len() > MAX_PROBLEMS {
                let problem = Problem::error(
                    "plan::text",
                    format!("the plan has more than {MAX_PROBLEMS} mistakes"),
                );
                self.problem(
                    problem
                        .label(node.name_span, "checks end here")
                        .help("is this the right file?"),
                );
                break;
            }
            self.no_annotation(node);
            let Some(field) = allowed.iter().find(|f| f.name == node.name) else {
                self.unknown(parent, node, allowed);
                continue;
            };
            let same = fields.entry(field.name).or_default();
            if let (false, Some(first)) = (field.repeats, same.first()) {
                let first: &&Node = first;
                self.problems.push(
                    Problem::error(
                        "plan::twice",
                        format!("`{}` is given twice in {parent}", field.name),
                    )
                    .label(first.name_span, "the first time")
                    .label(node.name_span, "the second time")
                    .help("keep one of them"),
                );
                continue;
            }
            same.push(node);
        }
        fields
    }

    pub(super) fn no_annotation(&mut self, node: &Node) {
        if let Some((annotation, span)) = &node.annotation {
            let problem = Problem::error(
                "plan::annotation",
                format!("a node takes no type annotation, such as `({annotation})`"),
            );
            self.problem(
                problem
                    .label(*span, "here")
                    .help("annotations stand before values: (env)\"NAME\""),
            );
        }
    }

    fn unknown(&mut self, parent: &str, node: &Node, allowed: &[Field]) {
        let names = allowed.iter().map(|f| f.name);
        let near = match (suggest(&node.name, names.clone()), home(&node.name)) {
            (Some(near), _) => format!("did you mean `{near}`? "),
            (None, Some(home)) => format!("`{}` belongs in {home}; ", node.name),
            (None, None) => String::new(),
        };
        let all = names
            .map(|n| format!("`{n}`"))
            .collect::<Vec<_>>()
            .join(", ");
        self.problem(
            Problem::error(
                "plan::unknown-node",
                format!("there is no `{}` in {parent}", node.name),
            )
            .label(node.name_span, "unknown")
            .help(format!("{near}{parent} has {all}")),
        );
    }

    /// A node's settings are its children; it has at most a name before them.
    pub(super) fn block(&mut self, node: &Node, name: bool) {
        self.plain(node, true);
        if let (Some(value), false) = (node.arguments.first(), name) {
            let problem =
                Problem::error("plan::arguments", format!("`{}` takes no value", node.name));
            self.problem(
                problem
                    .label(value.span, "here")
                    .help("write its settings in braces"),
            );
        }
    }

    /// A node's settings are properties.
    pub(super) fn only_properties(&mut self, node: &Node, example: &str) {
        if let Some(value) = node.arguments.first() {
            let problem = Problem::error(
                "plan::arguments",
                format!("`{}` has properties, no value", node.name),
            );
            self.problem(problem.label(value.span, "here").help(example));
        }
        self.childless(node, example);
    }

    fn childless(&mut self, node: &Node, help: &str) {
        if node.children.is_some() {
            let problem = Problem::error(
                "plan::children",
                format!("`{}` takes no children", node.name),
            );
            self.problem(problem.label(node.name_span, "this node").help(help));
        }
    }

    /// No properties, and no children but where they belong.
    pub(super) fn plain(&mut self, node: &Node, children: bool) -> bool {
        for property in &node.properties {
            let message = format!("`{}` takes no property `{}`", node.name, property.name);
            let help = if children {
                let name = match node.arguments.first().map(|v| &v.literal) {
                    Some(Scalar::Text(name)) => format!("\"{}\" ", name.escape_debug()),
                    _ => String::new(),
                };
                format!(
                    "write it as a child: {} {name}{{ {} \"…\"; }}",
                    node.name, property.name
                )
            } else {
                format!("write {} \"…\"", node.name)
            };
            self.problem(
                Problem::error("plan::unknown-property", message)
                    .label(property.name_span, "unknown")
                    .help(help),
            );
        }
        if !children {
            self.childless(node, "take the braces away");
        }
        node.properties.is_empty() && (children || node.children.is_none())
    }

    /// Exactly one argument.
    pub(super) fn argument<'n>(&mut self, node: &'n Node) -> Option<&'n Value> {
        match node.arguments.as_slice() {
            [one] => Some(one),
            found => {
                let span = found.get(1).map_or(node.name_span, |v| v.span);
                let message = match found.len() {
                    0 => format!("`{}` has no value", node.name),
                    many => format!("`{}` takes one value, not {many}", node.name),
                };
                self.problem(
                    Problem::error("plan::arguments", message)
                        .label(span, "here")
                        .help(format!("write {} \"…\"", node.name)),
                );
                None
            }
        }
    }

    /// The one text of a node without anything else.
    pub(super) fn text(&mut self, node: &Node) -> Option<Placed<String>> {
        let plain = self.plain(node, false);
        let value = self.argument(node)?;
        let text = self.text_of(value)?;
        plain.then_some(text)
    }

    /// One or more texts.
    pub(super) fn texts(&mut self, node: &Node) -> Vec<Placed<String>> {
        self.plain(node, false);
        if node.arguments.is_empty() {
            let message = format!("`{}` has no value", node.name);
            self.problem(
                Problem::error("plan::arguments", message)
                    .label(node.name_span, "here")
                    .help(format!("write {} \"…\" \"…\"", node.name)),
            );
        }
        node.arguments
            .iter()
            .filter_map(|v| self.text_of(v))
            .collect()
    }

    /// A path from the plan's folder, made absolute.
    pub(super) fn path(&mut self, node: &Node) -> Option<Placed<Utf8PathBuf>> {
        let text = self.text(node)?;
        self.path_of(&node.name, text)
    }

    pub(super) fn path_of(
        &mut self,
        what: &str,
        text: Placed<String>,
    ) -> Option<Placed<Utf8PathBuf>> {
        if text.value.is_empty() {
            self.problem(
                Problem::error("plan::path", format!("`{what}` is empty"))
                    .label(text.span, "here")
                    .help("write a path from the plan's folder"),
            );
            return None;
        }
        Some(Placed {
            value: normalize(&self.dir.join(&text.value)),
            span: text.span,
        })
    }

    /// One text that must be of some form.
    pub(super) fn word<T>(
        &mut self,
        node: &Node,
        code: &'static str,
        form: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Placed<T>> {
        let text = self.text(node)?;
        let value = self.wrong(code, text.span, &node.name, form(&text.value))?;
        Some(Placed {
            value,
            span: text.span,
        })
    }

    /// A time, which needs its unit.
    pub(super) fn time<T>(
        &mut self,
        node: &Node,
        code: &'static str,
        form: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Placed<T>> {
        if let [
            Value {
                literal: Scalar::Number(number),
                span,
                ..
            },
        ] = node.arguments.as_slice()
        {
            let problem =
                Problem::error(code, format!("`{}` is a number without a unit", node.name));
            let help = if node.name == "timeout" {
                format!("write \"{number}m\", or h or d instead of m")
            } else {
                format!("write \"{number}d\", or h or m instead of d")
            };
            self.problem(problem.label(*span, "here").help(help));
            return None;
        }
        self.word(node, code, form)
    }

    pub(super) fn text_of(&mut self, value: &Value) -> Option<Placed<String>> {
        self.text_with(value, &["env"])
    }

    /// A text, with a variable's value in place of `(env)"NAME"`.
    pub(super) fn text_with(
        &mut self,
        value: &Value,
        annotations: &[&str],
    ) -> Option<Placed<String>> {
        let text = self.literal(value, annotations.contains(&"bool"));
        let Some((annotation, span)) = &value.annotation else {
            return Some(Placed {
                value: text?,
                span: value.span,
            });
        };
        if annotation != "env" {
            let near = suggest(annotation, annotations.iter().copied())
                .map(|n| format!("did you mean ({n})? "));
            let near = near.unwrap_or_default();
            let all = annotations
                .iter()
                .map(|a| format!("({a})"))
                .collect::<Vec<_>>()
                .join(" and ");
            self.problem(
                Problem::error(
                    "plan::annotation",
                    format!("there is no annotation `({annotation})`"),
                )
                .label(*span, "unknown")
                .help(format!(
                    "{near}values take {all}: (env)\"NAME\", (env)\"NAME:-fallback\""
                )),
            );
            return None;
        }
        let (name, found) = self.variable(&text?, value.span)?;
        if found.is_none() {
            let help = format!(
                "export {name}=…, write {name}=… after the plan's name, or give a fallback: (env)\"{name}:-…\""
            );
            let problem = Problem::error("plan::unset", format!("the variable {name} is not set"));
            self.problem(problem.label(value.span, "read here").help(help));
        }
        Some(Placed {
            value: found?,
            span: value.span,
        })
    }

    /// A variable's name, and its value or fallback. As with the shell's `:-`, the fallback is taken also
    /// where the variable is set to nothing.
    pub(super) fn variable(&mut self, text: &str, span: Span) -> Option<(String, Option<String>)> {
        let (name, fallback) = match text.split_once(":-") {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (text, None),
        };
        self.wrong(
            "plan::variable",
            span,
            "(env)",
            super::value::variable(name),
        )?;
        self.variables.insert(name.to_owned());
        let assigned = self.assignments.get(name).map(|v| (*v).to_owned());
        let found = assigned.or_else(|| self.around.var(name));
        let found = match fallback {
            Some(fallback) => Some(
                found
                    .filter(|v| !v.is_empty())
                    .unwrap_or_else(|| fallback.to_owned()),
            ),
            None => found,
        };
        Some((name.to_owned(), found))
    }

    /// A value's text as written; `bool` where a boolean may be meant.
    pub(super) fn literal(&mut self, value: &Value, bool: bool) -> Option<String> {
        let (found, help) = match &value.literal {
            Scalar::Text(text) => return Some(text.clone()),
            Scalar::Number(number) => ("a number", format!("write \"{number}\"")),
            Scalar::Boolean(word) if bool => ("a boolean", format!("write (bool)\"{word}\"")),
            Scalar::Boolean(word) => ("a boolean", format!("write \"{word}\"")),
            Scalar::Other(found, word) if word == "null" => {
                (*found, "leave the node out".to_owned())
            }
            Scalar::Other(found, word) => (*found, format!("write \"{word}\"")),
        };
        let message = format!("{found} stands where a text is wanted");
        self.problem(
            Problem::error("plan::value", message)
                .label(value.span, "here")
                .help(help),
        );
        None
    }
}

/// The node that a word belongs in.
fn home(word: &str) -> Option<&'static str> {
    Some(match word {
        "subject" | "key" | "validity" | "renew-before" => {
            "`root-ca`, `cluster-ca`, a cluster's `ca` or `workload`"
        }
        "dns" | "chain" => "`cluster-ca` or a cluster's `ca`",
        "cert" => "`root-ca`",
        "istio-version" | "work-dir" | "trust-domain" => "`mesh`",
        "namespace" => "`mesh` or `workload`",
        "service-account" => "`workload`",
        "context" | "network" | "remote-of" | "discovery-address" | "ca" => "`cluster`",
        "operator" | "values-file" => "`mesh` or `cluster`",
        "needs" | "input" | "output" | "run" | "dir" | "env" | "timeout" => "`task`",
        "version" | "include" | "mesh" | "root-ca" | "cluster-ca" | "cluster" | "workload"
        | "task" => "the plan itself, outside of braces",
        _ => return None,
    })
}
