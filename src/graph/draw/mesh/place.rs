//! Where the boxes of a mesh's picture stand: networks in a grid, clusters in rows that a whole band of
//! networks shares. Lines run in gutters above and below those rows and beside all networks, where no text
//! is. It measures texts, and knows nothing of colours or of how lines are drawn.

use super::{
    super::{
        layout::Rect,
        page::{GROUP, LABEL, PADDING, SMALL, TEXT, bold_width, cut, text_width},
    },
    GATEWAY, Hub, Mesh, network_title, parts, role,
    route::{Lane, Net, Port, Spot},
};

/// Between two lines in one gutter.
pub(super) const TRACK: f64 = 10.0;
/// Room for an arrow's head between a line and the box below or above it.
pub(super) const HEAD: f64 = 14.0;
/// Between boxes side by side.
const GAP: f64 = 22.0;
/// Between parts of one cluster, and from the last of them to the cluster's side.
const INNER: f64 = 10.0;
/// The strip of a network's title, the lines of a cluster's name and role, a part's height.
const TITLE: f64 = 28.0;
const WORDS: f64 = 44.0;
pub(super) const PART: f64 = 24.0;
/// Boxes of roots and of the hub's caption.
const TOP: f64 = 44.0;
/// Beside the outermost line, so that it goes straight into a box of the top row.
const LANE: f64 = 6.0;
/// Room for one line's end on a part's side.
const END: f64 = 12.0;

/// A text on one line, below its box's top.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) width: f64,
}

impl Text {
    fn small(text: &str) -> Self {
        let text = cut(text, LABEL, SMALL);
        let width = text_width(&text, SMALL);
        Self { text, width }
    }

    fn bold(text: &str, size: f64) -> Self {
        let text = cut(text, LABEL, size);
        let width = bold_width(&text, size);
        Self { text, width }
    }
}

/// A box with a bold text and a small one below it.
#[derive(Debug)]
pub(super) struct Titled {
    pub(super) rect: Rect,
    pub(super) name: Text,
    pub(super) small: Text,
}

/// A box with a small text in its middle.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) rect: Rect,
    pub(super) text: Text,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) head: Titled,
    pub(super) gateway: Option<Part>,
    /// What stands at its lower side, with the ends of lines; nothing but ends at [`Port::Bottom`].
    pub(super) parts: Vec<(Port, Part)>,
    /// Its row among all rows of the picture.
    row: usize,
}

/// Boxes of the picture. Before [`Grid::stack`] they have no height and no place from above.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) roots: Vec<Titled>,
    pub(super) hub: Option<Part>,
    /// Boxes of networks with their titles, in the mesh's order of networks.
    pub(super) networks: Vec<(Rect, Text)>,
    pub(super) cells: Vec<Cell>,
    /// First and last row of each network.
    rows: Vec<(usize, usize)>,
    /// First row of each band.
    bands: Vec<usize>,
    /// Left and right end of what networks take up.
    pub(super) sides: (f64, f64),
}

impl Grid {
    /// Boxes with their texts, from left to right.
    pub(super) fn new(mesh: &Mesh, hub: Option<&Hub>, nets: &[Net]) -> Self {
        let cells = (0..mesh.clusters.len()).map(|c| cell(mesh, c, nets));
        let mut grid = Self {
            width: 0.0,
            height: 0.0,
            roots: Vec::new(),
            hub: None,
            networks: Vec::new(),
            cells: cells.collect(),
            rows: Vec::new(),
            bands: Vec::new(),
            sides: (0.0, 0.0),
        };
        let lanes = |lane| match nets.iter().filter(|n| n.lane() == lane).count() {
            0 => 0.0,
            n => (n + 1) as f64 * TRACK + LANE,
        };
        let left = lanes(Lane::Left);
        let right = grid.networks(mesh, left);
        grid.sides = (left, right);
        let end = grid.top_row(mesh, hub, right + lanes(Lane::Right));
        grid.width = end;
        grid
    }

