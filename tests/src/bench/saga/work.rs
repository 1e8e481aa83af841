//! What `instance-create` does, without a log: the same two transactions on the same tables, written two ways.
//!
//! First the charge and an instance in the state `creating`, then `stopped` and what happened. Whoever dies between
//! the two leaves an instance that nobody will ever finish: that is what the log is for.

use anyhow::{Context, Result};
use db_model::batch::{Batch, BatchError};
use db_model::constraint::Refusal;
use db_model::model::{Instance, ProjectQuota};
use db_model::pool::WritePool;
use db_model::query::project_quota::InstanceCharge;
use db_model::query::{Change, event, instance, project_quota};
use db_model::schema::{event as events, instance as instances, project_quota as quotas};
use db_model::types::limits::{POOL_WAIT, WRITE_POOL_SIZE_DEFAULT};
use db_model::types::{EventKind, InstanceState, ResourceKind};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Why an instance was not made.
#[derive(Debug)]
pub enum NotDone {
    /// The domain says no.
    Refused(Refusal),
    /// Something else.
    Failed(anyhow::Error),
}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// How the two transactions travel.
#[derive(Clone, Debug)]
pub enum Work {
    /// diesel-async's `transaction()`, one statement awaited after the other.
    Plain(Pool<AsyncPgConnection>),
    /// Two batches of the product's own steps.
    Batched(Box<WritePool>),
}

/// What happened, as plain Diesel writes it.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = events, check_for_backend(diesel::pg::Pg))]
struct Event {
    id: Uuid,
    kind: EventKind,
    project_id: Uuid,
    resource_id: Uuid,
    resource_name: String,
    resource_generation: i64,
    operation_id: Uuid,
}

impl Work {
    /// Plain Diesel over a pool of its own, as large as the product's.
    ///
    /// # Errors
    /// When `url` is not understood.
    pub async fn plain(url: &str) -> Result<Self> {
        let mut config = ManagerConfig::default();
        // The default asks the server at each checkout.
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let pool = Pool::builder()
            .max_size(WRITE_POOL_SIZE_DEFAULT)
            .connection_timeout(POOL_WAIT)
            .test_on_check_out(false)
            .build(manager)
            .await
            .context("opening Diesel's sessions")?;
        Ok(Self::Plain(pool))
    }

    /// Makes an instance, which comes as `creating`, and gives it as it is then.
    ///
    /// # Errors
    /// [`NotDone`], when it was refused or a transaction failed.
    pub async fn create(&self, change: Change, instance: Instance) -> Result<Instance, NotDone> {
        let stopped = Instance {
            state: InstanceState::Stopped,
            generation: instance.generation + 1,
            ..instance.clone()
        };
        match self {
            Self::Plain(pool) => {
                insert(pool, &instance).await?;
                stop(pool, change, &stopped).await?;
            }
            Self::Batched(pool) => batched(pool, change, &instance).await?,
        }
        Ok(stopped)
    }
}

async fn batched(pool: &WritePool, change: Change, instance: &Instance) -> Result<(), NotDone> {
    let charge = InstanceCharge {
        vcpus: instance.vcpus,
        memory_bytes: instance.memory_bytes,
    };
    let insert = Batch::new()
        .step(project_quota::charge(change, instance.project_id, charge))
        .step(instance::insert(instance))
        .discard();
    insert.commit(pool).await.map_err(not_done)?;
    let from = [InstanceState::Creating];
    let stopped = InstanceState::Stopped;
    let created = EventKind::InstanceCreated;
    let stop = Batch::new()
        .step(instance::set_state(
            change,
            instance.id,
            &from,
            stopped,
            None,
        ))
        .step(event::of_instance(change, created, instance.id))
        .discard();
    stop.commit(pool).await.map_err(not_done)
}

fn not_done(error: BatchError) -> NotDone {
    match error {
        BatchError::Refused { refusal, .. } => NotDone::Refused(refusal),
        error => NotDone::Failed(error.into()),
    }
}

async fn session(
    pool: &Pool<AsyncPgConnection>,
) -> Result<diesel_async::pooled_connection::bb8::PooledConnection<'_, AsyncPgConnection>, NotDone>
{
    let session = pool.get().await.context("a session of Diesel's");
    session.map_err(NotDone::Failed)
}

