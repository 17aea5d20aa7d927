//! The abstract half of the layout: which column and lane each node is in, which points its edges pass,
//! and who is above whom. It knows no lengths.
//!
//! Columns go left to right by what needs what. In the middle each group has a lane of its own, so that
//! its box can be drawn around it; what groups share stands left of them all, what needs them right.
//! After K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System
//! Structures", 1981, with lanes.

use std::collections::HashMap;

use super::Edge;

/// So many points all edges together may pass, and some more for each node and edge: a bound on work
/// and size. Edges beyond it are drawn straight, the longest ones first.
const POINTS: usize = 20_000;
/// Passes over the columns to lessen crossings.
const SWEEPS: usize = 8;

/// A node, or a point that a long edge passes between nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) rank: usize,
    pub(super) lane: usize,
    /// The node it is.
    pub(super) node: Option<usize>,
}

/// Columns, lanes and their order.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// Nodes in their order, then points.
    pub(super) items: Vec<Item>,
    /// Pairs of items in neighbouring columns.
    pub(super) links: Vec<(usize, usize)>,
    /// For each edge the items it goes through, its ends included.
    pub(super) routes: Vec<Vec<usize>>,
    /// For each lane its columns, each with its items from top to bottom.
    pub(super) cells: Vec<Vec<Vec<usize>>>,
    /// Number of columns.
    pub(super) columns: usize,
    pub(super) lanes: Lanes,
}

/// Numbers of lanes, from top to bottom.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lanes {
    groups: usize,
}

impl Lanes {
    /// What groups share, in columns of its own before all of them.
    pub(super) const LEFT: usize = 0;

    pub(super) fn group(group: usize) -> usize {
        group + 1
    }

    /// Nodes between groups, or with no path to any, below all groups.
    pub(super) fn bare(self) -> usize {
        self.groups + 1
    }

    /// What needs groups, in columns of its own after all of them.
    pub(super) fn right(self) -> usize {
        self.groups + 2
    }

    /// Lanes that share the middle's columns.
    pub(super) fn middle(self) -> std::ops::RangeInclusive<usize> {
        1..=self.bare()
    }
}

/// Orders nodes, each in its group, by edges.
pub(super) fn order(groups: &[Option<usize>], edges: &[Edge]) -> Ordered {
    let forward = Forward::new(groups.len(), edges);
    let lanes = Lanes {
        groups: groups.iter().flatten().max().map_or(0, |g| g + 1),
    };
    let lane = forward.lanes(groups, lanes);
    let (rank, middle) = forward.ranks(&lane, lanes);
    let mut ordered = Ordered {
        items: (0..groups.len())
            .map(|i| Item {
                rank: rank[i],
                lane: lane[i],
                node: Some(i),
            })
            .collect(),
        lanes,
        ..Ordered::default()
    };
    ordered.route(edges, &middle);
    ordered.fill_cells();
    ordered.lessen_crossings();
    ordered
}

/// The edges without those that close a cycle.
struct Forward {
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
    /// Each node after all it needs.
    order: Vec<usize>,
}

