//! How a transaction ended.

use super::failure::Cause;
use crate::batch::hook::HookError;

/// How a transaction ended, and which of its hooks failed.
#[derive(Debug)]
#[must_use = "a transaction that was rolled back looks like one that was committed to whoever does not look"]
pub enum Outcome<T> {
    /// Everything in it is in the database, whatever became of the hooks.
    Committed {
        /// What the body gave.
        value: T,
        /// How often the body ran.
        attempts: u32,
        /// Hooks that failed.
        hook_errors: Vec<HookError>,
    },
    /// Nothing of it is in the database.
    RolledBack {
        /// The first thing that went wrong.
        cause: Cause,
        /// How often the body ran.
        attempts: u32,
        /// Hooks that failed.
        hook_errors: Vec<HookError>,
    },
    /// The connection was lost at the commit, and the server could not be asked how it ended. No hook
    /// has run.
    Unknown {
        /// What was lost, and why asking did not help.
        cause: String,
    },
}

/// A transaction that is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// Nothing of it is in the database.
    #[error("the transaction was rolled back: {0}")]
    RolledBack(#[source] Cause),
    /// It may be, or not.
    #[error("the outcome of the transaction is unknown: {0}")]
    Unknown(String),
}

impl<T> Outcome<T> {
    /// What the body gave, if it was committed.
    ///
    /// # Errors
    /// [`TransactionError`], if it was not, or nobody knows.
    pub fn into_result(self) -> Result<T, TransactionError> {
        match self {
            Self::Committed { value, .. } => Ok(value),
            Self::RolledBack { cause, .. } => Err(TransactionError::RolledBack(cause)),
            Self::Unknown { cause } => Err(TransactionError::Unknown(cause)),
        }
    }
}
