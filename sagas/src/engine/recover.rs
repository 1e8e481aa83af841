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

use crate::registry::Registry;

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
        .commit(&database.recovery)
        .await?;
    for dead in ended {
        tracing::warn!(
            executor_id = %dead.id, host = dead.host, pid = dead.pid,
            "another process is dead; its operations are taken over"
        );
    }
    let end = Batch::new().step(executor::end_sessions());
    match end.commit(&database.recovery).await {
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

/// Which sagas are looked for.
#[derive(Clone, Debug)]
pub enum Search {
    /// Those whose executor is not alive.
    Orphans,
    /// Those that are this executor's own already, and that it does not run: these.
    ///
    /// They were read before this is called, so a saga submitted since is in them no more than in the
    /// database's answer; its age keeps it out.
    Forgotten(Vec<Uuid>),
}

/// Takes over at most `limit` sagas, and reads their logs, all with one query.
///
/// # Errors
/// [`BatchError`]. Sagas that were taken over and whose logs could not be read are taken over again
/// later, for they are this executor's and not among those that are running.
pub async fn adopt(
    database: &Database,
    registry: &Registry,
    search: Search,
    limit: usize,
) -> Result<Vec<Recovered>, BatchError> {
    let id = database.executor_id();
    let definitions = registry.keys();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let adopt = match search {
        Search::Orphans => saga::adopt_orphans(id, definitions, limit),
        Search::Forgotten(running) => {
            let settled = time::now() - SAGA_SETTLED_AGE;
            saga::adopt_forgotten(id, running, settled, definitions, limit)
        }
    };
    let (adopted,) = Batch::new().step(adopt).commit(&database.recovery).await?;
    if adopted.is_empty() {
        return Ok(Vec::new());
    }
    let ids = adopted.iter().map(|saga| saga.id).collect();
    let (events,) = Batch::new()
        .step(saga_event::list(ids))
        .commit(&database.recovery)
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
