//! Which row each item stands in, and the bends with which edges go through the rows between their
//! ends. Leaves the order within the rows and all measures to others.

use std::collections::{BTreeMap, BTreeSet};

use super::structure::Structure;

/// Nodes of one parallel stage in one row; with more, a drawing is wider than a page.
const ABREAST_MAX: usize = 10;

/// A graph in rows. What stands somewhere is a body: an item (a node, a junction or a bend), or a box,
/// whose number as a body is its number behind all items.
pub struct Rows {
    /// The items: the nodes, the junctions, the bends.
    pub items: Vec<Item>,
    /// The number of rows.
    pub count: usize,
    /// The first and the last row of each body.
    pub span: Vec<(usize, usize)>,
    /// The box of each body; the whole drawing is its own.
    pub parent: Vec<usize>,
    /// The bodies directly in each box, from the left to the right. A box that stands in several rows
    /// has one place among its neighbours, so it has the same ones beside it in all of them.
    pub children: Vec<Vec<usize>>,
    /// Each edge as the items that it goes through.
    pub edges: Vec<Vec<usize>>,
    /// The parts of edges between two rows that follow each other: from the upper to the lower item.
    pub segments: Vec<(usize, usize)>,
}

/// What stands in one row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A node.
    Node,
    /// Where edges meet.
    Junction,
    /// Where an edge goes through a row between its ends.
    Bend,
}

impl Rows {
    /// Puts the items into rows: each as far up as those before it allow.
    pub fn new(structure: &Structure) -> Self {
        let nodes = structure.labels.len();
        let (further, in_rows) = further_down(structure);
        let row_of = row_of_each(structure, further);
        let mut rows = Self {
            items: vec![Item::Node; nodes],
            count: row_of.iter().max().map_or(0, |last| last + 1),
            span: row_of.iter().map(|&row| (row, row)).collect(),
            parent: structure.group_of.clone(),
            children: vec![Vec::new(); structure.groups.len()],
            edges: Vec::new(),
            segments: Vec::new(),
        };
        rows.items.resize(row_of.len(), Item::Junction);
        let spans = spans(structure, &row_of);
        rows.bend(structure, &spans, &in_rows);
        rows.add_groups(structure, &spans);
        rows
    }

    /// The group that a body is; none for an item.
    pub fn group(&self, body: usize) -> Option<usize> {
        body.checked_sub(self.items.len())
    }

    /// The body that a group is.
    pub fn body(&self, group: usize) -> usize {
        self.items.len() + group
    }

    /// The body directly in a group in which another body is, or which it is; none for one outside.
    pub fn child_of(&self, group: usize, body: usize) -> Option<usize> {
        let mut body = body;
        while self.parent[body] != group {
            if self.parent[body] == 0 {
                return None;
            }
            body = self.body(self.parent[body]);
        }
        Some(body)
    }

    /// The bodies in their order from the left to the right, each box before what is in it. Among
    /// those in one row this is their order in that row.
    pub fn sequence(&self) -> Vec<usize> {
        let mut sequence = Vec::with_capacity(self.span.len());
        let mut next: Vec<_> = self.children[0].iter().rev().copied().collect();
        while let Some(body) = next.pop() {
            sequence.push(body);
            if let Some(group) = self.group(body) {
                next.extend(self.children[group].iter().rev());
            }
        }
        sequence
    }

    /// Leads each edge through the rows between its ends. The edges from one item share their bends for
    /// as long as they can; those from a stage of several rows share them with those to the same item.
    /// An edge shares with those of one of its ends only, so what is joined in the drawing is joined in
    /// the graph.
    fn bend(&mut self, structure: &Structure, spans: &[(usize, usize)], in_rows: &[bool]) {
        let mut bends = BTreeMap::new();
        let mut segments = BTreeSet::new();
        for &(from, to) in &structure.edges {
            let trunk = (in_rows[from], if in_rows[from] { to } else { from });
            let mut path = vec![from];
            for row in self.span[from].0 + 1..self.span[to].0 {
                let group = group_on_the_way(structure, spans, (from, to), row);
                let bend = *bends.entry((trunk, row, group)).or_insert_with(|| {
                    self.items.push(Item::Bend);
                    self.span.push((row, row));
                    self.parent.push(group);
                    self.items.len() - 1
                });
                path.push(bend);
            }
            path.push(to);
            segments.extend(path.windows(2).map(|pair| (pair[0], pair[1])));
            self.edges.push(path);
        }
        self.segments = segments.into_iter().collect();
    }

