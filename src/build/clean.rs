//! Takes away what meshplan made, and nothing else. The log says what that is; a file that is no
//! longer the one it noted is somebody's now and stays.

use std::{io, sync::Arc};

use camino::Utf8PathBuf;
use zeroize::Zeroizing;

use super::{Publisher, RunError, Site, enter, log::Log};
use crate::{
    action::pki,
    graph::{Action, FileId, Owner, TaskId},
    host::Kind,
};

/// What is asked of `clean`.
#[derive(Debug, Clone)]
pub struct CleanRequest {
    /// Names asked for; empty means `all`.
    pub targets: Vec<String>,
    /// Folder that target paths start from.
    pub cwd: Utf8PathBuf,
    /// Private keys of clusters and workloads too.
    pub keys: bool,
    /// The root key too (`--keys --allow root-key`).
    pub root_key: bool,
    /// Say what would be removed, remove nothing.
    pub dry_run: bool,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// It is gone, or would be.
    Removed(String),
    /// It is in the archive, from where a run brings it back.
    Archived(String),
    /// It stays: name and reason.
    Kept(String, String),
}

/// Removes what the wanted tasks made. Results are in plan order.
///
/// # Errors
/// Where the work directory cannot be used, or a file cannot be removed.
pub fn clean(site: &Site, request: &CleanRequest) -> Result<Vec<Cleaned>, RunError> {
    let names = if request.targets.is_empty() {
        vec!["all".to_owned()]
    } else {
        request.targets.clone()
    };
    let found: Result<Vec<_>, _> = names
        .iter()
        .map(|n| site.graph.resolve(n, &request.cwd))
        .collect();
    let mut wanted: Vec<TaskId> = found.map_err(RunError::Target)?.concat();
    wanted.sort_unstable();
    wanted.dedup();
    let state = site.plan.state_dir();
    let host = |what: &str, source: io::Error| RunError::Host {
        what: what.to_owned(),
        source,
    };
    match site.disk.stat(&state) {
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(_)) => {}
        Err(e) => return Err(host(&format!("cannot look at {state}"), e)),
    }
    let _lock = if request.dry_run {
        None
    } else {
        Some(enter(site)?)
    };
    let log = Log::open(site.disk.clone(), state.join("log"))
        .map_err(|e| host("cannot read the build log", e))?;
    let publisher = if request.dry_run {
        None
    } else {
        let opened = Publisher::open(site.disk.clone(), &state, site.clock.now());
        Some(opened.map_err(|e| host(&format!("cannot prepare {state}"), e))?)
    };
    let mut sweep = Sweep {
        site,
        request,
        log,
        publisher,
        done: Vec::new(),
    };
    let swept = wanted.iter().try_for_each(|id| sweep.task(*id));
    let noted = match &sweep.publisher {
        Some(publisher) => sweep.log.flush(&|name| publisher.archive_name(name)),
        None => Ok(()),
    };
    let noted = noted.map_err(|e| host("cannot write the build log", e));
    swept?;
    noted?;
    sweep.folders();
    Ok(sweep.done)
}

struct Sweep<'a> {
    site: &'a Site,
    request: &'a CleanRequest,
    log: Log,
    publisher: Option<Publisher>,
    done: Vec<Cleaned>,
}

impl Sweep<'_> {
    fn task(&mut self, id: TaskId) -> Result<(), RunError> {
        let task = self.site.graph.task(id);
        let Some(record) = self.log.task(&task.name) else {
            for &file in &task.outputs {
                if self.is_there(file) {
                    self.keep(file, "meshplan did not make it");
                }
            }
            return Ok(());
        };
        let mut all_gone = true;
        for &file in &task.outputs {
            let gone = self.file(file, task.action, record.made, record.output)?;
            all_gone &= gone;
        }
        if all_gone && self.publisher.is_some() {
            self.log.put_gone(&task.name);
        }
        Ok(())
    }

    fn is_there(&self, file: FileId) -> bool {
        let stat = self.site.disk.stat(&self.site.graph.file_at(file).path);
        stat.is_ok_and(|s| s.is_some())
    }

    fn keep(&mut self, file: FileId, why: &str) {
        let name = self.site.graph.file_at(file).name.to_string();
        self.done.push(Cleaned::Kept(name, why.to_owned()));
    }

    /// True where the file is gone.
    fn file(
        &mut self,
        id: FileId,
        action: Action,
        made: bool,
        noted: Option<pki::Digest>,
    ) -> Result<bool, RunError> {
        let disk = &self.site.disk;
        let file = self.site.graph.file_at(id);
        let wrong = |source| RunError::Host {
            what: format!("cannot remove {}", file.path),
            source,
        };
        let Some(stat) = disk.stat(&file.path).map_err(wrong)? else {
            return Ok(true);
        };
        let why = match action {
            Action::Key(Owner::Root) if !(self.request.keys && self.request.root_key) => Some(
                "the root key: every certificate of the mesh hangs on it (--keys --allow root-key)",
            ),
            Action::Key(_) if !self.request.keys => Some("a private key (--keys)"),
            _ if !made => Some("meshplan did not make it"),
            _ if stat.kind != Kind::File => Some("it is no longer a file"),
            _ => None,
        };
        if let Some(why) = why {
            self.keep(id, why);
            return Ok(false);
        }
        if let Some(noted) = noted {
            let known = self
                .log
                .file(&file.name)
                .is_some_and(|r| r.identity == stat.identity);
            if !known {
                let bytes = Zeroizing::new(disk.read(&file.path).map_err(wrong)?);
                if pki::digest(&bytes) != noted {
                    self.keep(id, "it was changed since meshplan made it");
                    return Ok(false);
                }
            }
        }
        // A second root certificate of the same key would be another root to every cluster: it is kept
        // where the next run finds it.
        let archived = action == Action::RootCert && !(self.request.keys && self.request.root_key);
        if let Some(publisher) = &self.publisher {
            if archived {
                publisher.keep(&file.path, &file.name).map_err(wrong)?;
            }
            disk.remove(&file.path).map_err(wrong)?;
            self.log.put_gone(&file.name);
        }
        let name = file.name.to_string();
        self.done.push(if archived {
            Cleaned::Archived(name)
        } else {
            Cleaned::Removed(name)
        });
        Ok(true)
    }

    /// Removes folders of clusters and workloads that are empty now.
    fn folders(&self) {
        if self.publisher.is_none() {
            return;
        }
        let disk: &Arc<_> = &self.site.disk;
        let plan = &self.site.plan;
        let clusters = plan.clusters.iter().map(|c| &c.name);
        for name in clusters.chain(plan.workloads.iter().map(|w| &w.name)) {
            let dir = plan.work_dir.join(name);
            if disk.list(&dir).is_ok_and(|names| names.is_empty()) {
                // A folder that somebody fills at this very moment stays, as it should.
                let _ = disk.remove_dir(&dir);
            }
        }
    }
}
