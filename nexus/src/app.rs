//! What every endpoint works with: the database, the executor, the configured defaults.

use std::sync::Arc;

use db_model::Database;
use db_model::model::ProjectLimits;
use db_model::pool::ReadPool;
use db_model::types::limits::OPERATION_STREAMS_MAX;
use sagas::Executor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The state of the service, cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    database: Database,
    executor: Executor,
    project_limits: ProjectLimits,
    ending: CancellationToken,
    waits_end: CancellationToken,
    streams: Arc<Semaphore>,
}

impl App {
    /// The state from its parts. `project_limits` are the limits of a project whose creator names
    /// none.
    pub fn new(database: Database, executor: Executor, project_limits: ProjectLimits) -> Self {
        let (ending, waits_end) = (CancellationToken::new(), CancellationToken::new());
        let parts = Parts {
            database,
            executor,
            project_limits,
            ending,
            waits_end,
            streams: Arc::new(Semaphore::new(OPERATION_STREAMS_MAX)),
        };
        Self(Arc::new(parts))
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The pool for reads.
    pub fn reads(&self) -> &ReadPool {
        &self.0.database.reads
    }

    /// Who runs the sagas.
    pub fn executor(&self) -> &Executor {
        &self.0.executor
    }

    /// The limits of a project whose creator names none.
    pub fn project_limits(&self) -> ProjectLimits {
        self.0.project_limits
    }

    /// Cancelled when the process has begun to end.
    pub fn ending(&self) -> &CancellationToken {
        &self.0.ending
    }

    /// A place for a caller who follows an operation, until it is dropped; none while all are taken.
    pub fn stream_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.streams).try_acquire_owned().ok()
    }

    /// Cancelled when callers who wait for their operation shall be told to look later, because
    /// the process is about to end.
    pub fn waits_end(&self) -> &CancellationToken {
        &self.0.waits_end
    }
}
