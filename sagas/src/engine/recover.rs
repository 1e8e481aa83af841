//! Taking over what nobody runs.
//!
//! Again and again: shorten the leases of executors whose session is gone, end those whose lease has
//! run out and what sessions they left, then adopt. The generation is raised first and the logs are
//! read after it, so that nothing the old owner does can be missed.

use std::collections::BTreeMap;
use std::time::Duration;

use db_model::Database;
use db_model::batch::{Batch, BatchError};
use db_model::model::SagaEvent;
use db_model::query::saga::Adopted;
use db_model::query::{executor, saga, saga_event};
use db_model::types::limits::{DATABASE_RESTART_GRACE, SAGA_SETTLED_AGE};
use db_model::types::time;
use uuid::Uuid;

use crate::registry;

/// A saga that was taken over, with its log.
#[derive(Debug)]
pub struct Recovered {
    pub saga: Adopted,
    pub events: Vec<SagaEvent>,
}

/// Ends executors that are dead, and the sessions that they have left.
///
/// # Errors
/// [`BatchError`]; what was done before stays done.
pub async fn end_dead(database: &Database, heartbeat: Duration) -> Result<(), BatchError> {
    let id = database.executor_id();
    let (_, ended) = Batch::new()
        .step(executor::shorten_leases(
            id,
            heartbeat,
            DATABASE_RESTART_GRACE,
        ))
        .step(executor::end_expired(id))
        .commit(&database.writes)
        .await?;
    for dead in ended {
        tracing::warn!(
            executor_id = %dead.id, host = dead.host, pid = dead.pid,
            "another process is dead; its operations are taken over"
        );
    }
    let end = Batch::new().step(executor::end_sessions());
    match end.commit(&database.writes).await {
        Ok((sessions,)) if sessions.is_empty() => {}
        Ok((sessions,)) => {
            tracing::warn!(
                sessions = sessions.len(),
                "sessions of dead processes were ended"
            );
        }
        // Without the right to end them they go by themselves, only later.
        Err(error) => {
            tracing::warn!(%error, "the sessions of dead processes could not be ended");
        }
    }
    Ok(())
}

/// Takes over at most `limit` sagas, and reads their logs.
///
/// `running` was read before this is called, so a saga submitted since is in it no more than in the
/// database's answer; its age keeps it out.
///
/// # Errors
/// [`BatchError`]. Sagas that were taken over and whose logs could not be read are taken over again
/// the next time, for they are this executor's and not among those that are running.
pub async fn adopt(
    database: &Database,
    running: Vec<Uuid>,
    limit: usize,
) -> Result<Vec<Recovered>, BatchError> {
    let id = database.executor_id();
    let definitions = registry::all()
        .iter()
        .map(|d| format!("{}:{}", d.name, d.hash))
        .collect();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let settled = time::now() - SAGA_SETTLED_AGE;
    let adopt = Batch::new().step(saga::adopt(id, running, settled, definitions, limit));
    let (adopted,) = adopt.commit(&database.writes).await?;
    if adopted.is_empty() {
        return Ok(Vec::new());
    }
    let ids = adopted.iter().map(|saga| saga.id).collect();
    let (events,) = Batch::new()
        .step(saga_event::list(ids))
        .commit(&database.writes)
        .await?;
    let mut logs: BTreeMap<Uuid, Vec<SagaEvent>> = BTreeMap::new();
    for event in events {
        logs.entry(event.saga_id).or_default().push(event);
    }
    let with_log = |saga: Adopted| {
        let events = logs.remove(&saga.id).unwrap_or_default();
        Recovered { saga, events }
    };
    Ok(adopted.into_iter().map(with_log).collect())
}
