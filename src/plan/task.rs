//! A step of the user's own: the node `task`. It knows nothing of targets; who makes what is the graph's.

use std::collections::HashMap;

use camino::Utf8PathBuf;

use super::{
    fields::{Checker, Fields, Placed, often, once},
    model::UserTask,
    problem::{Problem, Span},
    syntax::Node,
    value,
};

const RUN: &str = "write run \"program\" \"argument\"; for a shell, run \"sh\" \"-c\" \"…\"";

impl Checker<'_> {
    /// `None` where the task has no sound name.
    pub(super) fn task(&mut self, node: &Node) -> Option<UserTask> {
        self.block(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|name| {
            self.wrong(
                "plan::task-name",
                name.span,
                "task",
                value::task_name(&name.value),
            )?;
            Some(name)
        });
        let words = [
            often("needs"),
            often("input"),
            often("output"),
            once("run"),
            once("dir"),
            often("env"),
            once("timeout"),
        ];
        let fields = self.fields(
            "`task`",
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let needs = self
            .all_texts(&fields, "needs")
            .into_iter()
            .map(|t| (t.value, t.span))
            .collect();
        let inputs = self.all_paths(&fields, "input");
        let outputs = self.all_paths(&fields, "output");
        let mut seen = HashMap::new();
        for (path, span) in &outputs {
            if let Some(first) = seen.insert(path, *span) {
                let problem = Problem::error("plan::twice", "an output is named twice");
                let problem = problem
                    .label(first, "the first time")
                    .label(*span, "the second time");
                self.problem(problem.help("keep one of them"));
            }
        }
        let run: Vec<_> = one("run").map(|n| self.texts(n)).unwrap_or_default();
        if let Some(empty) = run.first().filter(|r| r.value.is_empty()) {
            self.problem(
                Problem::error("plan::run", "the program's name is empty")
                    .label(empty.span, "here")
                    .help(RUN),
            );
        }
        if one("run").is_none() {
            let problem = Problem::error("plan::run", "a task without `run` does nothing");
            self.problem(problem.label(node.name_span, "this task").help(RUN));
        }
        let dir = one("dir")
            .and_then(|n| self.path(n))
            .map_or_else(|| self.dir.clone(), |p| p.value);
        let timeout = one("timeout")
            .and_then(|n| self.time(n, "plan::timeout", value::duration))
            .map(|t| t.value);
        let env = self.task_env(&fields);
        let name = name?;
        Some(UserTask {
            name: name.value,
            needs,
            inputs,
            outputs,
            run: run.into_iter().map(|r| r.value).collect(),
            dir,
            env,
            timeout,
            span: name.span,
        })
    }

    fn all_texts(&mut self, fields: &Fields, name: &str) -> Vec<Placed<String>> {
        fields
            .get(name)
            .into_iter()
            .flatten()
            .flat_map(|n| self.texts(n))
            .collect()
    }

    fn all_paths(&mut self, fields: &Fields, name: &str) -> Vec<(Utf8PathBuf, Span)> {
        let texts = self.all_texts(fields, name);
        texts
            .into_iter()
            .filter_map(|t| self.path_of(name, t))
            .map(|p| (p.value, p.span))
            .collect()
    }

    fn task_env(&mut self, fields: &Fields) -> Vec<(String, String)> {
        let mut env = Vec::new();
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for node in fields.get("env").into_iter().flatten() {
            self.only_properties(node, "write env NAME=\"value\"");
            for property in &node.properties {
                self.wrong(
                    "plan::env",
                    property.name_span,
                    "env",
                    value::variable(&property.name),
                );
                if let Some(first) = seen.insert(&property.name, property.name_span) {
                    let problem =
                        Problem::error("plan::twice", format!("`{}` is set twice", property.name));
                    let problem = problem
                        .label(first, "the first time")
                        .label(property.name_span, "the second time");
                    self.problem(problem.help("keep one of them"));
                }
                env.extend(
                    self.text_of(&property.value)
                        .map(|t| (property.name.clone(), t.value)),
                );
            }
        }
        env
    }
}
