//! Free changes to `install.yaml`: the children of `operator`, and values files, as trees of data.

use serde_json::{Map, Value as Json};

use super::{
    fields::Checker,
    problem::Problem,
    syntax::{Node, Scalar, Value},
};

impl Checker<'_> {
    /// Children of `operator { … }` as a map.
    pub(super) fn operator(&mut self, node: &Node) -> Option<Json> {
        if !node.arguments.is_empty() || !node.properties.is_empty() {
            let problem = Problem::error("plan::operator", "`operator` has its content in braces")
                .label(node.span, "here");
            self.problem(problem.help("write operator { profile \"minimal\"; }"));
            return None;
        }
        Some(Json::Object(
            self.map(node.children.as_deref().unwrap_or_default()),
        ))
    }

    fn map(&mut self, nodes: &[Node]) -> Map<String, Json> {
        let mut map = Map::new();
        for node in nodes {
            let Some(value) = self.tree(node) else {
                continue;
            };
            if map.contains_key(&node.name) {
                let problem =
                    Problem::error("plan::twice", format!("`{}` is given twice", node.name))
                        .label(node.name_span, "the second time");
                self.problem(
                    problem.help(
                        "keep one of them; a list has several arguments, or children named `-`",
                    ),
                );
                continue;
            }
            map.insert(node.name.clone(), value);
        }
        map
    }

    /// A node as data: children or properties make a map, children named `-` or several arguments a list, one
    /// argument a scalar (JSON-in-KDL's way, <https://github.com/kdl-org/kdl/blob/1.0.0/JSON-IN-KDL.md>).
    fn tree(&mut self, node: &Node) -> Option<Json> {
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
        if let Some((annotation, _)) = &value.annotation
            && annotation == "bool"
        {
            return match &value.literal {
                Scalar::Text(t) if t == "true" => Some(Json::Bool(true)),
                Scalar::Text(t) if t == "false" => Some(Json::Bool(false)),
                _ => {
                    let problem =
                        Problem::error("plan::value", "a (bool) is neither true nor false")
                            .label(value.span, "here");
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
        let path = self.path(node)?;
        let wrong = |message: String, help: &str| {
            Problem::error("plan::values-file", message)
                .label(path.span, "named here")
                .help(help)
        };
        let text = match super::include::text(self.around, &path.value) {
            Ok(text) => text,
            Err(unread) => {
                self.problem(wrong(
                    format!("cannot read {}: {}", path.value, unread.message),
                    unread.help,
                ));
                return None;
            }
        };
        match serde_norway::from_str::<Json>(&text) {
            Ok(Json::Null) => Some(Json::Object(Map::new())),
            Ok(map @ Json::Object(_)) => Some(map),
            Ok(_) => {
                self.problem(wrong(
                    format!("{} is no map", path.value),
                    "a values file has `key: value` at its top",
                ));
                None
            }
            Err(e) => {
                self.problem(wrong(
                    format!("{} is not YAML: {e}", path.value),
                    "correct it; `helm template -f` reads the same file",
                ));
                None
            }
        }
    }
}
