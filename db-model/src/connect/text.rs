//! Taking the options that tokio-postgres does not know out of a connection string.

use super::ConnectError;
use std::path::PathBuf;

/// The options that tokio-postgres does not know or whose absence it does not tell.
#[derive(Default)]
pub(super) struct Own {
    pub ssl_mode: Option<String>,
    pub root_certificate: Option<PathBuf>,
    pub names_session_attributes: bool,
}

impl Own {
    /// Takes an option over; true if tokio-postgres must not see it.
    fn takes(&mut self, key: &str, value: String) -> bool {
        match key {
            "sslmode" => self.ssl_mode = Some(value),
            "sslrootcert" => self.root_certificate = Some(PathBuf::from(value)),
            "target_session_attrs" => {
                self.names_session_attributes = true;
                return false;
            }
            _ => return false,
        }
        true
    }
}

/// Splits a connection string into what tokio-postgres parses and our own options.
pub(super) fn take_own_options(text: &str) -> Result<(String, Own), ConnectError> {
    let mut own = Own::default();
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        // As tokio-postgres reads it: credentials end at the first '@', and hold no unescaped one.
        let from = text.find('@').unwrap_or(0);
        match text[from..].find('?') {
            None => text.to_owned(),
            Some(at) => {
                let (base, query) = text.split_at(from + at);
                let kept = query[1..].split('&').filter(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    !own.takes(key, percent_decoded(value))
                });
                let kept: Vec<&str> = kept.collect();
                if kept.is_empty() {
                    base.to_owned()
                } else {
                    format!("{base}?{}", kept.join("&"))
                }
            }
        }
    } else {
        let mut rest = String::new();
        for (key, value, source) in pairs(text)? {
            if !own.takes(key, value) {
                rest.push_str(source);
                rest.push(' ');
            }
        }
        rest
    };
    Ok((rest, own))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let escaped = escape
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The `key = value` pairs of a string, each with the text it was read from. A value may stand in single quotes; a
/// backslash takes the next character as it is.
fn pairs(text: &str) -> Result<Vec<(&str, String, &str)>, ConnectError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let source = rest;
        let (key, value) = rest.split_once('=').ok_or_else(|| {
            ConnectError::Options(
                "it must begin with postgres:// or postgresql://, or be a list of key=value".into(),
            )
        })?;
        let (value, after) = unquoted(value.trim_start())?;
        pairs.push((key.trim(), value, &source[..source.len() - after.len()]));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Reads one value and returns it with what follows it.
fn unquoted(text: &str) -> Result<(String, &str), ConnectError> {
    let quoted = text.starts_with('\'');
    let text = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            character if character.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            character => value.push(character),
        }
    }
    if quoted {
        Err(ConnectError::Options("a quote is not closed".into()))
    } else {
        Ok((value, ""))
    }
}
