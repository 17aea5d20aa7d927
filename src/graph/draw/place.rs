//! Heights: where each item of a column stands, as near to its neighbours as the order allows. It knows
//! neither columns' places nor texts.

use super::order::{Lanes, Ordered};

/// Passes over a lane's columns.
const PASSES: usize = 16;

/// Lengths in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spacing {
    /// Between two boxes of a column.
    pub(super) boxes: f64,
    /// Between a box or a line and a line that passes.
    pub(super) lines: f64,
    /// Between two lanes' frames.
    pub(super) lanes: f64,
    /// From a group's frame to its first box.
    pub(super) head: f64,
    /// From a group's last box to its frame.
    pub(super) foot: f64,
}

/// The middle of each item, and the span of each lane of the middle from its topmost to its lowest
/// point. The topmost lane's frame begins at 0.
pub(super) fn place(
    ordered: &Ordered,
    heights: &[f64],
    spacing: Spacing,
) -> (Vec<f64>, Vec<(f64, f64)>) {
    let mut work = Work {
        ordered,
        heights,
        spacing,
        y: vec![0.0; ordered.items.len()],
        around: ordered.neighbours(),
    };
    let lanes = ordered.lanes;
    let cells = &ordered.cells;
    let mut spans = vec![(0.0, 0.0); lanes.right() + 1];
    let mut top = 0.0;
    for lane in lanes.middle() {
        let columns = &cells[lane];
        work.settle_lane(columns);
        let ends = columns
            .iter()
            .flatten()
            .map(|&i| (work.y[i] - work.half(i), work.y[i] + work.half(i)));
        let Some((low, high)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            continue;
        };
        let (head, foot) = if lane == lanes.bare() {
            (0.0, 0.0)
        } else {
            (spacing.head, spacing.foot)
        };
        let shift = top + head - low;
        columns.iter().flatten().for_each(|&i| work.y[i] += shift);
        spans[lane] = (low + shift, high + shift);
        top = high + shift + foot + spacing.lanes;
    }
    // Both sides follow the middle, from it outward. Twice: what has neighbours only further out finds
    // them in place the second time.
    for lane in [Lanes::LEFT, lanes.right()] {
        work.stack(&cells[lane]);
        for _ in 0..2 {
            match lane {
                Lanes::LEFT => cells[lane]
                    .iter()
                    .rev()
                    .for_each(|c| work.settle(c, Side::After)),
                _ => cells[lane]
                    .iter()
                    .for_each(|c| work.settle(c, Side::Before)),
            }
        }
    }
    (work.y, spans)
}

/// Whose heights decide.
#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
    Both,
}

struct Work<'a> {
    ordered: &'a Ordered,
    heights: &'a [f64],
    spacing: Spacing,
    y: Vec<f64>,
    around: (Vec<Vec<usize>>, Vec<Vec<usize>>),
}

