//! A plan that was edited in some of its clusters, cut down to those: the nodes that are not clusters', the
//! edited clusters, and for what clusters mean to each other, two that stand for the rest. It knows a
//! plan's text and what may be left out of it, and runs nothing.
//!
//! The cut plan says of the edited clusters what the whole one says, as long as no cluster step, remote,
//! workload or user's task ties clusters to each other, names stay, and the rest of the mesh stays on as
//! many networks. Where that is not so, or anything about the cut plan is wrong, the whole one is read.

use std::{io, ops::Range};

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    action::manifest,
    graph::{Graph, Task},
    host::{Kind, Look, Stat},
    plan::{
        Surroundings,
        model::{Cluster, Plan},
        top_level,
    },
};

/// The nodes of a plan's text, and what of its clusters matters to others.
#[derive(Debug, PartialEq)]
pub(super) struct Nodes {
    /// First and last byte of each top-level node.
    places: Vec<(u32, u32)>,
    /// Of each node: a checksum of the network of the cluster that it is; `None` for any other node.
    networks: Vec<Option<u32>>,
    /// Whether the mesh has several networks. A cut that has not as many is no cut, so two of one checksum cost
    /// a whole walk and nothing else.
    several: bool,
}

/// A plan's text cut down, before an edit and after.
#[derive(Debug, PartialEq)]
pub(super) struct Cut {
    pub(super) old: String,
    pub(super) new: String,
    /// Nodes of the whole new text; the networks of edited clusters are still to be learnt.
    pub(super) nodes: Nodes,
    /// Which of them were edited.
    pub(super) edited: Vec<usize>,
}

fn at(text: &str, (start, end): (u32, u32)) -> Option<&str> {
    text.get(start as usize..end as usize)
}

fn network(cluster: &Cluster) -> u32 {
    crc32fast::hash(cluster.network.as_deref().unwrap_or_default().as_bytes())
}

/// The word that begins a node.
fn word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '{')
        .next()
        .unwrap_or_default()
}

const CLUSTER: &str = "cluster";

/// Bytes of a node.
const NODE: usize = 4 * 4;

impl Nodes {
    /// Of a plan that can be cut at all.
    pub(super) fn of(text: &str, plan: &Plan, graph: &Graph) -> Option<Self> {
        if !is_loose(plan, graph) {
            return None;
        }
        let mut clusters = plan.clusters.iter();
        let (mut places, mut networks) = (Vec::new(), Vec::new());
        for Range { start, end } in top_level(text)? {
            places.push((u32::try_from(start).ok()?, u32::try_from(end).ok()?));
            networks.push(match word(&text[start..end]) {
                "include" => return None,
                CLUSTER => Some(network(clusters.next()?)),
                _ => None,
            });
        }
        clusters.next().is_none().then_some(Self {
            places,
            networks,
            several: plan.mesh.several_networks,
        })
    }

