//! Names that are not what they should be.

use proptest::prelude::*;

use super::super::{Graph, Kind, Node, State};
use super::{graph, xml};

/// What a name could try in one format or the other.
pub const HOSTILE: [&str; 20] = [
    "end",
    "a\"] --> b[\"c",
    "subgraph x",
    "<script>alert(1)</script>",
    "</text></svg><script/>",
    "]]>&amp;&#60;<!--",
    "a\nend\nclick n0 \"javascript:alert(1)\"",
    "%%{init: {\"theme\": \"dark\"}}%%",
    "style n0 fill:#f00;",
    "classDef default fill:#f00;",
    "`**bold**` _it_",
    "1. first",
    "#quot;#35;#lt;",
    "接続.ボリューム🚀",
    "\u{202e}drawer\u{0}\u{1b}[31m\u{ffff}",
    "...",
    "{{a}} ((b)) [(c)] >d]",
    "a;b|c\\d'e&f~g^h$$x$$",
    "",
    "a.b.c.d.e.f.g.h.i.j.k.l",
];

pub fn hostile() -> Graph {
    let names = [HOSTILE, HOSTILE].concat();
    let in_subsagas: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            if index < HOSTILE.len() {
                (*name).to_owned()
            } else {
                format!("{name}.inside")
            }
        })
        .collect();
    let names: Vec<_> = in_subsagas.iter().map(String::as_str).collect();
    let edges: Vec<_> = (1..names.len()).map(|to| (to / 2, to)).collect();
    let mut graph = graph(&names, &edges);
    graph.title = HOSTILE.join(" ");
    for node in &mut graph.nodes {
        node.note = Some(node.name.clone());
    }
    graph
}

/// Checks that a drawing holds nothing but what drawings hold, and returns its texts.
fn texts(svg: &str) -> Vec<String> {
    let elements = xml::elements(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    let known = ["svg", "title", "g", "rect", "path", "circle", "text"];
    for element in &elements {
        assert!(known.contains(&element.name.as_str()), "{element:?}");
        for (name, value) in &element.attributes {
            assert!(
                !name.starts_with("on") && name != "href" && name != "style",
                "{element:?}"
            );
            assert!(
                !value.contains("url(") || name == "aria-label",
                "{element:?}"
            );
        }
    }
    elements.into_iter().map(|element| element.text).collect()
}

/// Checks that each line of a flowchart is one that the drawing of any graph may have.
fn check_mermaid(mermaid: &str) {
    let mut lines = mermaid.lines();
    let head: Vec<_> = lines.by_ref().take(4).collect();
    assert_eq!((head[0], head[2], head[3]), ("---", "---", "flowchart TD"));
    let mut open = 0;
    for line in lines {
        let line = line.trim_start();
        let quotes = line.matches('"').count();
        let label = line
            .split('"')
            .nth(1)
            .unwrap_or_default()
            .replace("<br/>", "");
        assert!(
            !label.contains(['<', '>', '[', ']', '(', ')', '{', '}', '`', ':', '%']),
            "{line}"
        );
        match line.split(['[', '(', '{', ' ']).next().unwrap_or_default() {
            "subgraph" => open += 1,
            "end" => open -= 1,
            "classDef" => {}
            id => assert!(id[1..].parse::<usize>().is_ok(), "{line}"),
        }
        let arrow = line.contains(" --> ");
        assert!(
            quotes == 2 || quotes == 0 && (arrow || line == "end" || line.starts_with("classDef ")),
            "{line}"
        );
    }
    assert_eq!(open, 0);
}

#[test]
fn no_name_breaks_out_of_a_drawing() {
    let graph = hostile();
    check_mermaid(&graph.mermaid());
    let texts = texts(&graph.svg());
    assert!(
        texts.iter().any(|text| text == "<script>alert(1)</script>"),
        "{texts:?}"
    );
}

#[test]
fn each_node_says_in_words_who_it_is_and_how_it_stands() {
    let states = State::ALL.map(|state| Node {
        name: format!("network.{}", state.as_str().replace(' ', "-")),
        kind: Kind::External,
        state,
        note: Some("3 attempts, 120 ms".to_owned()),
    });
    let graph = Graph {
        title: "all states".to_owned(),
        nodes: states.to_vec(),
        edges: Vec::new(),
    };
    let (texts, mermaid) = (texts(&graph.svg()), graph.mermaid());
    for node in &graph.nodes {
        let word = node.state.as_str();
        let title = format!("{}: external, {word}, 3 attempts, 120 ms", node.name);
        assert!(texts.contains(&title), "{title} is missing in {texts:?}");
        // Behind the symbol stands the word alone: "failed" is also the end of another state's.
        let count = |shown: &str| {
            let rests = texts.iter().filter_map(|text| text.split_once(' '));
            rests.filter(|(_, rest)| *rest == shown).count()
        };
        let with_note = format!("{word} · 3 attempts, 120 ms");
        assert_eq!((count(&with_note), count(word)), (1, 1), "{word}");
        assert!(
            mermaid.contains(&format!(" {word} · 3 attempts, 120 ms")),
            "{word}"
        );
    }
}

#[test]
fn a_long_name_is_cut_and_is_whole_in_its_title() {
    let name = "接続".repeat(200);
    let long = graph(&[&name], &[]);
    let texts = texts(&long.svg());
    assert!(texts.iter().any(|text| text.starts_with(&name)));
    assert!(
        texts
            .iter()
            .any(|text| text.ends_with('…') && text.chars().count() == 20)
    );
}

proptest! {
    #[test]
    fn any_name_gives_a_sound_drawing(names in prop::collection::vec("\\PC{0,12}|[.<>&\"'#;a\\n]{0,9}", 1..9)) {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let edges: Vec<_> = (1..names.len()).map(|to| (0, to)).collect();
        let mut graph = graph(&names, &edges);
        graph.title = names.concat();
        texts(&graph.svg());
        check_mermaid(&graph.mermaid());
    }
}
