//! Runs what is stale: one owner of all state, threads that only work, results over a channel. How a
//! file is made it leaves to `action`, when a task may start to the scheduler.

mod group;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Request, Site, Teller,
    crew::{Crew, Message, News},
    fleet::Fleet,
    freshness::{Judged, Judgement},
    lane,
    log::{FileRecord, Log, TaskRecord},
    publish::Publisher,
    recipe::Recipe,
    scheduler::{Lane, Scheduler},
    steps,
    worker::{Done, Failure, Shared},
};
use group::{Group, Waiting};
use smol_str::SmolStr;

use crate::{
    action::{
        Trust,
        cluster::{self, Absent, Target},
    },
    graph::{Action, Step, TaskId},
    host::{lock::Lock, process},
    report::event::{Event, Summary, Verdict},
};

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

/// Files that a worker is given ahead, so that it waits for nobody between them.
const AHEAD: usize = 32;

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

    fn name(&self, id: TaskId) -> &str {
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

    // ---- the loop

    fn work(&mut self, stale: &[TaskId], absent: &[Absent], teller: &mut Teller) {
        if stale.is_empty() {
            return;
        }
        let graph = self.shared.site.graph.clone();
        let mut scheduler = Scheduler::new(
            &graph,
            stale,
            |id| lane(&graph, id),
            [self.jobs * AHEAD, self.jobs, self.cluster_jobs],
        );
        // What no tool or context can reach fails before anything runs; its files are built all the same.
        for (id, cause) in steps::absent(&self.shared.site, absent, stale) {
            let blocked = scheduler.failed(id);
            self.tell_failure(id, cause.into(), blocked, teller);
        }
        let (results, inbox) = mpsc::channel();
        let mut crew = Crew::new(self.shared.clone(), results, self.jobs, self.cluster_jobs);
        let interrupt = self.shared.site.interrupt.clone();
        loop {
            if interrupt.is_set() {
                scheduler.stop();
            }
            while let Some(id) = scheduler
                .start_behind(&crew.kept(), |id| crew.joins(id))
                .or_else(|| scheduler.start())
            {
                if let Err(failure) = self.start(id, &mut crew, &mut scheduler, teller) {
                    self.task_failed(id, failure, &mut scheduler, teller);
                }
            }
            crew.flush();
            if !interrupt.is_set() {
                crew.help();
            }
            self.sync_group(&crew, &scheduler);
            self.name_some(&mut scheduler, teller);
            let all_named = self.syncing.is_empty() && self.naming.is_none();
            let done = scheduler.is_over() && all_named;
            if done || (interrupt.is_set() && !crew.has_children()) {
                break;
            }
            for message in self.receive(&inbox) {
                match message {
                    Message::Task { task, at, news } => match news {
                        News::Begins(worker) => {
                            let entry = graph.task(task);
                            let doing = doing(entry.action, &entry.name);
                            let task = entry.name.to_string();
                            let event = Event::TaskStarted {
                                task,
                                doing,
                                worker,
                            };
                            teller.tell_of(at, event);
                        }
                        News::Waits(on) => {
                            let task = self.name(task).to_owned();
                            teller.tell_of(at, Event::TaskWaits { task, on });
                        }
                        News::Lost => crew.lost(task),
                        News::Left => {
                            crew.ended(task);
                            // The word of what failed may still be on its way.
                            if self.shared.stopped.load(Ordering::Relaxed) {
                                scheduler.stop();
                            }
                            scheduler.put_back(task);
                        }
                        News::Ended { took, result } => {
                            crew.ended(task);
                            self.receive_one(task, at, took, *result, &mut scheduler, teller);
                        }
                    },
                    // One that was named in the meantime, for a child to find, was synced for that.
                    Message::Synced(group, synced) if group == self.group => {
                        self.synced(synced, &crew, &mut scheduler, teller);
                    }
                    Message::Synced(..) => {}
                }
            }
        }
        self.publish(&mut scheduler, teller);
        self.show_pods(teller);
        self.shared.fleet.give_back(&self.shared.site);
        self.summary.not_started = scheduler.not_started() + scheduler.running();
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

    /// The next result; returns without one now and then, so that a signal and the age of staged files are seen, and
    /// at once where files wait for their names.
    fn receive(&self, inbox: &Receiver<Vec<Message>>) -> Vec<Message> {
        let patience = match self.naming {
            Some(_) => Duration::ZERO,
            None => Duration::from_millis(50),
        };
        let first = inbox.recv_timeout(patience);
        let mut messages = first.unwrap_or_default();
        messages.extend(inbox.try_iter().flatten());
        messages
    }

    fn receive_one(
        &mut self,
        id: TaskId,
        at: Instant,
        took: Duration,
        result: Result<Done, Failure>,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        match result {
            Err(failure) => self.task_failed(id, failure, scheduler, teller),
            Ok(Done::File(product)) => {
                let task = self.name(id).to_owned();
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                teller.tell_of(at, Event::TaskMade { task, micros });
                self.waiting.push((id, product, took));
                self.waiting_since.get_or_insert_with(Instant::now);
                scheduler.done(id);
            }
            Ok(Done::Command { output, started }) => {
                let task = self.name(id).to_owned();
                if !output.is_empty() {
                    teller.tell(Event::Output {
                        task: task.clone(),
                        text: output,
                    });
                }
                let recipe = Recipe::of(&self.shared.site.plan, self.shared.site.graph.task(id));
                self.log.put_task(
                    &task,
                    TaskRecord {
                        made: true,
                        output: None,
                        inputs: vec![],
                        recipe,
                        started,
                    },
                );
                match self.flush_log() {
                    Ok(()) => {
                        self.finished(id, true, String::new(), took, teller);
                        scheduler.done(id);
                    }
                    Err(cause) => self.task_failed(id, cause.into(), scheduler, teller),
                }
            }
            Ok(Done::Step(step)) => {
                if let (true, Some(cluster)) = (
                    step.changed,
                    self.shared.site.graph.task(id).action.cluster(),
                ) {
                    self.changed_clusters.insert(cluster);
                }
                self.finished(id, step.changed, step.did, took, teller);
                scheduler.done(id);
            }
        }
    }

    fn start(
        &mut self,
        id: TaskId,
        crew: &mut Crew,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) -> Result<(), Failure> {
        let graph = self.shared.site.graph.clone();
        let task = graph.task(id);
        if let Some(judged) = self.judged(id).filter(|j| j.obstacle) {
            return Err(judged.why.to_string().into());
        }
        let child = !task.action.is_built_in_file();
        if child {
            // A child reads files by their names: what it needs must have them.
            self.publish(scheduler, teller);
            if let Some(lost) = graph.before(id).find(|b| self.broken.contains(b)) {
                return Err(format!("{} could not be published", self.name(lost)).into());
            }
        }
        let mut began_at = 0;
        if let Action::Command(_) = task.action {
            self.log.put_start(&task.name);
            self.flush_log()?;
            began_at = self
                .log
                .written_at()
                .map_err(|e| format!("cannot look at the build log: {e}"))?;
        }
        crew.give(id, lane(&graph, id), began_at, child);
        Ok(())
    }

    fn finished(
        &mut self,
        id: TaskId,
        changed: bool,
        did: String,
        took: Duration,
        teller: &mut Teller,
    ) {
        if changed {
            self.summary.ran += 1;
            self.changed = true;
        } else {
            self.summary.current += 1;
        }
        let millis = took.as_millis() as u64;
        teller.tell(Event::TaskFinished {
            task: self.name(id).to_owned(),
            changed,
            did,
            millis,
        });
    }

    fn task_failed(
        &mut self,
        id: TaskId,
        failure: Failure,
        scheduler: &mut Scheduler,
        teller: &mut Teller,
    ) {
        self.broken.insert(id);
        self.shared.failed(id);
        let blocked = scheduler.failed(id);
        self.tell_failure(id, failure, blocked, teller);
        match (self.shared.keep_going, lane(&self.shared.site.graph, id)) {
            (true, _) => {}
            (false, Lane::Cluster) => scheduler.stop_clusters(),
            (false, Lane::File | Lane::Local) => scheduler.stop(),
        }
    }

    fn tell_failure(
        &mut self,
        id: TaskId,
        failure: Failure,
        blocked: Vec<TaskId>,
        teller: &mut Teller,
    ) {
        if failure.refused {
            self.summary.refused += 1;
        } else {
            self.summary.failed += 1;
        }
        self.summary.blocked += blocked.len();
        let blocked = blocked
            .into_iter()
            .map(|b| self.name(b).to_owned())
            .collect();
        teller.tell(Event::TaskFailed {
            task: self.name(id).to_owned(),
            cause: failure.cause,
            stderr: failure.stderr,
            blocked,
        });
    }
}

fn doing(action: Action, name: &str) -> String {
    let verb = match action {
        Action::Key(_) => "make",
        Action::RootCert | Action::CaCert(_) | Action::WorkloadCert(_) => "sign",
        Action::Chain(_) | Action::WorkloadChain(_) => "join and check",
        Action::Anchor | Action::RootCopy(_) => "copy",
        Action::Install(_) => "write",
        Action::Step(_, Step::Install) => "run",
        Action::Step(_, Step::Ready | Step::Synced) => "prove",
        Action::Step(..) => "apply",
        Action::Command(_) => "run",
    };
    format!("{verb} {name}")
}
