//! Runs and streams for this module's tests.
#![allow(clippy::unwrap_used)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use smallvec::smallvec;

use super::event::{Event, Summary, Verdict, Why};
use crate::action::cluster::Pod;

/// A stream that can be read while somebody else writes to it.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two clusters: one fails at its install, the other has no context.
pub(super) fn failing_run() -> Vec<Event> {
    let text = str::to_owned;
    vec![
        Event::RunStarted {
            plan: text("plans/demo.kdl"),
            work_dir: text("/srv/mesh/out"),
            targets: vec![text("all")],
            version: "0.1.0",
            dry_run: false,
        },
        Event::Warning {
            code: "root-expires",
            message: text("the root certificate ends in 80 days"),
            help: text("plan its replacement"),
        },
        Event::Planned {
            stale: 3,
            current: 4,
        },
        Event::TaskStarted {
            task: text("cluster1/ca-cert.pem").into(),
            doing: text("sign cluster1/ca-cert.pem").into(),
            worker: 1,
        },
        Event::TaskFinished {
            task: text("cluster1/ca-cert.pem").into(),
            changed: true,
            did: String::new(),
            millis: 3,
        },
        Event::TaskStarted {
            task: text("cluster1-install").into(),
            doing: text("apply cluster1-install").into(),
            worker: 0,
        },
        Event::TaskFailed {
            task: text("cluster1-install").into(),
            cause: text("istioctl ended with exit code 1\nread its message, then run again"),
            stderr: text("Error: timed out\n  at line 2\n"),
            blocked: vec![text("cluster1-ready")],
        },
        Event::Undone {
            cluster: text("cluster2"),
            steps: vec![text("cluster2-secret"), text("cluster2-install")],
            why: text("no context"),
            how: text("set CTX_2"),
        },
        Event::RunFinished(Summary {
            ran: 1,
            current: 4,
            failed: 1,
            blocked: 1,
            undone: 2,
            millis: 2500,
            exit_code: 1,
            ..Summary::default()
        }),
    ]
}

/// Every kind of event, each text ending in `tail`.
pub(super) fn one_of_each(tail: &str) -> Vec<Event> {
    let text = |t: &str| format!("{t}{tail}");
    let problem = serde_json::json!({
        "code": "plan::unknown-node", "severity": "error", "message": text("unknown node `clutser`"),
        "help": text("did you mean `cluster`?"),
        "places": [{ "file": "plans/demo.kdl", "line": 12, "column": 1, "start": 181, "end": 188, "text": "here" }],
    });
    vec![
        Event::RunStarted {
            plan: text("plans/demo.kdl"),
            work_dir: text("/srv/mesh/out"),
            targets: vec![text("all")],
            version: "0.1.0",
            dry_run: false,
        },
        Event::Warning {
            code: "root-expires",
            message: text("root-cert.pem ends in 80 days"),
            help: text("plan its replacement"),
        },
        Event::Verdict {
            task: text("cluster1/ca-cert.pem").into(),
            verdict: Verdict::Stale,
            why: smallvec![Why {
                code: "recipe-changed",
                text: text("validity 730d → 365d: re-sign, same key, new serial").into(),
            }],
        },
        Event::Planned {
            stale: 2,
            current: 9,
        },
        Event::TaskStarted {
            task: text("cluster1/ca-cert.pem").into(),
            doing: text("sign cluster1/ca-cert.pem").into(),
            worker: 1,
        },
        Event::Output {
            task: text("smoke-test").into(),
            text: text("hello\n"),
        },
        Event::TaskFinished {
            task: text("cluster1/ca-cert.pem").into(),
            changed: true,
            did: text(""),
            millis: 3,
        },
        Event::TaskFailed {
            task: text("cluster1-install").into(),
            cause: text("istioctl ended with exit code 1"),
            stderr: text("Error: timed out\n"),
            blocked: vec![text("cluster1-ready")],
        },
        Event::Undone {
            cluster: text("cluster2"),
            steps: vec![text("cluster2-namespace"), text("cluster2-secret")],
            why: text("no context"),
            how: text("set CTX_2 to its kubeconfig context"),
        },
        Event::Problems {
            problems: serde_json::Value::Array(vec![problem]),
        },
        Event::Error {
            message: text("/srv/mesh/out: another meshplan is at work there"),
            exit_code: 6,
        },
        Event::TaskMade {
            task: text("cluster1/ca-cert.pem").into(),
            micros: 2718,
        },
        Event::TaskWaits {
            task: text("cluster1-gateway").into(),
            on: text("an address for Service istio-eastwestgateway of cluster cluster1"),
        },
        Event::Pods {
            cluster: text("cluster1"),
            pods: vec![Pod {
                name: text("istiod-6c7d8b9f4-x2v5k"),
                ready: text("1/1"),
                status: text("Running"),
                restarts: 0,
                age: 42,
            }],
        },
        Event::Timings {
            file: text("/srv/mesh/out/.meshplan/timings.html"),
        },
        Event::RunFinished(Summary {
            ran: 1,
            current: 9,
            failed: 1,
            blocked: 1,
            refused: 0,
            undone: 2,
            not_started: 0,
            interrupted: None,
            dry_run: false,
            millis: 2500,
            exit_code: 1,
        }),
    ]
}
