//! The database of one process: its pools, and the name under which its sessions are known.

use uuid::Uuid;

use crate::batch::{Batch, BatchError, Step};
use crate::connect::ConnectOptions;
use crate::effect::Effects;
use crate::pool::{PoolOptions, ReadPool, WritePool};
use crate::query::executor::session_name;
use crate::types::limits::RECOVERY_POOL_SIZE_MAX;

/// All sessions of one process.
#[derive(Clone, Debug)]
pub struct Database {
    /// For batches.
    pub writes: WritePool,
    /// For reads; its sessions refuse to write.
    pub reads: ReadPool,
    /// For sagas that were taken over, so that however many there are, requests have their own.
    pub recovery: WritePool,
    /// One session of its own for the heartbeat, so that load on the others never delays it.
    pub lease: WritePool,
    /// For outside calls and wake-ups; a transaction borrows it along with the sessions.
    pub effects: Effects,
    executor_id: Uuid,
}

impl Database {
    /// Pools that connect when they are first asked. Must be called on a Tokio runtime.
    ///
    /// The sessions carry the executor's id in their `application_name`, by which a take-over finds
    /// and ends what a dead process has left.
    pub fn new(options: ConnectOptions, pools: &PoolOptions, executor_id: Uuid) -> Self {
        let options = options.application_name(session_name(executor_id));
        let lease = PoolOptions {
            write_size: 1,
            ..*pools
        };
        let recovery = PoolOptions {
            write_size: pools.write_size.min(RECOVERY_POOL_SIZE_MAX),
            ..*pools
        };
        Self {
            writes: WritePool::new(options.clone(), pools),
            recovery: WritePool::new(options.clone(), &recovery),
            reads: ReadPool::new(options.clone(), pools),
            lease: WritePool::new(options, &lease),
            effects: Effects::new(),
            executor_id,
        }
    }

    /// The executor whose sessions these are.
    pub fn executor_id(&self) -> Uuid {
        self.executor_id
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`BatchError`], when it gives none in time.
    pub async fn ping(&self) -> Result<(), BatchError> {
        let ping = Step::statement("database.ping", diesel::sql_query("SELECT 1"));
        Batch::new().step(ping).discard().commit(&self.writes).await
    }
}
