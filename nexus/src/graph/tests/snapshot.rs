//! What a small drawing looks like, to the last character.

use super::super::{Graph, Kind, Node, State};

fn small() -> Graph {
    let node = |name: &str, kind, state, note: Option<&str>| Node {
        name: name.to_owned(),
        kind,
        state,
        note: note.map(str::to_owned),
    };
    Graph {
        title: "instance-create 0199c0de".to_owned(),
        nodes: vec![
            node("choose", Kind::Pure, State::Succeeded, None),
            node(
                "network.attach",
                Kind::External,
                State::Undoing,
                Some("3 attempts, 120 ms"),
            ),
            node("insert", Kind::Db, State::Failed, None),
        ],
        edges: vec![(0, 1), (0, 2)],
    }
}

#[test]
fn a_small_graph_as_mermaid() {
    insta::assert_snapshot!(small().mermaid());
}

#[test]
fn a_small_graph_as_svg() {
    insta::assert_snapshot!(small().svg());
}
