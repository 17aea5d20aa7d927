//! Is a task stale, and why: one walk over the wanted tasks that yields verdict and reason together
//! (design §4). It reads files and the log and changes nothing; how anything is made, it does not know.

mod authority;
mod command;
mod derived;
mod issued;
mod look;
mod verdict;

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use smol_str::SmolStr;
use time::OffsetDateTime;

use super::{
    Site,
    log::{Facts, Inputs, Log, TaskRecord},
    recipe::Recipe,
};
use crate::{
    action::pki::{self, Digest},
    graph::{Action, FileId, Graph, Task, TaskId},
    host::{Kind, Look},
    plan::model::{Plan, RootCa},
    report::event::{UNDONE, Verdict},
};
use authority::Cause;
use look::{Eyes, Seen, Sights, Sound};
pub use look::{Listing, facts};
pub use verdict::{Ask, Judged, Judgement, Notice, Verdicts};

/// The walk.
struct Judge<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    log: &'a Log,
    ask: &'a Ask,
    now: OffsetDateTime,
    /// The CA brought along, loaded; `None` for a root made here, or one that a task is yet to bring.
    given: Option<&'a pki::Issuer>,
    eyes: Eyes<'a>,
    /// Serial numbers of certificates that were read in this walk, by their issuer's file; with their own.
    serials: HashMap<(FileId, Vec<u8>), SmolStr>,
    found: Judgement,
}

/// Judges the tasks of `order`, each after all it needs, by the files that `disk` shows.
pub fn judge(site: &Site, disk: &dyn Look, log: &Log, ask: &Ask, order: &[TaskId]) -> Judgement {
    let Site {
        plan,
        graph,
        clock,
        given,
        ..
    } = site;
    // A new mesh has thousands of folders that are yet to be made: one listing tells of all that they are not there.
    let names = log
        .is_new()
        .then(|| disk.list(&plan.work_dir).ok())
        .flatten();
    let eyes = Eyes {
        graph,
        log,
        disk,
        seen: Sights::of(graph.files.len()),
        folders: HashMap::new(),
        listing: Listing::of(&plan.work_dir, names),
        back: HashMap::new(),
        news: Vec::new(),
    };
    let (now, given) = (clock.now(), given.as_deref());
    let mut walk = Judge {
        plan,
        graph,
        log,
        ask,
        now,
        given,
        eyes,
        serials: HashMap::new(),
        found: Judgement {
            tasks: Verdicts::of(graph.tasks.len()),
            ..Judgement::default()
        },
    };
    if let Some(given) = given {
        walk.found.until = given.path().steady_until().unix_timestamp();
    }
    for &id in order {
        let judged = walk.task(id);
        walk.found.tasks.insert(id, judged);
    }
    walk.root_end();
    walk.found.seen = walk.eyes.news;
    walk.found.listing = walk.eyes.listing;
    walk.found
}

