//! Just enough of Rust's grammar to tell code, comments and string literals apart.

/// A file in its two parts.
pub struct Source {
    /// The code with its literals; comments are gone, line breaks are not.
    pub code: String,
    /// The string literals, each with the line on which it begins.
    pub literals: Vec<(usize, String)>,
}

/// The lines that contain one of the words, with what stands beside it being no part of a word.
pub fn lines_with_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    text.lines()
        .enumerate()
        .filter(move |(_, line)| line.split(|character| !part(character)).any(|w| w == word))
        .map(|(index, _)| index + 1)
}

/// The lines that contain a text.
pub fn lines_with<'a>(text: &'a str, part: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| line.contains(part))
        .map(|(index, _)| index + 1)
}

/// Takes a file apart.
pub fn parse(text: &str) -> Source {
    let mut code = String::new();
    let mut literals = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some((length, literal)) = literal(rest, code.chars().next_back()) {
            literals.push((code.lines().count().max(1), literal.to_owned()));
            code.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        } else {
            let length = character_literal(rest).unwrap_or(character.len_utf8());
            code.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        };
        code.extend(rest[..length].matches('\n'));
        rest = &rest[length..];
    }
    Source { code, literals }
}

/// The length of the string literal with which a text begins, and what is between its quotes.
fn literal(text: &str, before: Option<char>) -> Option<(usize, &str)> {
    if let Some(inside) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = inside.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        return Some((end + 2, &inside[..end]));
    }
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') {
        return None;
    }
    let hashes = text.strip_prefix('r')?;
    let hashes = hashes.len() - hashes.trim_start_matches('#').len();
    let begin = 1 + hashes + 1;
    if text.as_bytes().get(begin - 1) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = begin + text[begin..].find(&close)?;
    Some((end + close.len(), &text[begin..end]))
}

/// The length of the character literal with which a text begins; a lifetime is none.
fn character_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let length = first.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

#[test]
fn code_comments_and_literals_are_told_apart() {
    let Source { code, literals } = parse(
        "//! a \"comment\"\nlet a = \"it \\\"is\\\" // no comment\"; /* more\n\"x\" */ let b = '\"';\n\
         let c = r#\"raw \"text\"\"#; let d: &'a str = br\"bytes\";",
    );
    assert_eq!(
        literals,
        [
            (2, "it \\\"is\\\" // no comment".to_owned()),
            (4, "raw \"text\"".to_owned()),
            (4, "bytes".to_owned()),
        ]
    );
    assert!(!code.contains("comment\"\nlet") && !code.contains("more"));
    assert_eq!(code.lines().count(), 4);
}
