//! The model transaction: charge a project's quota, insert an instance, insert an event. Once as the product's steps,
//! once as plain Diesel statements. How they travel is left to [`super::variant`].

use chrono::{DateTime, Utc};
use db_model::batch::Step;
use db_model::model::Instance;
use db_model::query::project_quota::InstanceCharge;
use db_model::query::{Change, instance, project_quota};
use db_model::schema::{instance as instances, project_quota as quotas, saga_event as events};
use db_model::types::InstanceState;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

/// Virtual CPUs of each instance.
pub const VCPUS: i64 = 1;
/// Memory of each instance, in bytes.
pub const MEMORY_BYTES: i64 = 1 << 30;
/// The kind of each event.
pub const EVENT_KIND: &str = "succeeded";

/// The row that commits with the change, as a log or an outbox has it.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = events, check_for_backend(diesel::pg::Pg))]
struct Event {
    saga_id: Uuid,
    node_id: i64,
    kind: &'static str,
    data: Option<Value>,
    time_recorded: DateTime<Utc>,
    phase: i16,
    sequence: i64,
}

/// What the event says of the instance.
pub fn event_data() -> Value {
    json!({"state": InstanceState::Stopped.as_str()})
}

/// One transaction's values, drawn before it begins.
#[derive(Clone, Debug)]
pub struct Model {
    change: Change,
    instance: Instance,
    event: Event,
}

impl Model {
    /// One more instance of a project.
    pub fn draw(project_id: Uuid) -> Self {
        let change = Change::new();
        let id = Uuid::now_v7();
        let instance = Instance {
            id,
            project_id,
            name: format!("i{}", id.simple()),
            description: String::new(),
            vcpus: VCPUS,
            memory_bytes: MEMORY_BYTES,
            state: InstanceState::Stopped,
            generation: 1,
            changed_by: change.id,
            time_created: change.time,
            time_modified: change.time,
            time_deleted: None,
        };
        let event = Event {
            saga_id: change.id,
            node_id: 0,
            kind: EVENT_KIND,
            data: Some(event_data()),
            time_recorded: change.time,
            phase: 2,
            sequence: 1,
        };
        Self {
            change,
            instance,
            event,
        }
    }

    /// The product's charge, with its guard.
    pub fn charge_step(&self) -> Step<()> {
        let charge = InstanceCharge {
            vcpus: VCPUS,
            memory_bytes: MEMORY_BYTES,
        };
        project_quota::charge(self.change, self.instance.project_id, charge)
    }

    /// The product's insert, with its guard.
    pub fn instance_step(&self) -> Step<()> {
        instance::insert(&self.instance)
    }

    /// The event.
    pub fn event_step(&self) -> Step<()> {
        let insert = diesel::insert_into(events::table).values(self.event.clone());
        Step::statement("event.insert", insert)
    }

    /// The charge in plain Diesel. There is no guard: the client looks how many rows it touched.
    pub async fn charge(&self, mut session: &AsyncPgConnection) -> QueryResult<()> {
        let touched = diesel::update(quotas::table)
            .filter(quotas::project_id.eq(self.instance.project_id))
            .filter(quotas::open.eq(true))
            .filter((quotas::instances_used + 1).le(quotas::instances_limit))
            .filter((quotas::vcpus_used + VCPUS).le(quotas::vcpus_limit))
            .filter((quotas::memory_bytes_used + MEMORY_BYTES).le(quotas::memory_bytes_limit))
            .set((
                quotas::instances_used.eq(quotas::instances_used + 1),
                quotas::vcpus_used.eq(quotas::vcpus_used + VCPUS),
                quotas::memory_bytes_used.eq(quotas::memory_bytes_used + MEMORY_BYTES),
                quotas::generation.eq(quotas::generation + 1),
                quotas::changed_by.eq(self.change.id),
                quotas::time_modified.eq(self.change.time),
            ))
            .execute(&mut session)
            .await?;
        if touched == 1 {
            Ok(())
        } else {
            Err(Error::NotFound)
        }
    }

    /// The insert in plain Diesel.
    pub async fn insert_instance(&self, mut session: &AsyncPgConnection) -> QueryResult<()> {
        let insert = diesel::insert_into(instances::table).values(self.instance.clone());
        insert.execute(&mut session).await.map(drop)
    }

    /// The event in plain Diesel.
    pub async fn insert_event(&self, mut session: &AsyncPgConnection) -> QueryResult<()> {
        let insert = diesel::insert_into(events::table).values(self.event.clone());
        insert.execute(&mut session).await.map(drop)
    }
}
