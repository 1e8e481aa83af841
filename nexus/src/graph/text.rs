//! Texts of a drawing: what is shown of any name, and how wide that is. Leaves escaping to the formats.

/// A text on one line without what cannot be seen: control characters, which XML does not even allow,
/// and those that turn the direction of what follows, which make one name look like another.
pub fn visible(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        // Not characters at all, in whichever plane.
        _ if u32::from(character) & 0xfffe == 0xfffe => '\u{fffd}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.chars().map(shown).collect()
}

/// The columns that a text takes in a font of fixed width.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The text, or as much of it as the columns hold with an ellipsis.
pub fn shorten(text: &str, columns_max: usize) -> String {
    if columns(text) <= columns_max {
        return text.to_owned();
    }
    let mut room = columns_max.saturating_sub(1);
    let fits = |character: &char| {
        let columns = columns_of(*character);
        let fits = columns <= room;
        room = room.saturating_sub(columns);
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// An estimate: the wide blocks count double, marks on the character before them not at all.
const fn columns_of(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_marks_none() {
        assert_eq!(columns("attach"), 6);
        assert_eq!(columns("接続"), 4);
        assert_eq!(columns("e\u{301}"), 1);
        assert_eq!(columns("🚀"), 2);
    }

    #[test]
    fn a_long_text_is_cut_to_its_columns() {
        assert_eq!(shorten("attach", 6), "attach");
        assert_eq!(shorten("attached", 6), "attac…");
        assert_eq!(shorten("接続する", 6), "接続…");
        assert_eq!(shorten("接続する", 4), "接…");
    }

    #[test]
    fn what_cannot_be_seen_is_replaced() {
        assert_eq!(visible("a\nb\tc"), "a b c");
        assert_eq!(
            visible("a\0b\u{1b}\u{202e}c\u{ffff}"),
            "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}"
        );
        assert_eq!(visible("Zürich 接続 <end>"), "Zürich 接続 <end>");
    }
}
