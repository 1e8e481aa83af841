//! Why a saga failed, as it is recorded.

use std::fmt;

use db_model::batch::BatchError;
use db_model::constraint::Refusal;
use serde::{Deserialize, Serialize};

use crate::definition::{ErrorClass, NodeError};

/// The first error of a saga. Its JSON stands in `saga.error` and in the event of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The node whose action failed.
    pub node: String,
    /// The step of its batch that failed, unless the node refused without a batch.
    pub step: Option<String>,
    /// How often it was tried, where that is more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Why.
    pub cause: Cause,
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// For a reason that the domain knows.
    Refused(Refusal),
    /// For a reason that nobody mapped: a bug, or a server in trouble.
    Unexpected {
        /// What was said, without values of rows.
        message: String,
        /// The SQLSTATE, if the server said it.
        sqlstate: Option<String>,
        /// The constraint, if it was one.
        constraint: Option<String>,
    },
    /// What an outside call or a computation came to.
    Call {
        /// What kind of error the last try met.
        class: ErrorClass,
        /// What was said, for a person.
        message: String,
    },
}

impl Failure {
    /// From what became of a node's batch.
    pub(crate) fn from_batch(node: &str, error: &BatchError) -> Self {
        let cause = match error {
            BatchError::Refused { refusal, .. } => Cause::Refused(refusal.clone()),
            other => Cause::Unexpected {
                message: other.to_string(),
                sqlstate: other.server().map(|server| server.sqlstate.clone()),
                constraint: other.constraint().map(str::to_owned),
            },
        };
        let step = error.step().map(|step| step.label.to_owned());
        Self {
            node: node.to_owned(),
            step,
            attempts: None,
            cause,
        }
    }

    /// From what the last of an outside call's tries, or a computation's, came to.
    pub(crate) fn from_call(node: &str, class: ErrorClass, attempts: u32, message: String) -> Self {
        Self {
            node: node.to_owned(),
            step: None,
            attempts: Some(attempts),
            cause: Cause::Call { class, message },
        }
    }

    /// The same after so many tries.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// How often it was tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(1)
    }

    /// From what a node's function said instead of giving a batch.
    pub(crate) fn from_node(node: &str, error: NodeError) -> Self {
        match error {
            NodeError::Refused(refusal) => Self {
                node: node.to_owned(),
                step: None,
                attempts: None,
                cause: Cause::Refused(refusal),
            },
            NodeError::Corrupt(message) => Self::unexpected(node, message),
        }
    }

    /// Whether it failed for a reason that is none of the domain's.
    pub fn is_unexpected(&self) -> bool {
        !matches!(self.cause, Cause::Refused(_))
    }

    /// An error that no batch stands behind.
    pub(crate) fn unexpected(node: &str, message: String) -> Self {
        let cause = Cause::Unexpected {
            message,
            sqlstate: None,
            constraint: None,
        };
        Self {
            node: node.to_owned(),
            step: None,
            attempts: None,
            cause,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node {}", self.node)?;
        if let Some(step) = &self.step {
            write!(formatter, ", step {step}")?;
        }
        match &self.cause {
            Cause::Refused(refusal) => write!(formatter, ": {refusal}")?,
            Cause::Unexpected { message, .. } => write!(formatter, ": {message}")?,
            Cause::Call { class, message } => write!(formatter, ": {class}: {message}")?,
        }
        match self.attempts {
            Some(attempts) if attempts > 1 => write!(formatter, " (tried {attempts} times)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
