//! Where each body stands across the drawing, and how wide the boxes are. Leaves the heights to others.
//!
//! Boxes are placed from the inside to the outside, each as one rigid body for the box around it.

use super::rows::{Item, Rows};
use super::separate::{Before, Wish, separate};
use super::straighten::{Room, straighten};

/// Ways over all rows, down and up in turn, and then looking to both sides at once.
const SWEEPS: usize = 12;
/// The last sweeps, which look to both sides.
const SWEEPS_BALANCED: usize = 8;
/// Between two neighbours.
const GAP: i64 = 28;
/// Between a bend or a junction and its neighbours.
const GAP_LINE: i64 = 16;
/// Between the border of a box and what is in it.
pub const PADDING: i64 = 14;
/// The wish to stay of what nothing holds.
const LIGHT: f64 = 0.01;

/// The columns of a drawing.
pub struct Places {
    /// The middle of each body.
    pub middle: Vec<i64>,
    /// The width of each body; even.
    pub width: Vec<i64>,
}

/// Places all bodies. `width` holds the least width of each body; the whole drawing begins at 0.
pub fn place(rows: &Rows, width: Vec<i64>) -> Places {
    let mut places = Places {
        middle: vec![0; rows.span.len()],
        width,
    };
    for group in (0..rows.children.len()).rev() {
        place_group(rows, group, &mut places);
    }
    let left = places.width[rows.body(0)] / 2;
    for middle in &mut places.middle {
        *middle += left;
    }
    places
}

fn place_group(rows: &Rows, group: usize, places: &mut Places) {
    let level = Level::new(rows, group, places);
    let middles = level.settle();
    let sides = rows.children[group].iter().zip(&middles);
    let sides = sides.map(|(&body, middle)| {
        let half = places.width[body] / 2;
        (middle - half, middle + half)
    });
    let Some((left, right)) = sides.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))) else {
        return;
    };
    let padding = if group == 0 { 0 } else { PADDING };
    let own = rows.body(group);
    // Even, so that halves are whole.
    let width = (right - left + 1) / 2 * 2 + 2 * padding;
    let center = left + (right - left + 1) / 2;
    places.width[own] = places.width[own].max(width);
    let mut shift = vec![None; rows.span.len()];
    for (&body, middle) in rows.children[group].iter().zip(middles) {
        shift[body] = Some(middle - center);
    }
    for body in 0..rows.span.len() {
        let child = rows.child_of(group, body);
        if let Some(shift) = child.and_then(|child| shift[child])
            && body != rows.body(0)
        {
            places.middle[body] += shift;
        }
    }
}

/// What holds a body: others above or below it, each with what would be added to its middle for the body
/// to be straight under or over it.
type Links = Vec<(usize, i64)>;

/// Rows that have to be placed together, for a box goes through them.
struct Band {
    /// The bodies, by their index in the level, in their order.
    bodies: Vec<usize>,
    before: Vec<Before>,
}

/// The bodies directly in one box.
struct Level {
    above: Vec<Links>,
    below: Vec<Links>,
    bands: Vec<Band>,
    /// The bends, from the top to the bottom.
    bends: Vec<usize>,
    middle: Vec<f64>,
}

impl Level {
    fn new(rows: &Rows, group: usize, places: &Places) -> Self {
        let children = &rows.children[group];
        let mut index_of = vec![usize::MAX; rows.span.len()];
        for (index, &body) in children.iter().enumerate() {
            index_of[body] = index;
        }
        let links = || children.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        let (mut above, mut below) = (links(), links());
        let is_bend = |item: usize| rows.items[item] == Item::Bend;
        let mut join = |upper: usize, lower: usize, holds_upper: bool, holds_lower: bool| {
            let ends = (rows.child_of(group, upper), rows.child_of(group, lower));
            let (Some(upper_body), Some(lower_body)) = ends else {
                return;
            };
            let (one, other) = (index_of[upper_body], index_of[lower_body]);
            let offset = |item, body| if item == body { 0 } else { places.middle[item] };
            let difference = offset(upper, upper_body) - offset(lower, lower_body);
            if one != other && holds_lower {
                above[other].push((one, difference));
            }
            if one != other && holds_upper {
                below[one].push((other, -difference));
            }
        };
        // Bends follow their edge. Nodes do not follow bends but what is at the other end: else a stage
        // would move to where its edges find room.
        for &(upper, lower) in &rows.segments {
            let straight = !is_bend(upper) && !is_bend(lower);
            join(
                upper,
                lower,
                straight || is_bend(upper),
                straight || is_bend(lower),
            );
        }
        for path in rows.edges.iter().filter(|path| path.len() > 2) {
            join(path[0], path[path.len() - 1], true, true);
        }
        let item = |index: &usize| rows.items.get(children[*index]);
        let bend = |index: &usize| item(index) == Some(&Item::Bend);
        let mut bends: Vec<_> = (0..children.len()).filter(bend).collect();
        bends.sort_by_key(|&index| rows.span[children[index]]);
        Self {
            above,
            below,
            bands: bands(rows, children, places),
            bends,
            middle: vec![0.0; children.len()],
        }
    }

