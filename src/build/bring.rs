//! Files that no task makes: brought in whole, and put away, under the lock of the work directory. It knows
//! nothing of what they hold.

use std::{io, sync::Arc};

use camino::{Utf8Path, Utf8PathBuf};
use zeroize::Zeroizing;

use super::{Publisher, RunError, Site, enter};
use crate::host::Kind;

/// A file to bring in.
pub struct Brought<'a> {
    /// Absolute path.
    pub path: Utf8PathBuf,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// A private key: 0600, and it replaces nothing that is not in the archive.
    pub key: bool,
}

/// Writes files so that each is there whole or not at all. What has the name goes to the archive.
///
/// # Errors
/// Where the work directory cannot be used, or a file cannot be written.
pub fn bring(site: &Site, files: &[Brought<'_>]) -> Result<(), RunError> {
    let (_lock, publisher) = door(site)?;
    let host = |e| failed(&site.plan.work_dir, e);
    let same = |file: &&Brought<'_>| {
        let there = site.disk.read(&file.path).map(Zeroizing::new);
        there.is_ok_and(|bytes| bytes.as_slice() == file.bytes)
    };
    let mut staged = Vec::new();
    for file in files.iter().filter(|f| !same(f)) {
        let dir = file.path.parent().unwrap_or(&site.plan.work_dir);
        let stat = site.disk.stat(dir).map_err(host)?;
        if dir != site.plan.work_dir && stat.is_some_and(|s| s.kind != Kind::Folder) {
            let what =
                format!("{dir} is no folder, or a link that leads out of this one: move it away");
            return Err(RunError::Host {
                what,
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        let mode = if file.key { 0o600 } else { 0o644 };
        let aside = publisher.stage(&file.path, mode, file.key, file.bytes);
        staged.push((aside.map_err(host)?, &file.path));
    }
    let each = staged.iter().map(|(aside, to)| (aside, to.as_path()));
    publisher.sync(each).map_err(host)?;
    for (aside, to) in &staged {
        publisher
            .publish(aside, to, Some(&site.plan.below(to)))
            .map_err(host)?;
    }
    publisher.sync_names().map_err(host)
}

/// Removes files, or moves them to the archive; what is not there is passed over. Returns those that went.
///
/// # Errors
/// Where the work directory cannot be used, or a file cannot be removed.
pub fn put_away(
    site: &Site,
    files: &[Utf8PathBuf],
    archive: bool,
) -> Result<Vec<Utf8PathBuf>, RunError> {
    let there = |path: &&Utf8PathBuf| matches!(site.disk.stat(path), Ok(Some(_)));
    let files: Vec<_> = files.iter().filter(there).cloned().collect();
    if files.is_empty() {
        return Ok(files);
    }
    let (_lock, publisher) = door(site)?;
    for path in &files {
        let kept = match archive {
            true => publisher.keep(path, &site.plan.below(path)).map(drop),
            false => Ok(()),
        };
        kept.and_then(|()| site.disk.remove(path))
            .map_err(|e| failed(path, e))?;
    }
    publisher
        .sync_names()
        .map_err(|e| failed(&site.plan.work_dir, e))?;
    Ok(files)
}

fn door(site: &Site) -> Result<(crate::host::lock::Lock, Publisher), RunError> {
    let lock = enter(site)?;
    let opened = Publisher::open(
        Arc::clone(&site.disk),
        &site.plan.state_dir(),
        site.clock.now(),
    );
    Ok((lock, opened.map_err(|e| failed(&site.plan.work_dir, e))?))
}

fn failed(path: &Utf8Path, source: io::Error) -> RunError {
    RunError::Host {
        what: format!("cannot write to {path}"),
        source,
    }
}
