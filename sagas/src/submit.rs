//! A saga from its submission to its end, as the caller sees it.

use std::marker::PhantomData;

use db_model::batch::BatchError;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::definition::Saga;
use crate::engine::drive::Ended;
use crate::failure::Failure;

/// Why a saga was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// As many run as may.
    #[error("{limit} operations are running, which is as many as may run at once")]
    Busy {
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
    Unavailable(#[source] BatchError),
    /// The parameters are no JSON, or the database answered what nobody expects. A bug.
    #[error("{0}")]
    Unexpected(Box<dyn std::error::Error + Send + Sync>),
}

/// How a saga ended.
#[derive(Clone, Debug)]
#[must_use = "a saga that failed looks like one that succeeded to whoever does not look"]
pub enum Outcome<T> {
    /// Every node is done.
    Succeeded(T),
    /// A node failed, and everything is undone.
    Failed(Failure),
    /// An undo was refused; a person has to look.
    Stuck(Failure),
    /// Another process has the saga now: look again.
    Lost,
}

/// What became of the insert of a saga's row.
pub(crate) enum Insertion {
    /// An earlier try of the same batch had committed.
    Done,
    /// It did not happen.
    Failed(SubmitError),
}

pub(crate) fn insertion_of(error: BatchError) -> Insertion {
    let state = error
        .server()
        .map(|server| (server.sqlstate.as_str(), server.column.as_deref()));
    match (&error, state) {
        (BatchError::Recorded { .. }, _) => Insertion::Done,
        // No live row of this executor: see `saga::insert`.
        (_, Some(("23502", Some("executor_id")))) => Insertion::Failed(SubmitError::Lost),
        (BatchError::Busy(_) | BatchError::Ambiguous(_), _) => {
            Insertion::Failed(SubmitError::Unavailable(error))
        }
        _ => Insertion::Failed(SubmitError::Unexpected(error.into())),
    }
}

/// A saga that was submitted.
#[derive(Debug)]
pub struct Submitted<S> {
    id: Uuid,
    ended: watch::Receiver<Option<Ended>>,
    saga: PhantomData<fn() -> S>,
}

impl<S> Submitted<S> {
    pub(crate) fn new(id: Uuid, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self {
            id,
            ended,
            saga: PhantomData,
        }
    }
}

impl<S: Saga> Submitted<S> {
    /// The saga's id, which is the operation's.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Waits for the end. Dropping it or its future cancels nothing.
    pub async fn outcome(&mut self) -> Outcome<S::Output> {
        match wait(&mut self.ended).await {
            Ended::Succeeded(output) => match serde_json::from_value(output) {
                Ok(output) => Outcome::Succeeded(output),
                Err(error) => {
                    let message = format!("the saga succeeded, its output does not read: {error}");
                    Outcome::Stuck(Failure::unexpected("", message))
                }
            },
            Ended::Failed(failure) => Outcome::Failed(failure),
            Ended::Stuck(failure) => Outcome::Stuck(failure),
            Ended::Lost => Outcome::Lost,
        }
    }
}

/// A saga that was submitted without its types.
#[derive(Debug)]
pub struct SubmittedAny {
    pub(crate) id: Uuid,
    pub(crate) ended: watch::Receiver<Option<Ended>>,
}

impl SubmittedAny {
    /// The saga's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Waits for the end.
    pub async fn outcome(&mut self) -> Outcome<Value> {
        match wait(&mut self.ended).await {
            Ended::Succeeded(output) => Outcome::Succeeded(output),
            Ended::Failed(failure) => Outcome::Failed(failure),
            Ended::Stuck(failure) => Outcome::Stuck(failure),
            Ended::Lost => Outcome::Lost,
        }
    }
}

async fn wait(ended: &mut watch::Receiver<Option<Ended>>) -> Ended {
    match ended.wait_for(Option::is_some).await {
        Ok(ended) => ended.clone().unwrap_or(Ended::Lost),
        // The saga's task is gone without a word: it runs on elsewhere or here, but not for us.
        Err(_) => Ended::Lost,
    }
}
