//! What holds for every drawing, over generated graphs and hostile names. What one looks like stands
//! in `snapshot.rs`, and what a test needs to read SVG in `xml.rs`.

mod layout;
mod names;
mod snapshot;
mod xml;

use super::{Graph, Kind, Node, State};

/// A graph of names and edges whose nodes have each kind and state in turn.
fn graph(names: &[&str], edges: &[(usize, usize)]) -> Graph {
    let node = |(index, name): (usize, &&str)| Node {
        name: (*name).to_owned(),
        kind: Kind::ALL[index % Kind::ALL.len()],
        state: State::ALL[index % State::ALL.len()],
        note: None,
    };
    Graph {
        title: "a saga".to_owned(),
        nodes: names.iter().enumerate().map(node).collect(),
        edges: edges.to_vec(),
    }
}
