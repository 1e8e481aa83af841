//! A graph as SVG. Leaves the layout to `layout.rs`.
//!
//! Everything is drawn by attributes and nothing is referred to, so the element can be put into a page
//! whatever else is there, and pass a policy that allows no styles.

use std::collections::BTreeSet;

use super::layout::{HEADER_HEIGHT, JUNCTION_HEIGHT, Layout, Rect, Straight, Widths};
use super::look::look;
use super::structure::Structure;
use super::{Graph, Kind, Node, State, text};

/// The columns of a name or a note that are shown; the title has all of it.
const COLUMNS_MAX: usize = 40;
/// The columns of the title above the drawing.
const TITLE_COLUMNS_MAX: usize = 100;
/// The width of a column in a font of fixed width: of a name, of what is smaller, of the title.
const COLUMN: f64 = 8.0;
const COLUMN_SMALL: f64 = 6.7;
const COLUMN_LARGE: f64 = 9.8;
/// Around everything.
const MARGIN: i64 = 24;
/// The title's part.
const TITLE_HEIGHT: i64 = 40;
/// A line of the legend.
const LEGEND_HEIGHT: i64 = 24;
/// The least width for the legend's lines.
const LEGEND_WIDTH: i64 = 360;
/// Between the sides of a node and its texts: room for the points of the widest shape.
const NODE_PADDING: i64 = 40;
/// How far a database's top and bottom bulge, and an external node's sides.
const BULGE: i64 = 5;

const INK: &str = "#18181b";
const LINE: &str = "#52525b";
/// Without a name of its own each browser would take another default size for fixed widths.
const FONT: &str = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

/// The element.
pub fn draw(graph: &Graph) -> String {
    let structure = Structure::new(graph);
    let layout = Layout::new(graph, &structure, &widths(graph, &structure));
    let title = text::visible(&graph.title);
    let shown = text::shorten(&title, TITLE_COLUMNS_MAX);
    let wide = wide(&shown, COLUMN_LARGE)
        .max(layout.width)
        .max(LEGEND_WIDTH);
    let (legend, legend_height) = legend(graph, wide);
    let legend_top = MARGIN + TITLE_HEIGHT + layout.height + MARGIN;
    let size = (wide + 2 * MARGIN, legend_top + legend_height + MARGIN);
    let mut lines = head(&title, &shown, size);
    lines.push(format!(
        "<g transform=\"translate({},{})\">",
        MARGIN + (wide - layout.width) / 2,
        MARGIN + TITLE_HEIGHT
    ));
    add_drawing(graph, &structure, &layout, &mut lines);
    lines.push(format!(
        "</g>\n<g transform=\"translate({MARGIN},{legend_top})\" font-size=\"11\" \
         text-anchor=\"start\">"
    ));
    lines.extend(legend);
    lines.push("</g>\n</svg>\n".to_owned());
    lines.join("\n")
}

/// The start of the element, the ground and the title.
fn head(title: &str, shown: &str, (width, height): (i64, i64)) -> Vec<String> {
    let title = escape(title);
    vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" role=\"img\" \
             aria-label=\"{title}\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FONT}\" font-size=\"13\" \
             text-anchor=\"middle\">"
        ),
        format!("<title>{title}</title>"),
        format!("<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>"),
        format!(
            "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"16\" font-weight=\"bold\" \
             text-anchor=\"start\" fill=\"{INK}\">{}</text>",
            MARGIN + 16,
            escape(shown)
        ),
    ]
}

/// Everything in its place; what comes later lies above what came before.
fn add_drawing(graph: &Graph, structure: &Structure, layout: &Layout, lines: &mut Vec<String>) {
    let groups = structure.groups.iter().skip(1).zip(&layout.groups);
    lines.extend(groups.clone().map(|(one, rect)| group(*rect, one.depth)));
    lines.extend(paths(layout));
    lines.extend(layout.junctions.iter().map(junction));
    lines.extend(arrows(layout));
    lines.extend(groups.map(|(one, rect)| group_label(&one.label, *rect)));
    let nodes = graph.nodes.iter().zip(&structure.labels).zip(&layout.nodes);
    lines.extend(nodes.map(|((one, label), rect)| node(one, label, *rect)));
}

