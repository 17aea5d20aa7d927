//! The graph as something to draw: who is grouped with whom, and what each node is called.

use std::collections::HashMap;

use super::{
    Action, FileId, Graph, TaskId,
    draw::{Drawing, Edge, Kind, Node, State},
    purpose,
};
use crate::plan::model::Plan;

/// The tasks of `order` and the files between them. `state` says what a task is in, and why.
pub fn drawing(
    plan: &Plan,
    graph: &Graph,
    order: &[TaskId],
    state: &dyn Fn(TaskId) -> Option<(State, String)>,
) -> Drawing {
    let mut view = View {
        plan,
        graph,
        nodes: Vec::new(),
        edges: Vec::new(),
        files: HashMap::new(),
    };
    let mut order = order.to_vec();
    order.sort_unstable();
    let heads: HashMap<_, _> = order
        .iter()
        .map(|id| (*id, view.task(*id, state)))
        .collect();
    for &id in &order {
        view.edges_to(id, &heads);
    }
    Drawing {
        title: plan.file.to_string(),
        nodes: view.nodes,
        edges: view.edges,
    }
}

struct View<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    files: HashMap<FileId, usize>,
}

impl View<'_> {
    /// Adds a task's nodes; returns the one that edges to the task lead to. A built-in task is its file.
    fn task(&mut self, id: TaskId, state: &dyn Fn(TaskId) -> Option<(State, String)>) -> usize {
        let task = self.graph.task(id);
        let (state, why) = state(id).unwrap_or((State::Unknown, String::new()));
        let cluster = task.action.cluster().map(|c| &self.plan.clusters[c].name);
        let workload = task.action.workload().map(|w| &self.plan.workloads[w].name);
        let group = cluster.or(workload).cloned();
        let kind = match task.action {
            Action::Key(_) => Kind::Key,
            Action::Step(..) => Kind::Step,
            Action::Command(_) => Kind::Task,
            _ => Kind::File,
        };
        let note = [purpose(self.plan, task), why]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ");
        // Within its cluster's or workload's box a node need not repeat the name.
        let label = match &group {
            Some(name) => task
                .name
                .strip_prefix(name.as_str())
                .map_or(&*task.name, |rest| rest.trim_start_matches(['/', '-'])),
            None => &task.name,
        };
        let head = self.nodes.len();
        self.nodes.push(Node {
            id: task.name.to_string(),
            label: label.to_owned(),
            kind,
            group,
            state,
            note,
        });
        if task.action.is_built_in_file() {
            self.files.insert(task.outputs[0], head);
        } else {
            for &output in &task.outputs {
                let file = self.file(output, state);
                self.edges.push(Edge {
                    from: head,
                    to: file,
                    order_only: false,
                });
            }
        }
        head
    }

    fn file(&mut self, id: FileId, state: State) -> usize {
        if let Some(&node) = self.files.get(&id) {
            return node;
        }
        let name = &self.graph.file_at(id).name;
        let path = camino::Utf8Path::new(name);
        let label = path
            .strip_prefix(&self.plan.dir)
            .unwrap_or(path)
            .to_string();
        self.nodes.push(Node {
            id: name.to_string(),
            label,
            kind: Kind::File,
            group: None,
            state,
            note: String::new(),
        });
        self.files.insert(id, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn edges_to(&mut self, id: TaskId, heads: &HashMap<TaskId, usize>) {
        let graph = self.graph;
        let task = graph.task(id);
        let to = heads[&id];
        for &input in &task.inputs {
            let from = self.file(input, State::Unknown);
            self.edges.push(Edge {
                from,
                to,
                order_only: false,
            });
        }
        for before in &task.after {
            if let Some(&from) = heads.get(before) {
                self.edges.push(Edge {
                    from,
                    to,
                    order_only: true,
                });
            }
        }
    }
}
