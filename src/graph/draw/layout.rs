//! The layout: boxes, frames and curves in pixels, from nodes with sizes. It knows neither colours nor
//! texts.

use std::collections::{HashMap, HashSet};

use super::{
    Drawing, Edge,
    order::{Item, Lanes, Ordered, order},
    place::{Spacing, place},
};

const SPACING: Spacing = Spacing {
    boxes: 14.0,
    lines: 11.0,
    lanes: 18.0,
    head: 32.0,
    foot: 14.0,
};
/// From a group's boxes to its frame, left and right.
const FRAME: f64 = 16.0;
/// A straight piece before and after a curve; the last one carries the arrow's head.
const STUB: (f64, f64) = (4.0, 10.0);
/// Widths of the space in which edges bend.
const BEND: (f64, f64) = (26.0, 120.0);

/// A rectangle by its upper left corner.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn right(self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// A line that an edge takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    pub(super) edge: Edge,
    pub(super) start: (f64, f64),
    /// Curves and straight pieces, each with where it ends.
    pub(super) pieces: Vec<Piece>,
}

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Piece {
    /// Straight.
    Line((f64, f64)),
    /// A Bézier curve with its control points.
    Curve((f64, f64), (f64, f64), (f64, f64)),
}

/// Everything has a place; the upper left corner is (0, 0).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// A box for each node.
    pub(super) boxes: Vec<Rect>,
    /// A frame for each group, in [`Drawing::groups`]'s order.
    pub(super) frames: Vec<Rect>,
    pub(super) routes: Vec<Route>,
}

/// Lays a drawing out. `sizes` are the least width and the height of each node's box, `titles` the
/// least width of each group's frame.
pub(super) fn layout(drawing: &Drawing, sizes: &[(f64, f64)], titles: &[f64]) -> Layout {
    let mut group_of = vec![None; drawing.nodes.len()];
    for (group, (_, nodes)) in drawing.groups().iter().enumerate() {
        nodes.iter().for_each(|&n| group_of[n] = Some(group));
    }
    let edges = plain_edges(drawing);
    let ordered = order(&group_of, &edges);
    let heights: Vec<_> = sizes.iter().map(|s| s.1).collect();
    let (y, spans) = place(&ordered, &heights, SPACING);
    let columns = Columns::new(&ordered, sizes, titles, &y);
    let mut layout = Layout {
        boxes: boxes(&ordered, sizes, &columns, &y),
        frames: columns.frames(&ordered, &spans),
        ..Layout::default()
    };
    layout.routes = edges
        .iter()
        .zip(&ordered.routes)
        .map(|(edge, route)| line(*edge, route, &ordered, &columns, &layout.boxes, &y))
        .collect();
    layout.move_to_corner(&y);
    layout
}

/// Edges to be drawn: not those to itself, nor an order-only one that two other edges imply.
fn plain_edges(drawing: &Drawing) -> Vec<Edge> {
    let edges = drawing.sound_edges();
    let pairs: HashSet<_> = edges.iter().map(|e| (e.from, e.to)).collect();
    let (mut before, mut after) = (
        vec![Vec::new(); drawing.nodes.len()],
        vec![Vec::new(); drawing.nodes.len()],
    );
    for edge in &edges {
        before[edge.to].push(edge.from);
        after[edge.from].push(edge.to);
    }
    let read: HashSet<_> = edges
        .iter()
        .filter(|e| !e.order_only)
        .map(|e| (e.from, e.to))
        .collect();
    let by_way_of = |e: &Edge, via: usize| {
        via != e.from
            && via != e.to
            && pairs.contains(&(e.from, via))
            && pairs.contains(&(via, e.to))
    };
    let implied = |e: &Edge| {
        // A root has thousands after it, a test at the end thousands before it: the shorter list decides.
        let (after, before) = (&after[e.from], &before[e.to]);
        let between = if after.len() < before.len() {
            after
        } else {
            before
        };
        read.contains(&(e.from, e.to)) || between.iter().any(|&via| by_way_of(e, via))
    };
    edges
        .iter()
        .copied()
        .filter(|e| e.from != e.to && !(e.order_only && implied(e)))
        .collect()
}

