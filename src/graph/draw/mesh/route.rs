//! The lines of a mesh's picture: which boxes they join, and their way through the gutters. Each line has
//! a track of its own, so that lines cross but never cover each other, and no line touches a text.

use super::{
    Hub, Mesh, Reads,
    place::{Grid, HEAD, TRACK},
};
use crate::graph::draw::layout::Rect;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Signs,
    Reads,
    ReadEachOther,
    AllRead,
    Serves,
}

/// Where on a cluster a line ends: its upper side, its lower side, or the lower side of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Top,
    Bottom,
    Istiod,
    Api,
    Workloads,
}

/// A box that a line ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Root(usize),
    Hub,
    Cluster(usize, Port),
}

/// On which side of the networks a line goes from row to row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Left,
    Right,
}

/// Ends that one branching line joins; `true` for those with an arrow's head.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) line: Line,
    pub(super) ends: Vec<(Spot, bool)>,
}

impl Net {
    /// What signs comes from above and stays left, so that it crosses nothing that reads.
    pub(super) fn lane(&self) -> Lane {
        match self.line {
            Line::Signs => Lane::Left,
            _ => Lane::Right,
        }
    }
}

type Point = (f64, f64);

/// A line that has found its way.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) line: Line,
    /// The cluster that it starts from, where it is one cluster's own.
    pub(super) of: Option<usize>,
    /// Straight pieces; those of `heads` end in an arrow's head.
    pub(super) pieces: Vec<[Point; 2]>,
    pub(super) heads: Vec<[Point; 2]>,
    /// Where the line branches.
    pub(super) joints: Vec<Point>,
}

/// Lines of a mesh, those first that should have the fewest crossings.
pub(super) fn nets(mesh: &Mesh, reads: &Reads) -> Vec<Net> {
    let mut nets: Vec<_> = (0..mesh.roots.len())
        .map(|root| {
            let signs = mesh.signs().into_iter().filter(|s| s.0 == root);
            tree(
                Line::Signs,
                Spot::Root(root),
                signs.map(|(_, c)| Spot::Cluster(c, Port::Top)),
            )
        })
        .collect();
    nets.extend(reads.hub.as_ref().map(hub));
    // Among many that read each other but not all, one branching line for each reader is less to look at
    // than a line for each pair.
    let (mutual, mut single) = (&reads.mutual, reads.single.clone());
    let by_reader = mutual.len() > mesh.clusters.len();
    if by_reader {
        single.extend(mutual.iter().flat_map(|&(a, b)| [(a, b), (b, a)]));
    }
    for &(a, b) in mutual.iter().filter(|_| !by_reader) {
        let ends = [a, b].map(|c| (Spot::Cluster(c, Port::Bottom), true));
        nets.push(Net {
            line: Line::ReadEachOther,
            ends: ends.into(),
        });
    }
    for (line, pairs, port) in [
        (Line::Reads, &single, Port::Api),
        (Line::Serves, &mesh.serves(), Port::Workloads),
    ] {
        for from in 0..mesh.clusters.len() {
            let to = pairs.iter().filter(|p| p.0 == from);
            // A remote has no istiod that a line could start from, whatever reads for it.
            let start = match mesh.primary(from) {
                None => Port::Istiod,
                Some(_) => Port::Bottom,
            };
            nets.push(tree(
                line,
                Spot::Cluster(from, start),
                to.map(|&(_, c)| Spot::Cluster(c, port)),
            ));
        }
    }
    nets.retain(|n| n.ends.len() > 1);
    nets
}

fn tree(line: Line, from: Spot, to: impl Iterator<Item = Spot>) -> Net {
    let ends = std::iter::once((from, false)).chain(to.map(|spot| (spot, true)));
    Net {
        line,
        ends: ends.collect(),
    }
}

fn hub(hub: &Hub) -> Net {
    let readers = hub
        .readers
        .iter()
        .map(|&c| (Spot::Cluster(c, Port::Istiod), false));
    let read = hub
        .read
        .iter()
        .map(|&c| (Spot::Cluster(c, Port::Api), true));
    Net {
        line: Line::AllRead,
        ends: readers.chain(read).chain([(Spot::Hub, false)]).collect(),
    }
}

