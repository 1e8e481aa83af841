//! Names of projects and instances, and the two ways to point at one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::NAME_CHARACTERS_MAX;

/// A valid name: lower-case ASCII letters, digits and hyphens, begins with a letter, does not end
/// with a hyphen, at most [`NAME_CHARACTERS_MAX`] characters, and not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name. Its message is fit for the person who sent the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`NAME_CHARACTERS_MAX`].
    #[error("must have at most {NAME_CHARACTERS_MAX} characters, has {0}")]
    TooLong(usize),
    /// The first character is no lower-case letter.
    #[error("must begin with a lower-case letter a-z")]
    BadStart,
    /// The last character is a hyphen.
    #[error("must not end with a hyphen")]
    BadEnd,
    /// A character that no name has.
    #[error("must have only lower-case letters a-z, digits and hyphens, has {0:?}")]
    BadCharacter(char),
    /// A UUID, which would be taken for an id.
    #[error("must not be a UUID")]
    IsUuid,
}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let Some(first) = text.chars().next() else {
            return Err(NameError::Empty);
        };
        let characters = text.chars().count();
        if characters > NAME_CHARACTERS_MAX {
            return Err(NameError::TooLong(characters));
        }
        // Before the rules of single characters: an upper-case UUID is best called a UUID.
        if Uuid::try_parse(&text).is_ok() {
            return Err(NameError::IsUuid);
        }
        let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        if let Some(bad) = text.chars().find(|c| !allowed(c)) {
            return Err(NameError::BadCharacter(bad));
        }
        if !first.is_ascii_lowercase() {
            return Err(NameError::BadStart);
        }
        if text.ends_with('-') {
            return Err(NameError::BadEnd);
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// How a caller points at a project or an instance. A name is never a UUID, so one text is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrId {
    /// By its name, which belongs to at most one resource that is not deleted.
    Name(Name),
    /// By its id.
    Id(Uuid),
}

impl FromStr for NameOrId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match Uuid::try_parse(text) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Name::new(text).map(Self::Name),
        }
    }
}

impl fmt::Display for NameOrId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(formatter),
            Self::Id(id) => id.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold() {
        for text in ["a", "web", "web-1", "a0", &"a".repeat(63)] {
            assert_eq!(Name::new(text).map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn names_that_break_a_rule_name_it() {
        let uuid = "00000000-0000-4000-8000-00000000000a";
        for (text, error) in [
            ("", NameError::Empty),
            ("-web", NameError::BadStart),
            ("1web", NameError::BadStart),
            ("web-", NameError::BadEnd),
            ("Web", NameError::BadCharacter('W')),
            ("we b", NameError::BadCharacter(' ')),
            ("wéb", NameError::BadCharacter('é')),
            ("web\0", NameError::BadCharacter('\0')),
            (uuid, NameError::IsUuid),
            ("abcdef00-0000-4000-8000-00000000000a", NameError::IsUuid),
            (&"a".repeat(64), NameError::TooLong(64)),
        ] {
            assert_eq!(Name::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_uuid_points_by_id_and_the_rest_by_name() {
        assert!(matches!("web".parse(), Ok(NameOrId::Name(_))));
        let id = Uuid::now_v7();
        assert_eq!(id.to_string().parse(), Ok(NameOrId::Id(id)));
    }
}
