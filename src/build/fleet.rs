//! The clusters of one run: what each was seen to hold, whether they may be changed, and whose Lease is held.
//! Steps of all threads share it; it knows nothing of tasks.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use camino::Utf8PathBuf;

use super::{Site, worker::Shared};
use crate::{
    action::cluster::{self, Allowed, Hands, Live, StepError, Target, Tools},
    host::{
        self,
        process::{self, Command, Finished, Interrupt},
    },
};

/// Pauses before further looks at a cluster that does not answer: nothing is changed anywhere meanwhile.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// How old a Lease may be when a cluster is changed: what comes then may take as long as an install.
const RENEWAL: Duration = Duration::from_secs(300);

/// Longest that a Lease's end may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs a command to its end.
type Run<'a> = &'a (dyn Fn(&Command) -> io::Result<Finished> + Sync);

#[derive(Default)]
struct Seen {
    live: Option<Arc<Live>>,
    /// When the cluster's Lease was taken or renewed.
    held: Option<Instant>,
}

/// Clusters of one run.
pub(super) struct Fleet {
    /// By name. Whoever asks first holds the lock, so that others share the answer.
    seen: HashMap<String, Mutex<Seen>>,
    unfit: OnceLock<HashMap<String, StepError>>,
    /// Clusters by place that this run has steps for.
    places: Vec<usize>,
    /// One that is not fit keeps nobody else from being changed.
    keep_going: bool,
    other_cluster: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Nothing is known yet of the clusters at these places of the plan.
    pub(super) fn new(
        site: &Site,
        places: Vec<usize>,
        keep_going: bool,
        other_cluster: bool,
    ) -> Self {
        let names = site.plan.clusters.iter().filter(|c| c.context.is_some());
        Self {
            seen: names.map(|c| (c.name.clone(), Mutex::default())).collect(),
            unfit: OnceLock::new(),
            places,
            keep_going,
            other_cluster,
        }
    }

    pub(super) fn look(
        &self,
        target: &Target<'_>,
        tools: &Tools,
        run: &mut dyn FnMut(&Command) -> io::Result<Finished>,
    ) -> Result<Arc<Live>, StepError> {
        let mut seen = lock(&self.seen[target.cluster]);
        if let Some(live) = &seen.live {
            return Ok(live.clone());
        }
        let live = Arc::new(cluster::observe(target, tools, run)?);
        seen.live = Some(live.clone());
        Ok(live)
    }

    pub(super) fn forget(&self, target: &Target<'_>) {
        lock(&self.seen[target.cluster]).live = None;
    }

    /// Whether a cluster may be changed. All are asked before the first one is.
    pub(super) fn fit(
        &self,
        target: &Target<'_>,
        shared: &Shared,
        run: Run,
    ) -> Result<(), StepError> {
        let unfit = self.unfit.get_or_init(|| self.ask_all(shared, run));
        match unfit.get(target.cluster) {
            Some(error) => Err(error.clone()),
            None => match unfit.keys().min() {
                Some(other) if !self.keep_going => Err(StepError::held_back(target, other)),
                _ => Ok(()),
            },
        }
    }

