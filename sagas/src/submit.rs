//! A saga from its submission to its end, as the caller sees it.

use std::marker::PhantomData;
use std::sync::Arc;

use db_model::batch::BatchError;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::definition::Saga;
use crate::engine::drive::Ended;
use crate::engine::run::Run;
use crate::failure::Failure;

/// Why a saga was not submitted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// As many run as may.
    #[error("{limit} operations are running, which is as many as may run at once")]
    Busy {
        /// How many may.
        limit: usize,
    },
    /// As many run for its project as may.
    #[error("{limit} operations of this project are running, which is as many as may run at once")]
    ProjectBusy {
        /// How many may.
        limit: usize,
    },
    /// The process is shutting down.
    #[error("this process is shutting down")]
    Draining,
    /// The lease is over. If the saga reached the database all the same, another process ends it.
    #[error("this process has lost its lease")]
    Lost,
    /// The database was away or slow; nothing was started.
    #[error("{0}")]
    Unavailable(#[source] Arc<BatchError>),
    /// The parameters are no JSON, or the database answered what nobody expects. A bug.
    #[error("{0}")]
    Unexpected(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl SubmitError {
    pub(crate) fn unavailable(error: BatchError) -> Self {
        Self::Unavailable(Arc::new(error))
    }

    pub(crate) fn unexpected(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unexpected(Arc::new(error))
    }

    /// Why the batch that writes a saga's row did not commit.
    pub(crate) fn of_insert(error: BatchError) -> Self {
        let state = error
            .server()
            .map(|server| (server.sqlstate.as_str(), server.column.as_deref()));
        match (&error, state) {
            // No live row of this executor: see `saga::insert`.
            (_, Some(("23502", Some("executor_id")))) => Self::Lost,
            (BatchError::Busy(_) | BatchError::Ambiguous(_), _) => Self::unavailable(error),
            _ => Self::unexpected(error),
        }
    }
}

/// How a saga ended.
#[derive(Clone, Debug)]
#[must_use = "a saga that failed looks like one that succeeded to whoever does not look"]
pub enum Outcome<T> {
    /// Every node is done.
    Succeeded(T),
    /// A node failed, and everything is undone.
    Failed(Failure),
    /// A node failed before anything was written: there is no such saga, and never was.
    Refused(Failure),
    /// An undo was given up; a person has to look.
    Stuck(Failure),
    /// Another process has the saga now: look again.
    Lost,
    /// The database did not take the saga.
    NotTaken(SubmitError),
}

/// A saga that was submitted.
#[derive(Debug)]
pub struct Submitted<S> {
    any: SubmittedAny,
    saga: PhantomData<fn() -> S>,
}

impl<S: Saga> Submitted<S> {
    pub(crate) fn new(any: SubmittedAny) -> Self {
        Self {
            any,
            saga: PhantomData,
        }
    }

    /// The saga's id, which is the operation's.
    pub fn id(&self) -> Uuid {
        self.any.id()
    }

    /// Whether its row is durable. Until then nobody may be told its id.
    pub fn is_born(&self) -> bool {
        self.any.is_born()
    }

    /// Nobody waits any more. A saga whose row is durable goes on; one whose row is not is given up, unless
    /// its first batch is on its way and commits.
    pub fn give_up(&self) {
        self.any.give_up();
    }

    /// Waits for the end. Dropping it or its future cancels nothing.
    pub async fn outcome(&mut self) -> Outcome<S::Output> {
        match self.any.outcome().await {
            Outcome::Succeeded(output) => match serde_json::from_value(output) {
                Ok(output) => Outcome::Succeeded(output),
                Err(error) => {
                    let message = format!("the saga succeeded, its output does not read: {error}");
                    Outcome::Stuck(Failure::unexpected("", message))
                }
            },
            Outcome::Failed(failure) => Outcome::Failed(failure),
            Outcome::Refused(failure) => Outcome::Refused(failure),
            Outcome::Stuck(failure) => Outcome::Stuck(failure),
            Outcome::Lost => Outcome::Lost,
            Outcome::NotTaken(error) => Outcome::NotTaken(error),
        }
    }
}

/// A saga that was submitted without its types.
#[derive(Debug)]
pub struct SubmittedAny {
    run: Arc<Run>,
    ended: watch::Receiver<Option<Ended>>,
}

impl SubmittedAny {
    pub(crate) fn new(run: Arc<Run>, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self { run, ended }
    }

    /// The saga's id.
    pub fn id(&self) -> Uuid {
        self.run.fence.saga_id
    }

    /// [`Submitted::is_born`].
    pub fn is_born(&self) -> bool {
        self.run.is_born()
    }

    /// [`Submitted::give_up`].
    pub fn give_up(&self) {
        self.run.give_up();
    }

    /// Waits for the end.
    pub async fn outcome(&mut self) -> Outcome<Value> {
        let ended = match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Lost),
            // The saga's task is gone without a word: it runs on elsewhere or here, but not for us.
            Err(_) => Ended::Lost,
        };
        match ended {
            Ended::Succeeded(output) => Outcome::Succeeded(output),
            Ended::Failed(failure) => Outcome::Failed(failure),
            Ended::Refused(failure) => Outcome::Refused(failure),
            Ended::Stuck(failure) => Outcome::Stuck(failure),
            Ended::Lost => Outcome::Lost,
            Ended::Never(error) => Outcome::NotTaken(error),
        }
    }
}
