//! What a plan says of the user's own tasks.

use camino::Utf8PathBuf;

use crate::plan::{
    fields::{Checker, Fields, Placed, often, once},
    model::UserTask,
    problem::{Problem, Span},
    syntax::Node,
    value,
};

impl Checker<'_> {
    pub(super) fn task(&mut self, node: &Node) -> Option<UserTask> {
        self.plain(node, true);
        let name = self.argument(node).and_then(|v| self.text_of(v));
        let name = name.and_then(|n| {
            self.wrong(
                "plan::task-name",
                n.span,
                "task",
                value::task_name(&n.value),
            )
            .map(|()| n)
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
        for (i, (path, span)) in outputs.iter().enumerate() {
            if let Some((_, first)) = outputs[..i].iter().find(|(p, _)| p == path) {
                self.problem(
                    Problem::error("plan::twice", "an output is named twice")
                        .label(*first, "the first time")
                        .label(*span, "the second time")
                        .help("keep one of them"),
                );
            }
        }
        let run: Vec<_> = one("run").map(|n| self.texts(n)).unwrap_or_default();
        if let Some(empty) = run.first().filter(|r| r.value.is_empty()) {
            self.problem(
                Problem::error("plan::run", "the program's name is empty")
                    .label(empty.span, "here")
                    .help("write run \"program\" \"argument\""),
            );
        }
        if one("run").is_none() {
            self.problem(
                Problem::error("plan::run", "a task without `run` does nothing")
                    .label(node.name_span, "this task")
                    .help(
                        "write run \"program\" \"argument\"; for a shell, run \"sh\" \"-c\" \"…\"",
                    ),
            );
        }
        let dir = one("dir")
            .and_then(|n| self.path(n))
            .map_or_else(|| self.dir.clone(), |p| p.value);
        let timeout = one("timeout")
            .and_then(|n| self.word(n, "plan::timeout", value::duration))
            .map(|t| t.value);
        let env = self.task_env(&fields);
        let name = name?;
        (!run.is_empty()).then(|| UserTask {
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

    pub(super) fn all_texts(&mut self, fields: &Fields, name: &str) -> Vec<Placed<String>> {
        fields
            .get(name)
            .into_iter()
            .flatten()
            .flat_map(|n| self.texts(n))
            .collect()
    }

    pub(super) fn all_paths(&mut self, fields: &Fields, name: &str) -> Vec<(Utf8PathBuf, Span)> {
        let texts = self.all_texts(fields, name);
        texts
            .into_iter()
            .filter_map(|t| self.path_of(name, t))
            .map(|p| (p.value, p.span))
            .collect()
    }

    pub(super) fn task_env(&mut self, fields: &Fields) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for node in fields.get("env").into_iter().flatten() {
            if let Some(value) = node.arguments.first() {
                self.problem(
                    Problem::error("plan::arguments", "`env` has properties, no value")
                        .label(value.span, "here")
                        .help("write env NAME=\"value\""),
                );
            }
            for property in &node.properties {
                if self
                    .wrong(
                        "plan::env",
                        property.name_span,
                        "env",
                        value::variable(&property.name),
                    )
                    .is_some()
                {
                    env.extend(
                        self.text_of(&property.value)
                            .map(|t| (property.name.clone(), t.value)),
                    );
                }
            }
        }
        env
    }
}
