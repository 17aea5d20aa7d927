//! Draws a graph for people and for other programs. It knows nodes, edges and groups, and nothing of
//! plans, tasks or what is on disk.



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

/// stub
pub fn draw(_d: &Drawing, _f: Format) -> String { String::new() }
