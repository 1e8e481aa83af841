//! What the text of a statement does beside reading and writing rows.
//!
//! A step that ends the transaction under its batch would make the rest commit by itself, and so would
//! one that the server commits on its own, such as CREATE INDEX CONCURRENTLY. One that changes the
//! session would hand the change to whoever gets the session next. All are seen in the text: by the
//! keyword with which the statement begins, and by a few functions. Only keywords that are known to be
//! harmless pass, so what a later server adds does not. It is a look at what was written by mistake. What
//! a function of the database does inside is not seen here.

use std::fmt;

/// What is wrong with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It begins, ends or divides a transaction.
    Transaction,
    /// It leaves something behind in the session, or may, and the text does not show it.
    Session,
    /// It does not run inside a pipeline.
    Pipeline,
    /// It is not known to be a part of its transaction only.
    Unknown,
}

/// What was found in a text, and what to do instead.
#[derive(Debug)]
struct Found {
    what: String,
    effect: Effect,
    instead: &'static str,
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            effect,
            instead,
        } = self;
        let why = match effect {
            Effect::Transaction => "would begin, end or divide the transaction",
            Effect::Session => "would leave something behind in the session, or may",
            Effect::Pipeline => "does not run inside a pipeline",
            Effect::Unknown => "may commit by itself, which would leave half a batch behind",
        };
        write!(formatter, "{what} {why}: {instead}")
    }
}

const WHOLE: &str = "a batch is one transaction, which begins and ends by itself";
const NO_NAMES: &str = "statements are prepared by the layer itself";
const NO_CURSOR: &str = "read the rows of a step, page by page";
const NO_LISTENER: &str = "only a session that nobody else uses may listen";
const ONLY_LOCAL: &str = "use SET LOCAL";
const HIDDEN: &str = "say what it does in steps";
const NO_TEMPORARY: &str = "use WITH, or a table";
const ALONE: &str = "use a plain session of its own";

const SCHEMA: &str = "change the schema in a migration, or in a plain session of its own";

/// Keywords with which a statement may begin. SET may as well, before LOCAL or CONSTRAINTS.
const ALLOWED: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "LOCK", "NOTIFY",
];

/// Statements that are refused by the keyword with which they begin, and have more to say of it than
/// that it is not allowed.
const KEYWORDS: &[(&str, Effect, &str)] = &[
    ("BEGIN", Effect::Transaction, WHOLE),
    ("START", Effect::Transaction, WHOLE),
    ("COMMIT", Effect::Transaction, WHOLE),
    ("END", Effect::Transaction, WHOLE),
    ("ROLLBACK", Effect::Transaction, WHOLE),
    ("ABORT", Effect::Transaction, WHOLE),
    ("SAVEPOINT", Effect::Transaction, WHOLE),
    ("RELEASE", Effect::Transaction, WHOLE),
    ("PREPARE", Effect::Session, NO_NAMES),
    ("EXECUTE", Effect::Session, NO_NAMES),
    ("DEALLOCATE", Effect::Session, NO_NAMES),
    ("RESET", Effect::Session, ONLY_LOCAL),
    ("DISCARD", Effect::Session, ONLY_LOCAL),
    ("LISTEN", Effect::Session, NO_LISTENER),
    ("UNLISTEN", Effect::Session, NO_LISTENER),
    ("DECLARE", Effect::Session, NO_CURSOR),
    ("FETCH", Effect::Session, NO_CURSOR),
    ("MOVE", Effect::Session, NO_CURSOR),
    ("CLOSE", Effect::Session, NO_CURSOR),
    ("LOAD", Effect::Session, ALONE),
    ("DO", Effect::Session, HIDDEN),
    ("CALL", Effect::Session, HIDDEN),
    ("EXPLAIN", Effect::Session, ALONE),
    ("COPY", Effect::Pipeline, ALONE),
    ("VACUUM", Effect::Pipeline, ALONE),
    ("CREATE", Effect::Unknown, SCHEMA),
    ("ALTER", Effect::Unknown, SCHEMA),
    ("DROP", Effect::Unknown, SCHEMA),
];

const TRANSACTION_LOCK: &str = "a session's lock outlives the transaction: use the function with \
                                `xact` in its name";

