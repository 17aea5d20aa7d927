//! Runs what is stale: one owner of all state, threads that only work, results over a channel. How a
//! file is made it leaves to `action`, when a task may start to the scheduler.

mod group;
mod turns;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
    time::Instant,
};

use foldhash::{HashSet, HashSetExt};
use smol_str::SmolStr;

use super::{
    Request, Site, Teller,
    fleet::Fleet,
    freshness::{Judged, Judgement},
    log::{FileRecord, Log},
    publish::Publisher,
    worker::Shared,
};
use crate::{
    action::{
        Trust,
        cluster::{self, Absent, Target},
    },
    graph::{Action, TaskId},
    host::{lock::Lock, process},
    report::event::{Event, Summary, Verdict},
};
use group::{Group, Waiting};

/// What a dry run says would happen: nothing is done.
pub fn rehearse(
    site: &Site,
    judgement: &Judgement,
    order: &[TaskId],
    teller: &mut Teller,
) -> Summary {
    super::undone(site, &judgement.tasks, order).for_each(|event| teller.tell(event));
    let tasks = &judgement.tasks;
    let failed = tasks.iter().filter(|(_, j)| j.obstacle).count();
    let refused = tasks.count(&[Verdict::Refused]);
    Summary {
        ran: tasks.count(&[Verdict::Stale]) - failed,
        failed,
        current: tasks.count(&[Verdict::Current, Verdict::Adopted]),
        refused,
        blocked: tasks.count(&[Verdict::Blocked]),
        undone: tasks.count(&[Verdict::Undone]),
        exit_code: match (failed, refused) {
            (1.., _) => 1,
            (0, 1..) => 5,
            (0, 0) => 0,
        },
        ..Summary::default()
    }
}

/// One run.
pub struct Runner {
    shared: Arc<Shared>,
    jobs: usize,
    cluster_jobs: usize,
    order: Vec<TaskId>,
    log: Log,
    seen: Vec<(SmolStr, FileRecord)>,
    waiting: Vec<Waiting>,
    /// What is being made durable.
    syncing: Vec<Waiting>,
    /// What is durable and gets its names.
    naming: Option<Group>,
    /// Groups begun so far.
    group: u64,
    waiting_since: Option<Instant>,
    broken: HashSet<TaskId>,
    summary: Summary,
    changed: bool,
    changed_clusters: BTreeSet<usize>,
}

impl Runner {
    /// Takes the lock and the log over from whoever judged.
    pub fn new(
        site: &Site,
        request: &Request,
        log: Log,
        lock: Lock,
        publisher: Publisher,
        judgement: Judgement,
        order: Vec<TaskId>,
    ) -> Self {
        let Judgement { tasks, seen, .. } = judgement;
        // A CA brought along that a task makes anew in this run is loaded when it is there.
        let stale = |id: &TaskId| tasks.get(*id).is_some_and(|j| j.verdict == Verdict::Stale);
        let anchor = order
            .iter()
            .map(|id| site.graph.task(*id))
            .find(|t| t.action == Action::Anchor);
        let remade = anchor.is_some_and(|t| {
            t.inputs
                .iter()
                .filter_map(|f| site.graph.file_at(*f).producer)
                .any(|p| stale(&p))
        });
        let trust = site
            .given
            .clone()
            .filter(|_| !remade)
            .map(Trust::given)
            .unwrap_or_default();
        let steps = order.iter().filter(|id| stale(id)).filter_map(|id| {
            match site.graph.task(*id).action {
                Action::Step(cluster, _) => Some(cluster),
                _ => None,
            }
        });
        let places: BTreeSet<usize> = steps.collect();
        let places = places.into_iter().collect();
        let shared = Shared {
            site: site.clone(),
            lock,
            publisher,
            trust,
            made: Mutex::default(),
            judged: tasks,
            fleet: Fleet::new(site, places, request.keep_going, request.other_cluster),
            allowed: request.allowed,
            cluster_jobs: request.cluster_jobs,
            keep_going: request.keep_going,
            stopped: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            jobs: request.jobs,
            cluster_jobs: request.cluster_jobs,
            order,
            log,
            seen,
            waiting: Vec::new(),
            syncing: Vec::new(),
            naming: None,
            group: 0,
            waiting_since: None,
            broken: HashSet::new(),
            summary: Summary::default(),
            changed: false,
            changed_clusters: BTreeSet::new(),
        }
    }

