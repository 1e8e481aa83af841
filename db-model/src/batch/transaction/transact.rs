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
use super::seat::Owner;
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
    /// It has [`TRANSACTION_DEADLINE`] time.
    ///
    /// The commit runs in a task of its own: a caller that goes away does not cut it. One that goes
    /// away before ends the session, and the server rolls back.
    ///
    /// ```
    /// use db_model::Database;
    /// use db_model::batch::{Options, Step, TransactionError};
    /// use db_model::schema::project_quota::dsl;
    /// use diesel::prelude::*;
    /// use uuid::Uuid;
    ///
    /// /// Lowers a project's limit to what it uses; gives the new limit.
    /// async fn lower(database: &mut Database, project: Uuid) -> Result<i64, TransactionError> {
    ///     let of_project = || dsl::project_quota.filter(dsl::project_id.eq(project));
    ///     let lowered = database.transact(Options::new("lower"), async |tx| {
    ///         let used = of_project().select(dsl::instances_used).for_update();
    ///         let (tx, used) = tx.run(Step::<Vec<i64>>::rows("used", used)).await?;
    ///         let Some(&used) = used.first() else {
    ///             return Err(tx.abort("there is no such project"));
    ///         };
    ///         let limit = diesel::update(of_project()).set(dsl::instances_limit.eq(used));
    ///         let (tx, ()) = tx.run(Step::exactly_one("limit", limit)).await?;
    ///         Ok((tx, used))
    ///     });
    ///     lowered.await.into_result()
    /// }
    /// ```
    pub async fn transact<T, F, Fut>(&mut self, options: Options, mut body: F) -> Outcome<T>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<(Transaction, T), Failure>>,
    {
        let mut attempts = 1;
        loop {
            let hooks = Hooks::default();
            let cause = match self.attempt(options, &hooks, attempts, &mut body).await {
                Ended::Committed(value, hook_errors) => {
                    count(options.owner, "committed");
                    return Outcome::Committed {
                        value,
                        attempts,
                        hook_errors,
                    };
                }
                Ended::Unknown(cause) => {
                    tracing::warn!(
                        owner = options.owner,
                        cause,
                        "nobody knows how a transaction ended"
                    );
                    count(options.owner, "unknown");
                    return Outcome::Unknown { cause };
                }
                Ended::RolledBack(cause) => cause,
            };
            if matches!(cause, Cause::TookTooLong(_)) {
                tracing::warn!(
                    owner = options.owner,
                    "a transaction took too long and is rolled back"
                );
            }
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
    ) -> Ended<T>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<(Transaction, T), Failure>>,
    {
        let (core, owner) = match self.open(options, hooks, attempt).await {
            Ok(open) => open,
            Err(cause) => return Ended::RolledBack(cause),
        };
        let id = core.id();
        let open = Open {
            owner: options.owner,
            on_misuse: options.on_misuse,
        };
        let inside = effect::inside(open, async {
            let (transaction, value) = body(Transaction { core }).await?;
            let transaction = before_commit(transaction, hooks).await?;
            Ok::<_, Failure>((transaction.core, value))
        });
        match timeout(TRANSACTION_DEADLINE, inside).await {
            Ok(Ok((core, value))) if core.id() == id => {
                let commit = commit(core, owner, self.writes.clone(), hooks.clone());
                match tokio::spawn(commit).await {
                    Ok(ended) => ended.with(value),
                    Err(error) => {
                        Ended::Unknown(format!("the task of the commit ended early: {error}"))
                    }
                }
            }
            Ok(Ok(_)) => Ended::RolledBack(Cause::Misuse(
                "the body gave back another transaction than it got".to_owned(),
            )),
            Ok(Err(failure)) => roll_back(failure).await,
            Err(_elapsed) => Ended::RolledBack(Cause::TookTooLong(TRANSACTION_DEADLINE)),
        }
    }

    async fn open(
        &self,
        options: Options,
        hooks: &Hooks,
        attempt: u32,
    ) -> Result<(Box<Core>, Owner), Cause> {
        effect::check("another transaction")?;
        let flight = self.writes.get().await.map_err(BatchError::from)?;
        let (core, owner) = Core::new(flight, options, hooks.clone(), attempt);
        Ok((Box::new(core), owner))
    }
}

/// How one run of a body ended.
enum Ended<T> {
    Committed(T, Vec<HookError>),
    RolledBack(Cause),
    Unknown(String),
}

impl Ended<()> {
    fn with<T>(self, value: T) -> Ended<T> {
        match self {
            Self::Committed((), hook_errors) => Ended::Committed(value, hook_errors),
            Self::RolledBack(cause) => Ended::RolledBack(cause),
            Self::Unknown(cause) => Ended::Unknown(cause),
        }
    }
}

fn count(owner: &'static str, outcome: &'static str) {
    metrics::counter!(TRANSACTIONS, "owner" => owner, "outcome" => outcome).increment(1);
}

async fn roll_back<T>(failure: Failure) -> Ended<T> {
    let (core, cause) = failure.into_parts();
    if let Some(mut core) = core {
        if core.has_ended() {
            return Ended::Unknown(cause.to_string());
        }
        core.roll_back().await;
    }
    Ended::RolledBack(cause)
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
async fn commit(mut core: Box<Core>, owner: Owner, writes: WritePool, hooks: Hooks) -> Ended<()> {
    let commit = core.commit().await;
    if matches!(commit, Commit::RolledBack(_)) {
        core.roll_back().await;
    }
    drop(core);
    drop(owner);
    match commit {
        Commit::Committed => {}
        Commit::RolledBack(cause) => return Ended::RolledBack(cause),
        Commit::Torn(cause) => return Ended::Unknown(cause),
        Commit::Unanswered(cause, identity) => match resolve::resolve(&writes, identity).await {
            Resolution::Committed => {}
            Resolution::Aborted => return Ended::RolledBack(Cause::Lost(cause)),
            Resolution::Unknown(why) => return Ended::Unknown(format!("{cause}; {why}")),
        },
    }
    Ended::Committed((), hook::drain(hooks.take_after(true)).await)
}
