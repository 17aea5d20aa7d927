//! What happens in a run, as data: the one thing that passes from the engine to a reporter, and the
//! contract of `--format json`. It holds names, paths and texts, never key material.

use serde::Serialize;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use crate::action::cluster::Pod;

/// Name and version of the event stream; a field may be added within a version, never changed.
pub const SCHEMA: &str = "meshplan.events/1";

/// Something that happened, in the order it happened.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Event {
    /// First event of a run.
    RunStarted {
        /// The plan as named on the command line.
        plan: String,
        /// Absolute folder of the built files.
        work_dir: String,
        /// What was asked for.
        targets: Vec<String>,
        /// meshplan's version.
        version: &'static str,
        /// True where nothing will be changed.
        dry_run: bool,
    },
    /// Something to know that stops nothing: an expiry ahead, an adopted file that differs.
    Warning {
        /// Stable word for it, such as `root-expires`.
        code: &'static str,
        /// What is the case.
        message: String,
        /// What to do about it; empty where nothing is needed.
        help: String,
    },
    /// A task's state before the run, with the reason. In a dry run, what would be done.
    Verdict {
        /// Output path of a built-in task, else its target name.
        task: SmolStr,
        /// What the task is in.
        verdict: Verdict,
        /// Stable words and texts of why; the first is the decisive one.
        why: SmallVec<[Why; 1]>,
    },
    /// All tasks are judged.
    Planned {
        /// Tasks that will run.
        stale: usize,
        /// Tasks that are current.
        current: usize,
    },
    /// A task started.
    TaskStarted {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// What it does, such as `sign cluster1/ca-cert.pem`.
        doing: SmolStr,
        /// Who does it, from 0 on among the workers of this machine, or those of cluster steps.
        worker: usize,
    },
    /// A built-in file is whole, and waits for its group to be synced and published. `task-finished` tells
    /// that it has its name.
    TaskMade {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// Microseconds that a worker took to make it.
        micros: u64,
    },
    /// A cluster step waits for something that takes time.
    TaskWaits {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// What it waits for.
        on: String,
    },
    /// Pods of Istio's namespace in a cluster that was changed.
    Pods {
        /// The cluster.
        cluster: String,
        /// Its pods, as `kubectl get pods` shows them.
        pods: Vec<Pod>,
    },
    /// A child of a `task` node, or of a cluster step, wrote something.
    Output {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// What it wrote, at most the last 64 KiB.
        text: String,
    },
    /// A task is done.
    TaskFinished {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// False where a look at the cluster found nothing to change.
        changed: bool,
        /// What was done; more than a word only where there is more to say.
        did: String,
        /// Milliseconds from start to end.
        millis: u64,
    },
    /// A task failed.
    TaskFailed {
        /// As in [`Event::Verdict`].
        task: SmolStr,
        /// What happened and what to do next.
        cause: String,
        /// The last lines of its child's standard error.
        stderr: String,
        /// Names of the tasks that cannot run now.
        blocked: Vec<String>,
    },
    /// Steps that this run leaves undone, and how to have them done.
    Undone {
        /// The cluster they belong to, or the task's name.
        cluster: String,
        /// Their names.
        steps: Vec<String>,
        /// Why.
        why: String,
        /// How to have them done.
        how: String,
    },
    /// The page of `--timings` is written.
    Timings {
        /// Its path.
        file: String,
    },
    /// What is wrong with the plan: warnings before a run, or errors instead of one.
    Problems {
        /// Each with code, severity, message, places and help.
        problems: serde_json::Value,
    },
    /// Why a run did not begin.
    Error {
        /// What happened and what to do.
        message: String,
        /// The process's exit code.
        exit_code: u8,
    },
    /// Last event of a run.
    RunFinished(Summary),
}

impl Event {
    /// What a task is in, for one reason.
    pub fn verdict(task: SmolStr, verdict: Verdict, code: &'static str, text: SmolStr) -> Self {
        let why = smallvec![Why { code, text }];
        Self::Verdict { task, verdict, why }
    }
}

/// The reason's word of a task that is left undone.
pub const UNDONE: &str = "undone";

/// What a task is in before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing to do.
    Current,
    /// Unknown to the log, sound, taken over as it is.
    Adopted,
    /// To be run.
    Stale,
    /// To be run only with a flag that the reason names.
    Refused,
    /// Cannot run, since something it needs is refused.
    Blocked,
    /// Left undone, as for a cluster without a context.
    Undone,
}

/// A reason: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Stable word, such as `output-missing`.
    pub code: &'static str,
    /// The reason in certificate terms, such as `validity 730d → 365d: re-sign, same key, new serial`.
    pub text: SmolStr,
}

/// How a run ended.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Tasks that ran and changed something.
    pub ran: usize,
    /// Tasks that were current, adopted ones and looks without a change included.
    pub current: usize,
    /// Tasks that failed.
    pub failed: usize,
    /// Tasks that could not run because of a failure or a refusal.
    pub blocked: usize,
    /// Tasks refused by a gate.
    pub refused: usize,
    /// Tasks left undone, as for a cluster without a context.
    pub undone: usize,
    /// Tasks not reached because of an interrupt, a failure or a refusal.
    pub not_started: usize,
    /// Name of the signal that ended the run.
    pub interrupted: Option<&'static str>,
    /// True where nothing was changed by request.
    pub dry_run: bool,
    /// Milliseconds from start to end.
    pub millis: u64,
    /// The process's exit code.
    pub exit_code: u8,
}
