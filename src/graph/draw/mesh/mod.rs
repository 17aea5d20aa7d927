//! Draws a mesh as people draw it: networks as boxes, clusters in them, who signs, reads and serves whom.
//! It knows what a picture of a mesh shows, and nothing of plans or of the rules of topology.

mod dot;
mod json;
mod mermaid;
mod place;
mod route;
mod svg;
#[cfg(test)]
mod testing;

use std::collections::HashSet;

use indexmap::IndexMap;

use super::{Format, State};

/// What is to be drawn.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    /// Where it comes from, such as the plan's file.
    pub title: String,
    /// Mesh ID.
    pub id: String,
    /// CAs that sign the clusters' CAs.
    pub roots: Vec<Root>,
    /// Clusters, in the order in which they are shown.
    pub clusters: Vec<Cluster>,
    /// Who reads whose API server by a remote secret, reader first; places in `clusters`. A pair that
    /// names no cluster is left out.
    pub reads: Vec<(usize, usize)>,
}

/// A CA that signs clusters' CAs.
#[derive(Debug, Clone)]
pub struct Root {
    /// What it is called.
    pub name: String,
    /// What it is, such as `root CA`.
    pub role: String,
    /// More of it.
    pub note: String,
}

/// A cluster of the mesh.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its network; clusters with none share one without a name.
    pub network: Option<String>,
    /// The cluster whose istiod serves it; `None` for a primary.
    pub primary: Option<usize>,
    /// It has an east-west gateway.
    pub gateway: bool,
    /// Place in [`Mesh::roots`] of what signs its CA.
    pub root: Option<usize>,
    /// What it is in, where somebody looked.
    pub state: State,
    /// More of it, and why it is in that state.
    pub note: String,
}

/// Draws a mesh. The same mesh gives the same bytes.
pub fn draw(mesh: &Mesh, format: Format) -> String {
    match format {
        Format::Dot => dot::draw(mesh),
        Format::Mermaid => mermaid::draw(mesh),
        Format::Json => json::draw(mesh),
        Format::Svg => svg::draw(mesh),
    }
}

/// Who reads whom, in as few lines as tell it all.
#[derive(Debug, Default, PartialEq)]
struct Reads {
    hub: Option<Hub>,
    /// Pairs that read each other.
    mutual: Vec<(usize, usize)>,
    /// Reader and read.
    single: Vec<(usize, usize)>,
}

/// One line in place of n² arrows: every primary reads every cluster of `read` (but itself).
#[derive(Debug, PartialEq)]
struct Hub {
    readers: Vec<usize>,
    read: Vec<usize>,
    caption: &'static str,
}

impl Mesh {
    fn heading(&self) -> String {
        match (self.id.as_str(), self.title.as_str()) {
            ("", title) => title.to_owned(),
            (id, "") => format!("mesh {id}"),
            (id, title) => format!("mesh {id} ({title})"),
        }
    }

    /// Networks in the order of their first cluster, each with its clusters.
    fn networks(&self) -> Vec<(Option<&str>, Vec<usize>)> {
        let mut networks: IndexMap<Option<&str>, Vec<usize>> = IndexMap::new();
        for (i, cluster) in self.clusters.iter().enumerate() {
            networks
                .entry(cluster.network.as_deref())
                .or_default()
                .push(i);
        }
        networks.into_iter().collect()
    }

    /// The cluster whose istiod serves this one, where it is there.
    fn primary(&self, cluster: usize) -> Option<usize> {
        let primary = self.clusters[cluster].primary;
        primary.filter(|&p| p < self.clusters.len() && p != cluster)
    }

    /// Primaries and their remotes.
    fn serves(&self) -> Vec<(usize, usize)> {
        let remotes = 0..self.clusters.len();
        remotes
            .filter_map(|c| Some((self.primary(c)?, c)))
            .collect()
    }

    /// Roots and the clusters whose CAs they sign.
    fn signs(&self) -> Vec<(usize, usize)> {
        let clusters = self.clusters.iter().enumerate();
        clusters
            .filter_map(|(c, cluster)| Some((cluster.root?, c)))
            .filter(|&(root, _)| root < self.roots.len())
            .collect()
    }

    /// Pairs of [`Mesh::reads`] whose clusters exist, each once, in their order.
    fn sound_reads(&self) -> Vec<(usize, usize)> {
        let mut seen = HashSet::new();
        let there = |&(a, b): &(usize, usize)| a.max(b) < self.clusters.len() && a != b;
        let reads = self.reads.iter().copied().filter(there);
        reads.filter(|&read| seen.insert(read)).collect()
    }

