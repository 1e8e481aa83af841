//! Being alive: the lease of this process, and what follows from losing it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::Database;
use db_model::batch::{Batch, BatchError};
use db_model::query::executor::{self, NewExecutor};
use tokio::sync::watch;

/// How long after a failed heartbeat the next one is tried.
const HEARTBEAT_RETRY: Duration = Duration::from_millis(200);

/// What this process knows of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last heartbeat was answered at this time.
    Alive(Instant),
    /// The executor was declared dead, or has ended itself.
    Ended,
}

/// Registers the executor with its first lease.
///
/// # Errors
/// [`BatchError`], when the database gives no answer.
pub async fn register(database: &Database, lease: Duration) -> Result<(), BatchError> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let executor = NewExecutor {
        id: database.executor_id(),
        host: host.trim().to_owned(),
        pid: i64::from(std::process::id()),
        version: env!("CARGO_PKG_VERSION"),
    };
    Batch::new()
        .step(executor::register(executor, lease))
        .discard()
        .commit(&database.lease)
        .await
}

/// Renews the lease until it is lost or the executor ends itself.
///
/// Zero rows mean that another process has declared this one dead and has taken its sagas, or will:
/// the fence keeps this one from doing harm, and it has to go.
pub async fn keep(
    database: Database,
    interval: Duration,
    lease: Duration,
    health: Arc<watch::Sender<Health>>,
) {
    let id = database.executor_id();
    while !matches!(*health.borrow(), Health::Ended) {
        let beat = Batch::new()
            .step(executor::heartbeat(id, lease))
            .commit(&database.lease)
            .await;
        let pause = match beat {
            Ok((0,)) => {
                tracing::error!(executor_id = %id, "the lease of this process is lost");
                health.send_replace(Health::Ended);
                return;
            }
            Ok(_) => {
                health.send_if_modified(|health| match health {
                    Health::Alive(at) => {
                        *at = Instant::now();
                        true
                    }
                    Health::Ended => false,
                });
                interval
            }
            Err(error) => {
                tracing::warn!(%error, "the heartbeat failed; trying again");
                HEARTBEAT_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
