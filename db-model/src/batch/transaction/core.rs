//! The session of an open transaction: what was sent, what waits to be sent, and how it stands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Cause;
use super::hooks::Hooks;
use super::options::Options;
use super::resolve::Identity;
use crate::batch::classify::classify;
use crate::batch::error::{BatchError, Busy, StepName, StepOrCommit};
use crate::batch::flight::{Answer, FlightError, Landing, Lost, Query, ServerError, Standing};
use crate::batch::settings::plain;
use crate::batch::step::{Refusals, SentStep, Step};
use crate::pool::PooledFlight;
use crate::types::limits::{
    BATCH_DEADLINE, TRANSACTION_DEADLINE, TRANSACTION_HELD_QUIET, TRANSACTION_ROLLBACK_DEADLINE,
    TRANSACTION_STEPS_MAX,
};

/// What the server says to everything but the end of a transaction in which something failed.
const IN_FAILED_TRANSACTION: &str = "25P02";
/// What it says to a write in a transaction that was asked to be read only.
const READ_ONLY_TRANSACTION: &str = "25006";

/// A section that is open.
struct Section {
    name: &'static str,
    savepoint: String,
}

pub(super) struct Core {
    flight: PooledFlight,
    options: Options,
    id: u64,
    attempt: u32,
    /// Whether BEGIN has been sent.
    begun: bool,
    /// What goes before the next step.
    pending: Vec<Query>,
    sections: Vec<Section>,
    sections_opened: usize,
    steps: usize,
    /// Which transaction it is to the server, once it has written something.
    identity: Option<Identity>,
    hooks: Hooks,
    landed: Instant,
    until: Instant,
}

/// How a commit ended, as far as the session could tell.
pub(super) enum Commit {
    Committed,
    RolledBack(Cause),
    /// Nobody knows; whoever asks needs the identity.
    Unknown(String, Option<Identity>),
}