    /// With two clusters an arrow says more than a hub, from three on a hub is less to look at.
    fn folded_reads(&self) -> Reads {
        let all = self.sound_reads();
        let set: HashSet<_> = all.iter().copied().collect();
        let clusters = 0..self.clusters.len();
        let readers: Vec<_> = clusters
            .clone()
            .filter(|&c| self.primary(c).is_none())
            .collect();
        let by_all = |&c: &usize| readers.iter().all(|&r| r == c || set.contains(&(r, c)));
        let read: Vec<_> = clusters.filter(by_all).collect();
        let hub = (readers.len() > 1 && read.len() > 2 && readers.iter().all(by_all)).then(|| {
            let caption = if read.len() == self.clusters.len() {
                "every primary reads every cluster"
            } else if read.len() == readers.len() {
                "every primary reads every other"
            } else {
                "every primary reads these clusters"
            };
            Hub {
                readers,
                read,
                caption,
            }
        });
        let in_hub = |a, b| {
            hub.as_ref()
                .is_some_and(|h| h.readers.contains(&a) && h.read.contains(&b))
        };
        let (mut mutual, mut single) = (Vec::new(), Vec::new());
        for (a, b) in all {
            if in_hub(a, b) {
                continue;
            }
            match (set.contains(&(b, a)) && !in_hub(b, a), a < b) {
                (true, true) => mutual.push((a, b)),
                (true, false) => {}
                (false, _) => single.push((a, b)),
            }
        }
        Reads {
            hub,
            mutual,
            single,
        }
    }
}

/// What a network's box is called.
fn network_title(name: Option<&str>) -> String {
    name.map_or("network without a name".to_owned(), |n| {
        format!("network {n}")
    })
}

/// What a cluster is in words.
fn role(mesh: &Mesh, cluster: usize) -> String {
    mesh.primary(cluster).map_or("primary".to_owned(), |p| {
        format!("remote of {}", mesh.clusters[p].name)
    })
}

/// What runs in a cluster, as far as the picture shows it.
fn parts(mesh: &Mesh, cluster: usize) -> [&'static str; 2] {
    match mesh.primary(cluster) {
        None => ["istiod", "API server"],
        Some(_) => ["API server", "workloads"],
    }
}

const GATEWAY: &str = "east-west gateway";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mutual_is_one_line_and_what_all_read_is_one_hub() {
        // Two primaries.
        let two = testing::mesh(2, 0, 1).folded_reads();
        assert_eq!(
            (two.hub, two.mutual, two.single),
            (None, vec![(0, 1)], vec![])
        );
        // One primary has no other to share a line with.
        let one = testing::mesh(1, 2, 1).folded_reads();
        assert_eq!(
            (one.hub, one.mutual, one.single),
            (None, vec![], vec![(0, 1), (0, 2)])
        );
        // Three and nine.
        let many = testing::mesh(3, 9, 4).folded_reads();
        let hub = many.hub.unwrap_or_else(|| panic!("no hub"));
        assert_eq!(
            (hub.readers.len(), hub.read.len(), hub.caption),
            (3, 12, "every primary reads every cluster")
        );
        assert!(many.mutual.is_empty() && many.single.is_empty());
    }

    #[test]
    fn what_no_hub_says_keeps_its_own_arrow() {
        let mut mesh = testing::mesh(3, 3, 1);
        // Remotes are read by their own primary alone.
        mesh.reads.retain(|&(a, b)| b < 3 || b == a + 3);
        let reads = mesh.folded_reads();
        assert_eq!(
            reads.hub.map(|h| (h.read, h.caption)),
            Some((vec![0, 1, 2], "every primary reads every other"))
        );
        assert_eq!(reads.single, [(0, 3), (1, 4), (2, 5)]);
        // One direction is missing: no hub, one arrow left alone.
        let mut mesh = testing::mesh(3, 0, 1);
        mesh.reads.retain(|&read| read != (2, 0));
        let reads = mesh.folded_reads();
        assert_eq!(
            (reads.hub, reads.mutual, reads.single),
            (None, vec![(0, 1), (1, 2)], vec![(0, 2)])
        );
    }

    #[test]
    fn an_empty_mesh_and_names_of_nothing_are_drawn() {
        for format in [Format::Dot, Format::Mermaid, Format::Json, Format::Svg] {
            assert!(!draw(&Mesh::default(), format).is_empty());
            let plain = testing::mesh(2, 0, 2);
            let mut mesh = plain.clone();
            mesh.reads.extend([(0, 99), (7, 1), (0, 0), (0, 1)]);
            assert_eq!(draw(&mesh, format), draw(&plain, format));
            (mesh.clusters[1].primary, mesh.clusters[0].root) = (Some(9), Some(9));
            assert!(!draw(&mesh, format).is_empty());
        }
    }
}
