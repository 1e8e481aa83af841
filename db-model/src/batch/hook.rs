//! Hooks: what is to happen once a transaction has ended, outside of any transaction.
//!
//! They live in memory and die with the process: good for caches, counters and wake-ups. What must not
//! be lost is a row that commits with the transaction.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::metrics::HOOK_FAILURES;
use crate::types::limits::{HOOK_DEADLINE, HOOK_ROUNDS_MAX};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Run = Box<dyn FnOnce(Queue) -> BoxFuture<'static, Result<(), Error>> + Send>;

/// One thing to do after a transaction has ended.
pub struct Hook {
    name: &'static str,
    run: Run,
}

impl Hook {
    /// A hook by its name, under which it is reported when it fails.
    ///
    /// It may queue further hooks, which run after those that wait. It has
    /// [`HOOK_DEADLINE`] time.
    pub fn new<F, Fut, E>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(Queue) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>,
    {
        let run = |queue| async { run(queue).await.map_err(Into::into) }.boxed();
        Self {
            name,
            run: Box::new(run),
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Hook").field(&self.name).finish()
    }
}

/// A hook that failed. What the transaction did stays done, and the other hooks run.
#[derive(Debug, thiserror::Error)]
#[error("hook {name} failed")]
pub struct HookError {
    /// The hook.
    pub name: &'static str,
    /// Why.
    #[source]
    pub error: Error,
}

/// Where a running hook puts further hooks.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Mutex<VecDeque<Hook>>>);

impl Queue {
    /// Queues a hook, to run in the same drain.
    pub fn push(&self, hook: Hook) {
        self.lock().push_back(hook);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Hook>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> VecDeque<Hook> {
        std::mem::take(&mut *self.lock())
    }
}

/// Runs hooks in order, and those that they queue, in at most [`HOOK_ROUNDS_MAX`] rounds. One that
/// fails, panics or takes too long stops no other. Gives those that failed; they are logged here.
pub(super) async fn drain(hooks: Vec<Hook>) -> Vec<HookError> {
    let queue = Queue::default();
    let mut round = VecDeque::from(hooks);
    let mut failed = Vec::new();
    for _ in 0..HOOK_ROUNDS_MAX {
        for Hook { name, run } in round {
            if let Err(error) = run_one(run, queue.clone()).await {
                failed.push(HookError { name, error });
            }
        }
        round = queue.take();
        if round.is_empty() {
            break;
        }
    }
    for Hook { name, .. } in round {
        let error = format!("hooks have queued hooks {HOOK_ROUNDS_MAX} times: it was not run");
        let error = error.into();
        failed.push(HookError { name, error });
    }
    for HookError { name, error } in &failed {
        metrics::counter!(HOOK_FAILURES, "hook" => *name).increment(1);
        tracing::error!(hook = name, %error, "a hook failed; the transaction stays as it ended");
    }
    failed
}

async fn run_one(run: Run, queue: Queue) -> Result<(), Error> {
    let hook = AssertUnwindSafe(async { run(queue).await }).catch_unwind();
    match tokio::time::timeout(HOOK_DEADLINE, hook).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err("it panicked".into()),
        Err(_elapsed) => Err(format!("it took longer than {HOOK_DEADLINE:?}").into()),
    }
}
