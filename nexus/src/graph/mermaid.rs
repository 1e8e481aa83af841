//! A graph as the text of a Mermaid flowchart. Leaves the layout to who renders it.

use std::collections::{BTreeMap, BTreeSet};

use super::look::look;
use super::structure::Structure;
use super::{Graph, Kind, Node, State, text};

/// The flowchart.
pub fn draw(graph: &Graph) -> String {
    let structure = Structure::new(graph);
    let mut lines = vec![
        "---".to_owned(),
        format!("title: \"{}\"", yaml(&graph.title)),
        "---".to_owned(),
        "flowchart TD".to_owned(),
    ];
    add_group(graph, &structure, 0, &mut lines);
    add_edges(graph, &structure, &mut lines);
    for state in graph
        .nodes
        .iter()
        .map(|node| node.state)
        .collect::<BTreeSet<_>>()
    {
        lines.push(class(state));
    }
    lines.join("\n") + "\n"
}

/// What is in a box, and then the boxes in it.
fn add_group(graph: &Graph, structure: &Structure, group: usize, lines: &mut Vec<String>) {
    let depth = structure.groups[group].depth;
    let indent = "    ".repeat(depth + 1);
    let outside = "    ".repeat(depth);
    if group != 0 {
        let label = escape(&structure.groups[group].label);
        lines.push(format!("{outside}subgraph g{group}[\"{label}\"]"));
    }
    let items = structure.group_of.iter().enumerate();
    for (item, _) in items.filter(|(_, of_item)| **of_item == group) {
        let line = match graph.nodes.get(item) {
            Some(node) => format!(
                "{}{}",
                id(graph, item),
                shape(node, &structure.labels[item])
            ),
            None => format!("{}((\" \"))", id(graph, item)),
        };
        lines.push(format!("{indent}{line}"));
    }
    let inside = structure.groups.iter().enumerate().skip(1);
    for (child, _) in inside.filter(|(_, inside)| inside.parent == group) {
        add_group(graph, structure, child, lines);
    }
    if group != 0 {
        lines.push(format!("{outside}end"));
    }
}

/// One line for what comes after one node.
fn add_edges(graph: &Graph, structure: &Structure, lines: &mut Vec<String>) {
    let mut after: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for &(from, to) in &structure.edges {
        after.entry(from).or_default().push(id(graph, to));
    }
    for (from, to) in after {
        lines.push(format!("    {} --> {}", id(graph, from), to.join(" & ")));
    }
}

/// Made here, so that no name is ever a word of the language.
fn id(graph: &Graph, item: usize) -> String {
    match item.checked_sub(graph.nodes.len()) {
        None => format!("n{item}"),
        Some(junction) => format!("j{junction}"),
    }
}

/// A node's shape with its label and its class.
fn shape(node: &Node, label: &str) -> String {
    let look = look(node.state);
    let (open, close) = match node.kind {
        Kind::Pure => ("([\"", "\"])"),
        Kind::Db => ("[(\"", "\")]"),
        Kind::External => ("{{\"", "\"}}"),
    };
    let mut shown = escape(label);
    shown = format!("{shown}<br/>{} {}", look.symbol, node.state.as_str());
    if let Some(note) = &node.note {
        shown = format!("{shown} · {}", escape(&text::visible(note)));
    }
    format!("{open}{shown}{close}:::{}", look.class)
}

fn class(state: State) -> String {
    let look = look(state);
    let dashes = if state == State::Pending {
        ",stroke-dasharray:4 3"
    } else {
        ""
    };
    format!(
        "    classDef {} fill:{},stroke:{},color:{}{dashes}",
        look.class, look.fill, look.stroke, look.ink
    )
}

/// A label for between quotes. Whatever could be markup, Markdown or the end of the quotes becomes a
/// numbered entity; marks stay where letters are on both sides, as in `charge_and_insert`.
fn escape(label: &str) -> String {
    let characters: Vec<_> = label.chars().collect();
    let letter = |index: Option<usize>| {
        let character = index.and_then(|index| characters.get(index));
        character.is_some_and(|character| character.is_alphanumeric())
    };
    let mut escaped = String::new();
    for (index, &character) in characters.iter().enumerate() {
        let between = letter(index.checked_sub(1)) && letter(Some(index + 1));
        match character {
            _ if character.is_alphanumeric() => escaped.push(character),
            ' ' | ',' => escaped.push(character),
            '_' | '-' | '.' if between => escaped.push(character),
            _ => escaped += &format!("#{};", u32::from(character)),
        }
    }
    escaped
}

/// A title for between the double quotes of YAML.
fn yaml(title: &str) -> String {
    let mut escaped = String::new();
    for character in text::visible(title).chars() {
        if character.is_alphanumeric() || " -_.,".contains(character) {
            escaped.push(character);
        } else {
            escaped += &format!("\\U{:08x}", u32::from(character));
        }
    }
    escaped
}