/// Where columns begin and how wide they are.
struct Columns {
    x: Vec<f64>,
    width: Vec<f64>,
    /// Straight pieces behind and before each column.
    stubs: Vec<(f64, f64)>,
    /// First and last column of each lane's nodes.
    extents: Vec<Option<(usize, usize)>>,
    /// Widths of lanes' boxes by lane and column.
    cells: HashMap<(usize, usize), f64>,
}

impl Columns {
    fn new(ordered: &Ordered, sizes: &[(f64, f64)], titles: &[f64], y: &[f64]) -> Self {
        let count = ordered.columns;
        let (mut width, mut stubs) = (vec![0.0_f64; count], vec![STUB; count]);
        let mut extents: Vec<Option<(usize, usize)>> = vec![None; ordered.lanes.right() + 1];
        let mut cells = HashMap::new();
        for &Item { rank, lane, node } in &ordered.items {
            let Some(node) = node else { continue };
            let cell: &mut f64 = cells.entry((lane, rank)).or_default();
            *cell = cell.max(sizes[node].0);
            width[rank] = width[rank].max(*cell);
            let (first, last) = extents[lane].unwrap_or((rank, rank));
            extents[lane] = Some((first.min(rank), last.max(rank)));
        }
        for group in 0..titles.len() {
            let Some((first, last)) = extents[Lanes::group(group)] else {
                continue;
            };
            // Edges of other lanes bend outside the frames that begin or end here.
            stubs[last].0 = STUB.0.max(FRAME + 2.0);
            stubs[first].1 = STUB.1.max(FRAME + 8.0);
        }
        let mut bend = vec![0.0_f64; count];
        for &(a, b) in &ordered.links {
            let rank = ordered.items[a].rank;
            bend[rank] = bend[rank].max((y[a] - y[b]).abs());
        }
        let mut columns = Self {
            x: Vec::with_capacity(count),
            width,
            stubs,
            extents,
            cells,
        };
        let mut x = 0.0;
        for (rank, far) in bend.into_iter().enumerate() {
            columns.x.push(x);
            let after = columns.stubs.get(rank + 1).map_or(0.0, |s| s.1);
            let between = columns.stubs[rank].0 + (BEND.0 + far / 16.0).min(BEND.1) + after;
            x += columns.width[rank] + between;
        }
        columns.widen_for_titles(titles);
        columns
    }

    /// A group whose columns are narrower than its title gets the rest in its last column.
    fn widen_for_titles(&mut self, titles: &[f64]) {
        for (group, title) in titles.iter().enumerate() {
            let lane = Lanes::group(group);
            let Some((first, last)) = self.extents[lane] else {
                continue;
            };
            let missing = title - 2.0 * FRAME - (self.x[last] + self.width[last] - self.x[first]);
            if missing > 0.0 {
                self.width[last] += missing;
                self.x[last + 1..].iter_mut().for_each(|x| *x += missing);
            }
        }
    }

    /// Where a column ends.
    fn right(&self, rank: usize) -> f64 {
        self.x[rank] + self.width[rank]
    }

    fn frames(&self, ordered: &Ordered, spans: &[(f64, f64)]) -> Vec<Rect> {
        let groups = 0..ordered.lanes.bare() - 1;
        groups
            .map(|group| {
                let lane = Lanes::group(group);
                let Some((first, last)) = self.extents[lane] else {
                    return Rect::default();
                };
                let (x, (top, bottom)) = (self.x[first] - FRAME, spans[lane]);
                let y = top - SPACING.head;
                Rect {
                    x,
                    y,
                    width: self.right(last) + FRAME - x,
                    height: bottom + SPACING.foot - y,
                }
            })
            .collect()
    }
}

