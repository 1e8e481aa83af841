//! Why a transaction, or a section of one, came to nothing.

use std::fmt;

use super::core::Core;
use crate::batch::error::{BatchError, Busy};
use crate::batch::sqlstate::Blast;
use crate::effect::EffectInTransaction;

/// The first thing that went wrong. What follows from it is never the cause.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A step, or the commit, was refused by the server, or no session was to be had; nothing stands.
    #[error(transparent)]
    Database(#[from] BatchError),
    /// The connection was lost before the commit went out: the server rolls back by itself.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The body gave up for a reason of its own.
    #[error("aborted: {0}")]
    Aborted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The whole took longer than a transaction may.
    #[error("the transaction took longer than {0:?}")]
    TookTooLong(std::time::Duration),
    /// An effect was refused inside it, or it was itself one inside another.
    #[error(transparent)]
    Effect(#[from] EffectInTransaction),
    /// The layer was used in a way that it does not allow. A bug.
    #[error("{0}")]
    Misuse(String),
}

impl Cause {
    /// Whether cancelling the section in which it happened leaves the rest of the transaction sound.
    pub fn is_recoverable(&self) -> bool {
        match self {
            Self::Aborted(_) => true,
            Self::Database(BatchError::Busy(Busy::Conflict { .. })) => false,
            Self::Database(error) => match error.server() {
                Some(said) => said.kills() == Blast::Statement,
                None => error.is_final(),
            },
            Self::Lost(_) | Self::TookTooLong(_) | Self::Effect(_) | Self::Misuse(_) => false,
        }
    }

    /// Whether the same transaction, run again as a whole, may well succeed.
    pub(super) fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Database(error) => matches!(error, BatchError::Busy(Busy::Conflict { .. })),
            _ => false,
        }
    }
}

/// A transaction in which something failed. Nothing more goes to the server but what undoes it.
#[must_use = "give it back to the transaction's owner, or let `?` do so"]
pub struct Failure {
    /// Gone when the transaction cannot go on in any case.
    core: Option<Box<Core>>,
    cause: Box<Cause>,
}

impl Failure {
    pub(super) fn new(core: Box<Core>, cause: Cause) -> Self {
        Self {
            core: Some(core),
            cause: Box::new(cause),
        }
    }

    pub(super) fn without(cause: Cause) -> Self {
        Self {
            core: None,
            cause: Box::new(cause),
        }
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The transaction and why its section failed, if the rest of it may go on.
    pub(super) fn recover(self, id: u64) -> Result<(Box<Core>, Cause), Self> {
        let Self { core, cause } = self;
        match core {
            Some(core) if core.id() == id && cause.is_recoverable() && core.is_recoverable() => {
                Ok((core, *cause))
            }
            core => Err(Self { core, cause }),
        }
    }

    pub(super) fn into_parts(self) -> (Option<Box<Core>>, Cause) {
        (self.core, *self.cause)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Failure").field(&self.cause).finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(formatter)
    }
}
