//! The purge as a task of the process: round after round until the process ends. What is removed, and in
//! which batches, is the database's part.

use std::time::Duration;

use db_model::pool::WritePool;
use db_model::purge::{self, Removed, Retention};
use db_model::types::limits::{PURGE_BACKOFF_MAX, PURGE_PAUSE};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::http::error::chain;

/// Purges about every `interval` until `ending`. Each process does; they share the work.
///
/// It ends at once, also in the middle of a round: a batch under way is whole or not at all.
pub async fn run(
    writes: WritePool,
    retention: Retention,
    interval: Duration,
    ending: CancellationToken,
) {
    ending
        .run_until_cancelled(rounds(&writes, &retention, interval))
        .await;
}

async fn rounds(writes: &WritePool, retention: &Retention, interval: Duration) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(wait(interval, failures)).await;
        let mut removed = Removed::default();
        let result = purge::round(writes, retention, PURGE_PAUSE, &mut removed).await;
        if !removed.is_empty() {
            tell(&removed);
        }
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                // The first is not the reason of the others.
                for (kind, other) in &error.others {
                    tracing::warn!(kind, cause = %chain(other), "this kind was not purged either");
                }
                tracing::warn!(
                    cause = %chain(&error), failures,
                    "the purge failed; it goes on later where it was"
                );
            }
        }
    }
}

/// Around the interval, so that processes that were started together do not come together for ever; longer
/// and longer after rounds that failed, as when the database is away.
fn wait(interval: Duration, failures: u32) -> Duration {
    let times = 1_u32.checked_shl(failures).unwrap_or(PURGE_BACKOFF_MAX);
    let interval = interval * times.min(PURGE_BACKOFF_MAX);
    interval.mul_f64(rand::rng().random_range(0.5..=1.5))
}

fn tell(removed: &Removed) {
    let Removed {
        instances,
        projects,
        sagas,
        executors,
        events,
    } = removed;
    tracing::info!(instances, projects, sagas, executors, events, "purged");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_after_each_failure_and_not_for_ever() {
        let interval = Duration::from_secs(60);
        for (failures, times) in [(0, 1), (1, 2), (3, 8), (4, 16), (5, 16), (31, 16), (32, 16)] {
            let waited = wait(interval, failures);
            let middle = interval * times;
            assert!(
                (middle / 2..=middle * 3 / 2).contains(&waited),
                "{failures}: {waited:?}"
            );
        }
    }
}