    fn add_groups(&mut self, structure: &Structure, spans: &[(usize, usize)]) {
        for (group, span) in structure.groups.iter().zip(spans) {
            self.span.push(*span);
            self.parent.push(group.parent);
        }
        // The first node in a box or at the end of an edge says where they stand to begin with.
        let mut first: Vec<_> = (0..self.span.len()).collect();
        for path in &self.edges {
            let end = path[path.len() - 1];
            for &item in path.iter().filter(|&&item| self.items[item] != Item::Node) {
                first[item] = first[item].min(end);
            }
        }
        // Items before groups, and inner groups before those around them.
        let groups = (self.items.len()..first.len()).rev();
        for body in (0..self.items.len()).chain(groups) {
            let around = self.body(self.parent[body]);
            first[around] = first[around].min(first[body]);
        }
        let whole = self.body(0);
        for body in (0..self.span.len()).filter(|&body| body != whole) {
            self.children[self.parent[body]].push(body);
        }
        for children in &mut self.children {
            children.sort_by_key(|&body| first[body]);
        }
    }
}

/// How far down each item stands below the row that is its own otherwise: where more nodes than a row
/// may have come after the same ones and before the same ones, they stand in several rows. With it,
/// which ones do.
fn further_down(structure: &Structure) -> (Vec<usize>, Vec<bool>) {
    let mut around = vec![(Vec::new(), Vec::new()); structure.group_of.len()];
    for &(from, to) in &structure.edges {
        around[from].1.push(to);
        around[to].0.push(from);
    }
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (item, edges) in around.iter().enumerate() {
        let key = (structure.group_of[item], edges);
        alike.entry(key).or_default().push(item);
    }
    let mut further = vec![0; structure.group_of.len()];
    let mut in_rows = vec![false; structure.group_of.len()];
    for items in alike.into_values() {
        let rows = items.len().div_ceil(ABREAST_MAX);
        let in_a_row = items.len().div_ceil(rows);
        for (index, item) in items.into_iter().enumerate() {
            further[item] = index / in_a_row;
            in_rows[item] = rows > 1;
        }
    }
    (further, in_rows)
}

/// The longest way to each item decides its row.
fn row_of_each(structure: &Structure, further: Vec<usize>) -> Vec<usize> {
    let count = structure.group_of.len();
    let mut after = vec![Vec::new(); count];
    let mut waits_for = vec![0_usize; count];
    for &(from, to) in &structure.edges {
        after[from].push(to);
        waits_for[to] += 1;
    }
    let mut row_of = further.clone();
    let mut ready: Vec<_> = (0..count).filter(|&item| waits_for[item] == 0).collect();
    while let Some(item) = ready.pop() {
        for &next in &after[item] {
            row_of[next] = row_of[next].max(row_of[item] + 1 + further[next]);
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                ready.push(next);
            }
        }
    }
    row_of
}

/// The first and the last row of each group.
fn spans(structure: &Structure, row_of: &[usize]) -> Vec<(usize, usize)> {
    let mut spans = vec![(usize::MAX, 0); structure.groups.len()];
    for (&row, &group) in row_of.iter().zip(&structure.group_of) {
        spans[group] = (spans[group].0.min(row), spans[group].1.max(row));
    }
    for group in (1..spans.len()).rev() {
        let parent = structure.groups[group].parent;
        let (top, bottom) = spans[group];
        spans[parent] = (spans[parent].0.min(top), spans[parent].1.max(bottom));
    }
    spans
}

/// The box in which an edge goes through a row: it stays in that of its upper end until that one is
/// over, and is in that of its lower end as soon as that one begins.
fn group_on_the_way(
    structure: &Structure,
    spans: &[(usize, usize)],
    (from, to): (usize, usize),
    row: usize,
) -> usize {
    let innermost = |item: usize| {
        let mut group = structure.group_of[item];
        while row < spans[group].0 || row > spans[group].1 {
            group = structure.groups[group].parent;
        }
        group
    };
    let (of_from, of_to) = (innermost(from), innermost(to));
    if structure.groups[of_to].depth > structure.groups[of_from].depth {
        of_to
    } else {
        of_from
    }
}
