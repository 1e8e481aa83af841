//! The order within the rows: sweeps over the rows that move each body to the middle of what it is
//! joined to, of which the one with the fewest crossings stays. Leaves measures to others.

use super::rows::{Item, Rows};

/// Sweeps, down and up in turn. Later ones have hardly an effect.
const SWEEPS: usize = 16;

/// What it counts that an edge goes through a box that it has nothing to do with.
const THROUGH_A_BOX: usize = 3;

/// Puts the children of all boxes into an order with few crossings.
pub fn reduce_crossings(rows: &mut Rows) {
    let mut best = rows.children.clone();
    let mut least = crossings(rows);
    for sweep in 0..SWEEPS {
        if least == 0 {
            break;
        }
        Sweep::new(rows, sweep % 2 == 0).run(rows);
        let count = crossings(rows);
        if count < least {
            least = count;
            best.clone_from(&rows.children);
        }
    }
    rows.children = best;
}

/// One way over all rows.
struct Sweep {
    down: bool,
    /// For each item, the items of the row before; for each box, those that edges come from into it.
    before: Vec<Vec<usize>>,
    /// The place of each body in the order so far.
    rank: Vec<usize>,
    /// Where each item stands across its row.
    position: Vec<f64>,
    /// Where each body wants to stand.
    wish: Vec<f64>,
}

impl Sweep {
    fn new(rows: &Rows, down: bool) -> Self {
        let bodies = rows.span.len();
        let mut sweep = Self {
            down,
            before: vec![Vec::new(); bodies],
            rank: vec![0; bodies],
            position: vec![0.0; bodies],
            wish: vec![0.0; bodies],
        };
        for &(upper, lower) in &rows.segments {
            let (from, to) = if down { (upper, lower) } else { (lower, upper) };
            sweep.before[to].push(from);
            let mut group = rows.parent[to];
            while group != 0 && rows.child_of(group, from).is_none() {
                sweep.before[rows.body(group)].push(from);
                group = rows.parent[rows.body(group)];
            }
        }
        for (rank, &body) in rows.sequence().iter().enumerate() {
            sweep.rank[body] = rank;
        }
        sweep
    }

    fn run(&mut self, rows: &mut Rows) {
        let mut items = items_by_row(rows);
        for row in &items {
            self.stand(rows, row);
        }
        let count = items.len();
        for step in 0..count {
            let number = if self.down { step } else { count - 1 - step };
            let beginning = |body: &usize| {
                let (top, bottom) = rows.span[*body];
                number == if self.down { top } else { bottom }
            };
            let groups = (1..rows.children.len()).map(|group| rows.body(group));
            for body in groups.filter(beginning) {
                self.wish[body] = self.middle(&self.before[body]).unwrap_or_else(|| {
                    let inside =
                        |item: &usize| rows.child_of(rows.parent[body], *item) == Some(body);
                    let inside: Vec<_> = items.iter().flatten().copied().filter(inside).collect();
                    self.middle(&inside).unwrap_or_default()
                });
            }
            let row = &mut items[number];
            for &item in row.iter() {
                self.wish[item] = self
                    .middle(&self.before[item])
                    .unwrap_or(self.position[item]);
            }
            row.sort_by(|one, other| self.compare(rows, *one, *other));
            self.stand(rows, row);
        }
        for children in &mut rows.children {
            children.sort_by(|one, other| self.compare_siblings(*one, *other));
        }
    }

    fn middle(&self, items: &[usize]) -> Option<f64> {
        let sum: f64 = items.iter().map(|&item| self.position[item]).sum();
        (!items.is_empty()).then(|| sum / items.len() as f64)
    }

    /// Lets the items of a row stand around its middle.
    fn stand(&mut self, rows: &Rows, row: &[usize]) {
        let width = |item: usize| {
            if rows.items[item] == Item::Node {
                1.0
            } else {
                0.25
            }
        };
        let whole: f64 = row.iter().map(|&item| width(item)).sum();
        let mut left = -whole / 2.0;
        for &item in row {
            self.position[item] = left + width(item) / 2.0;
            left += width(item);
        }
    }

    /// The order of two items: that of the bodies that stand beside each other in one box and in
    /// which they are.
    fn compare(&self, rows: &Rows, one: usize, other: usize) -> std::cmp::Ordering {
        let mut group = 0;
        loop {
            let inside = (rows.child_of(group, one), rows.child_of(group, other));
            let (Some(one), Some(other)) = inside else {
                return std::cmp::Ordering::Equal;
            };
            match rows.group(one) {
                Some(same) if one == other => group = same,
                _ => return self.compare_siblings(one, other),
            }
        }
    }

    fn compare_siblings(&self, one: usize, other: usize) -> std::cmp::Ordering {
        let wish = self.wish[one].total_cmp(&self.wish[other]);
        wish.then(self.rank[one].cmp(&self.rank[other]))
    }
}

/// The items of each row, from the left to the right.
fn items_by_row(rows: &Rows) -> Vec<Vec<usize>> {
    let mut items = vec![Vec::new(); rows.count];
    for body in rows.sequence() {
        if rows.group(body).is_none() {
            items[rows.span[body].0].push(body);
        }
    }
    items
}

/// The crossings of edges with one another and with boxes that are not theirs.
fn crossings(rows: &Rows) -> usize {
    let mut place = vec![0; rows.span.len()];
    for row in items_by_row(rows) {
        for (index, item) in row.into_iter().enumerate() {
            place[item] = index;
        }
    }
    let mut gaps = vec![Vec::new(); rows.count];
    for &(upper, lower) in &rows.segments {
        gaps[rows.span[upper].0].push((place[upper], place[lower]));
    }
    gaps.into_iter().map(inversions).sum::<usize>() + THROUGH_A_BOX * through_boxes(rows)
}

/// The pairs of segments of which the one begins on the left of the other and ends on its right.
fn inversions(mut segments: Vec<(usize, usize)>) -> usize {
    segments.sort_unstable();
    let size = segments.iter().map(|&(_, lower)| lower + 1).max();
    // A tree of sums (Fenwick's) over the lower ends so far: dense stages have many segments.
    let mut tree = vec![0_usize; size.unwrap_or_default() + 1];
    let mut count = 0;
    for (seen, (_, lower)) in segments.into_iter().enumerate() {
        let mut not_right = 0;
        let mut index = lower + 1;
        while index > 0 {
            not_right += tree[index];
            index &= index - 1;
        }
        count += seen - not_right;
        index = lower + 1;
        while index < tree.len() {
            tree[index] += 1;
            index += index & index.wrapping_neg();
        }
    }
    count
}

/// How often a segment goes from one side of a box to the other.
fn through_boxes(rows: &Rows) -> usize {
    let mut rank = vec![0; rows.span.len()];
    for (index, body) in rows.sequence().into_iter().enumerate() {
        rank[body] = index;
    }
    let passes = |body: usize, (upper, lower): (usize, usize)| {
        let (top, bottom) = rows.span[body];
        let row = rows.span[upper].0;
        let left = |item: usize| rank[item] < rank[body];
        let outside = |item: usize| rows.child_of(rows.parent[body], item) != Some(body);
        top <= row && row < bottom && left(upper) != left(lower) && outside(upper) && outside(lower)
    };
    let through = |body: usize| {
        let segments = rows.segments.iter();
        segments.filter(|segment| passes(body, **segment)).count()
    };
    let groups = (1..rows.children.len()).map(|group| rows.body(group));
    groups.map(through).sum()
}