/// A net's way from left to right, before gutters have their heights.
struct Plan<'a> {
    net: &'a Net,
    /// Gutter and place from the left of each end.
    ends: Vec<(usize, f64)>,
    /// Where it goes from row to row, if it does.
    trunk: Option<f64>,
    /// Gutter, left, right and track of each way along a row.
    ways: Vec<(usize, f64, f64, usize)>,
}

/// Stacks the grid's boxes with room for all lines, and draws the lines.
pub(super) fn route(nets: &[Net], grid: &mut Grid) -> Vec<Wire> {
    let (mut left, mut right) = (grid.sides.0, grid.sides.1);
    let count = nets.iter().filter(|n| n.lane() == Lane::Left).count();
    left -= (count + 1) as f64 * TRACK;
    right += TRACK;
    // One end of a port after the other, from left to right.
    let mut plans = Vec::new();
    for (i, net) in nets.iter().enumerate() {
        let gutters: Vec<_> = net.ends.iter().map(|e| grid.gutter(e.0)).collect();
        let between = gutters.iter().any(|g| *g != gutters[0]);
        let trunk = between.then(|| match net.lane() {
            Lane::Left => {
                left += TRACK;
                left
            }
            Lane::Right => {
                right += TRACK;
                right - TRACK
            }
        });
        let ends = net.ends.iter().enumerate().zip(gutters);
        let ends =
            ends.map(|((e, end), gutter)| (gutter, across(nets, (i, e), grid.end(end.0), trunk)));
        plans.push(Plan {
            net,
            ends: ends.collect(),
            trunk,
            ways: Vec::new(),
        });
    }
    let tracks = tracks(&mut plans, grid.gutters());
    let heights: Vec<_> = tracks
        .iter()
        .map(|&n| HEAD + 10.0 + n.saturating_sub(1) as f64 * TRACK)
        .collect();
    let starts = grid.stack(&heights);
    plans
        .iter()
        .map(|plan| wire(plan, &heights, &starts, grid))
        .collect()
}

/// Where a line ends on its box: the ends of one port share the box's side evenly. Boxes of the top row
/// have one line each, which goes straight down where it can.
fn across(nets: &[Net], (net, end): (usize, usize), rect: Rect, trunk: Option<f64>) -> f64 {
    let spot = nets[net].ends[end].0;
    if let (Spot::Root(_) | Spot::Hub, Some(trunk)) = (spot, trunk) {
        return trunk.clamp(rect.x + 16.0, rect.right() - 16.0);
    }
    let (mut before, mut all) = (0, 0);
    for (i, other) in nets.iter().enumerate() {
        for (j, _) in other.ends.iter().enumerate().filter(|(_, e)| e.0 == spot) {
            all += 1;
            before += usize::from((i, j) < (net, end));
        }
    }
    rect.x + rect.width * (before + 1) as f64 / (all + 1) as f64
}

/// Gives each way along a gutter the first track that is free there; returns each gutter's tracks.
fn tracks(plans: &mut [Plan], gutters: usize) -> Vec<usize> {
    let mut taken: Vec<Vec<Vec<(f64, f64)>>> = vec![Vec::new(); gutters];
    for plan in plans {
        for (gutter, tracks) in taken.iter_mut().enumerate() {
            let here = plan.ends.iter().filter(|e| e.0 == gutter).map(|e| e.1);
            let xs: Vec<_> = here.collect();
            if xs.is_empty() {
                continue;
            }
            let xs = || xs.iter().copied().chain(plan.trunk);
            let (from, to) = (
                xs().fold(f64::INFINITY, f64::min),
                xs().fold(f64::NEG_INFINITY, f64::max),
            );
            let free =
                |t: &Vec<(f64, f64)>| t.iter().all(|&(a, b)| b + TRACK < from || to + TRACK < a);
            let track = tracks.iter().position(free).unwrap_or_else(|| {
                tracks.push(Vec::new());
                tracks.len() - 1
            });
            tracks[track].push((from, to));
            plan.ways.push((gutter, from, to, track));
        }
    }
    taken.iter().map(Vec::len).collect()
}

