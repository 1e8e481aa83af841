//! What holds for the layout of every graph.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::layout::{Layout, Rect, Route, Widths};
use super::super::structure::Structure;
use super::{Graph, graph};

/// The prefixes of generated names: none, subsagas beside one another, nested ones.
const PREFIXES: [&str; 6] = [
    "",
    "",
    "network.",
    "network.port.",
    "disk.",
    "disk.copy.check.",
];

/// Stages of parallel nodes, with edges from each stage to the next or to a later one.
fn any_graph() -> impl Strategy<Value = Graph> {
    let stages = prop::collection::vec(1_usize..7, 1..8);
    let prefixes = prop::collection::vec(0..PREFIXES.len(), 48);
    let edges = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        0..90,
    );
    (stages, prefixes, edges).prop_map(|(stages, prefixes, edges)| {
        let count: usize = stages.iter().sum();
        let name = |index: usize| format!("{}node-{index}", PREFIXES[prefixes[index]]);
        let names: Vec<_> = (0..count).map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let edges = edges
            .iter()
            .map(|(from, to)| (from.index(count), to.index(count)));
        let ordered = edges.map(|(from, to)| (from.min(to), from.max(to)));
        graph(&names, &ordered.collect::<Vec<_>>())
    })
}

/// Stages as sagas have them: all of one before all of the next.
fn stages(sizes: &[usize]) -> Graph {
    let mut names = Vec::new();
    let mut edges = Vec::new();
    let mut before = 0..0;
    for size in sizes {
        let stage = names.len()..names.len() + size;
        names.extend(stage.clone().map(|index| format!("node-{index}")));
        edges.extend(before.flat_map(|from| stage.clone().map(move |to| (from, to))));
        before = stage;
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    graph(&names, &edges)
}

fn lay_out(graph: &Graph) -> (Structure, Layout) {
    let structure = Structure::new(graph);
    let label = |label: &String| 40 + 8 * i64::try_from(label.len()).unwrap();
    let widths = Widths {
        nodes: structure.labels.iter().map(label).collect(),
        groups: structure
            .groups
            .iter()
            .map(|group| label(&group.label))
            .collect(),
    };
    let layout = Layout::new(graph, &structure, &widths);
    (structure, layout)
}

fn overlap(one: &Rect, other: &Rect) -> bool {
    one.x < other.x + other.width
        && other.x < one.x + one.width
        && one.y < other.y + other.height
        && other.y < one.y + one.height
}

fn contains(outer: &Rect, inner: &Rect) -> bool {
    outer.x <= inner.x
        && inner.x + inner.width <= outer.x + outer.width
        && outer.y <= inner.y
        && inner.y + inner.height <= outer.y + outer.height
}

/// Points along an edge, close to one another where it turns.
fn points(route: &Route) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for straight in &route.straights {
        let (x, top, bottom) = (
            straight.x as f64,
            straight.top as f64,
            straight.bottom as f64,
        );
        if let Some((left, from)) = before {
            let middle = f64::midpoint(from, top);
            let curve = |t: f64, a: f64, b: f64, c: f64, d: f64| {
                let s = 1.0 - t;
                a * s.powi(3) + 3.0 * b * s * s * t + 3.0 * c * s * t * t + d * t.powi(3)
            };
            points.extend((0..=24).map(|step| {
                let t = f64::from(step) / 24.0;
                (
                    curve(t, left, left, x, x),
                    curve(t, from, middle, middle, top),
                )
            }));
        }
        points.extend([(x, top), (x, bottom)]);
        before = Some((x, bottom));
    }
    points
}

/// The boxes around an item, without the whole drawing.
fn around(structure: &Structure, item: usize) -> BTreeSet<usize> {
    let mut groups = BTreeSet::new();
    let mut group = structure.group_of[item];
    while group != 0 {
        groups.insert(group);
        group = structure.groups[group].parent;
    }
    groups
}

fn check(graph: &Graph) {
    let (structure, layout) = lay_out(graph);
    check_boxes(&structure, &layout);
    check_routes(graph, &layout);
    assert_eq!(lay_out(graph).1, layout, "another time another drawing");
}

fn check_boxes(structure: &Structure, layout: &Layout) {
    let whole = Rect {
        width: layout.width,
        height: layout.height,
        ..Rect::default()
    };
    let items: Vec<_> = layout.nodes.iter().chain(&layout.junctions).collect();
    for (index, item) in items.iter().enumerate() {
        assert!(contains(&whole, item), "{item:?} is outside of {whole:?}");
        for other in &items[index + 1..] {
            assert!(!overlap(item, other), "{item:?} and {other:?} overlap");
        }
        let own = around(structure, index);
        for (group, rect) in layout.groups.iter().enumerate() {
            if own.contains(&(group + 1)) {
                assert!(contains(rect, item), "{item:?} is outside of {rect:?}");
            } else {
                assert!(!overlap(rect, item), "{item:?} is in {rect:?}");
            }
        }
    }
    for (index, rect) in layout.groups.iter().enumerate() {
        let parent = structure.groups[index + 1].parent;
        let outer = parent
            .checked_sub(1)
            .map_or(&whole, |outer| &layout.groups[outer]);
        assert!(contains(outer, rect), "{rect:?} is outside of {outer:?}");
        for (other, beside) in layout.groups.iter().enumerate().skip(index + 1) {
            let siblings = structure.groups[other + 1].parent == parent;
            assert!(
                !siblings || !overlap(rect, beside),
                "{rect:?} and {beside:?} overlap"
            );
        }
    }
}

