//! The finished layout: rectangles for nodes and boxes, and ways for edges. Leaves what they look like
//! to the formats.
//!
//! An edge runs straight down where a row is, in a column that is its own, and turns only between two
//! rows, where no node is. So it goes through no node.

use super::Graph;
use super::order::reduce_crossings;
use super::place::{PADDING, Places, place};
use super::rows::{Item, Rows};
use super::structure::Structure;

/// The height of a node.
const NODE_HEIGHT: i64 = 50;
/// The height of a junction.
pub const JUNCTION_HEIGHT: i64 = 8;
/// Between two rows, where edges turn: the least, and the most, for edges that go far across.
const TURN_HEIGHT: i64 = 40;
const TURN_HEIGHT_MAX: i64 = 120;
/// How far an edge may go across on its way down before the way becomes longer.
const SLOPE: i64 = 12;
/// The part of a box above what is in it, with its name.
pub const HEADER_HEIGHT: i64 = 30;

/// A rectangle with whole corners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// The left side.
    pub x: i64,
    /// The upper side.
    pub y: i64,
    /// From the left to the right.
    pub width: i64,
    /// From the top to the bottom.
    pub height: i64,
}

/// A piece of an edge that runs straight down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Straight {
    /// The column.
    pub x: i64,
    /// Where it begins.
    pub top: i64,
    /// Where it ends.
    pub bottom: i64,
}

/// An edge between two items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it begins: a node, or behind them a junction.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// Its straight pieces from the top to the bottom. Between two of them it turns.
    pub straights: Vec<Straight>,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// From the left to the right.
    pub width: i64,
    /// From the top to the bottom.
    pub height: i64,
    /// The nodes, in their order.
    pub nodes: Vec<Rect>,
    /// The junctions.
    pub junctions: Vec<Rect>,
    /// The boxes around subsagas, each after the one around it, without the whole drawing.
    pub groups: Vec<Rect>,
    /// The edges.
    pub routes: Vec<Route>,
}

/// The least widths that the texts need.
pub struct Widths {
    /// Of each node.
    pub nodes: Vec<i64>,
    /// Of each box; the first is the whole drawing.
    pub groups: Vec<i64>,
}

impl Layout {
    /// Lays a graph out.
    pub fn new(graph: &Graph, structure: &Structure, widths: &Widths) -> Self {
        let mut rows = Rows::new(structure);
        reduce_crossings(&mut rows);
        let places = place(&rows, widths_of_bodies(&rows, widths));
        let heights = Heights::new(&rows, &places);
        let items = 0..rows.items.len();
        let rects: Vec<_> = items
            .map(|item| heights.item(&rows, &places, item))
            .collect();
        let groups = 1..rows.children.len();
        let route = |path: &Vec<usize>| route(&rows, &heights, &rects, path);
        let junctions = graph.nodes.len()..structure.group_of.len();
        Self {
            width: places.width[rows.body(0)],
            height: heights.whole,
            nodes: rects[..graph.nodes.len()].to_vec(),
            junctions: rects[junctions].to_vec(),
            groups: groups
                .map(|group| heights.group(&rows, &places, group))
                .collect(),
            routes: rows.edges.iter().map(route).collect(),
        }
    }
}

fn widths_of_bodies(rows: &Rows, widths: &Widths) -> Vec<i64> {
    let even = |width: i64| (width + 1) / 2 * 2;
    let item = |(index, item): (usize, &Item)| match item {
        Item::Node => even(widths.nodes[index]),
        Item::Junction => JUNCTION_HEIGHT,
        Item::Bend => 2,
    };
    let items = rows.items.iter().enumerate().map(item);
    let groups = widths.groups.iter().copied().map(even);
    items.chain(groups).collect()
}

/// The heights of rows and of the boxes that begin and end between them.
struct Heights {
    /// Where each row begins and ends.
    rows: Vec<(i64, i64)>,
    /// Where the edges that come into a row have to be straight, and from where they may turn again.
    straight: Vec<(i64, i64)>,
    /// For each group, how many boxes begin with its first row, from it to the innermost.
    beginning: Vec<i64>,
    /// The same for those that end with its last row.
    ending: Vec<i64>,
    whole: i64,
}