fn boxes(ordered: &Ordered, sizes: &[(f64, f64)], columns: &Columns, y: &[f64]) -> Vec<Rect> {
    let nodes = ordered
        .items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| item.node.map(|node| (i, item, node)));
    nodes
        .map(|(i, item, node)| {
            let (width, height) = (columns.cells[&(item.lane, item.rank)], sizes[node].1);
            Rect {
                x: columns.x[item.rank],
                y: y[i] - height / 2.0,
                width,
                height,
            }
        })
        .collect()
}

/// From the middle of one box's right side to the middle of the other's left side.
fn line(
    edge: Edge,
    route: &[usize],
    ordered: &Ordered,
    columns: &Columns,
    boxes: &[Rect],
    y: &[f64],
) -> Route {
    let start = (boxes[edge.from].right(), y[edge.from]);
    let mut pieces = Vec::new();
    for pair in route.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let (from, to) = (ordered.items[a].rank, ordered.items[b].rank);
        let leave = (columns.right(from) + columns.stubs[from].0, y[a]);
        let arrive = (columns.x[to] - columns.stubs[to].1, y[b]);
        pieces.push(Piece::Line(leave));
        pieces.push(curve(leave, arrive));
        // Through a column, or up to the box.
        pieces.push(Piece::Line((columns.x[to], y[b])));
    }
    Route {
        edge,
        start,
        pieces,
    }
}

fn curve(from: (f64, f64), to: (f64, f64)) -> Piece {
    // An edge that goes back, as in a cycle, needs room to turn.
    let reach = if to.0 > from.0 {
        (to.0 - from.0) / 2.0
    } else {
        60.0
    };
    if from.1 == to.1 && to.0 > from.0 {
        Piece::Line(to)
    } else {
        Piece::Curve((from.0 + reach, from.1), (to.0 - reach, to.1), to)
    }
}

