//! What can become of a batch that did not commit, or may not have.

use std::fmt;

use super::flight::ServerError;
use crate::constraint::Refusal;
use crate::pool::PoolError;

/// A step by its place in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepName {
    /// Its label.
    pub label: &'static str,
    /// Its index, from 0.
    pub index: usize,
}

impl fmt::Display for StepName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (step {})", self.label, self.index)
    }
}

/// Why a batch is not reported as committed. Nothing of it is in the database, unless the variant
/// is [`BatchError::Recorded`], [`BatchError::Ambiguous`], [`BatchError::TooLarge`] or
/// [`BatchError::Unreadable`]. As the cause of a transaction that was rolled back none of
/// them leaves anything there.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The batch was not sent: it could not be rendered, or passes a limit. A bug.
    #[error("the batch cannot be sent: {0}")]
    Invalid(String),
    /// A step was refused for a reason that the domain knows.
    #[error("{step} was refused: {refusal}")]
    Refused {
        /// The step.
        step: StepName,
        /// Why.
        refusal: Refusal,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// The batch's key was there already: this very batch has committed before, and this try did
    /// nothing.
    #[error("{step} found the key of the batch, which has committed before: {error}")]
    Recorded {
        /// The step that holds the key ([`super::Step::key`]).
        step: StepName,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// A step failed for a reason that nobody mapped. A bug, or the server is in trouble.
    #[error("{step} failed at try {attempts}: {error}")]
    Unexpected {
        /// The step.
        step: StepName,
        /// How often the batch was sent.
        attempts: u32,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// Every step ran, and the commit itself was refused.
    #[error("the commit failed at try {attempts}: {error}")]
    AtCommit {
        /// How often the batch was sent.
        attempts: u32,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// The database could not do it now; the same batch may well succeed later.
    #[error("the database is busy or away: {0}")]
    Busy(#[source] Busy),
    /// The connection was lost after the Sync had gone out: it may have committed or not. Sending
    /// the same keyed batch again finds out; a read does not.
    #[error("the outcome is unknown: {0}")]
    Ambiguous(String),
    /// Its answers are more than a flight may carry. A batch has committed; a transaction whose step it
    /// was is rolled back. A bug.
    #[error("{0}")]
    TooLarge(String),
    /// An answer does not read as its step's type. A batch has committed; a transaction whose step it
    /// was is rolled back. A bug.
    #[error("{step} answered what cannot be read: {message}")]
    Unreadable {
        /// The step.
        step: StepName,
        /// What is wrong with the answer.
        message: String,
    },
}

/// Why the database could not do it now.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// No connection was to be had in time, or the database does not answer.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The connection broke before the batch had left in full.
    #[error("the batch was not sent: {0}")]
    NotSent(String),
    /// A serialization failure or a deadlock, and the retries are used up.
    #[error("{step} conflicted {attempts} times: {error}")]
    Conflict {
        /// The step, or `None` at the commit.
        step: StepOrCommit,
        /// How often the batch was sent.
        attempts: u32,
        /// What the server said last.
        error: Box<ServerError>,
    },
    /// The server is in trouble, whatever the statement.
    #[error("{step} met a server in trouble at try {attempts}: {error}")]
    Server {
        /// The step.
        step: StepOrCommit,
        /// How often the batch was sent.
        attempts: u32,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// A lock or statement time-out.
    #[error("{step} ran into a time-out at try {attempts}: {error}")]
    Timeout {
        /// The step.
        step: StepOrCommit,
        /// How often the batch was sent.
        attempts: u32,
        /// What the server said.
        error: Box<ServerError>,
    },
}

impl From<PoolError> for BatchError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::InTransaction(error) => Self::Invalid(error.to_string()),
            error => Self::Busy(error.into()),
        }
    }
}

/// Where a batch failed: in a step, or at the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOrCommit {
    /// In a step.
    Step(StepName),
    /// At the commit.
    Commit,
}

