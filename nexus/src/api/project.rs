//! Projects, as callers see them.

use db_model::model::{self, ProjectLimits};
use db_model::types::{self, Name};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::FieldError;
use super::quota::QuotaLimits;
use super::validate::Violations;
use super::value::{Object, Timestamp};

/// What a new project shall be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "web", "description": "The public web site",
    "quota": {"instances": 20, "vcpus": 64, "memory_bytes": 137438953472_i64},
})))]
pub struct ProjectCreate {
    /// A name that no other project has: lower-case letters, digits and hyphens, beginning with a
    /// letter and not ending with a hyphen; no UUID.
    #[schema(
        min_length = 1,
        max_length = 63,
        pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"
    )]
    pub name: String,
    /// What the project is for.
    #[schema(max_length = 512, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// Limits that differ from the configured defaults.
    #[schema(value_type = Option<QuotaLimits>)]
    pub quota: Option<Object<QuotaLimits>>,
}

impl ProjectCreate {
    /// Checks every rule; what is not named is taken from `defaults`.
    pub fn validate(
        self,
        defaults: ProjectLimits,
    ) -> Result<(Name, String, ProjectLimits), Vec<FieldError>> {
        let mut violations = Violations::default();
        let name = violations.name("name", self.name);
        let description = violations.description("description", self.description);
        let named = self
            .quota
            .unwrap_or_default()
            .0
            .check("quota.", &mut violations);
        violations.finish()?;
        let limits = ProjectLimits {
            instances: named.instances.unwrap_or(defaults.instances),
            vcpus: named.vcpus.unwrap_or(defaults.vcpus),
            memory_bytes: named.memory_bytes.unwrap_or(defaults.memory_bytes),
        };
        Ok((
            name.expect("no violation, so there is a name"),
            description,
            limits,
        ))
    }
}

/// How a project stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectState {
    /// Being created.
    Creating,
    /// Takes instances.
    Active,
    /// Being deleted.
    Deleting,
}

impl From<types::ProjectState> for ProjectState {
    fn from(state: types::ProjectState) -> Self {
        match state {
            types::ProjectState::Creating => Self::Creating,
            types::ProjectState::Active => Self::Active,
            types::ProjectState::Deleting => Self::Deleting,
        }
    }
}

/// A project: what instances belong to, and whose quota they use.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199c0de-0000-7000-8000-000000000001", "name": "web",
    "description": "The public web site", "state": "active",
    "time_created": "2026-01-31T12:00:00.000000Z", "time_modified": "2026-01-31T12:00:00.000000Z",
})))]
pub struct Project {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// What the project is for.
    pub description: String,
    /// How it stands.
    pub state: ProjectState,
    /// When it was asked for.
    pub time_created: Timestamp,
    /// When it last changed.
    pub time_modified: Timestamp,
}

impl From<model::Project> for Project {
    fn from(row: model::Project) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            state: row.state.into(),
            time_created: row.time_created.into(),
            time_modified: row.time_modified.into(),
        }
    }
}

/// A page of projects.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": [{
    "id": "0199c0de-0000-7000-8000-000000000001", "name": "web",
    "description": "The public web site", "state": "active",
    "time_created": "2026-01-31T12:00:00.000000Z", "time_modified": "2026-01-31T12:00:00.000000Z",
}], "next_page": null})))]
pub struct ProjectPage {
    /// The projects, in the order that was asked for.
    pub items: Vec<Project>,
    /// The `page_token` of the next page; null at the end of the list.
    pub next_page: Option<String>,
}

/// The path of one project.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what http::extract::path reads")]
pub struct ProjectPath {
    /// The project's name or id.
    #[param(
        min_length = 1,
        max_length = 63,
        example = "web",
        pattern = "^([a-z]([a-z0-9-]*[a-z0-9])?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    project: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: ProjectLimits = ProjectLimits {
        instances: 1,
        vcpus: 2,
        memory_bytes: 3,
    };

    fn parse(text: &str) -> ProjectCreate {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn limits_that_are_not_named_are_the_defaults() {
        let body = parse(r#"{"name": "web", "quota": {"vcpus": 0}}"#);
        let (name, description, limits) = body.validate(DEFAULTS).unwrap();
        assert_eq!((name.as_str(), description.as_str()), ("web", ""));
        assert_eq!(
            limits,
            ProjectLimits {
                instances: 1,
                vcpus: 0,
                memory_bytes: 3
            }
        );
    }

    #[test]
    fn every_broken_rule_is_listed() {
        let long = "ä".repeat(513);
        let body = parse(&format!(
            r#"{{"name": "Web", "description": "{long}\u0000",
                "quota": {{"instances": -1, "memory_bytes": 9007199254740993}}}}"#
        ));
        let errors = body.validate(DEFAULTS).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "name",
                "description",
                "description",
                "quota.instances",
                "quota.memory_bytes"
            ]
        );
    }
}
