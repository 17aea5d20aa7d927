//! Draws a graph for people and for other programs. It knows nodes, edges and groups, and nothing of
//! plans, tasks or what is on disk.

mod dot;
mod json;
mod layout;
mod mermaid;
pub mod mesh;
mod order;
mod page;
mod place;
mod svg;
#[cfg(test)]
mod testing;

use std::collections::{HashMap, HashSet};

use serde::Serialize;

/// What is to be drawn.
#[derive(Debug, Clone, Default)]
pub struct Drawing {
    /// Heading of the picture.
    pub title: String,
    /// Nodes, in the order in which they are shown where nothing else decides.
    pub nodes: Vec<Node>,
    /// Edges; one that names no node is left out.
    pub edges: Vec<Edge>,
}

/// Something that is made or done.
#[derive(Debug, Clone)]
pub struct Node {
    /// File path or target name, unique in the drawing.
    pub id: String,
    /// What is written in its box.
    pub label: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The cluster in whose box it stands; `None` for what is shared.
    pub group: Option<String>,
    /// What it is in, where somebody looked.
    pub state: State,
    /// What it is for, and why it is stale.
    pub note: String,
}

/// What kind of thing a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file that holds no private key.
    File,
    /// A file that holds a private key.
    Key,
    /// A step in a cluster.
    Step,
    /// A command of the user.
    Task,
    /// A name for several of the others.
    Target,
}

/// What a node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody looked.
    Unknown,
    /// Up to date.
    Current,
    /// To be run.
    Stale,
    /// To be run only with a flag.
    Refused,
    /// Left undone.
    Undone,
}

/// `from` is needed by `to`. Both are places in [`Drawing::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// What is needed.
    pub from: usize,
    /// What needs it.
    pub to: usize,
    /// It must be done before, but is not read.
    pub order_only: bool,
}

/// What a graph is drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// Nodes and edges as JSON.
    Json,
    /// A picture.
    Svg,
}

/// Draws a graph. The same drawing gives the same bytes.
pub fn draw(drawing: &Drawing, format: Format) -> String {
    match format {
        Format::Dot => dot::draw(drawing),
        Format::Mermaid => mermaid::draw(drawing),
        Format::Json => json::draw(drawing),
        Format::Svg => svg::draw(drawing),
    }
}

impl Kind {
    /// Its word, as in JSON.
    fn word(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Key => "key",
            Kind::Step => "step",
            Kind::Task => "task",
            Kind::Target => "target",
        }
    }
}

impl State {
    /// Its word, as in JSON; none where nobody looked.
    fn word(self) -> Option<&'static str> {
        match self {
            State::Unknown => None,
            State::Current => Some("current"),
            State::Stale => Some("stale"),
            State::Refused => Some("refused"),
            State::Undone => Some("undone"),
        }
    }

    /// The word of a state that asks for something.
    fn call(self) -> Option<&'static str> {
        self.word().filter(|_| self != State::Current)
    }
}

impl Drawing {
    /// Edges whose ends exist, each once, in their order.
    fn sound_edges(&self) -> Vec<Edge> {
        let mut seen = HashSet::new();
        let there = |e: &Edge| e.from < self.nodes.len() && e.to < self.nodes.len();
        self.edges
            .iter()
            .copied()
            .filter(|e| there(e) && seen.insert(*e))
            .collect()
    }

    /// Group names in the order of their first node, each with its nodes.
    fn groups(&self) -> Vec<(&str, Vec<usize>)> {
        let mut places = HashMap::new();
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(name) = node.group.as_deref() else {
                continue;
            };
            let place = *places.entry(name).or_insert_with(|| {
                groups.push((name, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(i);
        }
        groups
    }
}

/// Names made of ASCII letters, digits and `_` for languages that allow no others. A name keeps its id
/// for as long as no earlier one claims it.
#[derive(Default)]
struct Slugs {
    taken: HashSet<String>,
}

impl Slugs {
    fn slug(&mut self, prefix: &str, name: &str) -> String {
        let safe: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let base = format!("{prefix}_{safe}");
        let mut slug = base.clone();
        let mut n = 2;
        while !self.taken.insert(slug.clone()) {
            slug = format!("{base}__{n}");
            n += 1;
        }
        slug
    }
}

/// A label without the characters that no format can carry.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || *c == '\n' || *c == '\t')
        .filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 4] = [Format::Dot, Format::Mermaid, Format::Json, Format::Svg];

    #[test]
    fn the_same_drawing_gives_the_same_bytes() {
        for format in FORMATS {
            let drawing = testing::mesh(3);
            assert_eq!(draw(&drawing, format), draw(&drawing.clone(), format));
        }
    }

    #[test]
    fn an_empty_drawing_and_edges_into_nowhere_are_drawn() {
        for format in FORMATS {
            assert!(!draw(&Drawing::default(), format).is_empty());
            let mut drawing = testing::mesh(1);
            drawing.edges.push(Edge {
                from: 0,
                to: 999,
                order_only: false,
            });
            assert_eq!(draw(&drawing, format), draw(&testing::mesh(1), format));
        }
    }

    #[test]
    fn names_that_look_alike_keep_their_own_ids() {
        let mut slugs = Slugs::default();
        let made = ["a-b", "a_b", "a/b", "end", "集", "群"].map(|n| slugs.slug("n", n));
        assert_eq!(
            made,
            ["n_a_b", "n_a_b__2", "n_a_b__3", "n_end", "n__", "n____2"]
        );
    }
}
