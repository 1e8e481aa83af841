//! Transactions: the rare case that must read and then decide what to write.
//!
//! A [`Transaction`] is a value that its body gets and gives back. [`Database::transact`] owns it:
//! it begins, commits and rolls back, and the body has nothing with which to do so. A step that fails
//! takes the transaction with it into a [`Failure`], from which the body gets no way on; inside a
//! section, the owner of the section may cancel it and go on with the rest.
//!
//! [`Database::transact`]: crate::Database::transact

mod core;
mod failure;
mod hooks;
mod options;
mod outcome;
mod resolve;
mod seat;
mod transact;

use std::future::Future;
use std::time::Duration;

pub use failure::{Cause, Failure};
pub use options::Options;
pub use outcome::{Outcome, TransactionError};

use self::core::Core;
use super::hook::Hook;
use super::step::Step;
use crate::types::limits::{
    TRANSACTION_HOOKS_MAX, TRANSACTION_SECTIONS_DEPTH_MAX, TRANSACTION_SECTIONS_MAX,
};

/// An open transaction in which nothing has failed.
///
/// Dropping it rolls back: its session is ended and never used again.
#[derive(Debug)]
#[must_use = "a transaction that is not given back is rolled back"]
pub struct Transaction {
    core: Box<Core>,
}

impl Transaction {
    /// Runs a step. BEGIN travels with the first one.
    ///
    /// # Errors
    /// [`Failure`], which holds what is left of the transaction: give it back, or let `?` do so.
    pub async fn run<T>(mut self, step: Step<T>) -> Result<(Self, T), Failure> {
        match self.core.run(step).await {
            Ok(output) => Ok((self, output)),
            Err(cause) => Err(Failure::new(self.core, cause)),
        }
    }

    /// Runs `body` inside a section, a savepoint. When it fails for a reason of its own, everything
    /// that it did is undone and the transaction goes on: the result is in the inner `Result`.
    ///
    /// It costs no round trip of its own: the savepoint travels with the section's first step, and its
    /// end or undoing with the next one.
    ///
    /// # Errors
    /// [`Failure`], when the body failed for a reason that ends the transaction as a whole: a conflict
    /// (40001, 40P01), for an older snapshot would go on as if nothing were; a lost connection; a
    /// server in trouble. Also when sections are nested deeper than
    /// [`TRANSACTION_SECTIONS_DEPTH_MAX`], or are more than [`TRANSACTION_SECTIONS_MAX`] together.
    pub async fn section<T, F, Fut>(
        mut self,
        name: &'static str,
        body: F,
    ) -> Result<(Self, Result<T, Cause>), Failure>
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = Result<(Self, T), Failure>>,
    {
        if self.core.depth() >= TRANSACTION_SECTIONS_DEPTH_MAX
            || self.core.sections_opened() >= TRANSACTION_SECTIONS_MAX
        {
            let message = format!(
                "section {name} is one too many: at most {TRANSACTION_SECTIONS_DEPTH_MAX} deep and \
                 {TRANSACTION_SECTIONS_MAX} in all"
            );
            return Err(Failure::new(self.core, Cause::Misuse(message)));
        }
        let id = self.core.id();
        self.core.open_section(name);
        let depth = self.core.depth();
        match body(self).await {
            Ok((mut transaction, value)) if transaction.core.id() == id => {
                transaction.core.end_section(depth);
                Ok((transaction, Ok(value)))
            }
            Ok((_other, _)) => Err(Failure::without(Cause::Misuse(format!(
                "section {name} gave back another transaction than it got"
            )))),
            Err(failure) => {
                let (mut core, cause) = failure.recover(id)?;
                core.cancel_section(depth);
                Ok((Self { core }, Err(cause)))
            }
        }
    }

    /// Gives the innermost section up, or the whole transaction outside of any, for a reason of one's own.
    pub fn abort(self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        Failure::new(self.core, Cause::Aborted(reason.into()))
    }

    /// Has `hook` run before the commit, inside the transaction; its failure ends it.
    ///
    /// # Errors
    /// [`Failure`], when there are [`TRANSACTION_HOOKS_MAX`] already.
    pub fn before_commit<F, Fut>(self, name: &'static str, hook: F) -> Result<Self, Failure>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Self, Failure>> + Send + 'static,
    {
        self.hooked(|core| core.hooks().before_commit(core.depth(), name, hook))
    }

    /// Has `hook` run after the commit, after those that are there; never if the section that is open
    /// now is cancelled.
    ///
    /// # Errors
    /// [`Failure`], when there are [`TRANSACTION_HOOKS_MAX`] already.
    pub fn after_commit(self, hook: Hook) -> Result<Self, Failure> {
        self.hooked(|core| core.hooks().after_commit(core.depth(), hook, false))
    }

    /// Like [`Transaction::after_commit`], before those that are there.
    ///
    /// # Errors
    /// Those of [`Transaction::after_commit`].
    pub fn after_commit_first(self, hook: Hook) -> Result<Self, Failure> {
        self.hooked(|core| core.hooks().after_commit(core.depth(), hook, true))
    }

    /// Has `hook` run after the rollback of the transaction, or of the section that is open now: then
    /// also when the transaction commits, after it.
    ///
    /// # Errors
    /// [`Failure`], when there are [`TRANSACTION_HOOKS_MAX`] already.
    pub fn after_rollback(self, hook: Hook) -> Result<Self, Failure> {
        self.hooked(|core| core.hooks().after_rollback(core.depth(), hook))
    }

    /// The server's process that runs it, as `pg_stat_activity` has it.
    pub fn backend_pid(&self) -> i32 {
        self.core.backend_pid()
    }

    /// How long it may still take.
    pub fn time_left(&self) -> Duration {
        self.core.time_left()
    }

    fn hooked(self, register: impl FnOnce(&Core) -> bool) -> Result<Self, Failure> {
        if register(&self.core) {
            return Ok(self);
        }
        let message = format!("more than {TRANSACTION_HOOKS_MAX} hooks");
        Err(Failure::new(self.core, Cause::Misuse(message)))
    }
}
