//! Being alive: the lease of this process, and what follows from losing it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::Database;
use db_model::batch::{Batch, BatchError};
use db_model::query::executor::{self, HeartbeatSession, NewExecutor};
use tokio::sync::watch;

/// How long after a failed heartbeat the next one is tried.
const HEARTBEAT_RETRY: Duration = Duration::from_millis(200);

/// How many heartbeats a lease outlives that are never answered. A session from which nothing comes any
/// more is given up while there is time for another.
const HEARTBEATS_LOST_PER_LEASE: u32 = 2;

/// How often between two heartbeats the process looks whether its session is still there. A look
/// costs no round trip.
const LOOKS_PER_HEARTBEAT: u32 = 5;

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
/// No session means that another process has declared this one dead and has taken its sagas, or will:
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
            .commit_within(&database.lease, lease / HEARTBEATS_LOST_PER_LEASE)
            .await;
        match beat.map(|(sessions,)| sessions.first().copied()) {
            Ok(None) => {
                tracing::error!(executor_id = %id, "the lease of this process is lost");
                health.send_replace(Health::Ended);
                return;
            }
            Ok(Some(session)) => {
                health.send_if_modified(|health| match health {
                    Health::Alive(at) => {
                        *at = Instant::now();
                        true
                    }
                    Health::Ended => false,
                });
                pause(&database, session, interval).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the heartbeat failed; trying again");
                tokio::time::sleep(HEARTBEAT_RETRY).await;
            }
        }
    }
}

/// Waits for the next heartbeat, which is due at once when the session is found gone: whoever sees
/// that it is gone leaves this process no more than one heartbeat to come back.
async fn pause(database: &Database, session: HeartbeatSession, interval: Duration) {
    let until = Instant::now() + interval;
    while Instant::now() < until {
        tokio::time::sleep(interval / LOOKS_PER_HEARTBEAT).await;
        // A session that is gone is replaced by this, or cannot be.
        let flight = database.lease.get().await;
        if flight.is_ok_and(|flight| flight.backend_pid() == session.backend_pid) {
            continue;
        }
        return;
    }
}
