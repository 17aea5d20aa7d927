//! Free changes to `install.yaml`: the children of `operator`, and values files, as trees of data.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::{
    fields::Checker,
    problem::{Problem, Span},
    syntax::{Node, Scalar, Value},
};

/// What an IstioOperator has around its `spec`, into which these changes go.
const AROUND_SPEC: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];

/// Where `operator` gives a value below `values.global`, if it does: the last word that leads to it.
pub(super) fn global_place(operator: &Node, path: &str) -> Option<Span> {
    let mut node = operator;
    let mut words = ["values", "global"]
        .into_iter()
        .chain(path.split('.'))
        .peekable();
    while let Some(word) = words.next() {
        if let Some(child) = node.children.iter().flatten().rfind(|c| c.name == word) {
            node = child;
        } else {
            let property = node.properties.iter().find(|p| p.name == word)?;
            return words.peek().is_none().then_some(property.value.span);
        }
    }
    Some(node.arguments.first().map_or(node.name_span, |v| v.span))
}

impl Checker<'_> {
    /// Children of `operator { … }` as a map.
    pub(super) fn operator(&mut self, node: &Node) -> Option<Json> {
        self.block(node, false);
        let children = node.children.as_deref().unwrap_or_default();
        for child in children
            .iter()
            .filter(|c| AROUND_SPEC.contains(&c.name.as_str()))
        {
            let problem = Problem::error(
                "plan::operator",
                format!("`{}` is outside of the spec", child.name),
            );
            let problem = problem.label(child.name_span, "not part of `spec`");
            self.problem(problem.help(
                "children of `operator` go into `spec`: write operator { profile \"minimal\"; }",
            ));
        }
        Some(Json::Object(self.map(children)))
    }

    fn map(&mut self, nodes: &[Node]) -> Map<String, Json> {
        let mut map = Map::new();
        let mut places: HashMap<&str, Span> = HashMap::new();
        for node in nodes {
            let Some(value) = self.tree(node) else {
                continue;
            };
            if node.name == "-" {
                let problem = Problem::error(
                    "plan::operator",
                    "an entry of a list stands among those of a map",
                );
                let problem = problem.label(node.name_span, "this entry");
                self.problem(problem.help("a list has only children named `-`, a map has none"));
            }
            if let Some(first) = places
                .insert(&node.name, node.name_span)
                .filter(|_| node.name != "-")
            {
                let problem =
                    Problem::error("plan::twice", format!("`{}` is given twice", node.name));
                let problem = problem
                    .label(first, "the first time")
                    .label(node.name_span, "the second time");
                self.problem(
                    problem.help(
                        "keep one of them; a list has several arguments, or children named `-`",
                    ),
                );
            }
            map.insert(node.name.clone(), value);
        }
        map
    }

    /// A node as data: children or properties make a map, children named `-` or several arguments a list, one
    /// argument a scalar (JSON-in-KDL's way, <https://github.com/kdl-org/kdl/blob/1.0.0/JSON-IN-KDL.md>).
    fn tree(&mut self, node: &Node) -> Option<Json> {
        self.no_annotation(node);
        let has_children = node.children.as_ref().is_some_and(|c| !c.is_empty());
        let mixed = [
            has_children,
            !node.properties.is_empty(),
            !node.arguments.is_empty(),
        ]
        .iter()
        .filter(|b| **b)
        .count()
            > 1;
        if mixed {
            let problem = Problem::error(
                "plan::operator",
                format!("`{}` is a value and a map at once", node.name),
            )
            .label(node.span, "here");
            self.problem(
                problem.help("write either a value behind the word, or children in braces"),
            );
            return None;
        }
        if let Some(children) = node.children.as_deref().filter(|_| has_children) {
            if children.iter().all(|c| c.name == "-") {
                return Some(children.iter().filter_map(|c| self.tree(c)).collect());
            }
            return Some(Json::Object(self.map(children)));
        }
        if !node.properties.is_empty() {
            let scalars = node
                .properties
                .iter()
                .filter_map(|p| Some((p.name.clone(), self.scalar(&p.value)?)));
            return Some(Json::Object(scalars.collect()));
        }
        match node.arguments.as_slice() {
            [] => Some(Json::Object(Map::new())),
            [one] => self.scalar(one),
            several => Some(several.iter().filter_map(|v| self.scalar(v)).collect()),
        }
    }

    fn scalar(&mut self, value: &Value) -> Option<Json> {
        if value.annotation.as_ref().is_some_and(|(a, _)| a == "bool") {
            return match &value.literal {
                Scalar::Text(t) if t == "true" => Some(Json::Bool(true)),
                Scalar::Text(t) if t == "false" => Some(Json::Bool(false)),
                _ => {
                    let problem =
                        Problem::error("plan::value", "a (bool) is neither true nor false");
                    let problem = problem.label(value.span, "here");
                    self.problem(problem.help("write (bool)\"true\" or (bool)\"false\""));
                    None
                }
            };
        }
        match (&value.annotation, &value.literal) {
            (None, Scalar::Number(number)) => Some(Json::from(*number)),
            _ => self
                .text_with(value, &["env", "bool"])
                .map(|t| Json::String(t.value)),
        }
    }

    /// A values file's content; an empty one changes nothing.
    pub(super) fn values(&mut self, node: &Node) -> Option<Json> {
        let written = self.text(node)?;
        let path = self.path_of(&node.name, written.clone())?;
        let name = written.value;
        let wrong = |message: String, help: &str| {
            Problem::error("plan::values-file", message)
                .label(path.span, "named here")
                .help(help)
        };
        let text = match super::include::text(
            self.around,
            &path.value,
            "paths start from the plan's folder",
        ) {
            Ok(text) => text,
            Err(unread) => {
                let message = format!("cannot read {name}: {}", unread.message);
                self.problem(wrong(message, unread.help));
                return None;
            }
        };
        let problem = match serde_norway::from_str::<Json>(&text) {
            Ok(Json::Null) => return Some(Json::Object(Map::new())),
            Ok(Json::Object(map)) if map.contains_key("kind") && map.contains_key("spec") => wrong(
                format!("{name} is a whole IstioOperator"),
                "keep what its `spec.values` has; what else its `spec` has goes into operator { … }",
            ),
            Ok(map @ Json::Object(_)) => return Some(map),
            Ok(_) => wrong(
                format!("{name} is no map"),
                "a values file has `key: value` at its top",
            ),
            Err(e) => wrong(
                format!("{name} is not YAML: {e}"),
                "correct it: a values file is what `helm template -f` reads",
            ),
        };
        self.problem(problem);
        None
    }
}