    /// Networks in a grid about as wide as high, the clusters of each likewise. Returns their right end.
    fn networks(&mut self, mesh: &Mesh, left: f64) -> f64 {
        let networks = mesh.networks();
        let per_band = square(networks.len());
        let mut columns = vec![0.0; per_band];
        let mut first = 0;
        for band in networks.chunks(per_band) {
            self.bands.push(first);
            let mut rows = 0;
            for (column, (name, clusters)) in band.iter().enumerate() {
                let title = Text::bold(&network_title(*name), GROUP);
                let wide = square(clusters.len());
                let width = clusters
                    .iter()
                    .map(|&c| self.cells[c].head.rect.width)
                    .fold(0.0, f64::max);
                for (i, &c) in clusters.iter().enumerate() {
                    // From the network's own left side, until columns are known.
                    let x = PADDING + (i % wide) as f64 * (width + GAP);
                    self.cells[c].head.rect = flat(x, width);
                    self.cells[c].row = first + i / wide;
                }
                let inner = wide as f64 * (width + GAP) - GAP;
                let width = inner.max(title.width) + 2.0 * PADDING;
                self.networks.push((flat(0.0, width), title));
                columns[column] = width.max(columns[column]);
                let count = clusters.len().div_ceil(wide);
                self.rows.push((first, first + count - 1));
                rows = rows.max(count);
            }
            first += rows;
        }
        let starts: Vec<_> = columns
            .iter()
            .scan(left, |x, width| {
                let start = *x;
                *x += width + GAP;
                Some(start)
            })
            .collect();
        for (i, (_, clusters)) in networks.iter().enumerate() {
            let x = starts[i % per_band];
            self.networks[i].0 = flat(x, columns[i % per_band]);
            for &c in clusters {
                let cell = &mut self.cells[c];
                cell.head.rect.x += x;
                cell.spread();
            }
        }
        columns.iter().fold(left, |x, width| x + width + GAP) - GAP
    }

    /// Roots from the left, the hub's caption from the right. Returns the picture's right end.
    fn top_row(&mut self, mesh: &Mesh, hub: Option<&Hub>, right: f64) -> f64 {
        let mut x = 0.0;
        for root in &mesh.roots {
            let name = Text::bold(&root.name, TEXT);
            let small = Text::small(&root.role);
            let width = name.width.max(small.width) + 2.0 * PADDING + 16.0;
            let rect = flat(x, width);
            x += width + GAP;
            self.roots.push(Titled { rect, name, small });
        }
        let Some(hub) = hub else {
            return right.max(x - GAP);
        };
        let text = Text::small(hub.caption);
        let width = text.width + 2.0 * PADDING;
        let end = right.max(x + width);
        self.hub = Some(Part {
            rect: flat(end - width, width),
            text,
        });
        end
    }

    /// Gives every box its height and its place below the `gutters`' heights; returns where each gutter
    /// starts. The first gutter is below roots and hub, then each row has one above and one below it.
    pub(super) fn stack(&mut self, gutters: &[f64]) -> Vec<f64> {
        let mut y = 0.0;
        let top = if self.hub.is_some() || !self.roots.is_empty() {
            TOP
        } else {
            0.0
        };
        for root in &mut self.roots {
            root.rect.height = TOP;
        }
        if let Some(hub) = &mut self.hub {
            (hub.rect.y, hub.rect.height) = (TOP - PART - 6.0, PART + 6.0);
        }
        y += top;
        let mut starts = vec![y];
        y += gutters[0];
        for row in 0..gutters.len() / 2 {
            if self.bands.contains(&row) {
                if row > 0 {
                    y += GAP + PADDING / 2.0;
                }
                self.from(row, y);
                y += TITLE;
            }
            starts.push(y);
            y += gutters[1 + 2 * row];
            let height = self.row(row, y);
            y += height;
            starts.push(y);
            y += gutters[2 + 2 * row];
            for (network, rows) in self.networks.iter_mut().zip(&self.rows) {
                if rows.1 == row {
                    network.0.height = y - network.0.y;
                }
            }
        }
        self.height = y;
        starts
    }

    fn from(&mut self, row: usize, y: f64) {
        for (network, rows) in self.networks.iter_mut().zip(&self.rows) {
            if rows.0 == row {
                network.0.y = y;
            }
        }
    }

    /// Puts a row's clusters at `y`; returns its height.
    fn row(&mut self, row: usize, y: f64) -> f64 {
        let gateway = self
            .cells
            .iter()
            .any(|c| c.row == row && c.gateway.is_some());
        let parts = WORDS + if gateway { PART + INNER } else { 0.0 };
        let height = parts + PART + INNER;
        for cell in self.cells.iter_mut().filter(|c| c.row == row) {
            (cell.head.rect.y, cell.head.rect.height) = (y, height);
            if let Some(gateway) = &mut cell.gateway {
                (gateway.rect.y, gateway.rect.height) = (y + WORDS, PART);
            }
            for (port, part) in &mut cell.parts {
                let below = if *port == Port::Bottom { INNER } else { 0.0 };
                (part.rect.y, part.rect.height) = (y + parts, PART + below);
            }
        }
        height
    }