    fn ask_all(&self, shared: &Shared, run: Run) -> HashMap<String, StepError> {
        let site = &shared.site;
        let targets: Vec<_> = self
            .places
            .iter()
            .filter_map(|c| Target::new(&site.plan, *c, Allowed::default()))
            .collect();
        let istio = site.plan.mesh.istio_version;
        let istioctl = cluster::other_istioctl(&site.tools, istio, &mut |c| run(c));
        let ask = |target: &Target<'_>| {
            let once = || {
                let looked = self.look(target, &site.tools, &mut |c| run(c));
                // What is lacking is more than what a look was refused for, if that is why.
                if looked.as_ref().err().is_none_or(StepError::forbidden) {
                    cluster::fit(target, &site.tools, istioctl.as_deref(), &mut |c| run(c))?;
                }
                Ok::<_, StepError>(looked?.uid.clone().unwrap_or_default())
            };
            let mut pauses = PATIENCE.iter();
            loop {
                match (once(), pauses.next()) {
                    (Err(e), Some(pause)) if e.transient() && !site.interrupt.is_set() => {
                        thread::park_timeout(*pause);
                    }
                    (asked, _) => break asked,
                }
            }
        };
        let mut answers = Vec::new();
        for group in targets.chunks(shared.cluster_jobs.max(1)) {
            answers.extend(thread::scope(|scope| {
                let asked: Vec<_> = group.iter().map(|t| scope.spawn(|| ask(t))).collect();
                let answers = asked.into_iter().map(|a| a.join().ok());
                group.iter().zip(answers).collect::<Vec<_>>()
            }));
        }
        let mut unfit = HashMap::new();
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let known = known_clusters(site);
        for (target, answer) in answers {
            let name = target.cluster.to_owned();
            match answer {
                Some(Ok(uid)) if !uid.is_empty() => {
                    if let Some(other) = owners.insert(uid.clone(), target.cluster) {
                        // Which of the two contexts is wrong, nobody knows.
                        let both = [(target, other)].into_iter().chain(
                            targets
                                .iter()
                                .find(|t| t.cluster == other)
                                .map(|t| (t, target.cluster)),
                        );
                        unfit.extend(both.map(|(one, other)| {
                            (one.cluster.to_owned(), StepError::same_cluster(one, other))
                        }));
                    } else if let Some(was) = known.get(target.cluster).filter(|was| **was != uid)
                        && !self.other_cluster
                    {
                        unfit.insert(name, StepError::another_cluster(target, was, &uid));
                    }
                }
                Some(Err(error)) => drop(unfit.insert(name, error)),
                _ => drop(unfit.insert(name, StepError::not_asked(target))),
            }
        }
        if unfit.is_empty() {
            remember_clusters(site, known, &owners);
        }
        unfit
    }

    /// Takes a cluster's Lease, or renews it.
    pub(super) fn hold(
        &self,
        target: &Target<'_>,
        tools: &Tools,
        hands: &mut dyn Hands,
    ) -> Result<(), StepError> {
        let mut seen = lock(&self.seen[target.cluster]);
        if seen.held.is_none_or(|held| held.elapsed() > RENEWAL) {
            let asked = Instant::now();
            // Noted before it is certain: an interrupted command may have reached the server.
            seen.held.get_or_insert(asked);
            cluster::hold(target, tools, hands)?;
            seen.held = Some(asked);
        }
        Ok(())
    }

    /// Gives all Leases back, also after an interrupt.
    pub(super) fn give_back(&self, site: &Site) {
        let held: Vec<_> = self
            .places
            .iter()
            .filter_map(|c| Target::new(&site.plan, *c, Allowed::default()))
            .filter(|t| lock(&self.seen[t.cluster]).held.take().is_some())
            .collect();
        let calm = Interrupt::new(FAREWELL);
        thread::scope(|scope| {
            for target in &held {
                // One that stays is taken over by the next run here, or ends by itself.
                let mut run = |command: &Command| {
                    let mut command = command.clone();
                    command.timeout = Some(FAREWELL);
                    process::run(&command, &calm, &mut |_| {})
                };
                scope.spawn(move || {
                    cluster::give_back(target, &site.tools, &host::lock::holder(), &mut run);
                });
            }
        });
    }
}

fn notebook(site: &Site) -> Utf8PathBuf {
    site.plan.state_dir().join("clusters.json")
}

/// UIDs of the clusters that contexts reached last time, by cluster.
fn known_clusters(site: &Site) -> BTreeMap<String, String> {
    let text = site.disk.read(&notebook(site)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// A note that cannot be written keeps nothing from being done; the next run only knows less.
fn remember_clusters(
    site: &Site,
    mut known: BTreeMap<String, String>,
    now: &BTreeMap<String, &str>,
) {
    let before = known.clone();
    known.extend(
        now.iter()
            .map(|(uid, name)| ((*name).to_owned(), uid.clone())),
    );
    if known == before {
        return;
    }
    let staged = site.plan.state_dir().join("clusters.json.new");
    let text = serde_json::to_vec(&known).unwrap_or_default();
    let _ = site.disk.remove(&staged);
    let _ = site
        .disk
        .create(&staged, 0o600, &text)
        .and_then(|_| site.disk.rename(&staged, &notebook(site)));
}