impl Layout {
    /// Moves everything so that it begins at the corner, and measures the whole.
    fn move_to_corner(&mut self, y: &[f64]) {
        let rects = || self.boxes.iter().chain(&self.frames);
        let left = rects().map(|r| r.x).reduce(f64::min).unwrap_or(0.0);
        // Lines pass where no box is; y has their points too.
        let top = rects()
            .map(|r| r.y)
            .chain(y.iter().copied())
            .reduce(f64::min)
            .unwrap_or(0.0);
        self.width = rects().map(|r| r.right()).reduce(f64::max).unwrap_or(0.0) - left;
        self.height = rects()
            .map(|r| r.bottom())
            .chain(y.iter().copied())
            .reduce(f64::max)
            .unwrap_or(0.0)
            - top;
        for rect in self.boxes.iter_mut().chain(&mut self.frames) {
            rect.x -= left;
            rect.y -= top;
        }
        let moved = |(x, y): (f64, f64)| (x - left, y - top);
        for route in &mut self.routes {
            route.start = moved(route.start);
            for piece in &mut route.pieces {
                *piece = match *piece {
                    Piece::Line(end) => Piece::Line(moved(end)),
                    Piece::Curve(a, b, end) => Piece::Curve(moved(a), moved(b), moved(end)),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::draw::{Kind, testing};

    fn laid(drawing: &Drawing) -> Layout {
        let sizes: Vec<_> = drawing
            .nodes
            .iter()
            .map(|n| (24.0 + 8.0 * n.label.len() as f64, 30.0))
            .collect();
        layout(drawing, &sizes, &vec![120.0; drawing.groups().len()])
    }

    fn end(piece: &Piece) -> (f64, f64) {
        match *piece {
            Piece::Line(end) | Piece::Curve(_, _, end) => end,
        }
    }

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
    }

    fn check(drawing: &Drawing) {
        let layout = laid(drawing);
        for (i, a) in layout.boxes.iter().enumerate() {
            assert!(
                a.x >= 0.0
                    && a.y >= 0.0
                    && a.right() <= layout.width
                    && a.bottom() <= layout.height
            );
            for b in &layout.boxes[..i] {
                assert!(!overlap(a, b), "{a:?} {b:?}");
            }
        }
        for (i, frame) in layout.frames.iter().enumerate() {
            assert!(
                layout.frames[..i]
                    .iter()
                    .all(|other| !overlap(frame, other))
            );
            for (node, rect) in drawing.nodes.iter().zip(&layout.boxes) {
                let inside = frame.x <= rect.x
                    && rect.right() <= frame.right()
                    && frame.y <= rect.y
                    && rect.bottom() <= frame.bottom();
                let member = node.group.as_deref() == Some(drawing.groups()[i].0);
                assert!(
                    if member {
                        inside
                    } else {
                        !overlap(frame, rect)
                    },
                    "{} and frame {i}",
                    node.id
                );
            }
        }
        for route in &layout.routes {
            let (from, to) = (layout.boxes[route.edge.from], layout.boxes[route.edge.to]);
            assert_eq!(route.start, (from.right(), from.y + from.height / 2.0));
            let end = route.pieces.last().map(end);
            assert_eq!(end, Some((to.x, to.y + to.height / 2.0)));
            for (x, y) in points(route) {
                let hit = |r: &&Rect| {
                    r.x + 0.1 < x && x < r.right() - 0.1 && r.y - 1.0 < y && y < r.bottom() + 1.0
                };
                let through = layout
                    .boxes
                    .iter()
                    .filter(|b| **b != from && **b != to)
                    .find(hit);
                assert_eq!(through, None, "{:?}", route.edge);
            }
        }
    }

    fn points(route: &Route) -> Vec<(f64, f64)> {
        let mut at = route.start;
        let mut points = vec![];
        for piece in &route.pieces {
            for step in 0..=16 {
                let t = f64::from(step) / 16.0;
                let mix =
                    |a: (f64, f64), b: (f64, f64)| (a.0 + (b.0 - a.0) * t, a.1 + (b.1 - a.1) * t);
                points.push(match *piece {
                    Piece::Line(end) => mix(at, end),
                    Piece::Curve(a, b, end) => {
                        let (p, q, r) = (mix(at, a), mix(a, b), mix(b, end));
                        mix(mix(p, q), mix(q, r))
                    }
                });
            }
            at = end(piece);
        }
        points
    }

    #[test]
    fn nothing_overlaps_and_no_edge_runs_through_a_box() {
        for clusters in [0, 1, 2, 3, 12] {
            check(&testing::mesh(clusters));
        }
    }

    #[test]
    fn a_long_name_of_a_group_has_room_in_its_frame() {
        let drawing = testing::labelled("x");
        let layout = layout(&drawing, &[(40.0, 30.0)], &[300.0]);
        assert!(layout.frames[0].width >= 300.0);
        check(&drawing);
    }

    #[test]
    fn graphs_of_commands_without_clusters_are_laid_out() {
        let mut drawing = Drawing::default();
        for i in 0..60 {
            let node = testing::add(&mut drawing, &format!("task{i}"), None, Kind::Task, "");
            let needs: Vec<_> = (0..node).filter(|j| (i * 7 + j * 13) % 11 == 0).collect();
            testing::needs(&mut drawing, node, &needs, &[]);
        }
        check(&drawing);
    }

    #[test]
    fn a_cycle_is_drawn() {
        let mut drawing = testing::mesh(2);
        drawing.edges.push(Edge {
            from: 15,
            to: 0,
            order_only: false,
        });
        drawing.edges.push(Edge {
            from: 3,
            to: 3,
            order_only: false,
        });
        let layout = laid(&drawing);
        assert!(layout.width.is_finite() && layout.height.is_finite());
    }

    #[test]
    fn thousands_of_tasks_in_a_tangle_are_bounded() {
        let mut drawing = Drawing::default();
        for i in 0..3_000 {
            let node = testing::add(&mut drawing, &i.to_string(), None, Kind::Task, "");
            let needs: Vec<_> = (i > 0)
                .then(|| [i - 1, i * 7919 % 10_007 % i])
                .into_iter()
                .flatten()
                .collect();
            testing::needs(&mut drawing, node, &needs, &[]);
        }
        let layout = laid(&drawing);
        // Each of 6,000 edges may cross 1,500 columns: all points would be millions.
        assert!(layout.routes.iter().map(|r| r.pieces.len()).sum::<usize>() < 200_000);
    }
}