    /// The gutter that a line's end is reached from.
    pub(super) fn gutter(&self, spot: Spot) -> usize {
        match spot {
            Spot::Root(_) | Spot::Hub => 0,
            Spot::Cluster(c, Port::Top) => 1 + 2 * self.cells[c].row,
            Spot::Cluster(c, _) => 2 + 2 * self.cells[c].row,
        }
    }

    pub(super) fn gutters(&self) -> usize {
        1 + 2 * self.cells.iter().map(|c| c.row + 1).max().unwrap_or(0)
    }

    /// The box that a line ends at.
    pub(super) fn end(&self, spot: Spot) -> Rect {
        match spot {
            Spot::Root(r) => self.roots[r].rect,
            Spot::Hub => self.hub.as_ref().map_or(flat(0.0, 0.0), |h| h.rect),
            Spot::Cluster(c, port) => {
                let cell = &self.cells[c];
                let part = cell.parts.iter().find(|(p, _)| *p == port);
                part.map_or(cell.head.rect, |(_, p)| p.rect)
            }
        }
    }
}

impl Cell {
    /// Parts share the cluster's width.
    fn spread(&mut self) {
        let rect = self.head.rect;
        let inner = rect.width - 2.0 * PADDING;
        if let Some(gateway) = &mut self.gateway {
            gateway.rect = flat(rect.x + PADDING, inner);
        }
        let taken = row_width(&self.parts);
        let more = (inner - taken) / self.parts.len() as f64;
        let mut x = rect.x + PADDING;
        for (_, part) in &mut self.parts {
            part.rect = flat(x, part.rect.width + more);
            x = part.rect.right() + INNER;
        }
    }
}

fn cell(mesh: &Mesh, c: usize, nets: &[Net]) -> Cell {
    let cluster = &mesh.clusters[c];
    let ends = |port| {
        let ends = nets.iter().flat_map(|n| &n.ends);
        ends.filter(|e| e.0 == Spot::Cluster(c, port)).count() as f64
    };
    let part = |text: &str, ends: f64| {
        let text = Text::small(text);
        let width = (text.width + 16.0).max((ends + 1.0) * END);
        Part {
            rect: flat(0.0, width),
            text,
        }
    };
    let ports = match mesh.primary(c) {
        None => [Port::Istiod, Port::Api],
        Some(_) => [Port::Api, Port::Workloads],
    };
    let mut parts: Vec<_> = ports
        .into_iter()
        .zip(parts(mesh, c))
        .map(|(port, text)| (port, part(text, ends(port))))
        .collect();
    // What istiods do to each other's API servers ends between the two.
    if ends(Port::Bottom) > 0.0 {
        let rect = flat(0.0, ends(Port::Bottom) * END);
        let text = Text::small("");
        parts.insert(1, (Port::Bottom, Part { rect, text }));
    }
    let gateway = cluster.gateway.then(|| part(GATEWAY, 0.0));
    let state = cluster.state.call().map(|word| format!(": {word}"));
    let name = Text::bold(&cluster.name, TEXT);
    let role = cut(&role(mesh, c), LABEL * 0.7, SMALL);
    let small = Text::small(&(role + &state.unwrap_or_default()));
    let inner = [
        row_width(&parts),
        name.width,
        small.width,
        gateway.as_ref().map_or(0.0, |g| g.rect.width),
    ];
    let width = inner.into_iter().fold(0.0, f64::max) + 2.0 * PADDING;
    Cell {
        head: Titled {
            rect: flat(0.0, width.ceil()),
            name,
            small,
        },
        gateway,
        parts,
        row: 0,
    }
}

fn row_width(parts: &[(Port, Part)]) -> f64 {
    parts.iter().map(|(_, p)| p.rect.width + INNER).sum::<f64>() - INNER
}

fn flat(x: f64, width: f64) -> Rect {
    Rect {
        x,
        y: 0.0,
        width,
        height: 0.0,
    }
}

/// How many of `count` things stand side by side, for as many rows as columns or one less.
fn square(count: usize) -> usize {
    (1..=count).find(|n| n * n >= count).unwrap_or(1)
}
