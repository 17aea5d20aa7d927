//! What the page says without a script: the summary, the critical path, waits, clusters and the longest
//! tasks. It knows HTML's tables, not the page around them.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    Frame,
    critical::{For, Leg, Link, Wait, What},
    data::worker,
    record::{Kind, Lane, Record, State},
};
use crate::report::{
    event::Summary,
    text::{clean_line, count},
};

/// Rows of a table that the script makes whole.
const ROWS: usize = 20;
/// Rows of a table that nothing makes longer.
const MOST: usize = 60;
/// So many tasks in a row on one worker are one row of the path.
const STREAK: usize = 4;

/// Text and attribute values of HTML.
pub(super) fn escaped(text: &str) -> String {
    clean_line(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A time in three digits or so.
pub(super) fn time(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    match micros {
        0 => "0".to_owned(),
        1..1000 => format!("{millis:.2} ms"),
        1000..10_000 => format!("{millis:.1} ms"),
        10_000..1_000_000 => format!("{millis:.0} ms"),
        1_000_000..10_000_000 => format!("{:.2} s", millis / 1000.0),
        10_000_000..60_000_000 => format!("{:.1} s", millis / 1000.0),
        _ => format!("{} min {} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

fn name(record: &Record, id: usize) -> String {
    format!("<bdi>{}</bdi>", escaped(&record.tasks[id].name))
}

/// How the run ended, in a word, and whether that is well.
pub(super) fn outcome(summary: &Summary) -> (String, bool) {
    let word = match (summary.interrupted, summary.exit_code) {
        (Some(signal), _) => format!("interrupted by {signal}"),
        (None, 0) => "done".to_owned(),
        (None, _) if summary.failed > 0 => "failed".to_owned(),
        (None, _) if summary.refused > 0 => "refused".to_owned(),
        (None, _) => "not done".to_owned(),
    };
    (word, summary.exit_code == 0)
}

pub(super) fn summary(out: &mut String, frame: &Frame, record: &Record, summary: &Summary) {
    let tasks = [
        (summary.ran, "ran"),
        (summary.current, "current"),
        (summary.failed, "failed"),
        (summary.blocked, "blocked"),
        (summary.refused, "refused"),
        (summary.not_started, "not started"),
        (summary.undone, "undone"),
    ];
    let tasks = tasks.iter().filter(|(n, word)| *n > 0 || *word == "ran");
    let tasks: Vec<_> = tasks.map(|(n, word)| format!("{n} {word}")).collect();
    let (busy, wall) = (record.busy(), record.ended.max(1));
    let workers = |lane, limit| {
        let used = record.workers(lane);
        format!("{} of {limit} had work", used)
    };
    let rows = [
        ("Plan", escaped(&record.plan)),
        ("Targets", escaped(&record.targets.join(" "))),
        ("Began", escaped(&frame.began)),
        ("Took", time(record.ended)),
        ("Tasks", tasks.join(", ")),
        (
            "Parallelism",
            format!(
                "{:.2}: {} of work in {}",
                busy as f64 / wall as f64,
                time(busy),
                time(record.ended)
            ),
        ),
        (
            "Longest chain of needs",
            format!(
                "{}: no number of workers gets below",
                time(record.longest_chain())
            ),
        ),
        ("Local workers (-j)", workers(Lane::Local, frame.jobs)),
        (
            "Cluster workers (--cluster-jobs)",
            workers(Lane::Cluster, frame.cluster_jobs),
        ),
        ("Cores", frame.cores.to_string()),
        ("meshplan", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    out.push_str("<dl class=\"summary\">\n");
    for (term, text) in rows {
        let _ = writeln!(out, "<div><dt>{term}</dt><dd>{text}</dd></div>");
    }
    out.push_str("</dl>\n");
}

/// Tasks that failed, with their causes as the run told them.
pub(super) fn failures(out: &mut String, record: &Record) {
    let failed = (0..record.runs.len()).filter(|i| record.runs[*i].state == State::Failed);
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return;
    }
    out.push_str("<section id=\"failed\"><h2>Failed</h2>\n<ul class=\"failures\">\n");
    for &id in failed.iter().take(MOST) {
        let cause = escaped(&record.runs[id].told);
        let _ = writeln!(out, "<li><b>{}</b>: {cause}</li>", name(record, id));
    }
    more(out, "li", failed.len(), MOST);
    out.push_str("</ul></section>\n");
}

/// Says how many rows were left out.
fn more(out: &mut String, element: &str, all: usize, shown: usize) {
    if all > shown {
        let _ = writeln!(out, "<{element}>and {} more</{element}>", all - shown);
    }
}

fn head(out: &mut String, columns: &[&str]) {
    out.push_str("<thead><tr>");
    for column in columns {
        // Columns of numbers are marked by a space in front.
        let _ = match column.strip_prefix(' ') {
            Some(number) => write!(out, "<th scope=\"col\" class=\"num\">{number}</th>"),
            None => write!(out, "<th scope=\"col\">{column}</th>"),
        };
    }
    out.push_str("</tr></thead>\n<tbody>\n");
}

/// A row whose first `texts` cells are texts and whose others are numbers.
fn row(out: &mut String, texts: usize, cells: &[String]) {
    out.push_str("<tr>");
    for (i, cell) in cells.iter().enumerate() {
        let class = if i < texts { "" } else { " class=\"num\"" };
        let _ = write!(out, "<td{class}>{cell}</td>");
    }
    out.push_str("</tr>\n");
}

/// The critical path: tasks in a row on one worker are one row, and so is all that is short between tasks.
pub(super) fn path(out: &mut String, record: &Record) {
    let mut legs = record.path();
    let short = |leg: &Leg| leg.what == What::Between && leg.to - leg.from < record.ended / 100;
    let between: Vec<_> = legs.extract_if(.., |leg| short(leg)).collect();
    out.push_str("<table>\n");
    head(out, &["What the run was at", "Why then", " At", " For"]);
    let mut rest = legs.as_slice();
    let mut rows = 0;
    while let Some(first) = rest.first() {
        rows += 1;
        let streak = streak(record, rest);
        let tasks = rest[..streak].iter().filter_map(task_of).count();
        let (mut text, why) = leg(record, first);
        let mut taken = first;
        if tasks >= STREAK {
            text = in_a_row(record, &rest[..streak]);
            taken = &rest[streak - 1];
        }
        if rows <= MOST {
            let cells = [text, why, time(first.from), time(taken.to - first.from)];
            row(out, 2, &cells);
        }
        rest = &rest[if tasks >= STREAK { streak } else { 1 }..];
    }
    if !between.is_empty() {
        let text = format!(
            "between tasks, {}: taking results in and giving work out",
            count(between.len(), "time")
        );
        let sum = between.iter().map(|leg| leg.to - leg.from).sum();
        row(out, 2, &[text, String::new(), String::new(), time(sum)]);
    }
    out.push_str("</tbody></table>\n");
    more(out, "p", rows, MOST);
}

fn task_of(leg: &Leg) -> Option<usize> {
    match leg.what {
        What::Task(id, _) => Some(id),
        _ => None,
    }
}

/// How many of the first legs are of one worker that had one task after another.
fn streak(record: &Record, legs: &[Leg]) -> usize {
    let mut length = 0;
    let mut of: Option<(Lane, usize)> = None;
    for (i, leg) in legs.iter().enumerate() {
        match leg.what {
            What::Task(id, link) => {
                let here = (record.tasks[id].kind.lane(), record.runs[id].worker);
                if of.is_some_and(|w| w != here || link != Link::Worker) {
                    break;
                }
                of = Some(here);
                length = i + 1;
            }
            What::Between | What::Naming if of.is_some() => {}
            _ => break,
        }
    }
    length
}

fn in_a_row(record: &Record, legs: &[Leg]) -> String {
    let tasks: Vec<_> = legs.iter().filter_map(task_of).collect();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for &id in &tasks {
        *kinds.entry(record.tasks[id].kind).or_default() += 1;
    }
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(kind, n)| format!("{n} × {}", kind.label()))
        .collect();
    let naming = legs.iter().filter(|leg| leg.what == What::Naming);
    let naming: u64 = naming.map(|leg| leg.to - leg.from).sum();
    let naming = match naming {
        0 => String::new(),
        time => format!(
            "; {} of it the run synced and named files",
            self::time(time)
        ),
    };
    let mut list = String::from("<ol>");
    for &id in tasks.iter().take(MOST) {
        let _ = write!(
            list,
            "<li>{}: {}</li>",
            name(record, id),
            time(record.work(id))
        );
    }
    more(&mut list, "li", tasks.len(), MOST);
    list.push_str("</ol>");
    let (first, last) = (tasks[0], tasks[tasks.len() - 1]);
    let lane = record.tasks[first].kind.lane();
    format!(
        "<details><summary>{} one after another on worker {}, from {} to {} <span class=\"dim\">({}{naming})</span></summary>{list}</details>",
        count(tasks.len(), "task"),
        worker(lane, record.runs[first].worker),
        name(record, first),
        name(record, last),
        kinds.join(", ")
    )
}

fn leg(record: &Record, leg: &Leg) -> (String, String) {
    let say = |text: &str, why: &str| (text.to_owned(), why.to_owned());
    match leg.what {
        What::Judging => say("judging what is to be done", ""),
        What::Naming => say("syncing files and giving them their names", ""),
        What::Between => say("taking results in and giving work out", ""),
        What::Closing => say("closing the log, asking for pods", "the last task was done"),
        What::Task(id, link) => {
            let start = record.why(id);
            let (needs, follows) = (start.and_then(|s| s.needs), start.and_then(|s| s.worker));
            let why = match (link, needs, follows) {
                (Link::Needs, Some(other), _) => format!("needs {}", name(record, other)),
                (Link::Worker, _, Some(other)) => {
                    format!("its worker was free after {}", name(record, other))
                }
                _ => "all was judged".to_owned(),
            };
            let run = &record.runs[id];
            let end = match run.state {
                State::Failed => " <b class=\"bad\">failed</b>",
                State::Unfinished => " <b class=\"bad\">unfinished</b>",
                State::Done | State::Current => "",
            };
            let waits: Vec<_> = run.waits.iter().map(|(_, on)| escaped(on)).collect();
            let waits = if waits.is_empty() {
                String::new()
            } else {
                format!(
                    " <span class=\"dim\">(waited for {})</span>",
                    waits.join("; ")
                )
            };
            let kind = record.tasks[id].kind;
            let sample = format!("<i class=\"sample k-{}\"></i>", word(kind));
            (format!("{sample}{}{end}{waits}", name(record, id)), why)
        }
    }
}

/// A kind's word in classes and data.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Key => "key",
        Kind::Sign => "sign",
        Kind::Join => "join",
        Kind::Copy => "copy",
        Kind::Write => "write",
        Kind::Step => "step",
        Kind::Command => "command",
    }
}

pub(super) fn waits(out: &mut String, record: &Record) {
    let waits = record.waits();
    if waits.is_empty() {
        out.push_str("<p>Nothing waited.</p>\n");
        return;
    }
    out.push_str("<table>\n");
    let columns = [
        "Waited for",
        "Longest: whose",
        " Longest",
        " Times",
        " In all",
    ];
    head(out, &columns);
    for wait in waits.iter().take(MOST) {
        let cells = [
            reason(record, wait),
            name(record, wait.whose),
            time(wait.longest),
            wait.times.to_string(),
            time(wait.sum),
        ];
        row(out, 2, &cells);
    }
    out.push_str("</tbody></table>\n");
    more(out, "p", waits.len(), MOST);
}

fn reason(record: &Record, wait: &Wait) -> String {
    match &wait.what {
        For::Needs(id) => format!("{}, which it needs", name(record, *id)),
        For::OneOf(kind) => format!(
            "a task of one cluster that it needs <span class=\"dim\">({})</span>",
            kind.label()
        ),
        For::Others(n) => format!("{n} other things in clusters"),
        For::Worker(lane) => format!("a free {} worker", lane.word()),
        For::Names => "files that it reads to be synced and named".to_owned(),
        For::Run => "the run to give work out or take a result in".to_owned(),
        For::Sync => "its file's name, given after its group's sync".to_owned(),
        For::On(text) => format!("<bdi>{}</bdi>", escaped(text)),
    }
}

/// Clusters by the time that workers had with them.
pub(super) fn groups(out: &mut String, record: &Record) {
    #[derive(Default)]
    struct Group {
        busy: u64,
        tasks: usize,
        longest: Option<usize>,
        first: Option<u64>,
        last: u64,
    }
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for &id in &record.started {
        let of = record.tasks[id].group.as_deref().unwrap_or_default();
        let group = groups.entry(of).or_default();
        let run = &record.runs[id];
        group.busy += record.work(id);
        group.tasks += 1;
        if group
            .longest
            .is_none_or(|l| record.work(l) < record.work(id))
        {
            group.longest = Some(id);
        }
        group.first = group.first.or(run.start);
        group.last = group.last.max(run.end.unwrap_or(record.ended));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, g)| std::cmp::Reverse(g.busy));
    out.push_str("<table>\n");
    let columns = [
        "Cluster",
        "Its longest task",
        " Tasks",
        " Work in all",
        " First start",
        " Done at",
    ];
    head(out, &columns);
    for (of, group) in groups.iter().take(ROWS) {
        let of = match *of {
            "" => "<i>the mesh</i>".to_owned(),
            of => format!("<bdi>{}</bdi>", escaped(of)),
        };
        let cells = [
            of,
            group.longest.map_or(String::new(), |id| name(record, id)),
            group.tasks.to_string(),
            time(group.busy),
            time(group.first.unwrap_or(0)),
            time(group.last),
        ];
        row(out, 2, &cells);
    }
    out.push_str("</tbody></table>\n");
    more(out, "p", groups.len(), ROWS);
}

/// The longest tasks.
pub(super) fn tasks(out: &mut String, record: &Record) {
    let mut longest = record.started.clone();
    longest.sort_by_key(|id| std::cmp::Reverse(record.work(*id)));
    out.push_str("<table>\n");
    let columns = ["Task", "Kind", "Worker", " Start", " Worked", " Done at"];
    head(out, &columns);
    for &id in longest.iter().take(ROWS) {
        let (task, run) = (&record.tasks[id], &record.runs[id]);
        let cells = [
            name(record, id),
            task.kind.label().to_owned(),
            worker(task.kind.lane(), run.worker),
            time(run.start.unwrap_or(0)),
            time(record.work(id)),
            time(run.end.unwrap_or(record.ended)),
        ];
        row(out, 3, &cells);
    }
    out.push_str("</tbody></table>\n");
    more(out, "p", longest.len(), ROWS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timings::testing::record;

    #[test]
    fn a_worker_that_never_rested_is_one_row_of_the_path() {
        let mut lines = "0 planned\n".to_owned();
        // One worker; its four tasks are ready from the start.
        for (i, task) in ["a/ca-key.pem", "b/ca-key.pem", "c", "d"]
            .iter()
            .enumerate()
        {
            let at = i * 10;
            let _ = writeln!(lines, "{at} start {task}\n{} made {task} 10", at + 10);
        }
        lines.push_str("50 done d\n60 end");
        let mut out = String::new();
        path(&mut out, &record(&lines));
        assert_eq!(
            out.matches("<tr>").count(),
            4,
            "head, tasks, names, end: {out}"
        );
        assert!(
            out.contains("4 tasks one after another on worker local 1"),
            "{out}"
        );
    }

    #[test]
    fn times_have_few_digits() {
        let times = [0, 340, 12_345, 1_234_567, 12_345_678, 65_000_000].map(time);
        assert_eq!(
            times,
            ["0", "0.34 ms", "12 ms", "1.23 s", "12.3 s", "1 min 5 s"]
        );
    }
}
