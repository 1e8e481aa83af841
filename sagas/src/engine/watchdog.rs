//! Noticing sagas that do not get on: nothing was recorded of them for longer than their definition allows.
//!
//! Nothing is done about them: they may wait for the database or for somebody outside, and end when that
//! is back. A person is told, by the log once and by the metrics for as long as it lasts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use db_model::Database;
use db_model::metrics::{SAGAS_STALLED, SAGAS_STALLED_TOTAL, SAGAS_STUCK};
use db_model::read;
use uuid::Uuid;

use crate::registry::Registry;

/// Looks again and again.
pub async fn watch(database: Database, registry: Arc<Registry>, interval: Duration) {
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(interval).await;
        if let Err(error) = look(&database, &registry, &mut known).await {
            tracing::warn!(%error, "looking for operations that do not get on failed; trying again");
        }
    }
}

/// Looks once. What this process runs and is newly stalled is counted and logged here; how many there are
/// at all is every process's gauge.
async fn look(
    database: &Database,
    registry: &Registry,
    known: &mut BTreeSet<Uuid>,
) -> Result<(), read::ReadError> {
    let stuck = read::saga::count_stuck(&database.reads).await?;
    metrics::gauge!(SAGAS_STUCK).set(f64::from(u32::try_from(stuck).unwrap_or(u32::MAX)));
    let stalled = read::saga::stalled(&database.reads, &registry.patience()).await?;
    metrics::gauge!(SAGAS_STALLED).set(f64::from(u32::try_from(stalled.len()).unwrap_or(u32::MAX)));
    let mine = stalled
        .into_iter()
        .filter(|saga| saga.executor_id == database.executor_id());
    let mut seen = BTreeSet::new();
    for saga in mine {
        if !known.contains(&saga.id) {
            tracing::warn!(
                saga_id = %saga.id, saga = saga.name, time_recorded = %saga.time_recorded,
                "an operation is stalled: nothing was recorded of it for longer than its kind allows"
            );
            metrics::counter!(SAGAS_STALLED_TOTAL, "saga" => saga.name).increment(1);
        }
        seen.insert(saga.id);
    }
    *known = seen;
    Ok(())
}