/// Functions that are refused wherever they are called.
const FUNCTIONS: &[&str] = &[
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all",
];

/// Refuses the text of a step that would end or leave its transaction, or change its session, or may.
///
/// # Errors
/// What was found, and what to do instead.
pub(crate) fn check(sql: &str) -> Result<(), String> {
    match find(sql, |_| true) {
        Some(found) => Err(found.to_string()),
        None => Ok(()),
    }
}

/// Whether a session that ran this text may differ from a new one, whatever became of the transaction.
pub(crate) fn changes_session(sql: &str) -> bool {
    find(sql, |effect| effect == Effect::Session).is_some()
}

/// The first thing in a text, of one or more statements, whose effect is one of those looked for.
fn find(sql: &str, wanted: impl Fn(Effect) -> bool) -> Option<Found> {
    let mut tokens = Tokens { rest: sql };
    let mut begins = true;
    let mut previous = Token::Other;
    while let Some(token) = tokens.next() {
        let found = match token {
            Token::Symbol(b';') => {
                begins = true;
                None
            }
            // A query may stand in parentheses.
            Token::Symbol(b'(') if begins => None,
            Token::Word(word) if begins => {
                begins = false;
                keyword(word, tokens)
            }
            Token::Word(_) if token.is("INTO") => into_temporary(previous, tokens),
            Token::Word(name) | Token::Quoted(name) => function(token, name, tokens),
            Token::Symbol(_) | Token::Other => {
                begins = false;
                None
            }
        };
        match found {
            Some(found) if wanted(found.effect) => return Some(found),
            _ => previous = token,
        }
    }
    None
}

/// Looks at the keyword with which a statement begins.
fn keyword(word: &str, mut after: Tokens<'_>) -> Option<Found> {
    let found = |what: &str, effect, instead| {
        let what = what.to_owned();
        Some(Found {
            what,
            effect,
            instead,
        })
    };
    if word.eq_ignore_ascii_case("SET") {
        return match after.next()? {
            token if token.is("LOCAL") || token.is("CONSTRAINTS") => None,
            token if token.is("TRANSACTION") => found(
                "SET TRANSACTION",
                Effect::Transaction,
                "say so where the batch or the transaction begins",
            ),
            _ => found("SET", Effect::Session, ONLY_LOCAL),
        };
    }
    if word.eq_ignore_ascii_case("CREATE") {
        let skipped = ["OR", "REPLACE", "GLOBAL", "LOCAL"];
        let next = after.find(|token| !skipped.iter().any(|word| token.is(word)));
        if next.is_some_and(|token| token.is_temporary()) {
            return found("CREATE TEMPORARY", Effect::Session, NO_TEMPORARY);
        }
    }
    let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
    if let Some((what, effect, instead)) = KEYWORDS.iter().find(|(keyword, ..)| is(keyword)) {
        return found(what, *effect, instead);
    }
    match ALLOWED.iter().any(|keyword| is(keyword)) {
        true => None,
        false => found(&word.to_uppercase(), Effect::Unknown, ALONE),
    }
}

/// `SELECT .. INTO TEMPORARY a`; `INSERT INTO temporary` is a table of that name.
fn into_temporary(before: Token<'_>, mut after: Tokens<'_>) -> Option<Found> {
    if before.is("INSERT") || before.is("MERGE") {
        return None;
    }
    let mut next = after.next()?;
    if next.is("LOCAL") || next.is("GLOBAL") {
        next = after.next()?;
    }
    let table = matches!(after.next()?, Token::Word(_) | Token::Quoted(_));
    (next.is_temporary() && table).then(|| Found {
        what: "INTO TEMPORARY".to_owned(),
        effect: Effect::Session,
        instead: NO_TEMPORARY,
    })
}

