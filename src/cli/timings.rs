//! `run --timings`: what the plan knows of its tasks, put as the page wants it, and the file that the page
//! goes to. It knows nothing of events, nor of the page.

use std::process;

use camino::{Utf8Path, Utf8PathBuf};
use time::format_description::well_known::Rfc3339;

use super::{cores, exit::Failure};
use crate::{
    build::{Request, Site},
    graph::{Action, Graph},
    host::{Disk, Kind as FileKind, Look, RealDisk},
    plan::model::Plan,
    report::{
        Reporter,
        timings::{Frame, Kind, MARK, Task, Timings},
    },
};

/// Where the page of `--timings[=FILE]` goes. It may take the place of another page, and of nothing else.
///
/// # Errors
/// What is wrong with the place, before anything is done.
pub fn place(asked: &Utf8Path, site: &Site, cwd: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    if asked == Utf8Path::new("") {
        return Ok(site.plan.state_dir().join("timings.html"));
    }
    let file = crate::plan::normalize(&cwd.join(asked));
    let refused = |why: String| Failure::usage(format!("--timings={asked}: {why}"));
    if site.graph.is_made(&file) {
        return Err(refused("that is a file of the plan's own".to_owned()));
    }
    free(&file).map_err(refused)?;
    let parent = file.parent().unwrap_or(&file);
    match RealDisk.stat(&parent.join(".")) {
        Ok(Some(_)) => Ok(file),
        Ok(None) => Err(refused(format!("there is no folder {parent}"))),
        Err(e) => Err(refused(format!("cannot look at {parent}: {e}"))),
    }
}

/// Refuses a name that something other than a page has.
fn free(file: &Utf8Path) -> Result<(), String> {
    let stat = RealDisk.stat(file);
    let kind = stat.map_err(|e| format!("cannot look at {file}: {e}"))?;
    let page = match kind.map(|s| s.kind) {
        None => return Ok(()),
        Some(FileKind::File) => RealDisk
            .read(file)
            .map_err(|e| format!("cannot read {file}: {e}"))?
            .starts_with(MARK.as_bytes()),
        Some(_) => false,
    };
    if page {
        Ok(())
    } else {
        Err(format!("{file} is there, and is no page of timings"))
    }
}

/// A reporter that also writes the page to `file`.
pub fn reporter(
    inner: Box<dyn Reporter>,
    site: &Site,
    request: &Request,
    file: &Utf8Path,
) -> Box<dyn Reporter> {
    let now = site.clock.now();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let frame = Frame {
        tasks: tasks(&site.plan, &site.graph),
        jobs: request.jobs,
        cluster_jobs: request.cluster_jobs,
        cores: cores(),
        began: now.format(&Rfc3339).unwrap_or_default(),
    };
    let to = file.to_owned();
    let keep = Box::new(move |page: &str| write(&to, page));
    Box::new(Timings::new(inner, frame, file.to_string(), keep))
}

/// Whole or not at all. A page that a power cut takes is no loss, so nothing is synced.
fn write(file: &Utf8Path, page: &str) -> Result<(), String> {
    free(file)?;
    let name = file.file_name().unwrap_or_default();
    let staged = file.with_file_name(format!(".{name}.{}", process::id()));
    let written = RealDisk
        .create(&staged, 0o644, page.as_bytes())
        .and_then(|_| RealDisk.rename(&staged, file));
    written.map_err(|e| {
        // What was there under this name before is not this run's.
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = RealDisk.remove(&staged);
        }
        format!("cannot write the timings to {file}: {e}")
    })
}

fn tasks(plan: &Plan, graph: &Graph) -> Vec<Task> {
    let ids = graph.task_ids();
    ids.map(|id| {
        let task = graph.task(id);
        let cluster = task.action.cluster().map(|c| &plan.clusters[c].name);
        let workload = task.action.workload().map(|w| &plan.workloads[w].name);
        Task {
            name: task.name.to_string(),
            kind: kind(task.action),
            group: cluster.or(workload).cloned(),
            after: graph.before(id).map(|b| b.index()).collect(),
        }
    })
    .collect()
}

fn kind(action: Action) -> Kind {
    match action {
        Action::Key(_) => Kind::Key,
        Action::RootCert | Action::CaCert(_) | Action::WorkloadCert(_) => Kind::Sign,
        Action::Chain(_) | Action::WorkloadChain(_) => Kind::Join,
        Action::Anchor | Action::RootCopy(_) => Kind::Copy,
        Action::Install(_) => Kind::Write,
        Action::Step(..) => Kind::Step,
        Action::Command(_) => Kind::Command,
    }
}