    /// Runs to the end, or to an interrupt; `absent` clusters cannot be reached. Where all went well, `after` is
    /// done with the log before the work directory is free.
    pub fn run(
        mut self,
        absent: &[Absent],
        teller: &mut Teller,
        after: Box<dyn FnOnce(&Log) + '_>,
    ) -> Summary {
        let judged = &self.shared.judged;
        self.summary.current = judged.count(&[Verdict::Current, Verdict::Adopted]);
        self.summary.undone = judged.count(&[Verdict::Undone]);
        self.summary.refused = judged.count(&[Verdict::Refused]);
        self.summary.blocked = judged.count(&[Verdict::Blocked]);
        let stale: Vec<_> = self
            .order
            .iter()
            .copied()
            .filter(|id| {
                self.judged(*id)
                    .is_some_and(|j| j.verdict == Verdict::Stale)
            })
            .collect();
        let obstacles: Vec<_> = stale
            .iter()
            .copied()
            .filter(|id| self.judged(*id).is_some_and(|j| j.obstacle))
            .collect();

        if !self.shared.keep_going && (self.summary.refused > 0 || !obstacles.is_empty()) {
            // Told before anything is touched, so that the user decides on the whole.
            for id in obstacles {
                let cause = self.judged(id).map(|j| j.why.to_string());
                self.tell_failure(id, cause.unwrap_or_default().into(), vec![], teller);
            }
            self.summary.not_started = stale.len() - self.summary.failed;
        } else {
            self.take_over(teller);
            self.work(&stale, absent, teller);
            self.finish(teller);
        }
        super::undone(&self.shared.site, &self.shared.judged, &self.order)
            .for_each(|event| teller.tell(event));
        self.summary.interrupted =
            self.shared
                .site
                .interrupt
                .received()
                .map(|signal| match signal {
                    signal_hook::consts::SIGTERM => "SIGTERM",
                    _ => "SIGINT",
                });
        self.summary.exit_code = match (
            &self.summary.interrupted,
            self.summary.failed,
            self.summary.refused,
        ) {
            (Some("SIGTERM"), ..) => 143,
            (Some(_), ..) => 130,
            (None, 1.., _) => 1,
            (None, 0, 1..) => 5,
            (None, 0, 0) => 0,
        };
        if self.summary.exit_code == 0 {
            after(&self.log);
        }
        self.shared.lock.release();
        self.summary
    }

    fn judged(&self, id: TaskId) -> Option<&Judged> {
        self.shared.judged.get(id)
    }

    fn name(&self, id: TaskId) -> &SmolStr {
        &self.shared.site.graph.task(id).name
    }

    /// Notes what the walk read anew, and narrows keys that were opened.
    fn take_over(&mut self, teller: &mut Teller) {
        for (name, record) in std::mem::take(&mut self.seen) {
            self.log.put_file(&name, record);
        }
        let shared = self.shared.clone();
        for (id, judged) in shared.judged.iter() {
            if matches!(judged.verdict, Verdict::Current | Verdict::Adopted)
                && let Some(record) = judged.record.clone()
            {
                self.log.put_task(&shared.site.graph.task(id).name, *record);
            }
            if judged.narrow && matches!(judged.verdict, Verdict::Current | Verdict::Adopted) {
                self.narrow(id, teller);
            }
        }
        if let Err(cause) = self.flush_log() {
            teller.tell(Event::Warning {
                code: "log-unwritten",
                message: cause,
                help: String::new(),
            });
        }
    }

    fn narrow(&mut self, id: TaskId, teller: &mut Teller) {
        let task = self.shared.site.graph.task(id);
        let file = self.shared.site.graph.file_at(task.outputs[0]);
        let disk = &self.shared.site.disk;
        let done = disk
            .set_mode(&file.path, 0o600)
            .and_then(|()| disk.stat(&file.path));
        let (message, help) = match done {
            Ok(stat) => {
                if let (Some(stat), Some(old)) = (stat, self.log.file(&file.name)) {
                    self.log.put_file(
                        &file.name,
                        FileRecord {
                            identity: stat.identity,
                            ..old
                        },
                    );
                }
                (
                    format!(
                        "others could read {}; it is now its owner's alone (0600)",
                        file.name
                    ),
                    "if somebody may have read it, replace it with --allow rekey".to_owned(),
                )
            }
            Err(e) => (
                format!(
                    "others can read {}, and its mode cannot be changed: {e}",
                    file.path
                ),
                format!("chmod 600 {}", file.path),
            ),
        };
        teller.tell(Event::Warning {
            code: "key-open",
            message,
            help,
        });
    }

    /// Pods of the clusters that were changed, as the last look that people take after an install.
    fn show_pods(&self, teller: &mut Teller) {
        let Site {
            plan,
            tools,
            clock,
            interrupt,
            ..
        } = &self.shared.site;
        let targets: Vec<_> = self
            .changed_clusters
            .iter()
            .filter_map(|c| Target::new(plan, *c, self.shared.allowed))
            .collect();
        let ask = |target: &Target<'_>| {
            process::run(&cluster::pods(target, tools), interrupt, &mut |_| {})
        };
        for group in targets.chunks(self.cluster_jobs.max(1)) {
            let answers: Vec<_> = thread::scope(|scope| {
                let asked: Vec<_> = group.iter().map(|t| scope.spawn(|| ask(t))).collect();
                asked.into_iter().map(|a| a.join()).collect()
            });
            for (target, answer) in group.iter().zip(answers) {
                if let Ok(Ok(answer)) = answer
                    && answer.success()
                {
                    let pods = cluster::read_pods(&answer.stdout, clock.now());
                    teller.tell(Event::Pods {
                        cluster: target.cluster.to_owned(),
                        pods,
                    });
                }
            }
        }
    }
}