    fn settle(mut self) -> Vec<i64> {
        self.sweep(true, &[]);
        for sweep in 0..SWEEPS {
            let down = sweep % 2 == 0;
            self.sweep(down, &[down]);
        }
        for sweep in 0..SWEEPS_BALANCED {
            self.sweep(sweep % 2 == 0, &[true, false]);
        }
        let mut whole = self.whole();
        self.straighten(&mut whole);
        whole
    }

    fn straighten(&self, middle: &mut [i64]) {
        let mut left = vec![Vec::new(); middle.len()];
        let mut right = left.clone();
        for band in &self.bands {
            for (&body, before) in band.bodies.iter().zip(&band.before) {
                for &(other, distance) in before {
                    let (other, distance) = (band.bodies[other], distance as i64);
                    left[body].push((other, distance));
                    right[other].push((body, distance));
                }
            }
        }
        let room = Room {
            left: &left,
            right: &right,
            above: &self.above,
            below: &self.below,
        };
        straighten(&room, &self.bends, middle);
    }

    /// Places band after band; `sides` are those to which they look, above being true.
    fn sweep(&mut self, down: bool, sides: &[bool]) {
        let count = self.bands.len();
        for step in 0..count {
            let band = &self.bands[if down { step } else { count - 1 - step }];
            let wishes: Vec<_> = band
                .bodies
                .iter()
                .map(|&body| self.wish(body, sides))
                .collect();
            let places = separate(&wishes, &band.before);
            for (&body, place) in band.bodies.iter().zip(places) {
                self.middle[body] = place;
            }
        }
    }

    fn wish(&self, body: usize, sides: &[bool]) -> Wish {
        let links = sides.iter().flat_map(|&above| {
            if above {
                &self.above[body]
            } else {
                &self.below[body]
            }
        });
        let (mut sum, mut weight) = (0.0, 0.0);
        for &(other, difference) in links {
            sum += self.middle[other] + difference as f64;
            weight += 1.0;
        }
        if weight > 0.0 {
            let at = sum / weight;
            return Wish { at, weight };
        }
        Wish {
            at: self.middle[body],
            weight: LIGHT,
        }
    }

    /// The places in whole numbers, which keep the distances to the last one.
    fn whole(&self) -> Vec<i64> {
        let nearest = |place: &f64| (place + 0.5).floor() as i64;
        let mut whole: Vec<_> = self.middle.iter().map(nearest).collect();
        for band in &self.bands {
            for (&body, before) in band.bodies.iter().zip(&band.before) {
                for &(left, distance) in before {
                    let least = whole[band.bodies[left]] + distance as i64;
                    whole[body] = whole[body].max(least);
                }
            }
        }
        whole
    }
}

/// The bands of a box's children, from the top.
fn bands(rows: &Rows, children: &[usize], places: &Places) -> Vec<Band> {
    let mut by_row = vec![Vec::new(); rows.count];
    let mut joined = vec![false; rows.count];
    for (index, &body) in children.iter().enumerate() {
        let (top, bottom) = rows.span[body];
        for row in top..=bottom {
            by_row[row].push(index);
            joined[row] |= row > top;
        }
    }
    let mut bands: Vec<Band> = Vec::new();
    let mut first = 0;
    for row in 0..rows.count {
        if row + 1 < rows.count && joined[row + 1] {
            continue;
        }
        bands.push(band(rows, children, places, &by_row[first..=row]));
        first = row + 1;
    }
    bands
}

fn band(rows: &Rows, children: &[usize], places: &Places, by_row: &[Vec<usize>]) -> Band {
    let mut bodies: Vec<_> = by_row.iter().flatten().copied().collect();
    bodies.sort_unstable();
    bodies.dedup();
    let mut before = vec![Before::new(); bodies.len()];
    let local = |index: &usize| bodies.binary_search(index).unwrap_or_default();
    for row in by_row {
        for pair in row.windows(2) {
            let (left, right) = (children[pair[0]], children[pair[1]]);
            let line = |body| rows.items.get(body).is_some_and(|item| *item != Item::Node);
            let gap = if line(left) || line(right) {
                GAP_LINE
            } else {
                GAP
            };
            let distance = (places.width[left] + places.width[right]) / 2 + gap;
            before[local(&pair[1])].push((local(&pair[0]), distance as f64));
        }
    }
    Band { bodies, before }
}
