//! Nodes that call out: at least once, under a key, and undone whenever they may have had an effect.
//!
//! That the call may happen is durable, under the fence, before the first one: whatever takes over knows
//! that there may be something to undo, and a process that lost the saga begins no call. An undo never
//! gives up by itself before its policy says so, and is parked then.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use db_model::types::SagaEventKind;
use db_model::types::limits::BATCH_DEADLINE;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::commit::{Committed, Own};
use super::log::{self, Decision, Draft};
use super::run::{Begun, Run, Stopped, id_of, lock, nothing};
use crate::definition::{Call, CallError, ErasedContext, ErrorClass, Node, Work};
use crate::failure::Failure;

/// What makes one call.
type Function<T> =
    dyn Fn(Call<ErasedContext>) -> BoxFuture<'static, Result<T, CallError>> + Send + Sync;

impl Run {
    /// Runs an external node.
    pub(super) async fn call(&self, node: usize, begun: Begun) -> Result<Decision, Stopped> {
        let Node {
            name, policy, work, ..
        } = &self.definition.nodes[node];
        let Work::External(function, _) = work else {
            unreachable!("only external nodes come here");
        };
        if lock(&self.log).is_unwinding() {
            // Nobody needs it any more, and what it may have done is undone next.
            return Ok(Err(Failure::from_call(
                name,
                ErrorClass::Refused,
                0,
                UNWINDS.to_owned(),
            )));
        }
        self.mark(node, SagaEventKind::Started, begun).await?;
        let again = |error: &CallError, attempt| {
            !lock(&self.log).is_unwinding() && policy.tries_again(error.class, attempt)
        };
        let called = self.repeat(node, "an outside call", function.as_ref(), again);
        match called.await? {
            Ok((output, attempt)) => self.succeeded(node, output, begun, attempt).await,
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Records what a call gave.
    async fn succeeded(
        &self,
        node: usize,
        output: Value,
        begun: Begun,
        attempt: u32,
    ) -> Result<Decision, Stopped> {
        let node_id = id_of(node);
        loop {
            let data = Some(output.clone());
            let draft = begun.draft(node_id, SagaEventKind::Succeeded, attempt, data);
            match self.record(draft).await? {
                Committed::Now => return Ok(Ok(output)),
                Committed::Before(events) => {
                    if let Some(decided) = log::decision(&events, node_id) {
                        return Ok(decided);
                    }
                }
                Committed::Not(error) => {
                    let name = &self.definition.nodes[node].name;
                    return Ok(Err(Failure::from_batch(name, &error)));
                }
                Committed::Ended(_) | Committed::Again => {}
            }
        }
    }

    /// Runs the undo of an external node, unless it never began.
    pub(super) async fn call_undo(
        &self,
        node: usize,
        begun: Begun,
    ) -> Result<Result<(), Failure>, Stopped> {
        let Node { policy, work, .. } = &self.definition.nodes[node];
        let Work::External(_, undo) = work else {
            unreachable!("only external nodes come here");
        };
        let node_id = id_of(node);
        if !lock(&self.log).has(node_id, SagaEventKind::Started) {
            return Ok(Ok(()));
        }
        self.mark(node, SagaEventKind::UndoStarted, begun).await?;
        let again = |_: &CallError, attempt| attempt < policy.undo_attempts_max;
        let undone = self.repeat(node, "the undo of an outside call", undo.as_ref(), again);
        match undone.await? {
            Ok(((), attempt)) => {
                let kind = SagaEventKind::UndoFinished;
                self.mark_done(begun.draft(node_id, kind, attempt, None))
                    .await?;
                Ok(Ok(()))
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Makes a call, and makes it anew after an error for as long as `again` says. Gives what it gave, and at
    /// which try.
    async fn repeat<T>(
        &self,
        node: usize,
        what: &str,
        function: &Function<T>,
        again: impl Fn(&CallError, u32) -> bool + Send + Sync,
    ) -> Result<Result<(T, u32), Failure>, Stopped> {
        let Node { name, policy, .. } = &self.definition.nodes[node];
        let mut attempt = 1;
        loop {
            let called = self.try_call(node, attempt, policy.timeout, function);
            let error = match called.await {
                Ok(output) => return Ok(Ok((output, attempt))),
                Err(error) => error,
            };
            if !again(&error, attempt) {
                let CallError { class, message } = error;
                return Ok(Err(Failure::from_call(name, class, attempt, message)));
            }
            tracing::warn!(
                saga_id = %self.fence.saga_id, node = name, attempt, class = %error.class, %error,
                "{what} failed; it is tried again"
            );
            self.pause(policy.longest_pause(attempt)).await;
            if self.is_stopped() {
                return Err(Stopped);
            }
            attempt += 1;
        }
    }

    /// Makes one call, for as long as it may take.
    async fn try_call<T>(
        &self,
        node: usize,
        attempt: u32,
        timeout: Duration,
        function: &Function<T>,
    ) -> Result<T, CallError> {
        let context = self.context(node);
        let call = Call {
            saga_id: self.fence.saga_id,
            key: format!(
                "{}/{}",
                self.fence.saga_id, self.definition.nodes[node].name
            ),
            token: self.fence.generation,
            attempt,
            outputs: context.outputs.clone(),
            params: context,
        };
        let panicked = |_| CallError {
            class: ErrorClass::Panicked,
            message: "the node's function panicked".to_owned(),
        };
        let called = AssertUnwindSafe(async { function(call).await }).catch_unwind();
        let called = self.means.effects.call("an external node", called);
        match tokio::time::timeout(timeout, called).await {
            Ok(Ok(called)) => called.map_err(panicked)?,
            Ok(Err(misuse)) => Err(CallError::refused(misuse.to_string())),
            Err(_) => Err(CallError {
                class: ErrorClass::TimedOut,
                message: format!("no answer within {timeout:?}"),
            }),
        }
    }

    /// Makes durable that something begins, unless it is.
    async fn mark(&self, node: usize, kind: SagaEventKind, begun: Begun) -> Result<(), Stopped> {
        if lock(&self.log).has(id_of(node), kind) {
            return Ok(());
        }
        let draft = begun.draft(id_of(node), kind, 0, None);
        self.write(node, draft).await.map(drop)
    }

    /// Makes an event durable; that it is there already is as good.
    async fn mark_done(&self, draft: Draft) -> Result<(), Stopped> {
        loop {
            match self.record(draft.clone()).await? {
                Committed::Now => return Ok(()),
                Committed::Before(events)
                    if log::find(&events, draft.node_id, draft.kind).is_some() =>
                {
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    async fn record(&self, draft: Draft) -> Result<Committed, Stopped> {
        self.commit(nothing(), Vec::new(), Own::Event(draft), BATCH_DEADLINE)
            .await
    }
}

/// Why an outside call was not begun.
const UNWINDS: &str = "the saga unwinds already";
