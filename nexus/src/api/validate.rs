//! The rules of what callers send. Each check notes what it found, so that an answer lists all.

use db_model::types::Name;
use db_model::types::limits::{
    DESCRIPTION_CHARACTERS_MAX, INSTANCE_MEMORY_BYTES_MAX, INSTANCE_VCPUS_MAX, MEMORY_BYTES_UNIT,
    QUOTA_LIMIT_MAX,
};

use super::problem::{FieldError, Rule};
use super::value::Whole;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldError>);

impl Violations {
    /// Notes a broken rule.
    pub fn add(&mut self, field: impl Into<String>, rule: Rule, detail: impl Into<String>) {
        self.0.push(FieldError::new(field, rule, detail));
    }

    /// Nothing, when nothing was found.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }

    /// A name.
    pub fn name(&mut self, field: &str, text: String) -> Option<Name> {
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.add(field, Rule::Name, error.to_string());
                None
            }
        }
    }

    /// A description. A missing one is empty.
    pub fn description(&mut self, field: &str, text: Option<String>) -> String {
        let text = text.unwrap_or_default();
        let characters = text.chars().count();
        if characters > DESCRIPTION_CHARACTERS_MAX {
            let detail = format!(
                "must have at most {DESCRIPTION_CHARACTERS_MAX} characters, has {characters}"
            );
            self.add(field, Rule::TooLong, detail);
        }
        // PostgreSQL keeps no NUL in a text.
        if text.contains('\0') {
            self.add(field, Rule::Nul, "must not contain the character U+0000");
        }
        text
    }

    /// The virtual CPUs of an instance.
    pub fn vcpus(&mut self, field: &str, value: Whole) -> i64 {
        self.within(field, value, 1, INSTANCE_VCPUS_MAX)
    }

    /// The memory of an instance.
    pub fn memory_bytes(&mut self, field: &str, value: Whole) -> i64 {
        let bytes = self.within(field, value, MEMORY_BYTES_UNIT, INSTANCE_MEMORY_BYTES_MAX);
        if bytes % MEMORY_BYTES_UNIT != 0 {
            let detail = format!("must be a multiple of {MEMORY_BYTES_UNIT} (1 MiB)");
            self.add(field, Rule::NotAMultiple, detail);
        }
        bytes
    }

    /// A limit of a quota.
    pub fn limit(&mut self, field: &str, value: Whole) -> i64 {
        self.within(field, value, 0, QUOTA_LIMIT_MAX)
    }

    fn within(&mut self, field: &str, value: Whole, least: i64, most: i64) -> i64 {
        if !(least..=most).contains(&value.0) {
            let detail = format!("must be a whole number from {least} to {most}");
            self.add(field, Rule::OutOfRange, detail);
        }
        value.0
    }
}
