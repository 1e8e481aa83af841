//! What a transaction is asked to be.

use std::time::Duration;

use crate::batch::settings::{Isolation, Timeouts};
use crate::effect::OnMisuse;

/// How a transaction shall run.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Options {
    pub(super) owner: &'static str,
    pub(super) isolation: Isolation,
    pub(super) read_only: bool,
    pub(super) timeouts: Timeouts,
    pub(super) on_misuse: OnMisuse,
}

impl Options {
    /// Read committed, for writing, with the session's time-outs. `owner` says in the log whose it is.
    pub fn new(owner: &'static str) -> Self {
        Self {
            owner,
            isolation: Isolation::default(),
            read_only: false,
            timeouts: Timeouts::default(),
            on_misuse: OnMisuse::default(),
        }
    }

    /// Another isolation level. A conflict runs the whole transaction again.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Refuses writes.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Longest wait for a lock, instead of the session's.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.lock = Some(timeout);
        self
    }

    /// Longest time for each statement, instead of the session's.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.statement = Some(timeout);
        self
    }

    /// Longest time between two steps before the server ends the session, instead of the session's.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.idle = Some(timeout);
        self
    }

    /// What happens when an outside effect is tried in it.
    pub fn on_misuse(mut self, on_misuse: OnMisuse) -> Self {
        self.on_misuse = on_misuse;
        self
    }

    pub(super) fn begin(&self) -> String {
        let access = if self.read_only { " READ ONLY" } else { "" };
        format!("BEGIN ISOLATION LEVEL {}{access}", self.isolation.sql())
    }
}
