//! Reading the details that guards send along: JSON with the members of the refusal it stands for.

use serde_json::{Map, Value};

use crate::batch::flight::ServerError;
use crate::constraint::Refusal;
use crate::types::ResourceKind;

/// From `quota_exceeded`.
pub(super) fn quota_exceeded(error: &ServerError) -> Option<Refusal> {
    refusal("quota_exceeded", details(error)?)
}

/// From `not_empty`.
pub(super) fn not_empty(error: &ServerError) -> Option<Refusal> {
    refusal("not_empty", details(error)?)
}

/// From `generation`.
pub(super) fn changed(error: &ServerError) -> Option<Refusal> {
    refusal("changed", details(error)?)
}

/// From the name keys.
pub(super) fn name_taken(kind: ResourceKind, error: &ServerError) -> Option<Refusal> {
    refusal("name_taken", with_kind(kind, details(error)?))
}

/// From `project_state` and `instance_state`: no state means that the row is gone.
pub(super) fn state(kind: ResourceKind, error: &ServerError) -> Option<Refusal> {
    let details = with_kind(kind, details(error)?);
    let is_gone = details.get("state").is_none_or(Value::is_null);
    refusal(if is_gone { "not_found" } else { "wrong_state" }, details)
}

fn details(error: &ServerError) -> Option<Map<String, Value>> {
    serde_json::from_str(error.detail.as_deref()?).ok()
}

fn with_kind(kind: ResourceKind, mut details: Map<String, Value>) -> Map<String, Value> {
    details.insert("kind".to_owned(), kind.as_str().into());
    details
}

/// The refusal with this tag, whose members are the details.
fn refusal(tag: &str, mut details: Map<String, Value>) -> Option<Refusal> {
    details.insert("refusal".to_owned(), tag.into());
    serde_json::from_value(details.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(detail: &str) -> ServerError {
        ServerError {
            detail: Some(detail.to_owned()),
            ..ServerError::default()
        }
    }

    #[test]
    fn a_row_without_a_state_is_gone() {
        let id = uuid::Uuid::from_u128(7);
        let kind = ResourceKind::Project;
        let gone = error(&format!(r#"{{"id": "{id}", "state": null}}"#));
        assert_eq!(state(kind, &gone), Some(Refusal::NotFound { kind, id }));
        let active = error(&format!(r#"{{"id": "{id}", "state": "active"}}"#));
        let wrong = Refusal::WrongState {
            kind,
            id,
            state: "active".to_owned(),
        };
        assert_eq!(state(kind, &active), Some(wrong));
    }

    #[test]
    fn details_of_another_shape_are_no_refusal() {
        assert_eq!(quota_exceeded(&error(r#"{"limit": 3}"#)), None);
        assert_eq!(not_empty(&error("Key (name)=(web) already exists.")), None);
        assert_eq!(changed(&ServerError::default()), None);
    }
}
