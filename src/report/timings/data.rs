//! What the page's script draws, as JSON that no name can break out of. It knows nothing of how it is
//! drawn.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    critical::{For, What},
    record::{Kind, Lane, Record, State},
};
use crate::report::text::clean_line;

/// What a row holds, in this order. Times are microseconds since the run began; `needs` and `follows`
/// are rows, `group` and `worker` places in the lists of those names.
const COLUMNS: [&str; 15] = [
    "name", "kind", "group", "worker", "ready", "start", "worked", "freed", "end", "state",
    "needs", "follows", "held", "told", "waits",
];

#[derive(Serialize)]
struct Row(
    String,
    Kind,
    Option<usize>,
    Option<usize>,
    u64,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    State,
    Option<usize>,
    Option<usize>,
    &'static str,
    String,
    Vec<(u64, String)>,
);

#[derive(Serialize)]
struct Data {
    ended: u64,
    planned: u64,
    kinds: Vec<(Kind, &'static str)>,
    groups: Vec<String>,
    workers: Vec<String>,
    columns: [&'static str; 15],
    tasks: Vec<Row>,
    /// Rows on the critical path, the first first.
    path: Vec<usize>,
    /// What the run itself did on it: from, to, and what.
    run: Vec<(u64, u64, &'static str)>,
}

/// Name of a worker, for people.
pub(super) fn worker(lane: Lane, number: usize) -> String {
    format!("{} {}", lane.word(), number + 1)
}

/// The record as JSON, fit for a `script` element.
pub(super) fn json(record: &Record) -> serde_json::Result<String> {
    let (tasks, runs) = (&record.tasks, &record.runs);
    // Tasks that started, in that order; then those that failed before.
    let unstarted = (0..runs.len()).filter(|i| runs[*i].start.is_none() && runs[*i].end.is_some());
    let shown: Vec<_> = record.started.iter().copied().chain(unstarted).collect();
    let rows: HashMap<_, _> = shown
        .iter()
        .enumerate()
        .map(|(row, id)| (*id, row))
        .collect();
    let row_of = |id: usize| rows.get(&id).copied();
    let mut groups: Vec<String> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let names = record.names();
    let line = |text: &str| clean_line(text).into_owned();
    let table = shown.iter().map(|&id| {
        let (task, run) = (&tasks[id], &runs[id]);
        let group = task.group.as_deref().map(|name| {
            *places.entry(name).or_insert_with(|| {
                groups.push(line(name));
                groups.len() - 1
            })
        });
        let start = record.why(id);
        let lane = task.kind.lane();
        let local = record.workers(Lane::Local);
        let worker = run.start.map(|_| match lane {
            Lane::Local => run.worker,
            Lane::Cluster => local + run.worker,
        });
        let held = match start.map(|s| record.held(id, s, &names)) {
            Some(For::Worker(_)) => "worker",
            Some(For::Names) => "names",
            _ => "run",
        };
        Row(
            line(&task.name),
            task.kind,
            group,
            worker,
            start.map_or(record.planned, |s| s.ready),
            run.start,
            run.worked,
            run.freed,
            run.end,
            run.state,
            start.and_then(|s| s.needs).and_then(row_of),
            start.and_then(|s| s.worker).and_then(row_of),
            held,
            line(&run.told),
            run.waits.iter().map(|(at, on)| (*at, line(on))).collect(),
        )
    });
    let tasks = table.collect();
    let legs = record.path();
    let path = legs.iter().filter_map(|leg| match leg.what {
        What::Task(id, _) => row_of(id),
        _ => None,
    });
    let run = legs.iter().filter_map(|leg| {
        let what = match leg.what {
            What::Judging => "judging what is to be done",
            What::Naming => "syncing files and giving them their names",
            What::Closing => "closing",
            What::Between | What::Task(..) => return None,
        };
        Some((leg.from, leg.to, what))
    });
    let workers = |lane| (0..record.workers(lane)).map(move |n| worker(lane, n));
    let data = Data {
        ended: record.ended,
        planned: record.planned,
        kinds: Kind::ALL.map(|k| (k, k.label())).to_vec(),
        groups,
        workers: workers(Lane::Local).chain(workers(Lane::Cluster)).collect(),
        columns: COLUMNS,
        tasks,
        path: path.collect(),
        run: run.collect(),
    };
    // Within a JSON text `<` stands in strings only.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}