impl Heights {
    fn new(rows: &Rows, places: &Places) -> Self {
        let count = rows.children.len();
        let (mut beginning, mut ending) = (vec![1; count], vec![1; count]);
        let (mut begin, mut end) = (vec![0; rows.count], vec![0; rows.count]);
        for group in (1..count).rev() {
            let body = rows.body(group);
            let (top, bottom) = rows.span[body];
            begin[top] = begin[top].max(beginning[group]);
            end[bottom] = end[bottom].max(ending[group]);
            let parent = rows.parent[body];
            let around = rows.span[rows.body(parent)];
            if around.0 == top {
                beginning[parent] = beginning[parent].max(beginning[group] + 1);
            }
            if around.1 == bottom {
                ending[parent] = ending[parent].max(ending[group] + 1);
            }
        }
        let mut heights = Self {
            rows: Vec::new(),
            straight: Vec::new(),
            beginning,
            ending,
            whole: 0,
        };
        let turns = turns(rows, places);
        for (row, height) in heights_of_rows(rows).into_iter().enumerate() {
            let from = heights.whole + turns[row];
            let top = from + begin[row] * HEADER_HEIGHT;
            let bottom = top + height;
            heights.whole = bottom + end[row] * PADDING;
            heights.rows.push((top, bottom));
            heights.straight.push((from, heights.whole));
        }
        heights
    }

    /// An item in the middle of its row's height; a bend takes all of it.
    fn item(&self, rows: &Rows, places: &Places, item: usize) -> Rect {
        let (top, bottom) = self.rows[rows.span[item].0];
        let height = match rows.items[item] {
            Item::Node => NODE_HEIGHT,
            Item::Junction => JUNCTION_HEIGHT,
            Item::Bend => bottom - top,
        };
        Rect {
            x: places.middle[item] - places.width[item] / 2,
            y: (top + bottom - height) / 2,
            width: places.width[item],
            height,
        }
    }

    fn group(&self, rows: &Rows, places: &Places, group: usize) -> Rect {
        let body = rows.body(group);
        let (first, last) = rows.span[body];
        let y = self.rows[first].0 - self.beginning[group] * HEADER_HEIGHT;
        let bottom = self.rows[last].1 + self.ending[group] * PADDING;
        Rect {
            x: places.middle[body] - places.width[body] / 2,
            y,
            width: places.width[body],
            height: bottom - y,
        }
    }
}

/// The height above each row for edges to turn in.
fn turns(rows: &Rows, places: &Places) -> Vec<i64> {
    let mut turns = vec![TURN_HEIGHT; rows.count];
    for &(upper, lower) in &rows.segments {
        let turn = &mut turns[rows.span[lower].0];
        let across = (places.middle[upper] - places.middle[lower]).abs();
        *turn = (across / SLOPE).min(TURN_HEIGHT_MAX).max(*turn);
    }
    // Nothing comes from above the first.
    if let Some(first) = turns.first_mut() {
        *first = 0;
    }
    turns
}

fn heights_of_rows(rows: &Rows) -> Vec<i64> {
    let mut heights = vec![JUNCTION_HEIGHT; rows.count];
    for (item, &(row, _)) in rows.items.iter().zip(&rows.span) {
        if *item == Item::Node {
            heights[row] = NODE_HEIGHT;
        }
    }
    heights
}

fn route(rows: &Rows, heights: &Heights, rects: &[Rect], path: &[usize]) -> Route {
    let (from, to) = (path[0], path[path.len() - 1]);
    let straight = |&item: &usize| {
        let rect = rects[item];
        let (top, bottom) = heights.straight[rows.span[item].0];
        Straight {
            x: rect.x + rect.width / 2,
            top: if item == from {
                rect.y + rect.height
            } else {
                top
            },
            bottom: if item == to { rect.y } else { bottom },
        }
    };
    Route {
        from,
        to,
        straights: path.iter().map(straight).collect(),
    }
}
