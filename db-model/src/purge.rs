//! The purge: removing what has been over for long, a bounded number of rows in one transaction.
//!
//! Ages are compared on the database's clock. Each batch locks the rows that it removes with SKIP LOCKED,
//! so any number of processes share the work and none waits for another, nor for a request. A batch is
//! whole or not at all and leaves nothing to remember: whoever comes next, after a crash too, takes the
//! oldest rows that are left.
//!
//! Dependants go first: an instance before its project, the quota row and the log of a saga in the same
//! batch as what they belong to, an executor once no saga names it. Events go in the order of their feed,
//! whose lock is waited for: whoever publishes or purges holds it for a moment only.

use std::time::Duration;

use crate::batch::{Batch, BatchError, Step};
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
    /// Events that are published, from when they were recorded.
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
/// [`BatchError`], when the database refuses; what was removed before stays removed.
pub async fn round(
    writes: &WritePool,
    retention: &Retention,
    pause: Duration,
    removed: &mut Removed,
) -> Result<(), BatchError> {
    let drain = Drain { writes, pause };
    let (deleted, operations) = (retention.deleted, retention.operations);
    drain
        .all(&mut removed.instances, || one(instance::purge(deleted)))
        .await?;
    drain
        .all(&mut removed.projects, || one(project::purge(deleted)))
        .await?;
    drain
        .all(&mut removed.sagas, || one(saga::purge(operations)))
        .await?;
    drain
        .all(&mut removed.executors, || one(executor::purge(operations)))
        .await?;
    drain
        .all(&mut removed.events, || {
            let lock = Batch::new().step(event_feed::lock());
            let purge = lock.step(event_feed::purge(retention.events));
            purge.map(|(_, count)| count)
        })
        .await
}

/// A batch of one step.
fn one(step: Step<u64>) -> Batch<u64> {
    Batch::new().step(step).map(|(count,)| count)
}

struct Drain<'a> {
    writes: &'a WritePool,
    pause: Duration,
}

impl Drain<'_> {
    /// One batch after the other, until one finds fewer rows than it may remove.
    async fn all(
        &self,
        removed: &mut u64,
        batch: impl Fn() -> Batch<u64>,
    ) -> Result<(), BatchError> {
        loop {
            let count = batch().commit(self.writes).await?;
            *removed += count;
            if count < PURGE_ROWS_MAX.unsigned_abs() {
                return Ok(());
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}
