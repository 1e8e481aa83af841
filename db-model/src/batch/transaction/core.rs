//! The session of an open transaction: what was sent, what waits to be sent, and how it stands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Cause;
use super::hooks::Hooks;
use super::options::Options;
use super::resolve::Identity;
use super::seat::{Owner, Seat};
use crate::batch::classify::classify;
use crate::batch::error::{BatchError, Busy, StepName, StepOrCommit};
use crate::batch::flight::{
    Answer, FlightError, Landing, Lost, NotSent, Query, ServerError, Standing, chain,
};
use crate::batch::settings::plain;
use crate::batch::sqlstate::Blast;
use crate::batch::step::{Refusals, SentStep, Step};
use crate::pool::PooledFlight;
use crate::types::limits::{
    BATCH_DEADLINE, BATCH_LOCKING_BYTES_MAX, TRANSACTION_DEADLINE, TRANSACTION_HELD_QUIET,
    TRANSACTION_ROLLBACK_DEADLINE, TRANSACTION_STEPS_MAX,
};

/// Of what the layer itself sends.
const NO_REFUSALS: Refusals = |_, _| None;
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
    seat: Seat,
    backend_pid: i32,
    options: Options,
    id: u64,
    attempt: u32,
    /// Whether BEGIN has been sent.
    begun: bool,
    /// Whether everything that the layer itself has sent was done.
    is_sound: bool,
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
    /// No answer came; the server can be asked, by the identity. None is a transaction that had
    /// written nothing.
    Unanswered(String, Option<Identity>),
    /// Something was committed, and not all of it, or not it alone.
    Torn(String),
}

impl Core {
    /// A transaction on a session, and what takes the session away from it.
    pub fn new(
        flight: PooledFlight,
        options: Options,
        hooks: Hooks,
        attempt: u32,
    ) -> (Self, Owner) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let now = Instant::now();
        let backend_pid = flight.backend_pid();
        let (seat, owner) = Seat::new(flight);
        let core = Self {
            seat,
            backend_pid,
            options,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            attempt,
            begun: false,
            is_sound: true,
            pending: Vec::new(),
            sections: Vec::new(),
            sections_opened: 0,
            steps: 0,
            identity: None,
            hooks,
            landed: now,
            until: now + TRANSACTION_DEADLINE,
        };
        (core, owner)
    }

    /// Tells this transaction from every other of the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
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

    /// Whether the server has ended the transaction though nobody here asked it to: what was done until
    /// then may be committed.
    pub fn has_ended(&self) -> bool {
        self.begun && self.seat.standing() == Some(Standing::Idle)
    }

    /// Whether a section that failed may be cancelled, and the rest go on.
    pub fn is_recoverable(&self) -> bool {
        self.is_usable() && self.is_sound
    }

    /// Whether the session still carries the transaction.
    pub fn is_usable(&self) -> bool {
        match self.seat.standing() {
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
            .map_err(|message| BatchError::Invalid(format!("{name}: {message}")))?;
        if query.bytes() > BATCH_LOCKING_BYTES_MAX {
            let message = format!(
                "{name} has {} bytes, at most {BATCH_LOCKING_BYTES_MAX} are allowed",
                query.bytes()
            );
            return Err(BatchError::Invalid(message).into());
        }
        self.warn_if_held();
        let mut queries = self.prelude();
        let place = queries.len();
        queries.push(query);
        // Known before the commit, or it cannot be asked for after it.
        let identify = self.identity.is_none() && !self.options.read_only;
        if identify {
            queries.push(Identity::query());
        }
        let deadline = BATCH_DEADLINE.min(self.time_left());
        let landing = match self.fly(&queries, deadline).await {
            Ok(landing) => landing,
            Err(error) => return Err(self.lost(name, step.refusals, error)),
        };
        self.begun |= landing.completed > 0;
        self.pending.clear();
        if let Some(error) = landing.error {
            let refusals = if landing.completed == place {
                step.refusals
            } else {
                // Not the step's, but of what went with it: of that nothing is sure any more.
                self.is_sound = false;
                NO_REFUSALS
            };
            if landing.stale {
                // The next run prepares the statement anew.
                let busy = Busy::Conflict {
                    step: StepOrCommit::Step(name),
                    attempts: self.attempt,
                    error,
                };
                return Err(BatchError::Busy(busy).into());
            }
            return Err(self.classified(Some((name, refusals)), error));
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
        let landing = self.seat.fly(queries, deadline).await;
        self.landed = Instant::now();
        landing
    }

    /// What it means that a step's flight gave no landing. Nothing of the transaction will be committed.
    fn lost(&self, name: StepName, refusals: Refusals, error: FlightError) -> Cause {
        match error {
            FlightError::NotSent(cause @ (NotSent::TooLarge { .. } | NotSent::Invalid { .. })) => {
                BatchError::Invalid(format!("{name} cannot be sent: {}", chain(&cause))).into()
            }
            // The step had failed before the session was lost: that is what came first. A section could
            // have been cancelled, though, and only the loss ends what is around it.
            FlightError::Ambiguous(Lost::Fatal(error))
                if !error.is_fatal() && self.sections.is_empty() =>
            {
                self.classified(Some((name, refusals)), error)
            }
            _ if self.time_left().is_zero() => Cause::TookTooLong(TRANSACTION_DEADLINE),
            error => Cause::Lost(chain(&error)),
        }
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
        queries.extend([Identity::probe(), plain("COMMIT")]);
        let landing = match self.fly(&queries, BATCH_DEADLINE).await {
            Ok(landing) => landing,
            Err(FlightError::Ambiguous(Lost::Fatal(error)))
                if !error.is_fatal() && error.kills() != Blast::CommitUnknown =>
            {
                return Commit::RolledBack(self.classified(None, error));
            }
            // Also when the Sync never left: COMMIT takes effect when it is executed.
            Err(error) => return Commit::Unanswered(chain(&error), self.identity.take()),
        };
        if let Some(error) = landing.error {
            // An error after COMMIT has completed, or one that says so itself, decides nothing.
            if landing.completed == queries.len() || error.kills() == Blast::CommitUnknown {
                return Commit::Unanswered(error.to_string(), self.identity.take());
            }
            return Commit::RolledBack(match error.sqlstate.as_str() {
                IN_FAILED_TRANSACTION => Cause::Misuse("a step failed unnoticed".to_owned()),
                _ => self.classified(None, error),
            });
        }
        let probe = landing.answers.iter().rev().nth(1);
        let other = self
            .identity
            .as_ref()
            .is_some_and(|identity| !probe.is_some_and(|probe| identity.is_probed(probe)));
        if landing.standing != Standing::Idle || other {
            let message = "what was committed is not the transaction that was begun".to_owned();
            return Commit::Torn(message);
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
        let landing = self.seat.fly(&rollback, TRANSACTION_ROLLBACK_DEADLINE);
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
                    cause = chain(&error),
                    "a rollback got no answer; its session is ended"
                );
            }
        }
    }
}

impl Drop for Core {
    /// Whoever holds it no longer, rolls back: at once, and not when its owner ends.
    fn drop(&mut self) {
        self.seat.vacate();
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