impl Work<'_> {
    fn lane(&self, item: usize) -> usize {
        self.ordered.items[item].lane
    }

    fn is_point(&self, item: usize) -> bool {
        self.ordered.items[item].node.is_none()
    }

    fn half(&self, item: usize) -> f64 {
        self.ordered.items[item]
            .node
            .map_or(0.0, |n| self.heights[n] / 2.0)
    }

    /// From one item's middle to the next one's below it.
    fn apart(&self, above: usize, below: usize) -> f64 {
        let gap = if self.is_point(above) || self.is_point(below) {
            self.spacing.lines
        } else {
            self.spacing.boxes
        };
        self.half(above) + gap + self.half(below)
    }

    fn stack(&mut self, columns: &[Vec<usize>]) {
        for column in columns {
            let mut y = 0.0;
            for (place, &item) in column.iter().enumerate() {
                if place > 0 {
                    y += self.apart(column[place - 1], item);
                }
                self.y[item] = y;
            }
            column.iter().for_each(|&i| self.y[i] -= y / 2.0);
        }
    }

    fn settle_lane(&mut self, columns: &[Vec<usize>]) {
        self.stack(columns);
        for pass in 0..PASSES {
            match pass % 2 {
                0 => columns.iter().for_each(|c| self.settle(c, Side::Before)),
                _ => columns
                    .iter()
                    .rev()
                    .for_each(|c| self.settle(c, Side::After)),
            }
        }
        columns.iter().for_each(|c| self.settle(c, Side::Both));
        columns.iter().for_each(|c| self.straighten(c));
        self.close_gaps(columns);
    }

    /// Moves a column's items to where they are wanted, as far as their order and sizes allow: the
    /// least squares of all moves (pool adjacent violators).
    fn settle(&mut self, column: &[usize], side: Side) {
        let mut offset = 0.0;
        let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(column.len());
        let mut offsets = Vec::with_capacity(column.len());
        for (place, &item) in column.iter().enumerate() {
            if place > 0 {
                offset += self.apart(column[place - 1], item);
            }
            offsets.push(offset);
            let (wanted, weight) = self.wanted(item, side);
            let mut pool = (wanted - offset, weight, 1);
            while let Some(above) = pools.pop_if(|above| above.0 > pool.0) {
                let weight = above.1 + pool.1;
                pool = (
                    (above.0 * above.1 + pool.0 * pool.1) / weight,
                    weight,
                    above.2 + pool.2,
                );
            }
            pools.push(pool);
        }
        let settled = pools
            .iter()
            .flat_map(|&(y, _, size)| std::iter::repeat_n(y, size));
        for ((&item, offset), y) in column.iter().zip(offsets).zip(settled) {
            self.y[item] = y + offset;
        }
    }

    /// Levels what has one neighbour before it that goes nowhere else, where there is room.
    fn straighten(&mut self, column: &[usize]) {
        for (place, &item) in column.iter().enumerate() {
            let [before] = self.around.0[item][..] else {
                continue;
            };
            if self.lane(before) != self.lane(item) || self.bond(before, item) <= 1.0 {
                continue;
            }
            let above = place.checked_sub(1).map(|p| column[p]);
            let least = above.map_or(f64::MIN, |a| self.y[a] + self.apart(a, item));
            let most = column
                .get(place + 1)
                .map_or(f64::MAX, |b| self.y[*b] - self.apart(item, *b));
            if (least..=most).contains(&self.y[before]) {
                self.y[item] = self.y[before];
            }
        }
    }

    /// Moves up what lies below a strip without anything in it.
    fn close_gaps(&mut self, columns: &[Vec<usize>]) {
        let mut items: Vec<_> = columns
            .iter()
            .flatten()
            .map(|&i| (self.y[i] - self.half(i), i))
            .collect();
        items.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some(&(mut end, _)) = items.first() else {
            return;
        };
        let mut shift = 0.0;
        for (top, item) in items {
            shift += (top - shift - end - self.spacing.boxes).max(0.0);
            self.y[item] -= shift;
            end = end.max(self.y[item] + self.half(item));
        }
    }

    /// How much two neighbours should be level.
    fn bond(&self, before: usize, item: usize) -> f64 {
        if self.is_point(before) && self.is_point(item) {
            40.0
        } else if self.around.1[before].len() == 1 && self.around.0[item].len() == 1 {
            15.0
        } else {
            1.0
        }
    }

    /// Where an item would stand by itself, and how much that counts. Lines that pass count more, for a
    /// bend shows more than a box that is off its neighbours' middle. What has nobody on one side
    /// follows the other, and gives way.
    fn wanted(&self, item: usize, side: Side) -> (f64, f64) {
        let (before, after) = (&self.around.0[item], &self.around.1[item]);
        let weight = if self.is_point(item) { 3.0 } else { 1.0 };
        let (first, second): (&[usize], &[usize]) = match side {
            Side::Before => (before, after),
            Side::After => (after, before),
            Side::Both => {
                return self
                    .centre(item, before, after)
                    .map_or((self.y[item], 0.05), |y| (y, weight));
            }
        };
        match self.centre(item, first, &[]) {
            Some(y) => (y, weight),
            None => (self.centre(item, second, &[]).unwrap_or(self.y[item]), 0.05),
        }
    }

    /// The middle of those neighbours whose heights are known when this item's lane is settled.
    fn centre(&self, item: usize, some: &[usize], more: &[usize]) -> Option<f64> {
        let lane = self.lane(item);
        let outside = !self.ordered.lanes.middle().contains(&lane);
        let (mut sum, mut total) = (0.0, 0.0);
        let rank = |item: usize| self.ordered.items[item].rank;
        for &other in some
            .iter()
            .chain(more)
            .filter(|o| outside || self.lane(**o) == lane)
        {
            let weight = if rank(other) < rank(item) {
                self.bond(other, item)
            } else {
                self.bond(item, other)
            };
            sum += self.y[other] * weight;
            total += weight;
        }
        (total > 0.0).then(|| sum / total)
    }
}
