//! Owning a transaction: begin, run its body, commit or roll back, and run the whole again.

use std::future::Future;

use tokio::time::timeout;

use super::Transaction;
use super::core::{Commit, Core};
use super::failure::{Cause, Failure};
use super::hooks::Hooks;
use super::options::Options;
use super::outcome::Outcome;
use super::resolve::{self, Resolution};
use crate::Database;
use crate::batch::error::BatchError;
use crate::batch::hook::{self, HookError};
use crate::batch::send::pause;
use crate::effect::{self, Open};
use crate::metrics::{TRANSACTION_RETRIES, TRANSACTIONS};
use crate::pool::WritePool;
use crate::types::limits::{BATCH_ATTEMPTS_MAX, HOOK_ROUNDS_MAX, TRANSACTION_DEADLINE};

impl Database {
    /// Runs `body` in a transaction and commits what it gives back; rolls back when it fails.
    ///
    /// After a conflict (40001, 40P01) the whole runs again, at most
    /// [`BATCH_ATTEMPTS_MAX`] times, so the body must do nothing but run steps. While it runs, it
    /// borrows this handle: with another one at hand, sessions and outside effects are refused as well.
    ///
    /// The commit runs in a task of its own: a caller that goes away does not cut it. One that goes
    /// away before ends the session, and the server rolls back.
    pub async fn transact<T, F, Fut>(&mut self, options: Options, mut body: F) -> Outcome<T>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<(Transaction, T), Failure>>,
    {
        let mut attempts = 1;
        loop {
            let hooks = Hooks::default();
            let ended = self.attempt(options, &hooks, attempts, &mut body).await;
            let cause = match ended {
                Ok((value, Ended::Committed(hook_errors))) => {
                    count(options.owner, "committed");
                    return Outcome::Committed {
                        value,
                        attempts,
                        hook_errors,
                    };
                }
                Ok((_, Ended::Unknown(cause))) => {
                    tracing::warn!(
                        owner = options.owner,
                        cause,
                        "nobody knows how a transaction ended"
                    );
                    count(options.owner, "unknown");
                    return Outcome::Unknown { cause };
                }
                Ok((_, Ended::RolledBack(cause))) | Err(cause) => cause,
            };
            if !cause.is_worth_another_try() || attempts >= BATCH_ATTEMPTS_MAX {
                let hook_errors = hook::drain(hooks.take_after(false)).await;
                count(options.owner, "rolled_back");
                return Outcome::RolledBack {
                    cause,
                    attempts,
                    hook_errors,
                };
            }
            tracing::debug!(owner = options.owner, attempts, %cause, "a transaction runs again");
            metrics::counter!(TRANSACTION_RETRIES, "owner" => options.owner).increment(1);
            tokio::time::sleep(pause(attempts)).await;
            attempts += 1;
        }
    }

    async fn attempt<T, F, Fut>(
        &self,
        options: Options,
        hooks: &Hooks,
        attempt: u32,
        body: &mut F,
    ) -> Result<(T, Ended), Cause>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<(Transaction, T), Failure>>,
    {
        effect::check("another transaction")?;
        let flight = self.writes.get().await.map_err(BatchError::from)?;
        let core = Core::new(flight, options, hooks.clone(), attempt);
        let id = core.id();
        let open = Open {
            owner: options.owner,
            on_misuse: options.on_misuse,
        };
        let inside = effect::inside(open, async {
            let core = Box::new(core);
            let (transaction, value) = body(Transaction { core }).await?;
            let transaction = before_commit(transaction, hooks).await?;
            Ok::<_, Failure>((transaction.core, value))
        });
        match timeout(TRANSACTION_DEADLINE, inside).await {
            Ok(Ok((core, value))) if core.id() == id => {
                let writes = self.writes.clone();
                let hooks = hooks.clone();
                let ended = tokio::spawn(commit(core, writes, hooks)).await;
                let ended = ended.unwrap_or_else(|error| {
                    Ended::Unknown(format!("the task of the commit ended early: {error}"))
                });
                Ok((value, ended))
            }
            Ok(Ok(_)) => Err(Cause::Misuse(
                "the body gave back another transaction than it got".to_owned(),
            )),
            Ok(Err(failure)) => {
                let (core, cause) = failure.into_parts();
                if let Some(mut core) = core {
                    core.roll_back().await;
                }
                Err(cause)
            }
            Err(_elapsed) => {
                tracing::warn!(
                    owner = options.owner,
                    "a transaction took too long and is rolled back"
                );
                Err(Cause::TookTooLong(TRANSACTION_DEADLINE))
            }
        }
    }
}

fn count(owner: &'static str, outcome: &'static str) {
    metrics::counter!(TRANSACTIONS, "owner" => owner, "outcome" => outcome).increment(1);
}

enum Ended {
    Committed(Vec<HookError>),
    RolledBack(Cause),
    Unknown(String),
}

/// Runs the hooks that have to run inside, and those that they register.
async fn before_commit(
    mut transaction: Transaction,
    hooks: &Hooks,
) -> Result<Transaction, Failure> {
    for _ in 0..HOOK_ROUNDS_MAX {
        let round = hooks.take_before_commit();
        if round.is_empty() {
            return Ok(transaction);
        }
        for hook in round {
            tracing::trace!(hook = hook.name, "a hook runs before the commit");
            transaction = (hook.run)(transaction).await?;
        }
    }
    if hooks.take_before_commit().is_empty() {
        return Ok(transaction);
    }
    let message = format!("hooks before the commit have registered hooks {HOOK_ROUNDS_MAX} times");
    Err(Failure::new(transaction.core, Cause::Misuse(message)))
}

/// Commits and finds out how it ended; the session is back before any hook runs.
async fn commit(mut core: Box<Core>, writes: WritePool, hooks: Hooks) -> Ended {
    let commit = core.commit().await;
    if matches!(commit, Commit::RolledBack(_)) {
        core.roll_back().await;
    }
    drop(core);
    match commit {
        Commit::Committed => {}
        Commit::RolledBack(cause) => return Ended::RolledBack(cause),
        Commit::Unknown(cause, identity) => match resolve::resolve(&writes, identity).await {
            Resolution::Committed => {}
            Resolution::Aborted => return Ended::RolledBack(Cause::Lost(cause)),
            Resolution::Unknown(why) => return Ended::Unknown(format!("{cause}; {why}")),
        },
    }
    Ended::Committed(hook::drain(hooks.take_after(true)).await)
}