fn wide(text: &str, column: f64) -> i64 {
    (text::columns(text) as f64 * column).ceil() as i64
}

fn widths(graph: &Graph, structure: &Structure) -> Widths {
    let of_node = |(node, label): (&Node, &String)| {
        let label = wide(&text::shorten(label, COLUMNS_MAX), COLUMN);
        label.max(wide(&second_line(node), COLUMN_SMALL)) + NODE_PADDING
    };
    let of_group = |label: &str| match label {
        "" => 0,
        _ => wide(&text::shorten(label, COLUMNS_MAX), COLUMN_SMALL) + 28,
    };
    let nodes = graph.nodes.iter().zip(&structure.labels);
    Widths {
        nodes: nodes.map(of_node).collect(),
        groups: structure
            .groups
            .iter()
            .map(|group| of_group(&group.label))
            .collect(),
    }
}

/// How a node stands, in a symbol and a word, and its note.
fn second_line(node: &Node) -> String {
    let state = format!("{} {}", look(node.state).symbol, node.state.as_str());
    match &node.note {
        Some(note) => format!(
            "{state} · {}",
            text::shorten(&text::visible(note), COLUMNS_MAX)
        ),
        None => state,
    }
}

/// The box of a subsaga; those inside one another have two shades in turn.
fn group(rect: Rect, depth: usize) -> String {
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    let fill = if depth.is_multiple_of(2) {
        "#fafafa"
    } else {
        "#f4f4f5"
    };
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" \
         fill=\"{fill}\" stroke=\"#a1a1aa\"/>"
    )
}

/// The name of a box, on a ground that keeps edges from running through it.
fn group_label(label: &str, rect: Rect) -> String {
    let shown = text::shorten(label, COLUMNS_MAX);
    let (x, y) = (rect.x + 8, rect.y + 5);
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"#e4e4e7\"/>\
         <text x=\"{}\" y=\"{}\" font-size=\"11\" text-anchor=\"start\" fill=\"{INK}\">{}</text>",
        wide(&shown, COLUMN_SMALL) + 12,
        HEADER_HEIGHT - 13,
        x + 6,
        y + 12,
        escape(&shown)
    )
}

/// The edges, each piece once. Where one turns it is a curve that begins and ends straight down.
fn paths(layout: &Layout) -> Vec<String> {
    let mut turns = BTreeSet::new();
    let mut straights = BTreeSet::new();
    let mut paths = Vec::new();
    for route in &layout.routes {
        let mut data = String::new();
        let mut before = None;
        // Edges of one node share pieces at its end.
        for straight in &route.straights {
            let Straight { x, top, bottom } = *straight;
            if let Some(Straight {
                x: from,
                bottom: begin,
                ..
            }) = before.replace(*straight)
                && turns.insert((from, begin, x, top))
            {
                if data.is_empty() {
                    data = format!("M{from} {begin}");
                }
                let middle = (begin + top) / 2;
                data += &if from == x {
                    format!("V{top}")
                } else {
                    format!("C{from} {middle} {x} {middle} {x} {top}")
                };
            }
            if straights.insert(*straight) && bottom > top {
                if data.is_empty() {
                    data = format!("M{x} {top}");
                }
                data += &format!("V{bottom}");
            }
        }
        paths.push(format!(
            "<path d=\"{data}\" fill=\"none\" stroke=\"{LINE}\" stroke-width=\"1.3\"/>"
        ));
    }
    paths
}

fn junction(rect: &Rect) -> String {
    let half = JUNCTION_HEIGHT / 2;
    format!(
        "<circle cx=\"{}\" cy=\"{}\" r=\"{half}\" fill=\"{LINE}\"/>",
        rect.x + half,
        rect.y + half
    )
}

/// One arrow for all edges that end at a node.
fn arrows(layout: &Layout) -> impl Iterator<Item = String> {
    let ends: BTreeSet<_> = layout.routes.iter().map(|route| route.to).collect();
    let nodes = ends.into_iter().filter_map(|end| layout.nodes.get(end));
    nodes.map(|rect| {
        let (x, y) = (rect.x + rect.width / 2, rect.y);
        format!("<path d=\"M{x} {y}l-4 -8h8z\" fill=\"{LINE}\"/>")
    })
}

