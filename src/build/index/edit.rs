//! From a cut plan to an index of the whole one again: what a run of the slice is given, how it is told, and
//! what of the index it changes. It does not know how a plan is cut.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use camino::Utf8PathBuf;
use indexmap::IndexSet;

use super::{
    Head,
    file::{Index, Section},
    flat, is_settled, settled_stamp,
    slice::{self, Cut, Nodes, Retold},
    witness::{Asked, Witness},
};
use crate::{
    action::pki::digest,
    build::{
        Site,
        freshness::{self, Ask},
        log::Log,
    },
    graph::Graph,
    host::{RealDisk, lock::Lock},
    plan::model::Plan,
    report::{
        Reporter,
        event::{Event, Verdict},
    },
};

/// A plan that was edited in some clusters, since a run that found nothing to do.
pub struct Edited {
    pub(super) lock: Lock,
    pub(super) head: Head,
    pub(super) index: Index,
    pub(super) found: Vec<u8>,
    pub(super) cut: Cut,
    /// The whole plan's new text, and where it is.
    pub(super) text: String,
    pub(super) path: Utf8PathBuf,
}

impl Edited {
    /// The machine as it was, and as it is, with the plan cut down to what was edited.
    pub fn machines<'a, T>(&self, machine: &'a T) -> [Retold<'a, T>; 2] {
        [&self.cut.old, &self.cut.new].map(|text| Retold {
            machine,
            path: self.path.clone(),
            text: text.clone(),
        })
    }

    /// The slice to be run, where the cut plan can stand for the whole one.
    pub fn slice(mut self, old: (&Plan, &Graph), new: (&Plan, &Graph)) -> Option<Slice> {
        if !slice::fits(&self.cut.nodes, old, new) {
            return None;
        }
        let Cut { nodes, edited, .. } = &mut self.cut;
        nodes.learn(edited, new.0);
        let places = self.index.read(Section::Places)?;
        let names: BTreeSet<&[u8]> = new.1.tasks.iter().map(|t| t.name.as_bytes()).collect();
        let mut names = names.into_iter().peekable();
        let mut records = Vec::new();
        for (name, places) in flat::Placed(&places) {
            while names.next_if(|wanted| *wanted < name).is_some() {}
            if names.next_if_eq(&name).is_some() {
                records.extend(places.into_iter().flatten());
            }
        }
        let path = new.0.state_dir().join("log");
        let log = Log::part(Arc::new(RealDisk), path, self.head.log.0, &records)?;
        let mine = new.1.tasks.iter().filter(|t| t.undone.is_none()).count();
        Some(Slice {
            rest: Rest {
                current: self.head.current.checked_sub(mine)?,
                undone: self.head.undone.checked_sub(new.1.tasks.len() - mine)?,
            },
            edited: self,
            places,
            log,
        })
    }
}

/// A cut plan that stands for the whole one: what a run of it needs to know.
pub struct Slice {
    edited: Edited,
    places: Vec<u8>,
    log: Log,
    rest: Rest,
}

/// What is not in the slice, by its number.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    current: usize,
    undone: usize,
}

impl Slice {
    /// What is not in it.
    pub fn rest(&self) -> Rest {
        self.rest
    }

    /// The lock of the work directory, the part of the log, and what `renew` needs.
    pub(in super::super) fn open(self) -> (Lock, Log, Renewal) {
        let Edited {
            lock,
            head,
            index,
            found,
            cut,
            text,
            path,
        } = self.edited;
        let renewal = Renewal {
            head,
            index,
            found,
            places: self.places,
            nodes: cut.nodes,
            text,
            path,
        };
        (lock, self.log, renewal)
    }
}

/// An index whose plan was edited.
pub(in super::super) struct Renewal {
    head: Head,
    index: Index,
    found: Vec<u8>,
    places: Vec<u8>,
    nodes: Nodes,
    text: String,
    path: Utf8PathBuf,
}

/// Brings the index up to date after the slice was run. `witness` saw the cut plan being read. Where that cannot
/// be done, the next run walks the whole plan.
pub(in super::super) fn renew(
    site: &Site,
    renewal: Renewal,
    witness: Witness<RealDisk>,
    log: &Log,
) {
    let order = site.graph.cone(&site.graph.task_ids().collect::<Vec<_>>());
    let judgement = freshness::judge(site, &witness, log, &Ask::default(), &order);
    let notes = witness.into_notes();
    if !is_settled(&judgement) || notes.unsure {
        return;
    }
    let Renewal {
        mut head,
        index,
        mut found,
        mut places,
        nodes,
        text,
        path,
    } = renewal;
    let asked = head.asked.drain(..).filter(|a| !a.is_of(&path));
    let mut asked: IndexSet<Asked> = asked.chain(notes.asked).collect();
    asked.insert(Asked::Bytes(path, Some(digest(text.as_bytes()))));
    head.asked = asked.into_iter().collect();
    head.until = head.until.min(judgement.until);
    let renewed = || {
        head.since = site.clock.now().unix_timestamp();
        head.log = settled_stamp(site, log)?;
        // The last look counts: the first was before the run.
        let found_anew = flat::patch(&mut found, &notes.found.into_iter().collect())?;
        let placed_anew = flat::patch_places(&mut places, log.places()?)?;
        let small = [
            (Section::Head, serde_json::to_vec(&head).ok()?),
            (Section::Text, text.into_bytes()),
            (Section::Nodes, nodes.to_bytes()),
        ];
        let long = [
            (Section::Found, found.as_slice(), found_anew),
            (Section::Places, places.as_slice(), placed_anew),
        ];
        index.rewrite(&*site.disk, &small, &long);
        Some(())
    };
    let _: Option<()> = renewed();
}

/// Tells of a slice as if the whole plan were walked.
pub struct Whole<'a> {
    /// Who is told.
    pub reporter: &'a mut dyn Reporter,
    /// What is not in the slice.
    pub rest: Rest,
}

impl Reporter for Whole<'_> {
    fn event(&mut self, at: Duration, event: &Event) -> io::Result<()> {
        let mut event = event.clone();
        match &mut event {
            Event::Planned { current, .. } => *current += self.rest.current,
            Event::RunFinished(summary) => {
                summary.current += self.rest.current;
                summary.undone += self.rest.undone;
            }
            // Told by their number alone.
            Event::Undone { .. }
            | Event::Verdict {
                verdict: Verdict::Undone,
                ..
            } => return Ok(()),
            _ => {}
        }
        self.reporter.event(at, &event)
    }
}
