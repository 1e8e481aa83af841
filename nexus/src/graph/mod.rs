//! The drawing of a saga's graph: its nodes by state, as Mermaid and as SVG.
//!
//! Knows neither sagas nor the database: who draws one fills in a [`Graph`]. What nodes were given and
//! what they gave has no place in it, so a drawing can be shown to whoever may see the saga's name.

mod layout;
mod look;
mod mermaid;
mod order;
mod place;
mod rows;
mod separate;
mod straighten;
mod structure;
mod svg;
mod text;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// What stands above the drawing.
    pub title: String,
    /// The nodes. Where nothing else decides, those that come first stand on the left.
    pub nodes: Vec<Node>,
    /// Which node comes before which, by their places in `nodes`. An edge that names no node, that is
    /// there twice or that closes a circle is not drawn.
    pub edges: Vec<(usize, usize)>,
}

/// A node of a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name: a dotted path in a subsaga, such as `network.attach`.
    pub name: String,
    /// What it works on.
    pub kind: Kind,
    /// How it stands.
    pub state: State,
    /// More about it in a few words, such as `3 attempts, 120 ms`.
    pub note: Option<String>,
}

/// What a node works on. It gives the node its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// On nothing: it computes.
    Pure,
    /// On the database.
    Db,
    /// On something outside.
    External,
}

/// How a node stands. It gives the node its colour, its symbol and its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Has not begun.
    Pending,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Did nothing.
    Failed,
    /// What it did is being undone.
    Undoing,
    /// What it did is undone.
    Undone,
    /// What it did could not be undone.
    UndoFailed,
}

impl Graph {
    /// The graph as Mermaid: a `flowchart TD`, whatever characters the names hold.
    pub fn mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// The graph as SVG 1.1: one `<svg>` element that needs nothing from elsewhere and runs nothing.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Pure, Self::Db, Self::External];

    /// The kind as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Db => "database",
            Self::External => "external",
        }
    }
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Undoing,
        Self::Undone,
        Self::UndoFailed,
    ];

    /// The state as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo failed",
        }
    }
}

#[cfg(test)]
mod tests;