impl fmt::Display for StepOrCommit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => step.fmt(formatter),
            Self::Commit => formatter.write_str("the commit"),
        }
    }
}

impl BatchError {
    /// Whether it is certain that the try did nothing, and that sending the batch again as it is
    /// would do nothing either: it was refused, it cannot be sent, or it has committed before.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Invalid(_)
            | Self::Refused { .. }
            | Self::Recorded { .. }
            | Self::Unexpected { .. }
            | Self::AtCommit { .. } => true,
            Self::Busy(_) | Self::Ambiguous(_) | Self::TooLarge(_) | Self::Unreadable { .. } => {
                false
            }
        }
    }

    /// Which kind it is, in one word for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Refused { .. } => "refused",
            Self::Recorded { .. } => "recorded",
            Self::Unexpected { .. } => "unexpected",
            Self::AtCommit { .. } => "at_commit",
            Self::Busy(Busy::Pool(_)) => "no_session",
            Self::Busy(Busy::NotSent(_)) => "not_sent",
            Self::Busy(Busy::Conflict { .. }) => "conflict",
            Self::Busy(Busy::Server { .. }) => "server_in_trouble",
            Self::Busy(Busy::Timeout { .. }) => "timeout",
            Self::Ambiguous(_) => "unknown",
            Self::TooLarge(_) | Self::Unreadable { .. } => "unreadable",
        }
    }

    /// What the server said, if it said something.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Refused { error, .. }
            | Self::Recorded { error, .. }
            | Self::Unexpected { error, .. }
            | Self::AtCommit { error, .. } => Some(error),
            Self::Busy(
                Busy::Conflict { error, .. }
                | Busy::Timeout { error, .. }
                | Busy::Server { error, .. },
            ) => Some(error),
            _ => None,
        }
    }

    /// How often the batch was sent when the server said so, if it said something that is
    /// neither a refusal nor [`BatchError::Recorded`].
    pub fn attempts(&self) -> Option<u32> {
        match self {
            Self::Unexpected { attempts, .. }
            | Self::AtCommit { attempts, .. }
            | Self::Busy(
                Busy::Conflict { attempts, .. }
                | Busy::Timeout { attempts, .. }
                | Busy::Server { attempts, .. },
            ) => Some(*attempts),
            _ => None,
        }
    }

    /// The step that failed, if it was one.
    pub fn step(&self) -> Option<StepName> {
        match self {
            Self::Refused { step, .. }
            | Self::Recorded { step, .. }
            | Self::Unexpected { step, .. }
            | Self::Unreadable { step, .. } => Some(*step),
            Self::Busy(
                Busy::Conflict {
                    step: StepOrCommit::Step(step),
                    ..
                }
                | Busy::Timeout {
                    step: StepOrCommit::Step(step),
                    ..
                }
                | Busy::Server {
                    step: StepOrCommit::Step(step),
                    ..
                },
            ) => Some(*step),
            _ => None,
        }
    }

    /// The name of the constraint or guard that was broken, if it was one.
    pub fn constraint(&self) -> Option<&str> {
        self.server()?.constraint.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_or_may_be_committed_is_not_final() {
        let step = StepName {
            label: "a.step",
            index: 0,
        };
        let message = String::new;
        for error in [
            BatchError::Ambiguous(message()),
            BatchError::TooLarge(message()),
            BatchError::Unreadable {
                step,
                message: message(),
            },
            BatchError::Busy(Busy::NotSent(message())),
        ] {
            assert!(!error.is_final(), "{error:?}");
        }
        let unexpected = BatchError::Unexpected {
            step,
            attempts: 1,
            error: Box::default(),
        };
        assert!(unexpected.is_final());
        let recorded = BatchError::Recorded {
            step,
            error: Box::default(),
        };
        assert!(recorded.is_final());
        assert!(BatchError::Invalid(message()).is_final());
    }
}
