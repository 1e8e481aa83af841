//! A table of nodes as edges: what a drawing shows.

use super::nodes::Item;

/// The edges, each once: from every end of a stage to every beginning of the next.
pub(super) fn edges(stages: &[Vec<Item>]) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    connect(stages, &mut edges);
    edges
}

/// Connects what runs one after another; gives where it begins and where it ends.
fn connect(stages: &[Vec<Item>], edges: &mut Vec<(usize, usize)>) -> (Vec<usize>, Vec<usize>) {
    let (mut first, mut last): (Option<Vec<usize>>, Vec<usize>) = (None, Vec::new());
    for stage in stages {
        let (mut begins, mut ends) = (Vec::new(), Vec::new());
        for item in stage {
            match item {
                Item::Node(node) => {
                    begins.push(*node);
                    ends.push(*node);
                }
                Item::Subsaga { params, stages, .. } => {
                    let (inner_begins, inner_ends) = connect(stages, edges);
                    edges.extend(inner_begins.into_iter().map(|begin| (*params, begin)));
                    begins.push(*params);
                    ends.extend(inner_ends);
                }
            }
        }
        for end in &last {
            edges.extend(begins.iter().map(|begin| (*end, *begin)));
        }
        first.get_or_insert(begins);
        last = ends;
    }
    (first.unwrap_or_default(), last)
}
