//! What a graph consists of, before anything has a place: its boxes, its sound edges, its junctions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, text};

/// Boxes inside one another; what is nested more deeply stays in the deepest.
const DEPTH_MAX: usize = 8;

/// A graph, taken apart.
pub struct Structure {
    /// The names of the nodes inside their boxes.
    pub labels: Vec<String>,
    /// The boxes; the first is the whole drawing, and each comes after the one around it.
    pub groups: Vec<Group>,
    /// The box of each item. Items are the nodes, in their order, and then the junctions.
    pub group_of: Vec<usize>,
    /// The edges between items. They close no circle.
    pub edges: Vec<(usize, usize)>,
}

/// The box around a subsaga.
pub struct Group {
    /// The subsaga's name inside the box around it.
    pub label: String,
    /// The box around it; the whole drawing is its own.
    pub parent: usize,
    /// The number of boxes around it.
    pub depth: usize,
}

impl Structure {
    /// Takes a graph apart.
    pub fn new(graph: &Graph) -> Self {
        let whole = Group {
            label: String::new(),
            parent: 0,
            depth: 0,
        };
        let mut structure = Self {
            labels: Vec::new(),
            groups: vec![whole],
            group_of: Vec::new(),
            edges: Vec::new(),
        };
        structure.add_nodes(graph);
        structure.add_edges(&sound(graph));
        structure
    }

    /// The innermost box that is around both.
    pub fn common(&self, one: usize, other: usize) -> usize {
        let (mut one, mut other) = (one, other);
        while one != other {
            // A box comes after its parent, so the later one is not around the other.
            if one > other {
                one = self.groups[one].parent;
            } else {
                other = self.groups[other].parent;
            }
        }
        one
    }

    fn add_nodes(&mut self, graph: &Graph) {
        let mut known = BTreeMap::new();
        for node in &graph.nodes {
            let (path, label) = split(&node.name);
            let mut group = 0;
            for name in path {
                let next = self.groups.len();
                let depth = self.groups[group].depth + 1;
                let found = *known.entry((group, name)).or_insert(next);
                if found == next {
                    self.groups.push(Group {
                        label: text::visible(name),
                        parent: group,
                        depth,
                    });
                }
                group = found;
            }
            self.labels.push(text::visible(label));
            self.group_of.push(group);
        }
    }

    /// Where all of some nodes come before all of some others, as between two parallel stages, the
    /// edges go through one junction: 32 nodes before 32 are then 64 lines, and not 1024.
    fn add_edges(&mut self, sound: &BTreeSet<(usize, usize)>) {
        let mut after: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &(from, to) in sound {
            after.entry(from).or_default().push(to);
        }
        let mut bundles: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (from, to) in after {
            bundles.entry(to).or_default().push(from);
        }
        for (to, from) in bundles {
            if from.len() * to.len() <= from.len() + to.len() {
                let each = |&from: &usize| to.iter().map(move |&to| (from, to));
                self.edges.extend(from.iter().flat_map(each));
                continue;
            }
            let junction = self.group_of.len();
            let ends = from.iter().chain(&to).map(|&node| self.group_of[node]);
            let around = ends.reduce(|one, other| self.common(one, other));
            self.group_of.push(around.unwrap_or_default());
            self.edges.extend(from.iter().map(|&node| (node, junction)));
            self.edges.extend(to.iter().map(|&node| (junction, node)));
        }
        self.edges.sort_unstable();
    }
}

/// The boxes of a name and what is left of it inside them. A name that is no dotted path has none.
fn split(name: &str) -> (Vec<&str>, &str) {
    if name.split('.').any(|part| part.trim().is_empty()) {
        return (Vec::new(), name);
    }
    let mut parts: Vec<_> = name.splitn(DEPTH_MAX + 1, '.').collect();
    let label = parts.pop().unwrap_or(name);
    (parts, label)
}

/// The edges that can be drawn from the top to the bottom.
fn sound(graph: &Graph) -> BTreeSet<(usize, usize)> {
    let count = graph.nodes.len();
    let edges: BTreeSet<_> = graph
        .edges
        .iter()
        .copied()
        .filter(|&(from, to)| from != to && from < count && to < count)
        .collect();
    let mut after = vec![Vec::new(); count];
    let mut waits_for = vec![0_usize; count];
    for &(from, to) in &edges {
        after[from].push(to);
        waits_for[to] += 1;
    }
    let mut ready: BTreeSet<_> = (0..count).filter(|&node| waits_for[node] == 0).collect();
    let mut left: BTreeSet<_> = (0..count).collect();
    let mut turn = vec![0; count];
    // When all that are left wait for one another, the first of them is let through.
    while let Some(node) = ready.pop_first().or_else(|| left.first().copied()) {
        left.remove(&node);
        ready.remove(&node);
        turn[node] = count - left.len();
        for &next in &after[node] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 && left.contains(&next) {
                ready.insert(next);
            }
        }
    }
    let forward = |&(from, to): &(usize, usize)| turn[from] < turn[to];
    edges.into_iter().filter(forward).collect()
}