impl Forward {
    fn new(nodes: usize, edges: &[Edge]) -> Self {
        let mut all = vec![Vec::new(); nodes];
        for edge in edges {
            all[edge.from].push(edge.to);
        }
        let (mut before, mut after) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
        let (mut seen, mut open) = (vec![false; nodes], vec![false; nodes]);
        let mut order = Vec::with_capacity(nodes);
        for start in 0..nodes {
            if seen[start] {
                continue;
            }
            (seen[start], open[start]) = (true, true);
            let mut path = vec![(start, 0)];
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                let Some(&to) = all[node].get(*next) else {
                    open[node] = false;
                    order.push(node);
                    path.pop();
                    continue;
                };
                *next += 1;
                if open[to] {
                    continue;
                }
                before[to].push(node);
                after[node].push(to);
                if !seen[to] {
                    (seen[to], open[to]) = (true, true);
                    path.push((to, 0));
                }
            }
        }
        order.reverse();
        Self {
            before,
            after,
            order,
        }
    }

    fn lanes(&self, groups: &[Option<usize>], lanes: Lanes) -> Vec<usize> {
        let nodes = groups.len();
        let (mut needs_group, mut serves_group) = (vec![false; nodes], vec![false; nodes]);
        for &node in &self.order {
            needs_group[node] = self.before[node]
                .iter()
                .any(|&b| groups[b].is_some() || needs_group[b]);
        }
        for &node in self.order.iter().rev() {
            serves_group[node] = self.after[node]
                .iter()
                .any(|&a| groups[a].is_some() || serves_group[a]);
        }
        let mut lane: Vec<_> = (0..nodes)
            .map(|i| match (groups[i], needs_group[i], serves_group[i]) {
                (Some(group), ..) => Lanes::group(group),
                (None, false, true) => Lanes::LEFT,
                (None, true, false) => lanes.right(),
                (None, ..) => lanes.bare(),
            })
            .collect();
        // What belongs to something on the right, such as a command's own input, stands with it.
        let mut spread: Vec<_> = (0..nodes).filter(|&i| lane[i] == lanes.right()).collect();
        while let Some(node) = spread.pop() {
            for &next in self.before[node].iter().chain(&self.after[node]) {
                if lane[next] == lanes.bare() && !serves_group[next] {
                    lane[next] = lanes.right();
                    spread.push(next);
                }
            }
        }
        lane
    }

    /// A column for each node, and which columns are the middle's.
    fn ranks(&self, lane: &[usize], lanes: Lanes) -> (Vec<usize>, std::ops::Range<usize>) {
        let mut rank = vec![0; lane.len()];
        let zone = |node: usize| match lane[node] {
            Lanes::LEFT => 0,
            l if l == lanes.right() => 2,
            _ => 1,
        };
        let mut bases = [0; 4];
        for z in 0..3 {
            let base = bases[z];
            let mut end = base;
            for &node in self.order.iter().filter(|n| zone(**n) == z) {
                let before = self.before[node].iter().filter(|b| zone(**b) == z);
                rank[node] = before.map(|b| rank[*b] + 1).max().unwrap_or(base);
                end = end.max(rank[node] + 1);
            }
            bases[z + 1] = end;
            // What needs nothing itself stands right before what needs it.
            for &node in self.order.iter().rev().filter(|n| zone(**n) == z) {
                if !self.before[node].iter().any(|b| zone(*b) == z) {
                    let after = self.after[node]
                        .iter()
                        .filter(|a| zone(**a) == z)
                        .map(|a| rank[*a] - 1)
                        .min();
                    rank[node] = after.unwrap_or(if z == 0 { end - 1 } else { rank[node] });
                }
            }
        }
        (rank, bases[1]..bases[2])
    }
}

impl Ordered {
    /// Leads each edge through a point in every column between its ends. Edges of one source share
    /// their points in a lane: they are drawn as one line that forks.
    fn route(&mut self, edges: &[Edge], middle: &std::ops::Range<usize>) {
        let mut budget = 3 * (self.items.len() + edges.len()) + POINTS;
        let mut points = HashMap::new();
        self.routes = vec![Vec::new(); edges.len()];
        let mut by_length: Vec<_> = (0..edges.len()).collect();
        by_length.sort_by_key(|&i| {
            self.items[edges[i].to]
                .rank
                .abs_diff(self.items[edges[i].from].rank)
        });
        for i in by_length {
            let Edge {
                from,
                to,
                order_only,
            } = edges[i];
            let (a, b) = (self.items[from], self.items[to]);
            let between = a.rank + 1..b.rank;
            let mut route = vec![from];
            if let Some(rest) = budget.checked_sub(between.len()) {
                budget = rest;
                for rank in between {
                    let lane = self.lane_between(a.lane, b.lane, middle, rank);
                    route.push(
                        *points
                            .entry((from, order_only, lane, rank))
                            .or_insert_with(|| {
                                self.items.push(Item {
                                    rank,
                                    lane,
                                    node: None,
                                });
                                self.items.len() - 1
                            }),
                    );
                }
            }
            route.push(to);
            self.routes[i] = route;
        }
        let pairs = self
            .routes
            .iter()
            .flat_map(|r| r.windows(2))
            .map(|pair| (pair[0], pair[1]));
        let mut links: Vec<_> = pairs
            .filter(|(a, b)| self.items[*a].rank + 1 == self.items[*b].rank)
            .collect();
        links.sort_unstable();
        links.dedup();
        self.links = links;
    }