fn check_routes(graph: &Graph, layout: &Layout) {
    for route in &layout.routes {
        let points = points(route);
        let downwards = points.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        assert!(downwards, "{route:?} goes upwards");
        assert!(
            points[0].1 < points[points.len() - 1].1,
            "{route:?} goes nowhere"
        );
        for rect in &layout.nodes {
            let (left, right) = (rect.x as f64, (rect.x + rect.width) as f64);
            let (top, bottom) = (rect.y as f64, (rect.y + rect.height) as f64);
            // Between two points that are so close, or above each other, an edge is a line.
            let through = points.windows(2).any(|pair| {
                let ((a, upper), (b, lower)) = (pair[0], pair[1]);
                a.max(b) > left && a.min(b) < right && lower > top && upper < bottom
            });
            assert!(!through, "{route:?} runs through {rect:?}");
        }
    }
    let drawn: BTreeSet<_> = layout
        .routes
        .iter()
        .map(|route| (route.from, route.to))
        .collect();
    let count = graph.nodes.len();
    let junctions = count..count + layout.junctions.len();
    let through = |from, to| {
        let mut junctions = junctions.clone();
        junctions
            .any(|junction| drawn.contains(&(from, junction)) && drawn.contains(&(junction, to)))
    };
    let mut shown = BTreeSet::new();
    for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
        if drawn.contains(&(from, to)) || through(from, to) {
            shown.insert((from, to));
        }
    }
    let given = graph.edges.iter().copied().filter(|(from, to)| from != to);
    assert_eq!(
        shown,
        given.collect(),
        "other edges than the graph's are drawn"
    );
}

proptest! {
    #[test]
    fn boxes_do_not_overlap_and_edges_run_down_beside_them(graph in any_graph()) {
        check(&graph);
    }
}

#[test]
fn stages_of_all_sizes_are_laid_out() {
    for sizes in [
        &[1][..],
        &[1, 1],
        &[1, 2, 1],
        &[32, 32],
        &[1, 8, 8, 1],
        &[3, 1, 31, 2],
    ] {
        check(&stages(sizes));
    }
}

#[test]
fn a_chain_is_straight_and_a_fan_is_even() {
    let middle = |rect: &Rect| rect.x + rect.width / 2;
    let (_, chain) = lay_out(&stages(&[1; 12]));
    assert!(
        chain
            .nodes
            .iter()
            .all(|rect| middle(rect) == middle(&chain.nodes[0]))
    );
    let (_, fan) = lay_out(&stages(&[1, 5, 1]));
    assert_eq!(middle(&fan.nodes[0]), middle(&fan.nodes[3]));
    assert_eq!(middle(&fan.nodes[0]), middle(&fan.nodes[6]));
}

#[test]
fn crossings_that_need_not_be_are_taken_out() {
    let crossed = graph(&["a", "b", "c", "d"], &[(0, 3), (1, 2)]);
    let (_, layout) = lay_out(&crossed);
    let left = |node: usize| layout.nodes[node].x;
    assert_eq!(left(0) < left(1), left(3) < left(2));
}

#[test]
fn a_dense_pair_of_stages_meets_in_one_junction() {
    let (_, layout) = lay_out(&stages(&[32, 32]));
    assert_eq!((layout.junctions.len(), layout.routes.len()), (1, 64));
}

#[test]
fn edges_that_cannot_be_drawn_are_left_out() {
    let odd = graph(
        &["a", "b", "c"],
        &[(0, 1), (0, 1), (1, 2), (2, 0), (1, 1), (0, 7)],
    );
    let (_, layout) = lay_out(&odd);
    let drawn: Vec<_> = layout
        .routes
        .iter()
        .map(|route| (route.from, route.to))
        .collect();
    assert_eq!(drawn, [(0, 1), (1, 2)]);
    let (_, empty) = lay_out(&Graph::default());
    assert!(empty.nodes.is_empty() && empty.routes.is_empty());
}

#[test]
fn two_hundred_nodes_are_quick() {
    let mut sizes = vec![1];
    sizes.extend([16, 1, 24, 24, 2, 32, 8, 3, 1, 16, 16, 1, 32, 16, 7]);
    let mut large = stages(&sizes);
    // Edges over many rows are what a layout works on.
    large.edges.extend((0..100).map(|from| (from, from + 99)));
    let begin = Instant::now();
    assert_eq!(large.nodes.len(), 200);
    check(&large);
    // A debug build on a busy machine; it is about a hundredth of that otherwise.
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}
