//! What is not as the plan has it, on this machine and, where that is asked for, in the clusters. It changes
//! nothing.

use std::{io, sync::Arc, thread, time::Duration};

use serde::Serialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    RunError, Site,
    fleet::Fleet,
    freshness::{self, Ask},
    log::Log,
    steps::Matter,
};
use crate::{
    action::{
        Content,
        cluster::{self, Allowed, Live, StepError, Target},
    },
    graph::{Action, TaskId},
    host::{
        lock,
        process::{self, Command, Finished},
    },
    report::event::Verdict,
};

/// Clusters asked at once.
const AT_ONCE: usize = 16;

/// Something that is not as the plan has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The cluster, where it is one's.
    pub cluster: Option<String>,
    /// The task that would put it right.
    pub target: String,
    /// What is the case.
    pub finding: String,
}

/// Judges every file, and with `live` asks every cluster that has a context.
///
/// # Errors
/// The build log cannot be read.
pub fn verify(site: &Site, live: bool) -> Result<Vec<Finding>, RunError> {
    let path = site.plan.state_dir().join("log");
    let log = Log::open(site.disk.clone(), path.clone()).map_err(|source| RunError::Host {
        what: format!("cannot read the build log {path}"),
        source,
    })?;
    let tasks: Vec<TaskId> = site.graph.task_ids().collect();
    let order = site.graph.cone(&tasks);
    let judgement = freshness::judge(site, &*site.disk, &log, &Ask::default(), &order);
    let mut findings = Vec::new();
    for &id in &tasks {
        let (task, judged) = (site.graph.task(id), judgement.tasks.get(id));
        let Some(judged) = judged else { continue };
        let sound = matches!(
            judged.verdict,
            Verdict::Current | Verdict::Adopted | Verdict::Undone
        );
        if task.action.is_built_in_file() && !sound {
            findings.push(Finding {
                cluster: task
                    .action
                    .cluster()
                    .map(|c| site.plan.clusters[c].name.clone()),
                target: task.name.to_string(),
                finding: judged.why.to_string(),
            });
        }
    }
    findings.extend(judgement.notices.iter().map(|notice| Finding {
        cluster: None,
        target: String::new(),
        finding: notice.message.clone(),
    }));
    if live {
        findings.extend(in_clusters(site, &tasks));
    }
    Ok(findings)
}

fn in_clusters(site: &Site, tasks: &[TaskId]) -> Vec<Finding> {
    let mut clusters: Vec<Vec<TaskId>> = vec![Vec::new(); site.plan.clusters.len()];
    for &id in tasks {
        let task = site.graph.task(id);
        if let (Action::Step(cluster, _), None) = (task.action, &task.undone) {
            clusters[cluster].push(id);
        }
    }
    clusters.retain(|steps| !steps.is_empty());
    let fleet = Fleet::new(site, Vec::new(), true, false);
    let mut findings = Vec::new();
    for group in clusters.chunks(AT_ONCE) {
        let found: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = group
                .iter()
                .map(|steps| scope.spawn(|| in_one(site, &fleet, steps)))
                .collect();
            asked.into_iter().filter_map(|a| a.join().ok()).collect()
        });
        findings.extend(found.concat());
    }
    findings
}

/// Findings of one cluster, by its steps. What cannot be asked is told once.
fn in_one(site: &Site, fleet: &Fleet, steps: &[TaskId]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for &id in steps {
        let task = site.graph.task(id);
        let read = |file| {
            let path = &site.graph.file_at(file).path;
            let bytes = site
                .disk
                .read(path)
                .map_err(|e| format!("cannot read {path}: {e}"))?;
            Ok(Arc::new(Content::new(Zeroizing::new(bytes))))
        };
        let found = match Matter::of(site, id, Allowed::default(), &read) {
            Ok(matter) => {
                let mut eyes = Eyes { site, fleet };
                cluster::verify(&[matter.wanted()], &matter.target, &site.tools, &mut eyes)
            }
            Err(e) => vec![e],
        };
        let cluster = task
            .action
            .cluster()
            .map(|c| site.plan.clusters[c].name.clone());
        for finding in found {
            if !findings.iter().any(|f| f.finding == finding) {
                let (cluster, target) = (cluster.clone(), task.name.to_string());
                findings.push(Finding {
                    cluster,
                    target,
                    finding,
                });
            }
        }
    }
    findings
}

/// Looks at clusters, and may not bring them to what a plan wants.
pub(super) struct Eyes<'a> {
    pub(super) site: &'a Site,
    pub(super) fleet: &'a Fleet,
}

impl cluster::Hands for Eyes<'_> {
    fn run(&mut self, command: &Command) -> io::Result<Finished> {
        process::run(command, &self.site.interrupt, &mut |_| {})
    }

    fn wait(&mut self, _: Duration) {}

    fn look(&mut self, target: &Target<'_>) -> Result<Arc<Live>, StepError> {
        let (fleet, tools) = (self.fleet, &self.site.tools);
        fleet.look(target, tools, &mut |c| self.run(c))
    }

    fn forget(&mut self, _: &Target<'_>) {}

    fn may_change(&mut self, target: &Target<'_>, _: bool) -> Result<(), StepError> {
        Err(StepError::only_looks(target))
    }

    fn waits(&mut self, _: &str) {}

    fn now(&self) -> OffsetDateTime {
        self.site.clock.now()
    }

    fn holder(&self) -> String {
        lock::holder()
    }

    fn has_ended(&self, holder: &str) -> bool {
        lock::has_ended(holder)
    }
}
