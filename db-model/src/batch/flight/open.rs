//! Flights inside a transaction that BEGIN has opened: each ends in a Sync, and the transaction goes on.

use super::error::{FlightError, NotSent, ServerError};
use super::{Answer, Flight, Query};
use std::time::Duration;
use tokio::time::Instant;

/// What a ReadyForQuery says of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No transaction is open.
    Idle,
    /// A transaction is open.
    Open,
    /// A transaction is open in which a statement has failed: the server takes nothing but its end.
    Failed,
}

impl Standing {
    pub(super) fn of(status: u8) -> Option<Self> {
        match status {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// What became of the statements of one flight inside a transaction.
#[derive(Debug)]
pub struct Landing {
    /// The answers of those that completed.
    pub answers: Vec<Answer>,
    /// How many completed: the index of the one that failed, if one did.
    pub completed: usize,
    /// Why a statement failed; the later ones were skipped.
    pub error: Option<Box<ServerError>>,
    /// Whether it failed because a statement that the session had prepared no longer fits its tables. The
    /// session has forgotten it.
    pub stale: bool,
    /// Whether the rows were more than a flight may carry; they are not among the answers then.
    pub too_large: bool,
    /// How the session stands now.
    pub standing: Standing,
}

impl Flight {
    /// What the last ReadyForQuery said; nothing once something was written since, or the session is lost.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.standing
    }

    /// Runs `queries` in order, up to the first that fails, and leaves the session as it stands then. Unlike
    /// [`Flight::fly`] it may begin with, end with and stay within a transaction; such a session is not clean and goes
    /// back to no pool. Whoever calls it judges the [`Landing`]: an error in it is no `Err`.
    ///
    /// Statements that the server finds stale are forgotten, but not sent again: the transaction has failed.
    ///
    /// # Errors
    /// If the session was lost. What that means for the transaction depends on whether COMMIT was among the queries.
    pub async fn fly_open(
        &mut self,
        queries: &[Query],
        deadline: Duration,
    ) -> Result<Landing, FlightError> {
        if self.standing.is_none() {
            return Err(NotSent::Poisoned.into());
        }
        let plan = self.cache.plan(queries);
        let (state, standing, sync_left) =
            self.land(queries, &plan, Instant::now() + deadline).await?;
        let standing = match standing {
            Ok(standing) => standing,
            Err(lost) => return Err(state.into_lost(lost, sync_left)),
        };
        let mut landing = state.into_landing(standing);
        let error = landing.error.as_ref();
        landing.stale = error.is_some_and(|error| error.is_stale_statement())
            && plan.is_warm(landing.completed);
        if landing.stale {
            self.cache.forget(&plan, queries);
        }
        Ok(landing)
    }
}