    /// As bytes that are read without a parser: whether there are several networks (u8), then of each node its
    /// first and last byte, whether it is a cluster, and its network (u32 each, little endian).
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + NODE * self.places.len());
        bytes.push(self.several.into());
        for ((start, end), network) in self.places.iter().zip(&self.networks) {
            let is_cluster = network.is_some().into();
            for word in [*start, *end, is_cluster, network.unwrap_or_default()] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads them; `None` where they are of no such nodes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (several, bytes) = bytes.split_first()?;
        let (each, []) = bytes.as_chunks::<NODE>() else {
            return None;
        };
        let word = |node: &[u8; NODE], place: usize| {
            node.as_chunks()
                .0
                .get(place)
                .map_or(0, |word| u32::from_le_bytes(*word))
        };
        let each = || each.iter();
        Some(Self {
            places: each().map(|n| (word(n, 0), word(n, 1))).collect(),
            networks: each()
                .map(|n| (word(n, 2) != 0).then(|| word(n, 3)))
                .collect(),
            several: *several != 0,
        })
    }

    /// Cuts the plan down to what an edit of `old` to `new` touched. `None` where other nodes than clusters
    /// were touched, or nodes came or went.
    pub(super) fn cut(self, old: &str, new: &str) -> Option<Cut> {
        let same = |a: &mut dyn Iterator<Item = (u8, u8)>| a.take_while(|(x, y)| x == y).count();
        let head = same(&mut old.bytes().zip(new.bytes()));
        let most = old.len().min(new.len()) - head;
        let tail = same(&mut old.bytes().rev().zip(new.bytes().rev()).take(most));
        // From the node before the edit to the one after it: these two are the same in both, so that what is
        // between them reads as in the whole.
        let before = self
            .places
            .partition_point(|(_, end)| (*end as usize) < head);
        let after = self
            .places
            .partition_point(|(start, _)| (*start as usize) <= old.len() - tail);
        let range = before.saturating_sub(1)..(after + 1).min(self.places.len());
        let from = match range.start {
            0 => 0,
            first => self.places[first].0 as usize,
        };
        let shift = new.len() as i64 - old.len() as i64;
        let to = match range.end == self.places.len() {
            true => new.len(),
            false => usize::try_from(i64::from(self.places[range.end - 1].1) + shift).ok()?,
        };
        let read = top_level(new.get(from..to)?)?;
        let moved = |place: u32| u32::try_from(i64::from(place) + shift).ok();
        // That what is before and after reads as it did, both neighbours must stand where they stood: what was
        // written between them may begin a comment that swallows the second.
        let stands = |read: &Range<usize>, start: u32, end: u32| {
            (read.start + from, read.end + from) == (start as usize, end as usize)
        };
        let (first, last) = (self.places.get(range.start)?, self.places[range.end - 1]);
        if read.len() != range.len()
            || (before > 0 && !stands(read.first()?, first.0, first.1))
            || (after < self.places.len() && !stands(read.last()?, moved(last.0)?, moved(last.1)?))
        {
            return None;
        }
        let mut places = self.places[..range.start].to_vec();
        for Range { start, end } in read {
            places.push((
                u32::try_from(start + from).ok()?,
                u32::try_from(end + from).ok()?,
            ));
        }
        for (start, end) in &self.places[range.end..] {
            places.push((moved(*start)?, moved(*end)?));
        }
        let edited: Vec<_> = range
            .filter(|node| at(old, self.places[*node]) != at(new, places[*node]))
            .collect();
        for &node in &edited {
            let cluster = at(new, places[node]).is_some_and(|text| word(text) == CLUSTER);
            if !cluster || self.networks[node].is_none() {
                return None;
            }
        }
        let kept = self.kept(&edited);
        let join = |text: &str, places: &[(u32, u32)]| {
            let texts = kept.iter().map(|node| at(text, places[*node]));
            Some(texts.collect::<Option<Vec<_>>>()?.join("\n"))
        };
        Some(Cut {
            old: join(old, &self.places)?,
            new: join(new, &places)?,
            nodes: Self { places, ..self },
            edited,
        })
    }

    /// What a cut keeps, in order: all but clusters, the edited ones, and of the others one, with one on
    /// another network where there is one, since a mesh of several networks is another mesh.
    fn kept(&self, edited: &[usize]) -> Vec<usize> {
        let is_edited = |node: &usize| edited.binary_search(node).is_ok();
        let rest =
            (0..self.networks.len()).filter(|n| self.networks[*n].is_some() && !is_edited(n));
        let one = rest.clone().next();
        let other = rest
            .clone()
            .find(|n| Some(self.networks[*n]) != one.map(|o| self.networks[o]));
        (0..self.networks.len())
            .filter(|n| {
                self.networks[*n].is_none() || is_edited(n) || one == Some(*n) || other == Some(*n)
            })
            .collect()
    }

    /// Learns the networks of edited clusters from the cut plan.
    pub(super) fn learn(&mut self, edited: &[usize], new: &Plan) {
        let kept = self.kept(edited).into_iter();
        let clusters = kept.filter(|n| self.networks[*n].is_some());
        for (node, cluster) in clusters.collect::<Vec<_>>().into_iter().zip(&new.clusters) {
            self.networks[node] = Some(network(cluster));
        }
    }
}

/// True where clusters have nothing to do with each other but their mesh's networks.
fn is_loose(plan: &Plan, graph: &Graph) -> bool {
    let alone = |c: &Cluster| c.context.is_none() && c.remote_of.is_none();
    plan.workloads.is_empty()
        && plan.tasks.is_empty()
        && plan.clusters.iter().all(alone)
        && !manifest::names_others(plan.mesh.istio_version)
        && graph
            .tasks
            .iter()
            .all(|t| t.action.is_built_in_file() || t.undone.is_some())
}

/// Whether the cut plan can stand for the whole one.
pub(super) fn fits(nodes: &Nodes, old: (&Plan, &Graph), new: (&Plan, &Graph)) -> bool {
    let (tasks, others) = (&old.1.tasks, &new.1.tasks);
    // The same tasks, of which the same are undone for the same reasons.
    let same = tasks.len() == others.len()
        && tasks.iter().zip(others).all(|(a, b)| {
            let why = |t: &Task| t.undone.as_ref().map(|u| (u.why.clone(), u.how.clone()));
            a.name == b.name && why(a) == why(b)
        });
    same && is_loose(old.0, old.1)
        && is_loose(new.0, new.1)
        && [old, new].map(|cut| cut.0.mesh.several_networks) == [nodes.several; 2]
        && old.0.work_dir == new.0.work_dir
}

/// The machine, with another text in the plan's place.
pub struct Retold<'a, T> {
    pub(super) machine: &'a T,
    pub(super) path: Utf8PathBuf,
    pub(super) text: String,
}

impl<T: Surroundings> Surroundings for Retold<'_, T> {
    fn var(&self, name: &str) -> Option<String> {
        self.machine.var(name)
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        match path == self.path {
            true => Ok(self.text.clone().into_bytes()),
            false => self.machine.read(path),
        }
    }

    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        match path == self.path {
            true => Ok(self.text.len() as u64),
            false => self.machine.len(path),
        }
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        self.machine.list(dir)
    }
}

impl<T: Look> Look for Retold<'_, T> {
    fn stat(&self, path: &Utf8Path) -> io::Result<Option<Stat>> {
        self.machine.stat(path)
    }

    fn kind(&self, path: &Utf8Path) -> io::Result<Option<Kind>> {
        self.machine.kind(path)
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        self.machine.read(path)
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        self.machine.list(dir)
    }
}
