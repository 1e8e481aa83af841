//! Events: what happened, as the change feed tells it.

use db_model::model::Event as Row;
use db_model::types;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::value::Timestamp;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum EventKind {
    /// A project takes instances from now on.
    #[serde(rename = "project.created")]
    ProjectCreated,
    /// A project is gone.
    #[serde(rename = "project.deleted")]
    ProjectDeleted,
    /// Limits of a project were set.
    #[serde(rename = "project.quota_updated")]
    ProjectQuotaUpdated,
    /// An instance is there.
    #[serde(rename = "instance.created")]
    InstanceCreated,
    /// An instance is gone.
    #[serde(rename = "instance.deleted")]
    InstanceDeleted,
    /// The fleet's limit was set.
    #[serde(rename = "fleet.quota_updated")]
    FleetQuotaUpdated,
}

/// To what kind of resource something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventResourceKind {
    /// A project.
    Project,
    /// A project's quota, which has the project's id and name.
    ProjectQuota,
    /// An instance.
    Instance,
    /// The fleet's quota.
    FleetQuota,
}

impl EventKind {
    const fn of(kind: types::EventKind) -> (Self, EventResourceKind) {
        use types::EventKind as Kind;
        match kind {
            Kind::ProjectCreated => (Self::ProjectCreated, EventResourceKind::Project),
            Kind::ProjectDeleted => (Self::ProjectDeleted, EventResourceKind::Project),
            Kind::ProjectQuotaUpdated => {
                (Self::ProjectQuotaUpdated, EventResourceKind::ProjectQuota)
            }
            Kind::InstanceCreated => (Self::InstanceCreated, EventResourceKind::Instance),
            Kind::InstanceDeleted => (Self::InstanceDeleted, EventResourceKind::Instance),
            Kind::FleetQuotaUpdated => (Self::FleetQuotaUpdated, EventResourceKind::FleetQuota),
        }
    }
}

/// To what something happened, as it was right after. It may be gone by now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventResource {
    /// The kind.
    pub kind: EventResourceKind,
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The generation, which ends the resource's entity tag. It grows with every change, also with
    /// those of which there is no event.
    pub generation: i64,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// The id. An event that is told again has the same.
    pub id: Uuid,
    /// The place in the feed, from 1 and without gaps.
    pub sequence: i64,
    /// What happened.
    pub kind: EventKind,
    /// The project in which or to which it happened; none for the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<Uuid>,
    /// To what it happened.
    pub resource: EventResource,
    /// The operation that did it, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation_id: Option<Uuid>,
    /// When it happened, by the database's clock.
    pub time_recorded: Timestamp,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        let (kind, resource_kind) = EventKind::of(row.kind);
        Self {
            id: row.id,
            sequence: row.sequence,
            kind,
            project_id: row.project_id,
            resource: EventResource {
                kind: resource_kind,
                id: row.resource_id,
                name: row.resource_name,
                generation: row.resource_generation,
            },
            operation_id: row.operation_id,
            time_recorded: row.time_recorded.into(),
        }
    }
}

/// A part of the feed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": [{
    "id": "0199c0de-0000-7000-8000-000000000003", "sequence": 42, "kind": "instance.created",
    "project_id": "0199c0de-0000-7000-8000-000000000001",
    "resource": {
        "kind": "instance", "id": "0199c0de-0000-7000-8000-000000000002", "name": "front-1", "generation": 2,
    },
    "operation_id": "0199c0de-0000-7000-8000-000000000003",
    "time_recorded": "2026-01-31T12:00:00.020000Z",
}], "next_page": "eyJ2ZXJzaW9uIjoxfQ", "has_more": false})))]
pub struct EventPage {
    /// The events, in the feed's order.
    pub items: Vec<Event>,
    /// The `page_token` with which the feed goes on; always there, for more will happen.
    pub next_page: String,
    /// Whether the feed goes on already: ask again at once, also when `items` is empty because of a
    /// filter.
    pub has_more: bool,
}

/// The query of the feed, which has one order only.
#[derive(Clone, Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Items of the page at most.
    #[param(
        minimum = 1,
        maximum = 1000,
        default = 100,
        nullable = false,
        example = 100
    )]
    pub limit: Option<u32>,
    /// `next_page` of the page before, with the same filters. Without it, the feed begins with the
    /// oldest event that is kept.
    #[param(max_length = 1024, nullable = false, pattern = "^[A-Za-z0-9_-]+$")]
    pub page_token: Option<String>,
    /// Only events of this kind.
    #[param(inline, nullable = false, value_type = Option<EventKind>)]
    pub kind: Option<types::EventKind>,
    /// Only those in or of this project: its name, or its id, which may be a deleted one's.
    #[param(
        nullable = false,
        max_length = 63,
        pattern = "^([a-z]([a-z0-9-]*[a-z0-9])?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    pub project: Option<String>,
}