/// Looks at a name that may be that of a function, or of the temporary schema.
fn function(token: Token<'_>, name: &str, mut after: Tokens<'_>) -> Option<Found> {
    let next = after.next()?;
    if next == Token::Symbol(b'.') && token.names("pg_temp") {
        return Some(Found {
            what: "pg_temp".to_owned(),
            effect: Effect::Session,
            instead: NO_TEMPORARY,
        });
    }
    if next != Token::Symbol(b'(') {
        return None;
    }
    if token.names("set_config") && !ends_in_true(after) {
        return Some(Found {
            what: "set_config".to_owned(),
            effect: Effect::Session,
            instead: "give the literal `true` as its last argument, for this transaction only",
        });
    }
    let refused = FUNCTIONS.iter().any(|function| token.names(function));
    refused.then(|| Found {
        what: name.to_lowercase(),
        effect: Effect::Session,
        instead: TRANSACTION_LOCK,
    })
}

/// Whether the last argument of a call, after its opening parenthesis, is the literal `true`.
fn ends_in_true(arguments: Tokens<'_>) -> bool {
    let mut depth = 0_usize;
    let mut last = [Token::Other; 3];
    for token in arguments {
        match token {
            Token::Symbol(b')') if depth == 0 => {
                // After a comma or an arrow: not as the end of an expression.
                let [first, second, third] = last;
                let arrow = (first, second) == (Token::Symbol(b'='), Token::Symbol(b'>'));
                return third.is("TRUE") && (arrow || second == Token::Symbol(b','));
            }
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth -= 1,
            _ => {}
        }
        last = [last[1], last[2], token];
    }
    false
}

/// A token, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword or a plain name.
    Word(&'a str),
    /// A name in quotes.
    Quoted(&'a str),
    /// A character that is no part of a name, string or number.
    Symbol(u8),
    /// A string, number or parameter.
    Other,
}

impl Token<'_> {
    /// Whether it is this keyword.
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether it names this object, whose name is in lower case.
    fn names(&self, name: &str) -> bool {
        self.is(name) || *self == Token::Quoted(name)
    }

    fn is_temporary(&self) -> bool {
        self.is("TEMP") || self.is("TEMPORARY")
    }
}

/// The tokens of a text, without white space and comments.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// Takes so many bytes off the text, which end at the end of a character.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.take(comment(self.rest));
            } else {
                return;
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = *self.rest.as_bytes().first()?;
        Some(match first {
            b'\'' => {
                self.take(quoted(self.rest, b'\'', false));
                Token::Other
            }
            b'"' => {
                let name = self.take(quoted(self.rest, b'"', false));
                Token::Quoted(name.trim_matches('"'))
            }
            b'$' => {
                self.take(dollar(self.rest));
                Token::Other
            }
            b'0'..=b'9' => {
                self.take(word(self.rest));
                Token::Other
            }
            _ if is_part_of_word(first) => {
                let word = self.take(word(self.rest));
                if word.eq_ignore_ascii_case("E") && self.rest.starts_with('\'') {
                    self.take(quoted(self.rest, b'\'', true));
                    return Some(Token::Other);
                }
                Token::Word(word)
            }
            _ => {
                self.take(1);
                Token::Symbol(first)
            }
        })
    }
}

/// Bytes beyond ASCII are parts of names, so that a name never ends inside a character.
fn is_part_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of the name, keyword or number with which a text begins.
fn word(text: &str) -> usize {
    let part = |byte: u8| is_part_of_word(byte) || byte == b'$';
    let length = text.bytes().position(|byte| !part(byte));
    length.unwrap_or(text.len())
}

/// The length of the comment with which a text begins; comments may contain comments.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of what stands in quotes at the begin of a text; a quote inside is written twice, or,
/// where they escape, after a backslash.
fn quoted(text: &str, quote: u8, backslashes_escape: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'\\' && backslashes_escape {
            at += 2;
        } else if *byte == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the parameter (`$1`) or string (`$tag$ .. $tag$`) with which a text begins.
fn dollar(text: &str) -> usize {
    let inside = &text[1..];
    let length = inside.bytes().position(|byte| !is_part_of_word(byte));
    let end = 1 + length.unwrap_or(inside.len());
    let is_tag = !inside.starts_with(|first: char| first.is_ascii_digit());
    if !is_tag || text.as_bytes().get(end) != Some(&b'$') {
        return end;
    }
    let (tag, body) = text.split_at(end + 1);
    body.find(tag)
        .map_or(text.len(), |at| tag.len() + at + tag.len())
}

#[cfg(test)]
mod tests;
