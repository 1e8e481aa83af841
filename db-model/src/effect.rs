//! No effect outside of the database while a transaction is open.
//!
//! An outside call inside a transaction holds its locks for as long as somebody else likes, and cannot
//! be taken back when the transaction is. A second session inside one waits for a pool whose sessions
//! may all be waiting likewise. So both need what a transaction borrows: [`Effects`] for outside calls
//! and wake-ups, and the [`Database`](crate::Database) that holds it for sessions; misuse does not
//! compile. Where a clone of a handle gets around that, a task-local guard does not let it pass. It is
//! the guard of one task and does not see those that are spawned in a body: none is, which the sources
//! are searched for.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::EFFECT_MISUSES;

/// What happens when an effect is tried inside a transaction in a way that the compiler did not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMisuse {
    /// It panics: a test fails where the mistake is.
    Panic,
    /// It is refused, counted, and logged once.
    Refuse,
}

impl Default for OnMisuse {
    /// [`OnMisuse::Panic`] where debug assertions are on, [`OnMisuse::Refuse`] otherwise.
    fn default() -> Self {
        if cfg!(debug_assertions) {
            Self::Panic
        } else {
            Self::Refuse
        }
    }
}

/// The transaction that a task has open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub owner: &'static str,
    pub on_misuse: OnMisuse,
}

tokio::task_local! {
    static OPEN: Open;
}

/// An effect that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{effect} is refused inside the open transaction {owner}: commit first, or make it a hook")]
pub struct EffectInTransaction {
    /// The effect, in words.
    pub effect: &'static str,
    /// The owner of the transaction.
    pub owner: &'static str,
}

/// An effect that is let pass inside a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The effect, by the name under which it is tried.
    pub effect: &'static str,
    /// Why it can do no harm there.
    pub reason: &'static str,
}

/// Every effect that is let pass. There is none; one that is added says why.
pub const ALLOWED: &[Allowed] = &[];

/// The right to have an effect outside of the database. A transaction borrows it.
///
/// A [`Database`](crate::Database) holds it; there is no other way to it.
#[derive(Clone)]
pub struct Effects {
    _held_by_the_database: (),
}

impl Effects {
    pub(crate) const fn new() -> Self {
        Self {
            _held_by_the_database: (),
        }
    }

    /// Awaits an outside call, which `effect` names in words, such as "an HTTP call".
    ///
    /// # Errors
    /// [`EffectInTransaction`] when the task has a transaction open; the call is not begun then.
    pub async fn call<F: Future>(
        &self,
        effect: &'static str,
        call: F,
    ) -> Result<F::Output, EffectInTransaction> {
        check(effect)?;
        Ok(call.await)
    }

    /// Wakes somebody up, which `effect` names in words.
    ///
    /// # Errors
    /// [`EffectInTransaction`] when the task has a transaction open: whoever wakes would not see what
    /// it is woken for.
    pub fn wake(
        &self,
        effect: &'static str,
        wake: impl FnOnce(),
    ) -> Result<(), EffectInTransaction> {
        check(effect)?;
        wake();
        Ok(())
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Effects")
    }
}

/// How many effects this process has refused.
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Runs what happens inside a transaction.
pub(crate) async fn inside<F: Future>(open: Open, body: F) -> F::Output {
    OPEN.scope(open, body).await
}

/// Refuses an effect when the task has a transaction open.
pub(crate) fn check(effect: &'static str) -> Result<(), EffectInTransaction> {
    static LOGGED: OnceLock<()> = OnceLock::new();
    let Ok(open) = OPEN.try_with(|open| *open) else {
        return Ok(());
    };
    if ALLOWED.iter().any(|allowed| allowed.effect == effect) {
        return Ok(());
    }
    let error = EffectInTransaction {
        effect,
        owner: open.owner,
    };
    assert!(open.on_misuse != OnMisuse::Panic, "{error}");
    REFUSED.fetch_add(1, Ordering::Relaxed);
    metrics::counter!(EFFECT_MISUSES, "effect" => effect).increment(1);
    LOGGED.get_or_init(
        || tracing::error!(%error, "an effect inside a transaction; later ones are only counted"),
    );
    Err(error)
}