    fn lane_between(
        &self,
        from: usize,
        to: usize,
        middle: &std::ops::Range<usize>,
        rank: usize,
    ) -> usize {
        let lanes = self.lanes;
        let in_middle = |lane: &usize| lanes.middle().contains(lane);
        if rank < middle.start {
            Lanes::LEFT
        } else if rank >= middle.end {
            lanes.right()
        } else {
            [to, from]
                .into_iter()
                .find(in_middle)
                .unwrap_or(lanes.bare())
        }
    }

    fn fill_cells(&mut self) {
        self.columns = self.items.iter().map(|i| i.rank + 1).max().unwrap_or(0);
        self.cells = vec![Vec::new(); self.lanes.right() + 1];
        for (i, item) in self.items.iter().enumerate() {
            let lane = &mut self.cells[item.lane];
            if lane.len() <= item.rank {
                lane.resize(item.rank + 1, Vec::new());
            }
            lane[item.rank].push(i);
        }
    }

    /// Neighbours of each item in the column before, and in the one after.
    pub(super) fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut before, mut after) = (
            vec![Vec::new(); self.items.len()],
            vec![Vec::new(); self.items.len()],
        );
        for &(a, b) in &self.links {
            before[b].push(a);
            after[a].push(b);
        }
        (before, after)
    }

    /// Orders each lane of the middle by itself, so that groups of one make look alike, then both sides
    /// by the middle.
    fn lessen_crossings(&mut self) {
        let (before, after) = self.neighbours();
        let items = &self.items;
        let within = |all: &[Vec<usize>]| -> Vec<Vec<usize>> {
            let same = |i: usize| move |o: &usize| items[*o].lane == items[i].lane;
            all.iter()
                .enumerate()
                .map(|(i, others)| others.iter().copied().filter(same(i)).collect())
                .collect()
        };
        let (near_before, near_after) = (within(&before), within(&after));
        let (mut position, mut place) = (vec![0.0; items.len()], vec![0; items.len()]);
        for lane in self.lanes.middle() {
            let cells = &mut self.cells[lane];
            cells
                .iter()
                .for_each(|cell| note_positions(cell, lane, &mut position));
            let mut best = (crossings(cells, &near_after, &mut place), cells.clone());
            for sweep in 0..SWEEPS {
                if best.0 == 0 {
                    break;
                }
                let down = sweep % 2 == 0;
                let (nearer, farther) = if down {
                    (&near_before, &near_after)
                } else {
                    (&near_after, &near_before)
                };
                for step in 0..cells.len() {
                    let rank = if down { step } else { cells.len() - 1 - step };
                    sort_cell(&mut cells[rank], nearer, farther, &mut position);
                    note_positions(&cells[rank], lane, &mut position);
                }
                let count = crossings(cells, &near_after, &mut place);
                if count < best.0 {
                    best = (count, cells.clone());
                }
            }
            *cells = best.1;
            cells
                .iter()
                .for_each(|cell| note_positions(cell, lane, &mut position));
        }
        let (left, right) = (Lanes::LEFT, self.lanes.right());
        // Once more for what has neighbours only further out: they have their places then.
        for _ in 0..2 {
            for cell in self.cells[left].iter_mut().rev() {
                sort_cell(cell, &after, &before, &mut position);
            }
            for cell in &mut self.cells[right] {
                sort_cell(cell, &before, &after, &mut position);
            }
        }
    }
}

