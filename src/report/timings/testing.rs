//! Small runs for this module's tests, written as lines.
#![allow(clippy::unwrap_used)]

use smol_str::SmolStr;

use super::record::{Kind, Record, Task};
use crate::report::event::{Event, Summary};

/// Two clusters' tasks, by their places: 0 and 1 are keys, 2 needs 0, 3 needs 0, 4 needs 3, 5 and 6
/// need nothing.
pub(super) fn tasks() -> Vec<Task> {
    let task = |name: &str, kind, after: &[usize]| Task {
        name: name.to_owned(),
        kind,
        group: Some(name[..1].to_owned()),
        after: after.to_vec(),
    };
    vec![
        task("a/ca-key.pem", Kind::Key, &[]),
        task("b/ca-key.pem", Kind::Key, &[]),
        task("a/ca-cert.pem", Kind::Sign, &[0]),
        task("a-secret", Kind::Step, &[0]),
        task("b-secret", Kind::Step, &[3]),
        task("c", Kind::Copy, &[]),
        task("d", Kind::Copy, &[]),
    ]
}

/// A record of lines `AT WORD [TASK [MORE]]`, times in microseconds.
pub(super) fn record(lines: &str) -> Record {
    let mut record = Record::new(tasks());
    for line in lines.lines() {
        let mut words = line.trim().splitn(4, ' ');
        let at = words.next().unwrap().parse().unwrap();
        let word = words.next().unwrap();
        let task = words.next().unwrap_or_default().into();
        let more = words.next().unwrap_or_default().to_owned();
        record.note(at, &event(word, task, more));
    }
    record
}

fn event(word: &str, task: SmolStr, more: String) -> Event {
    match word {
        "planned" => Event::Planned {
            stale: 0,
            current: 0,
        },
        "start" => Event::TaskStarted {
            task,
            doing: SmolStr::default(),
            worker: 0,
        },
        "made" => Event::TaskMade {
            task,
            micros: more.parse().unwrap(),
        },
        "waits" => Event::TaskWaits { task, on: more },
        "done" => Event::TaskFinished {
            task,
            changed: true,
            did: more,
            millis: 0,
        },
        "fail" => Event::TaskFailed {
            task,
            cause: more,
            stderr: String::new(),
            blocked: vec![],
        },
        "end" => Event::RunFinished(Summary::default()),
        other => panic!("no event `{other}`"),
    }
}
