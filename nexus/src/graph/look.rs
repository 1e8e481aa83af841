//! What states look like, the same in every format. Leaves shapes to the formats.

use super::State;

/// The colours of a state and the symbol beside its word. No two states differ by colour alone.
pub struct Look {
    /// The background.
    pub fill: &'static str,
    /// The border.
    pub stroke: &'static str,
    /// The text.
    pub ink: &'static str,
    /// A symbol that text fonts have.
    pub symbol: &'static str,
    /// The name of the class; no word of Mermaid's.
    pub class: &'static str,
}

/// How a state looks.
pub const fn look(state: State) -> Look {
    let (fill, stroke, ink, symbol, class) = match state {
        State::Pending => ("#f4f4f5", "#71717a", "#3f3f46", "○", "pending"),
        State::Running => ("#dbeafe", "#1d4ed8", "#172554", "▶", "running"),
        State::Succeeded => ("#dcfce7", "#15803d", "#052e16", "✓", "succeeded"),
        State::Failed => ("#fee2e2", "#b91c1c", "#450a0a", "✗", "failed"),
        State::Undoing => ("#fef3c7", "#b45309", "#451a03", "↺", "undoing"),
        State::Undone => ("#ede9fe", "#6d28d9", "#2e1065", "↩", "undone"),
        // A person has to look: dark, where all others are light.
        State::UndoFailed => ("#7f1d1d", "#450a0a", "#ffffff", "‼", "undo_failed"),
    };
    Look {
        fill,
        stroke,
        ink,
        symbol,
        class,
    }
}