/// The first transaction, in plain Diesel.
#[expect(
    clippy::disallowed_methods,
    reason = "it is what the product is compared with"
)]
async fn insert(pool: &Pool<AsyncPgConnection>, instance: &Instance) -> Result<(), NotDone> {
    let mut session = session(pool).await?;
    let body = async |session: &mut AsyncPgConnection| {
        if charge(session, instance).await? != 1 {
            return Err(quota_refusal(session, instance).await?);
        }
        let row = diesel::insert_into(instances::table).values(instance.clone());
        match row.execute(session).await {
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
                Err(NotDone::Refused(Refusal::NameTaken {
                    kind: ResourceKind::Instance,
                    name: instance.name.clone(),
                    id: instance.id,
                }))
            }
            inserted => Ok(inserted.map(drop)?),
        }
    };
    (*session).transaction::<_, NotDone, _>(body).await
}

/// The second one.
#[expect(
    clippy::disallowed_methods,
    reason = "it is what the product is compared with"
)]
async fn stop(
    pool: &Pool<AsyncPgConnection>,
    change: Change,
    stopped: &Instance,
) -> Result<(), NotDone> {
    let mut session = session(pool).await?;
    let event = Event {
        id: change.id,
        kind: EventKind::InstanceCreated,
        project_id: stopped.project_id,
        resource_id: stopped.id,
        resource_name: stopped.name.clone(),
        resource_generation: stopped.generation,
        operation_id: change.id,
    };
    let body = async |session: &mut AsyncPgConnection| {
        let touched = diesel::update(instances::table)
            .filter(instances::id.eq(stopped.id))
            .filter(instances::state.eq(InstanceState::Creating))
            .filter(instances::time_deleted.is_null())
            .set((
                instances::state.eq(InstanceState::Stopped),
                instances::generation.eq(instances::generation + 1),
                instances::changed_by.eq(change.id),
                instances::time_modified.eq(change.time),
            ))
            .execute(session)
            .await?;
        if touched != 1 {
            return Err(NotDone::from(Error::NotFound));
        }
        let row = diesel::insert_into(events::table).values(event);
        Ok(row.execute(session).await.map(drop)?)
    };
    (*session).transaction::<_, NotDone, _>(body).await
}

/// Charges the quota, and says how many rows it touched.
async fn charge(session: &mut AsyncPgConnection, instance: &Instance) -> QueryResult<usize> {
    diesel::update(quotas::table)
        .filter(quotas::project_id.eq(instance.project_id))
        .filter(quotas::open.eq(true))
        .filter((quotas::instances_used + 1).le(quotas::instances_limit))
        .filter((quotas::vcpus_used + instance.vcpus).le(quotas::vcpus_limit))
        .filter((quotas::memory_bytes_used + instance.memory_bytes).le(quotas::memory_bytes_limit))
        .set((
            quotas::instances_used.eq(quotas::instances_used + 1),
            quotas::vcpus_used.eq(quotas::vcpus_used + instance.vcpus),
            quotas::memory_bytes_used.eq(quotas::memory_bytes_used + instance.memory_bytes),
            quotas::generation.eq(quotas::generation + 1),
            quotas::changed_by.eq(instance.changed_by),
            quotas::time_modified.eq(instance.time_created),
        ))
        .execute(session)
        .await
}

/// Why a charge touched no row: the first resource that is short, or a project that takes no instances.
async fn quota_refusal(
    session: &mut AsyncPgConnection,
    instance: &Instance,
) -> Result<NotDone, NotDone> {
    let row = quotas::table
        .filter(quotas::project_id.eq(instance.project_id))
        .select(ProjectQuota::as_select());
    let Some(quota) = row.load(session).await?.pop() else {
        return Err(Error::NotFound.into());
    };
    let resources = [
        ("instances", quota.instances_limit, quota.instances_used, 1),
        ("vcpus", quota.vcpus_limit, quota.vcpus_used, instance.vcpus),
        (
            "memory_bytes",
            quota.memory_bytes_limit,
            quota.memory_bytes_used,
            instance.memory_bytes,
        ),
    ];
    let short = resources
        .into_iter()
        .find(|(_, limit, used, requested)| used + requested > *limit);
    Ok(NotDone::Refused(match short {
        Some((resource, limit, used, requested)) => Refusal::QuotaExceeded {
            scope: "project".to_owned(),
            scope_id: quota.project_id,
            resource: resource.to_owned(),
            limit,
            used,
            requested,
        },
        None => Refusal::WrongState {
            kind: ResourceKind::Project,
            id: quota.project_id,
            state: "deleting".to_owned(),
        },
    }))
}