fn wire(plan: &Plan, heights: &[f64], starts: &[f64], grid: &Grid) -> Wire {
    let of = match plan.net.ends[0].0 {
        Spot::Cluster(c, _) if matches!(plan.net.line, Line::Reads | Line::Serves) => Some(c),
        _ => None,
    };
    let mut wire = Wire {
        line: plan.net.line,
        of,
        pieces: Vec::new(),
        heads: Vec::new(),
        joints: Vec::new(),
    };
    // The gutter above a row counts its tracks from the row up, the others from their row down.
    let level = |gutter: usize, track: usize| match gutter % 2 {
        1 => starts[gutter] + heights[gutter] - HEAD - track as f64 * TRACK,
        _ => starts[gutter] + HEAD + track as f64 * TRACK,
    };
    let ys: Vec<_> = plan.ways.iter().map(|w| level(w.0, w.3)).collect();
    let within = |x: f64, from: f64, to: f64| from + 0.5 < x && x < to - 0.5;
    for (&(_, from, to, _), &y) in plan.ways.iter().zip(&ys) {
        if to > from {
            wire.pieces.push([(from, y), (to, y)]);
        }
        wire.joints
            .extend(plan.trunk.filter(|&x| within(x, from, to)).map(|x| (x, y)));
    }
    if let (Some(x), [first, .., last]) = (plan.trunk, &ys[..]) {
        wire.pieces.push([(x, *first), (x, *last)]);
        let branches = plan.ways.iter().zip(&ys);
        let branches = branches.filter(|(w, y)| w.2 - w.1 > 0.5 && within(**y, *first, *last));
        wire.joints.extend(branches.map(|(_, &y)| (x, y)));
    }
    for (&(gutter, x), (spot, head)) in plan.ends.iter().zip(&plan.net.ends) {
        let Some((way, &y)) = plan.ways.iter().zip(&ys).find(|(w, _)| w.0 == gutter) else {
            continue;
        };
        let rect = grid.end(*spot);
        let side = match spot {
            Spot::Cluster(_, Port::Top) => rect.y,
            _ => rect.bottom(),
        };
        let piece = [(x, y), (x, side)];
        if *head {
            wire.heads.push(piece);
        } else {
            wire.pieces.push(piece);
        }
        if within(x, way.1, way.2) {
            wire.joints.push((x, y));
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::draw::{
        layout::Rect,
        mesh::{
            place::{Part, Titled},
            testing,
        },
    };

    /// Whether `inner` is within `outer`.
    fn holds(outer: Rect, inner: Rect) -> bool {
        let slack = 0.01;
        inner.x >= outer.x - slack
            && inner.y >= outer.y - slack
            && inner.right() <= outer.right() + slack
            && inner.bottom() <= outer.bottom() + slack
    }

    fn apart(a: Rect, b: Rect) -> bool {
        a.right() <= b.x || b.right() <= a.x || a.bottom() <= b.y || b.bottom() <= a.y
    }

    /// The room that a straight piece takes.
    fn room([(ax, ay), (bx, by)]: [Point; 2]) -> Rect {
        Rect {
            x: ax.min(bx),
            y: ay.min(by),
            width: (ax - bx).abs(),
            height: (ay - by).abs(),
        }
    }

    /// Where the texts of a titled box stand: the rows that `svg` writes them in.
    fn words(titled: &Titled) -> Rect {
        let Rect { x, y, width, .. } = titled.rect;
        let height = 42.0;
        let text = titled.name.width.max(titled.small.width);
        assert!(text <= width - 2.0 * 13.0 + 0.01, "{titled:?}");
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    fn word(part: &Part) -> Rect {
        let text = part.text.width;
        assert!(text <= part.rect.width - 8.0 + 0.01, "{part:?}");
        Rect {
            x: part.rect.x + (part.rect.width - text) / 2.0,
            y: part.rect.y + 2.0,
            width: text,
            height: part.rect.height - 4.0,
        }
    }

    #[test]
    fn many_that_read_each_other_have_a_line_for_each_reader() {
        let mut mesh = testing::mesh(12, 0, 4);
        mesh.roots.clear();
        mesh.reads.retain(|&read| read != (0, 1));
        let reads = mesh.folded_reads();
        assert_eq!((&reads.hub, reads.mutual.len()), (&None, 65));
        let nets = nets(&mesh, &reads);
        let heads = nets.iter().flat_map(|n| &n.ends).filter(|e| e.1).count();
        assert_eq!((nets.len(), heads), (12, 12 * 11 - 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        /// Boxes stand apart and hold what belongs in them, lines cross no text and never cover each other.
        #[test]
        fn nothing_covers_anything(mesh in testing::arbitrary()) {
            let reads = mesh.folded_reads();
            let nets = nets(&mesh, &reads);
            let mut grid = Grid::new(&mesh, reads.hub.as_ref(), &nets);
            let wires = route(&nets, &mut grid);
            let whole = Rect { x: 0.0, y: 0.0, width: grid.width, height: grid.height };

            // Boxes that stand on the page itself, and those within them.
            let mut outer: Vec<_> = grid.networks.iter().map(|n| n.0).collect();
            outer.extend(grid.roots.iter().map(|r| r.rect));
            outer.extend(grid.hub.as_ref().map(|h| h.rect));
            let mut texts: Vec<_> = grid.roots.iter().map(words).collect();
            texts.extend(grid.hub.as_ref().map(word));
            let mut within = Vec::new();
            for (network, (_, clusters)) in grid.networks.iter().zip(mesh.networks()) {
                prop_assert!(network.1.width <= network.0.width - 26.0 + 0.01);
                texts.push(Rect { height: 26.0, ..network.0 });
                let cells: Vec<_> = clusters.iter().map(|&c| grid.cells[c].head.rect).collect();
                prop_assert!(cells.iter().all(|c| holds(network.0, *c)));
                within.push(cells);
            }
            for cell in &grid.cells {
                let parts: Vec<_> = cell.parts.iter().map(|(_, p)| p).chain(&cell.gateway).collect();
                let mut rects: Vec<_> = parts.iter().map(|p| p.rect).collect();
                prop_assert!(rects.iter().all(|r| holds(cell.head.rect, *r)));
                texts.push(words(&cell.head));
                rects.push(words(&cell.head));
                let written = parts.iter().filter(|p| !p.text.text.is_empty());
                texts.extend(written.map(|p| word(p)));
                within.push(rects);
            }
            prop_assert!(outer.iter().all(|r| holds(whole, *r)), "{outer:?} leave {whole:?}");
            within.push(outer);
            for boxes in within {
                for (i, a) in boxes.iter().enumerate() {
                    prop_assert!(boxes[..i].iter().all(|b| apart(*a, *b)), "{boxes:?}");
                }
            }

            let pieces: Vec<_> = wires
                .iter()
                .enumerate()
                .flat_map(|(i, w)| w.pieces.iter().chain(&w.heads).map(move |p| (i, room(*p))))
                .collect();
            for (i, (wire, piece)) in pieces.iter().enumerate() {
                prop_assert!(holds(whole, *piece), "{piece:?} leaves {whole:?}");
                prop_assert!(texts.iter().all(|t| apart(*t, *piece)), "{piece:?} in {texts:?}");
                for (other, covered) in &pieces[..i] {
                    // Pieces of one direction need half a pixel between them; others may cross.
                    let upright = (piece.width == 0.0, covered.width == 0.0);
                    let near = Rect { x: piece.x - 0.25, y: piece.y - 0.25, width: piece.width + 0.5, height: piece.height + 0.5 };
                    let fine = wire == other || upright.0 != upright.1 || apart(near, *covered);
                    prop_assert!(fine, "{piece:?} on {covered:?}");
                }
            }
        }
    }
}
