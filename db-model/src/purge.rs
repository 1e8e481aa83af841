//! The purge: removing what has been over for long, a bounded number of rows in one transaction.
//!
//! Ages are by the database's clock alone: the statement that ends something stamps it, beside the time that
//! the process has drawn and that is shown. Each batch locks the rows that it removes with SKIP LOCKED,
//! so any number of processes share the work and none waits for another, nor for a request. A batch is
//! whole or not at all and leaves nothing to remember: whoever comes next, after a crash too, takes the
//! oldest rows that are left.
//!
//! Dependants go first: an instance before its project, the quota row and the log of a saga in the same
//! batch as what they belong to, an executor once no saga names it. Events go in the order of their feed,
//! whose lock is waited for: whoever publishes or purges holds it for a moment only. A kind that fails holds
//! no other up.

use std::time::Duration;

use crate::batch::{Batch, BatchError, Step};
use crate::metrics::{PURGE_FAILURES, PURGED};
use crate::pool::WritePool;
use crate::query::{event_feed, executor, instance, project, saga};
use crate::types::limits::{PURGE_ROWS_MAX, RETAIN_DEFAULT};

/// How long is kept what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Instances and projects, from when they were deleted.
    pub deleted: Duration,
    /// Operations that succeeded or failed, with their steps, from when they ended; and processes, from
    /// when they ended.
    pub operations: Duration,
    /// Events, from when they were published.
    pub events: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            deleted: RETAIN_DEFAULT,
            operations: RETAIN_DEFAULT,
            events: RETAIN_DEFAULT,
        }
    }
}

/// How many rows of each kind were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Instances.
    pub instances: u64,
    /// Projects; each has taken its quota row along.
    pub projects: u64,
    /// Sagas; each has taken its log along.
    pub sagas: u64,
    /// Executors.
    pub executors: u64,
    /// Events.
    pub events: u64,
}

impl Removed {
    /// Whether nothing was removed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes what is older than `retention`, batch by batch with a `pause` after each full one, until
/// nothing is left that another process is not at work on. `removed` counts along, so that the caller
/// knows what went also when the round fails or is dropped; either cuts no batch.
///
/// # Errors
/// [`PurgeError`], when the database refuses, with all kinds that it refused: what is dependent on rows that
/// stay stays too, and all other kinds were purged.
pub async fn round(
    writes: &WritePool,
    retention: &Retention,
    pause: Duration,
    removed: &mut Removed,
) -> Result<(), PurgeError> {
    let (deleted, operations) = (retention.deleted, retention.operations);
    let mut drain = Drain {
        writes,
        pause,
        failures: Vec::new(),
    };
    drain
        .all("instances", &mut removed.instances, || {
            one(instance::purge(deleted))
        })
        .await;
    drain
        .all("projects", &mut removed.projects, || {
            one(project::purge(deleted))
        })
        .await;
    drain
        .all("sagas", &mut removed.sagas, || one(saga::purge(operations)))
        .await;
    drain
        .all("executors", &mut removed.executors, || {
            one(executor::purge(operations))
        })
        .await;
    drain
        .all("events", &mut removed.events, || {
            let lock = Batch::new().step(event_feed::lock());
            let purge = lock.step(event_feed::purge(retention.events));
            purge.map(|(_, count)| count)
        })
        .await;
    drain.end()
}

/// A round that did not purge every kind.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} were not purged")]
pub struct PurgeError {
    /// The first kind that failed, as [`Removed`] calls it.
    pub kind: &'static str,
    /// Why.
    #[source]
    pub error: Box<BatchError>,
    /// The kinds that failed after it, each for its own reason.
    pub others: Vec<(&'static str, BatchError)>,
}

/// A batch of one step.
fn one(step: Step<u64>) -> Batch<u64> {
    Batch::new().step(step).map(|(count,)| count)
}

struct Drain<'a> {
    writes: &'a WritePool,
    pause: Duration,
    failures: Vec<(&'static str, BatchError)>,
}

impl Drain<'_> {
    /// One batch after the other, until one finds fewer rows than it may remove, or fails.
    async fn all(&mut self, kind: &'static str, removed: &mut u64, batch: impl Fn() -> Batch<u64>) {
        loop {
            match batch().commit(self.writes).await {
                Ok(count) => {
                    *removed += count;
                    if count > 0 {
                        metrics::counter!(PURGED, "kind" => kind).increment(count);
                    }
                    if count < PURGE_ROWS_MAX.unsigned_abs() {
                        return;
                    }
                }
                Err(error) => {
                    metrics::counter!(PURGE_FAILURES, "kind" => kind).increment(1);
                    self.failures.push((kind, error));
                    return;
                }
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// All that failed, as one error.
    fn end(self) -> Result<(), PurgeError> {
        let mut failures = self.failures.into_iter();
        match failures.next() {
            None => Ok(()),
            Some((kind, error)) => Err(PurgeError {
                kind,
                error: error.into(),
                others: failures.collect(),
            }),
        }
    }
}