fn node(node: &Node, label: &str, rect: Rect) -> String {
    let look = look(node.state);
    let (kind, state) = (node.kind.as_str(), node.state.as_str());
    let note = node.note.as_deref().map(text::visible);
    let note = note.map_or_else(String::new, |note| format!(", {note}"));
    let full = format!("{}: {kind}, {state}{note}", text::visible(&node.name));
    // Under the rim of a drum there is less room.
    let lower = if node.kind == Kind::Db { 3 } else { 0 };
    let (middle, y) = (rect.x + rect.width / 2, rect.y + rect.height / 2 + lower);
    format!(
        "<g fill=\"{}\"><title>{}</title>{}\
         <text x=\"{middle}\" y=\"{}\" font-weight=\"bold\">{}</text>\
         <text x=\"{middle}\" y=\"{}\" font-size=\"11\">{}</text></g>",
        look.ink,
        escape(&full),
        shape(node.kind, rect, &paint(node.state)),
        y - 2,
        escape(&text::shorten(label, COLUMNS_MAX)),
        y + 15,
        escape(&second_line(node)),
    )
}

/// The fill and the stroke of a state.
fn paint(state: State) -> String {
    let look = look(state);
    let dashes = if state == State::Pending {
        " stroke-dasharray=\"4 3\""
    } else {
        ""
    };
    format!(
        "fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"{dashes}",
        look.fill, look.stroke
    )
}

/// The shape of a kind: a pill, a drum, a hexagon. It fills its rectangle and stays in it.
fn shape(kind: Kind, rect: Rect, paint: &str) -> String {
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    let bulge = BULGE.min(height / 4);
    match kind {
        Kind::Pure => format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\" {paint}/>",
            height / 2
        ),
        Kind::Db => {
            let (half, right) = (width / 2, x + width);
            let (upper, side) = (y + bulge, height - 2 * bulge);
            format!(
                "<path d=\"M{x} {upper}a{half} {bulge} 0 0 1 {width} 0v{side}\
                 a{half} {bulge} 0 0 1 -{width} 0z\" {paint}/>\
                 <path d=\"M{x} {upper}A{half} {bulge} 0 0 0 {right} {upper}\" {paint}/>"
            )
        }
        Kind::External => {
            let (point, half) = (bulge * 5 / 2, height / 2);
            let flat = width - 2 * point;
            format!(
                "<path d=\"M{} {y}h{flat}l{point} {half}l-{point} {half}h-{flat}\
                 l-{point} -{half}z\" {paint}/>",
                x + point
            )
        }
    }
}

/// The states and kinds that occur, in lines of a width, and their height.
fn legend(graph: &Graph, width: i64) -> (Vec<String>, i64) {
    let states: BTreeSet<_> = graph.nodes.iter().map(|node| node.state).collect();
    let kinds: BTreeSet<_> = graph.nodes.iter().map(|node| node.kind).collect();
    let state = |state: State| {
        let word = format!("{} {}", look(state).symbol, state.as_str());
        (Kind::Pure, paint(state), word)
    };
    let outline = format!("fill=\"#ffffff\" stroke=\"{LINE}\" stroke-width=\"1.5\"");
    let kind = |kind: Kind| (kind, outline.clone(), kind.as_str().to_owned());
    let entries = states
        .into_iter()
        .map(state)
        .chain(kinds.into_iter().map(kind));
    let (mut x, mut y) = (0, 0);
    let mut lines = Vec::new();
    for (kind, paint, word) in entries {
        let needs = 34 + wide(&word, COLUMN_SMALL);
        if x > 0 && x + needs > width {
            (x, y) = (0, y + LEGEND_HEIGHT);
        }
        let swatch = Rect {
            x,
            y,
            width: 26,
            height: 14,
        };
        lines.push(format!(
            "{}<text x=\"{}\" y=\"{}\" fill=\"{INK}\">{word}</text>",
            shape(kind, swatch, &paint),
            x + 34,
            y + 11
        ));
        x += needs + 20;
    }
    (lines, y + LEGEND_HEIGHT)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}