impl Judge<'_> {
    fn task(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        if let Some(undone) = &task.undone {
            return Judged {
                why: undone.why.clone(),
                ..Judged::new(Verdict::Undone, UNDONE, "")
            };
        }
        if let Some(odd) = self.odd_output(task) {
            return Judged::obstacle(odd);
        }
        let judged = match task.action {
            Action::Key(owner) => self.key(id, owner),
            Action::RootCert => self.root_cert(id),
            Action::Anchor => self.anchor(id),
            Action::CaCert(c) => self.ca_cert(id, c),
            Action::WorkloadCert(w) => self.workload_cert(id, w),
            Action::Chain(_) | Action::WorkloadChain(_) => self.chain(id),
            Action::RootCopy(_) => self.root_copy(id),
            Action::Install(c) => self.install(id, c),
            Action::Step(..) => {
                Judged::stale("looks-first", "looks at the cluster, changes what differs")
            }
            Action::Command(_) => self.command(id),
        };
        let judged = self.forced(id, judged);
        self.blocked(id, judged)
    }

    /// A file that is current stays so whatever happens upstream; one that must be made waits for it.
    fn blocked(&self, id: TaskId, judged: Judged) -> Judged {
        if judged.verdict != Verdict::Stale {
            return judged;
        }
        let stopped = self.graph.before(id).find(|b| {
            let upstream = self.found.tasks.get(*b).map(|j| j.verdict);
            matches!(upstream, Some(Verdict::Refused | Verdict::Blocked))
        });
        match stopped {
            Some(other) => Judged::new(
                Verdict::Blocked,
                "blocked",
                format!("needs {}", self.graph.task(other).name),
            ),
            None => judged,
        }
    }

    fn forced(&self, id: TaskId, judged: Judged) -> Judged {
        if !matches!(judged.verdict, Verdict::Current | Verdict::Adopted) {
            return judged;
        }
        let action = self.graph.task(id).action;
        if self.ask.force.contains(&id) {
            return match action {
                Action::Key(owner) => self.rekey(id, owner, &Cause::Forced),
                Action::RootCert => self.reissue_root(&Cause::Forced),
                Action::Anchor => judged,
                _ => Judged::stale("forced", "asked for by --force"),
            };
        }
        let root = matches!(action, Action::Key(_) | Action::RootCert | Action::Anchor);
        if self.ask.always && !root {
            Judged::stale("forced", "asked for by -B")
        } else {
            judged
        }
    }

    /// The wanted task that makes `file` in this run, if one does.
    fn rebuilt(&self, file: FileId) -> bool {
        let producer = self.graph.file_at(file).producer;
        producer
            .and_then(|p| self.found.tasks.get(p))
            .is_some_and(|judged| {
                let anew = matches!(
                    judged.verdict,
                    Verdict::Stale | Verdict::Refused | Verdict::Blocked
                );
                anew && judged.restore.is_none()
            })
    }

    fn rebuilt_input(&self, task: &Task, inputs: &[FileId]) -> Option<Judged> {
        let file = inputs.iter().find(|f| self.rebuilt(**f))?;
        let consequence = consequence(task.action);
        Some(Judged::stale(
            "input-rebuilt",
            format!(
                "{} is made anew: {consequence}",
                self.graph.file_at(*file).name
            ),
        ))
    }

    fn odd_output(&mut self, task: &Task) -> Option<String> {
        let Some(&output) = task
            .outputs
            .first()
            .filter(|_| task.action.is_built_in_file())
        else {
            let folder = task.outputs.iter().find(|f| {
                let stat = self.eyes.disk.stat(&self.graph.file_at(**f).path);
                stat.is_ok_and(|s| s.is_some_and(|s| s.kind == Kind::Folder))
            })?;
            return Some(format!(
                "output {} is a folder; outputs are files",
                self.graph.file_at(*folder).name
            ));
        };
        // A folder of a cluster that is a link leads out of the work directory.
        let path = &self.graph.file_at(output).path;
        let below = || !look::is_in(path, &self.plan.work_dir);
        if let Some(dir) = path.parent().filter(|_| below()) {
            match self.eyes.folder(dir) {
                Ok(Some(Kind::Link)) => {
                    return Some(format!(
                        "{dir} is a symbolic link; keys would be written elsewhere: make it a folder"
                    ));
                }
                Ok(Some(kind)) if kind != Kind::Folder => {
                    return Some(format!("{dir} is not a folder: move it away"));
                }
                Ok(_) => {}
                Err(e) => return Some(format!("cannot look at {dir}: {e}")),
            }
        }
        match self.eyes.look(output) {
            Seen::Odd(text) => Some(text),
            _ => None,
        }
    }

    /// A sound file that is not the one on record: noted as it is. Adopted where no log knows its name;
    /// one that meshplan began and could not note any more is its own.
    fn taken(&self, task: &Task, digest: Digest, inputs: Inputs) -> Judged {
        let known = self.log.task(&task.name);
        let known = known.as_ref();
        let begun = self.log.unfinished(&task.name);
        let made = begun || known.is_some_and(|k| k.made);
        let recipe = Recipe::of(self.plan, task);
        let record = TaskRecord {
            made,
            output: Some(digest),
            inputs,
            recipe,
            started: 0,
        };
        let judged = if known.is_none() && !begun {
            Judged::new(
                Verdict::Adopted,
                "adopted",
                "made elsewhere, sound: taken over as it is",
            )
        } else {
            Judged::current()
        };
        Judged {
            record: Some(Box::new(record)),
            ..judged
        }
    }

    /// True where a file of that name was never ours.
    fn is_foreign(&self, name: &str) -> bool {
        !self.log.has_task(name) && !self.log.unfinished(name)
    }

    fn differs(&mut self, name: &str, differences: &[String], allow: &str) {
        if differences.is_empty() {
            return;
        }
        self.found.notices.push(Notice {
            code: "adopted-differs",
            message: format!(
                "{name} was made elsewhere and is kept, though it is not as asked for: {}",
                differences.join(", ")
            ),
            help: format!("to have it so: {}", self.plan.anew(name, allow)),
        });
    }

    /// Verdicts may be others once a certificate is so near its end.
    fn holds_until(&mut self, not_after: i64, renew: Duration) {
        let moment = not_after - renew.as_secs() as i64;
        self.found.until = self.found.until.min(moment);
    }

    /// A root is never stale by age; near its end, it is told.
    fn root_end(&mut self) {
        let renew = match &self.plan.root {
            RootCa::Made(spec) => spec.renew_before,
            RootCa::Given(_) => Duration::from_secs(365 * 86_400),
        };
        let name = self.plan.files.root_cert();
        let Some(file) = self.graph.find_file(&self.plan.work_dir.join(&name)) else {
            return;
        };
        if self.eyes.seen.get(file).is_none() || self.rebuilt(file) {
            return;
        }
        if let Seen::Sound(Sound {
            facts: Facts::Cert { not_after, .. },
            ..
        }) = self.eyes.look(file)
        {
            let left = not_after - self.now.unix_timestamp();
            self.holds_until(not_after, renew);
            if left <= renew.as_secs() as i64 {
                let (code, help) = if left <= 0 {
                    (
                        "root-expired",
                        "nothing under it verifies any more: it needs a new root in every cluster (--allow root-reissue)",
                    )
                } else {
                    (
                        "root-expires",
                        "plan its replacement: every cluster's CA ends with it",
                    )
                };
                let message = format!("{name} {}", ends(left));
                self.found.notices.push(Notice {
                    code,
                    message,
                    help: help.to_owned(),
                });
            }
        }
    }
}

const RESIGN: &str = "re-sign, same key, new serial";

fn consequence(action: Action) -> &'static str {
    match action {
        Action::CaCert(_) | Action::WorkloadCert(_) => RESIGN,
        Action::Command(_) => "run",
        _ => "rebuild",
    }
}

fn ends(left: i64) -> String {
    match left {
        i64::MIN..=-86_400 => format!("ended {} days ago", -left / 86_400),
        -86_399..=0 => format!("ended {} hours ago", -left / 3_600),
        1..86_400 => format!("ends in {} hours", left / 3_600),
        _ => format!("ends in {} days", left / 86_400),
    }
}
