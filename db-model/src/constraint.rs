//! Refusals: what the database may say no with, as the domain's own errors.
//!
//! Constraints and guards have names; each noun's query file has one table from those names to the
//! refusals here. What is in no table is a bug and is reported as such, never guessed at.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::ResourceKind;

/// A resource that stands in the way of a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
}

/// Why the database refused. Stored in the saga log, so a change of shape is a new variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// A charge would pass a limit.
    #[error(
        "the {scope} quota of {resource} would be exceeded: {used} of {limit} used, {requested} requested"
    )]
    QuotaExceeded {
        /// `fleet` or `project`.
        scope: String,
        /// The fleet's or the project's id.
        scope_id: Uuid,
        /// `projects`, `instances`, `vcpus` or `memory_bytes`.
        resource: String,
        /// The limit when the charge was refused.
        limit: i64,
        /// The use when the charge was refused.
        used: i64,
        /// What was asked for.
        requested: i64,
    },
    /// Another resource has the name.
    #[error("the {kind} name {name:?} is taken by {id}")]
    NameTaken {
        /// The kind of resource.
        kind: ResourceKind,
        /// The name.
        name: String,
        /// Who has it.
        id: Uuid,
    },
    /// A project with instances is not deleted.
    #[error("project {id} is not empty, its instances: {instances}")]
    NotEmpty {
        /// The project.
        id: Uuid,
        /// How many instances it has.
        instances: i64,
        /// The first of them, by name.
        first: Vec<Blocker>,
    },
    /// There is no such resource any more.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// The kind of resource.
        kind: ResourceKind,
        /// The id.
        id: Uuid,
    },
    /// The resource's state does not allow it.
    #[error("{kind} {id} is {state}")]
    WrongState {
        /// The kind of resource.
        kind: ResourceKind,
        /// The id.
        id: Uuid,
        /// The state that it is in.
        state: String,
    },
    /// The resource has changed since the caller looked (`If-Match`).
    #[error("{kind} {id} is at generation {found}, not {expected}")]
    Changed {
        /// `project`, `instance`, `project_quota` or `fleet_quota`.
        kind: String,
        /// The id.
        id: Uuid,
        /// The generation that the caller named.
        expected: i64,
        /// The generation that was found.
        found: i64,
    },
}

impl Refusal {
    /// Whether the same batch would be refused at any later time too: ids and generations never come
    /// back, while a name, a share of a quota or a state may.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::Changed { .. } => true,
            Self::QuotaExceeded { .. }
            | Self::NameTaken { .. }
            | Self::NotEmpty { .. }
            | Self::WrongState { .. } => false,
        }
    }
}
