//! Instances, as callers see them.

use db_model::model;
use db_model::types::{self, Name};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::FieldError;
use super::validate::Violations;
use super::value::{Timestamp, Whole};

/// What a new instance shall be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "front-1", "description": "First of the front ends",
    "vcpus": 4, "memory_bytes": 4294967296_i64,
})))]
pub struct InstanceCreate {
    /// A name that no other instance of the project has: lower-case letters, digits and hyphens,
    /// beginning with a letter and not ending with a hyphen; no UUID.
    #[schema(
        min_length = 1,
        max_length = 63,
        pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"
    )]
    pub name: String,
    /// What the instance is for.
    #[schema(max_length = 512, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// Virtual CPUs.
    #[schema(value_type = i64, minimum = 1, maximum = 1024)]
    pub vcpus: Whole,
    /// Memory, in bytes: a multiple of 1 MiB, up to 16 TiB.
    #[schema(value_type = i64, minimum = 1048576, maximum = 17592186044416_i64, multiple_of = 1048576)]
    pub memory_bytes: Whole,
}

/// An [`InstanceCreate`] after the checks.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// The name.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
}

impl InstanceCreate {
    /// Checks every rule.
    pub fn validate(self) -> Result<NewInstance, Vec<FieldError>> {
        let mut violations = Violations::default();
        let name = violations.name("name", self.name);
        let description = violations.description("description", self.description);
        let vcpus = violations.vcpus("vcpus", self.vcpus);
        let memory_bytes = violations.memory_bytes("memory_bytes", self.memory_bytes);
        violations.finish()?;
        let name = name.expect("no violation, so there is a name");
        Ok(NewInstance {
            name,
            description,
            vcpus,
            memory_bytes,
        })
    }
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Being created.
    Creating,
    /// On its way to running.
    Starting,
    /// Runs.
    Running,
    /// On its way to stopped.
    Stopping,
    /// Does not run.
    Stopped,
    /// On its way from running to running.
    Rebooting,
    /// Being deleted.
    Deleting,
    /// Nothing but a delete helps.
    Failed,
}

impl From<types::InstanceState> for InstanceState {
    fn from(state: types::InstanceState) -> Self {
        match state {
            types::InstanceState::Creating => Self::Creating,
            types::InstanceState::Starting => Self::Starting,
            types::InstanceState::Running => Self::Running,
            types::InstanceState::Stopping => Self::Stopping,
            types::InstanceState::Stopped => Self::Stopped,
            types::InstanceState::Rebooting => Self::Rebooting,
            types::InstanceState::Deleting => Self::Deleting,
            types::InstanceState::Failed => Self::Failed,
        }
    }
}

/// What a caller may ask of an instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceAction {
    /// Delete it.
    Delete,
}

impl From<types::InstanceAction> for InstanceAction {
    fn from(action: types::InstanceAction) -> Self {
        match action {
            types::InstanceAction::Delete => Self::Delete,
        }
    }
}

/// An instance of a project.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199c0de-0000-7000-8000-000000000002",
    "project_id": "0199c0de-0000-7000-8000-000000000001", "name": "front-1",
    "description": "First of the front ends", "vcpus": 4, "memory_bytes": 4294967296_i64,
    "state": "stopped", "allowed_actions": ["delete"],
    "time_created": "2026-01-31T12:00:00.000000Z", "time_modified": "2026-01-31T12:00:00.000000Z",
})))]
pub struct Instance {
    /// The id.
    pub id: Uuid,
    /// The project that it belongs to.
    pub project_id: Uuid,
    /// The name.
    pub name: String,
    /// What the instance is for.
    pub description: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// How it stands.
    pub state: InstanceState,
    /// What may be asked of it now.
    pub allowed_actions: Vec<InstanceAction>,
    /// The operation that is at work on it now, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation_id: Option<Uuid>,
    /// When it was asked for.
    pub time_created: Timestamp,
    /// When it last changed.
    pub time_modified: Timestamp,
}

impl From<model::Instance> for Instance {
    fn from(row: model::Instance) -> Self {
        let operation_id = row.operation_id();
        Self {
            id: row.id,
            project_id: row.project_id,
            name: row.name,
            description: row.description,
            vcpus: row.vcpus,
            memory_bytes: row.memory_bytes,
            state: row.state.into(),
            allowed_actions: row
                .state
                .allowed_actions()
                .iter()
                .map(|&a| a.into())
                .collect(),
            operation_id,
            time_created: row.time_created.into(),
            time_modified: row.time_modified.into(),
        }
    }
}

/// A page of instances.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": [{
    "id": "0199c0de-0000-7000-8000-000000000002",
    "project_id": "0199c0de-0000-7000-8000-000000000001", "name": "front-1",
    "description": "First of the front ends", "vcpus": 4, "memory_bytes": 4294967296_i64,
    "state": "stopped", "allowed_actions": ["delete"],
    "time_created": "2026-01-31T12:00:00.000000Z", "time_modified": "2026-01-31T12:00:00.000000Z",
}], "next_page": null})))]
pub struct InstancePage {
    /// The instances, in the order that was asked for.
    pub items: Vec<Instance>,
    /// The `page_token` of the next page; null at the end of the list.
    pub next_page: Option<String>,
}

/// The path of one instance.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what http::extract::path reads")]
pub struct InstancePath {
    /// The project's name or id.
    #[param(
        min_length = 1,
        max_length = 63,
        example = "web",
        pattern = "^([a-z]([a-z0-9-]*[a-z0-9])?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    project: String,
    /// The instance's name or id.
    #[param(
        min_length = 1,
        max_length = 63,
        example = "front-1",
        pattern = "^([a-z]([a-z0-9-]*[a-z0-9])?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    instance: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(vcpus: &str, memory_bytes: &str) -> Vec<String> {
        let text = format!(r#"{{"name": "a", "vcpus": {vcpus}, "memory_bytes": {memory_bytes}}}"#);
        let body: InstanceCreate = serde_json::from_str(&text).unwrap();
        let errors = body.validate().err().unwrap_or_default();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn sizes_keep_to_their_ranges() {
        assert!(fields("1", "1048576").is_empty());
        assert!(fields("1024", "17592186044416").is_empty());
        assert_eq!(fields("0", "1048576"), ["vcpus"]);
        assert_eq!(fields("1025", "1048577"), ["vcpus", "memory_bytes"]);
        assert_eq!(fields("1", "17592187092992"), ["memory_bytes"]);
        assert_eq!(
            fields("99999999999999999999", "0"),
            ["vcpus", "memory_bytes"]
        );
    }
}