impl Core {
    pub fn new(flight: PooledFlight, options: Options, hooks: Hooks, attempt: u32) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let now = Instant::now();
        Self {
            flight,
            options,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            attempt,
            begun: false,
            pending: Vec::new(),
            sections: Vec::new(),
            sections_opened: 0,
            steps: 0,
            identity: None,
            hooks,
            landed: now,
            until: now + TRANSACTION_DEADLINE,
        }
    }

    /// Tells this transaction from every other of the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub fn backend_pid(&self) -> i32 {
        self.flight.backend_pid()
    }

    pub fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How many sections are open.
    pub fn depth(&self) -> usize {
        self.sections.len()
    }

    /// How many sections there have been.
    pub fn sections_opened(&self) -> usize {
        self.sections_opened
    }

    /// Whether the session still carries the transaction.
    pub fn is_usable(&self) -> bool {
        match self.flight.standing() {
            Some(Standing::Open | Standing::Failed) => true,
            Some(Standing::Idle) => !self.begun,
            None => false,
        }
    }

    pub async fn run<T>(&mut self, step: Step<T>) -> Result<T, Cause> {
        let Step { sent, decode } = step;
        let name = StepName {
            label: sent.label,
            index: self.steps,
        };
        let answer = self.send(name, sent).await?;
        decode(answer).map_err(|message| {
            BatchError::Unreadable {
                step: name,
                message,
            }
            .into()
        })
    }

    async fn send(&mut self, name: StepName, step: SentStep) -> Result<Answer, Cause> {
        if self.steps >= TRANSACTION_STEPS_MAX {
            let message = format!("more than {TRANSACTION_STEPS_MAX} steps in a transaction");
            return Err(BatchError::Invalid(message).into());
        }
        self.steps += 1;
        let query = step
            .query
            .map_err(|message| BatchError::Invalid(format!("{name} cannot be sent: {message}")))?;
        self.warn_if_held();
        let mut queries = self.prelude();
        let place = queries.len();
        queries.push(query);
        // Known before the commit, or it cannot be asked for after it.
        let identify = self.identity.is_none() && !self.options.read_only;
        if identify {
            queries.push(Identity::query());
        }
        let landing = self.fly(&queries, BATCH_DEADLINE).await;
        let landing = landing.map_err(|error| Cause::Lost(lost(&error)))?;
        self.begun = true;
        self.pending.clear();
        if let Some(error) = landing.error {
            if landing.completed < place {
                // Not the step's: what sections had to say was cut short, and nothing is sure any more.
                let step = StepOrCommit::Step(name);
                let attempts = self.attempt;
                let busy = Busy::Server {
                    step,
                    attempts,
                    error,
                };
                return Err(BatchError::Busy(busy).into());
            }
            return Err(self.classified(Some((name, step.refusals)), error));
        }
        if landing.too_large {
            return Err(BatchError::TooLarge(format!("{name} answered too many rows")).into());
        }
        if landing.standing != Standing::Open {
            return Err(Cause::Misuse(format!("{name} ended the transaction")));
        }
        let mut answers = landing.answers;
        if identify {
            self.identity = answers.pop().and_then(|answer| Identity::read(&answer));
        }
        answers
            .into_iter()
            .nth(place)
            .ok_or_else(|| Cause::Lost(format!("no answer to {name}")))
    }

    /// BEGIN, if it has not gone out, and what sections have left to say.
    fn prelude(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        if !self.begun {
            queries.push(plain(self.options.begin()));
            queries.extend(self.options.timeouts.query());
        }
        queries.extend(self.pending.iter().cloned());
        queries
    }

    async fn fly(&mut self, queries: &[Query], deadline: Duration) -> Result<Landing, FlightError> {
        let deadline = deadline.min(self.time_left());
        let landing = self.flight.fly_open(queries, deadline).await;
        self.landed = Instant::now();
        landing
    }

    fn classified(&self, step: Option<(StepName, Refusals)>, error: Box<ServerError>) -> Cause {
        match (classify(step, error, self.attempt), step) {
            // The transaction was asked to be read only: it is the step that is wrong, not the server.
            (
                BatchError::Busy(Busy::Server {
                    attempts, error, ..
                }),
                Some((step, _)),
            ) if self.options.read_only && error.sqlstate == READ_ONLY_TRANSACTION => {
                BatchError::Unexpected {
                    step,
                    attempts,
                    error,
                }
                .into()
            }
            (error, _) => error.into(),
        }
    }

    /// Its locks are held meanwhile, whatever it was that took so long.
    fn warn_if_held(&self) {
        let held = self.landed.elapsed();
        if self.begun && held > TRANSACTION_HELD_QUIET {
            tracing::warn!(
                owner = self.options.owner,
                held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
                "a transaction was kept open with nothing to do; its locks were held"
            );
        }
    }

    pub fn open_section(&mut self, name: &'static str) {
        self.sections_opened += 1;
        let savepoint = format!("section_{}", self.sections_opened);
        self.pending.push(plain(format!("SAVEPOINT {savepoint}")));
        self.sections.push(Section { name, savepoint });
    }

    /// The section at `depth` has ended well.
    pub fn end_section(&mut self, depth: usize) {
        self.close_section(depth, false);
        self.hooks.end_section(depth);
    }

    /// The section at `depth`, and all in it, came to nothing.
    pub fn cancel_section(&mut self, depth: usize) {
        self.close_section(depth, true);
        self.hooks.cancel_section(depth);
    }

    fn close_section(&mut self, depth: usize, undo: bool) {
        self.sections.truncate(depth);
        let Some(Section { name, savepoint }) = self.sections.pop() else {
            return;
        };
        tracing::trace!(
            owner = self.options.owner,
            section = name,
            undo,
            "a section ends"
        );
        let begin = format!("SAVEPOINT {savepoint}");
        if let Some(place) = self.pending.iter().position(|query| *query.sql == *begin) {
            // Nothing of it has gone out.
            self.pending.truncate(place);
            return;
        }
        if undo {
            self.pending.clear();
            self.pending
                .push(plain(format!("ROLLBACK TO SAVEPOINT {savepoint}")));
        }
        self.pending
            .push(plain(format!("RELEASE SAVEPOINT {savepoint}")));
    }

    /// Commits, and looks whether it did: the probe fails in a transaction in which anything failed
    /// unnoticed, and tells another transaction from this one.
    pub async fn commit(&mut self) -> Commit {
        if !self.begun {
            return Commit::Committed;
        }
        self.warn_if_held();
        let mut queries = self.prelude();
        queries.extend([Identity::query(), plain("COMMIT")]);
        let landing = match self.fly(&queries, BATCH_DEADLINE).await {
            Ok(landing) => landing,
            Err(FlightError::Ambiguous(Lost::Fatal(error))) if !error.is_fatal() => {
                return Commit::RolledBack(self.classified(None, error));
            }
            // Also when the Sync never left: COMMIT takes effect when it is executed.
            Err(error) => return Commit::Unknown(lost(&error), self.identity.take()),
        };
        if let Some(error) = landing.error {
            return Commit::RolledBack(match error.sqlstate.as_str() {
                IN_FAILED_TRANSACTION => Cause::Misuse("a step failed unnoticed".to_owned()),
                _ => self.classified(None, error),
            });
        }
        let probed = landing.answers.iter().rev().nth(1);
        let probed = probed.and_then(Identity::read);
        if landing.standing != Standing::Idle
            || (self.identity.is_some() && probed != self.identity)
        {
            let message = "what was committed is not the transaction that was begun".to_owned();
            return Commit::Unknown(message, None);
        }
        Commit::Committed
    }

    /// Rolls back. When that fails, the session is not clean and goes back to no pool: the server rolls
    /// back when it has noticed.
    pub async fn roll_back(&mut self) {
        if !self.begun || !self.is_usable() {
            return;
        }
        let rollback = [plain("ROLLBACK")];
        let landing = self
            .flight
            .fly_open(&rollback, TRANSACTION_ROLLBACK_DEADLINE);
        match landing.await {
            Ok(Landing { error: None, .. }) => {}
            Ok(Landing {
                error: Some(error), ..
            }) => {
                tracing::warn!(owner = self.options.owner, %error, "a rollback was refused; its session is ended");
            }
            Err(error) => {
                tracing::debug!(
                    owner = self.options.owner,
                    cause = lost(&error),
                    "a rollback got no answer; its session is ended"
                );
            }
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections: Vec<_> = self.sections.iter().map(|section| section.name).collect();
        formatter
            .debug_struct("Transaction")
            .field("owner", &self.options.owner)
            .field("steps", &self.steps)
            .field("sections", &sections)
            .finish_non_exhaustive()
    }
}

/// An error with its source, for nothing of it is known to be the server's word.
fn lost(error: &FlightError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