/// Pairs of links within a lane that cross, counted column by column as inversions (W. Barth, M. Jünger,
/// P. Mutzel, "Simple and Efficient Bilayer Cross Counting", 2002).
///
/// `place` has room for every item; what it holds does not matter.
fn crossings(cells: &[Vec<usize>], after: &[Vec<usize>], place: &mut [usize]) -> usize {
    let mut crossings = 0;
    for (left, right) in cells.iter().zip(cells.iter().skip(1)) {
        right
            .iter()
            .enumerate()
            .for_each(|(i, &item)| place[item] = i + 1);
        let mut tree = vec![0_usize; right.len() + 1];
        let mut count = 0;
        for &from in left {
            let mut ends: Vec<_> = after[from].iter().map(|to| place[*to]).collect();
            ends.sort_unstable();
            for end in ends {
                let (mut i, mut not_below) = (end, 0);
                while i > 0 {
                    not_below += tree[i];
                    i &= i - 1;
                }
                crossings += count - not_below;
                count += 1;
                let mut i = end;
                while i < tree.len() {
                    tree[i] += 1;
                    i += i & i.wrapping_neg();
                }
            }
        }
    }
    crossings
}

/// Places as parts of the cell, so that columns of different lengths compare, below those of the lane
/// above.
fn note_positions(cell: &[usize], lane: usize, position: &mut [f64]) {
    for (place, &item) in cell.iter().enumerate() {
        position[item] = lane as f64 + (place as f64 + 0.5) / cell.len() as f64;
    }
}

/// Items go where their neighbours of the one side are, those without any there by the other side;
/// those without neighbours keep their places. Their positions are then those of their neighbours.
fn sort_cell(
    cell: &mut [usize],
    nearer: &[Vec<usize>],
    farther: &[Vec<usize>],
    position: &mut [f64],
) {
    let around = |item: usize| {
        if nearer[item].is_empty() {
            &farther[item]
        } else {
            &nearer[item]
        }
    };
    let centre = |item: usize| {
        around(item).iter().map(|n| position[*n]).sum::<f64>() / around(item).len() as f64
    };
    let places: Vec<_> = (0..cell.len())
        .filter(|i| !around(cell[*i]).is_empty())
        .collect();
    let mut movable: Vec<_> = places
        .iter()
        .map(|i| (centre(cell[*i]), cell[*i]))
        .collect();
    movable.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (place, (centre, item)) in places.into_iter().zip(movable) {
        cell[place] = item;
        position[item] = centre;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(usize, usize)]) -> Vec<Edge> {
        pairs
            .iter()
            .map(|&(from, to)| Edge {
                from,
                to,
                order_only: false,
            })
            .collect()
    }

    #[test]
    fn what_is_shared_stands_left_and_what_needs_groups_right() {
        // 0 root, 1 and 2 in a group, 3 needs the group, 4 is 3's own input, 5 has to do with nobody.
        let ordered = order(
            &[None, Some(0), Some(0), None, None, None],
            &edges(&[(0, 1), (1, 2), (2, 3), (4, 3)]),
        );
        let ranks: Vec<_> = ordered.items[..6].iter().map(|i| i.rank).collect();
        assert_eq!(ranks, [0, 1, 2, 4, 3, 1]);
        let lanes = ordered.lanes;
        assert_eq!(
            [3, 4, 5].map(|i: usize| ordered.items[i].lane),
            [lanes.right(), lanes.right(), lanes.bare()]
        );
    }

    #[test]
    fn a_cycle_ends() {
        let ordered = order(&[None; 3], &edges(&[(0, 1), (1, 2), (2, 0), (1, 1)]));
        assert_eq!(
            ordered.items[..3]
                .iter()
                .map(|i| i.rank)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn crossings_that_need_not_be_are_gone() {
        let ordered = order(&[None; 6], &edges(&[(0, 5), (1, 4), (2, 3)]));
        let (_, after) = ordered.neighbours();
        assert_eq!(
            crossings(&ordered.cells[ordered.lanes.bare()], &after, &mut [0; 6]),
            0
        );
    }

    #[test]
    fn long_edges_of_one_source_share_their_points() {
        let ordered = order(
            &[None; 5],
            &edges(&[(0, 1), (1, 2), (2, 3), (2, 4), (0, 3), (0, 4)]),
        );
        assert_eq!(ordered.items.len(), 5 + 2);
        assert_eq!(ordered.routes[4][..3], ordered.routes[5][..3]);
    }
}
