//! Reads XML as strictly as it has to be, as far as a drawing goes: elements, attributes, texts and the
//! five named entities. Whatever is more than that is an error.

/// A start tag with its attributes and the text up to the next tag.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
}

/// The elements of a well-formed document in their order.
pub fn elements(document: &str) -> Result<Vec<Element>, String> {
    let mut open: Vec<String> = Vec::new();
    let mut elements: Vec<Element> = Vec::new();
    let mut rest = document.trim_end();
    while let Some(inside) = rest.strip_prefix('<') {
        let end = inside.find('>').ok_or("a tag without an end")?;
        let tag = &inside[..end];
        let after = &inside[end + 1..];
        let next = after.find('<').unwrap_or(after.len());
        let text = unescape(&after[..next])?;
        rest = &after[next..];
        if let Some(name) = tag.strip_prefix('/') {
            let opened = open.pop();
            if opened.as_deref() != Some(name) {
                return Err(format!("{opened:?} is closed by {name}"));
            }
        } else {
            let element = start(tag.trim_end_matches('/'), text)?;
            if !tag.ends_with('/') {
                open.push(element.name.clone());
            }
            elements.push(element);
        }
        if open.is_empty() && !rest.is_empty() {
            return Err(format!("behind the end is {rest}"));
        }
    }
    if open.is_empty() && rest.is_empty() {
        Ok(elements)
    } else {
        Err(format!("{open:?} open before {rest:?}"))
    }
}

fn start(tag: &str, text: String) -> Result<Element, String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    if name.is_empty()
        || !name
            .chars()
            .all(|character| character.is_ascii_alphanumeric())
    {
        return Err(format!("{name:?} is no name"));
    }
    let mut attributes: Vec<(String, String)> = Vec::new();
    while !rest.trim().is_empty() {
        let (name, value) = rest
            .split_once("=\"")
            .ok_or("an attribute without a value")?;
        let (value, after) = value.split_once('"').ok_or("a value without an end")?;
        let name = name.trim();
        let fits = |character: char| character.is_ascii_alphanumeric() || character == '-';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!("{name:?} is no attribute"));
        }
        if attributes.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} is there twice"));
        }
        attributes.push((name.to_owned(), unescape(value)?));
        rest = after;
    }
    Ok(Element {
        name: name.to_owned(),
        attributes,
        text,
    })
}

fn unescape(text: &str) -> Result<String, String> {
    let allowed = |character: char| {
        !matches!(character, '<' | '>' | '\u{fffe}' | '\u{ffff}')
            && (!character.is_control() || character == '\n')
    };
    if let Some(character) = text.chars().find(|character| !allowed(*character)) {
        return Err(format!("{character:?} in {text:?}"));
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, after) = part.split_once(';').ok_or("an entity without an end")?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => return Err(format!("&{entity}; is unknown")),
        });
        plain.push_str(after);
    }
    Ok(plain)
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for document in [
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&x;</a>",
        "<a>&amp</a>",
        "<a b=c/>",
        "<a b=\"1\" b=\"2\"/>",
        "<a>\u{1}</a>",
        "<a",
        "text",
        "<a>></a>",
    ] {
        assert!(elements(document).is_err(), "{document}");
    }
    let read = elements("<a b=\"&lt;\"><c/>&amp;</a>").unwrap();
    assert_eq!(read[0].attributes, [("b".to_owned(), "<".to_owned())]);
    assert_eq!(read[1].text, "&");
}
