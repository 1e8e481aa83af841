//! One saga as this process runs it: its fence, its log, and how its nodes are decided.
//!
//! The event of a node, with the fence, is the first statement of the node's batch. Effect and event
//! commit together, so a second run meets the event's key before any guard can give a false answer,
//! rolls back, and takes the recorded output. A process that lost the saga is stopped by the fence in the
//! same statement. How a batch gets through stands in [`super::commit`], what calls out in
//! [`super::outside`].

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db_model::batch::Batch;
use db_model::effect::Effects;
use db_model::model::SagaEvent;
use db_model::pool::WritePool;
use db_model::query::Change;
use db_model::query::saga::{Fence, NewSaga, Progress};
use db_model::types::{SagaEventKind, time};
use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;

use super::action::Part;
use super::commit::{Committed, Own};
use super::log::{self, Decision, Draft, Log};
use crate::definition::{Definition, ErasedContext, ErrorClass, Node, NodeError, Outputs, Work};
use crate::failure::Failure;
use crate::probe::{Commit, Point, Probe, Side, Verdict};
use crate::submit::SubmitError;

/// What a run works with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The sessions that its batches use.
    pub writes: WritePool,
    /// For outside calls.
    pub effects: Effects,
    /// What watches its commits.
    pub probe: Arc<dyn Probe>,
}

/// A saga under way.
#[derive(Debug)]
pub struct Run {
    pub definition: Arc<Definition>,
    pub fence: Fence,
    params: Arc<Value>,
    pub(super) means: Means,
    pub(super) birth: watch::Sender<Birth>,
    /// Whether nobody waits any more for a saga that is not born.
    pub(super) given_up: watch::Sender<bool>,
    pub(super) log: Mutex<Log>,
    outputs: Mutex<Arc<BTreeMap<String, Value>>>,
    stopped: watch::Sender<bool>,
    /// Whether the saga's end is durable, with its last node's batch.
    pub(super) ended: AtomicBool,
    /// Held by a batch with which something rides along.
    pub(super) riding: tokio::sync::Mutex<()>,
    /// The failure of a node when the saga was not born; a neighbour of it may still give birth to it.
    unrecorded: Mutex<Option<(usize, Draft)>>,
}

/// Whether the saga's row is durable.
#[derive(Clone, Debug)]
pub enum Birth {
    /// It goes with the first batch that commits.
    Unborn(Box<NewSaga>),
    /// It is, and the saga ends whatever becomes of this process.
    Born,
    /// It will not be, as far as this process has a say in it.
    Never(SubmitError),
}

/// This process does nothing more for the saga: it does not hold it any more, or it was never born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Run {
    /// A saga with the log that it has so far.
    pub fn new(
        definition: Arc<Definition>,
        fence: Fence,
        params: Value,
        means: Means,
        birth: Birth,
        events: &[SagaEvent],
    ) -> Self {
        let mut outputs = BTreeMap::new();
        for (node, id) in definition.nodes.iter().zip(0..) {
            if let Some(event) = log::find(events, id, SagaEventKind::Succeeded) {
                keep(
                    &mut outputs,
                    node,
                    event.data.clone().unwrap_or(Value::Null),
                );
            }
        }
        Self {
            definition,
            fence,
            params: Arc::new(params),
            means,
            birth: watch::Sender::new(birth),
            given_up: watch::Sender::new(false),
            log: Mutex::new(Log::recovered(events)),
            outputs: Mutex::new(Arc::new(outputs)),
            stopped: watch::Sender::new(false),
            ended: AtomicBool::new(false),
            riding: tokio::sync::Mutex::default(),
            unrecorded: Mutex::default(),
        }
    }

    /// Resolves once this process has nothing more to do with the saga, and only then: the sender is here.
    pub async fn stopped(&self) {
        self.stopped
            .subscribe()
            .wait_for(|stopped| *stopped)
            .await
            .ok();
    }

    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub fn is_unborn(&self) -> bool {
        matches!(*self.birth.borrow(), Birth::Unborn(_))
    }

    pub fn is_born(&self) -> bool {
        matches!(*self.birth.borrow(), Birth::Born)
    }

    /// Lets a saga that is not born yet be given up between two tries of its first batch.
    pub fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// The output of the last node.
    pub fn output(&self) -> Value {
        let last = self.definition.nodes.last();
        last.and_then(|node| lock(&self.outputs).get(&node.name).cloned())
            .unwrap_or(Value::Null)
    }

    /// Runs a node's action until it is decided: its output, or why it failed.
    pub async fn act(&self, node: usize) -> Result<Decision, Stopped> {
        let name = &self.definition.nodes[node].name;
        loop {
            let begun = Begun::now();
            let verdict = self.probe(Commit::Action, name, Side::Before)?;
            let tried = if verdict == Verdict::Fail {
                Err(Failure::unexpected(name, "failed by a probe".to_owned()))
            } else {
                match self.definition.nodes[node].work {
                    Work::Pure(_) => self.compute(node).await?,
                    Work::Db(..) => self.change(node, begun).await?,
                    Work::External(..) => self.call(node, begun).await?,
                }
            };
            let after = self.probe(Commit::Action, name, Side::After)?;
            let tried = match after {
                Verdict::Fail => Err(Failure::unexpected(
                    name,
                    "failed after its effect by a probe".to_owned(),
                )),
                _ => tried,
            };
            let decided = match tried {
                Err(failure) => self.fail(node, failure, begun).await?,
                done => done,
            };
            if let Ok(output) = &decided {
                keep(
                    Arc::make_mut(&mut lock(&self.outputs)),
                    &self.definition.nodes[node],
                    output.clone(),
                );
            }
            if after != Verdict::Repeat {
                return Ok(decided);
            }
        }
    }

    /// Runs a db node.
    async fn change(&self, node: usize, begun: Begun) -> Result<Decision, Stopped> {
        let Node {
            name, policy, work, ..
        } = &self.definition.nodes[node];
        let Work::Db(action, _) = work else {
            unreachable!("only db nodes come here");
        };
        let node_id = id_of(node);
        let mut attempt = 1;
        loop {
            let context = self.context(node);
            let (batch, output) = match guarded(|| action(&context)) {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(Failure::from_node(name, error))),
            };
            let own = if self.definition.ending() == Some(node) {
                Own::End(Progress::Succeeded {
                    output: output.clone(),
                    attempts: Some(i32::try_from(attempt).unwrap_or(i32::MAX)),
                    duration_us: Some(begun.micros()),
                })
            } else {
                Own::Event(begun.draft(
                    node_id,
                    SagaEventKind::Succeeded,
                    attempt,
                    Some(output.clone()),
                ))
            };
            match self.commit(batch, Vec::new(), own, policy.timeout).await? {
                Committed::Now => return Ok(Ok(output)),
                Committed::Ended(recorded) => return Ok(Ok(recorded)),
                Committed::Before(events) => {
                    if let Some(decided) = log::decision(&events, node_id) {
                        return Ok(decided);
                    }
                }
                Committed::Not(error) => return Ok(Err(Failure::from_batch(name, &error))),
                Committed::Again => self.pause(policy.longest_pause(attempt)).await,
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// Runs a pure node, away from the threads that serve others: it may take long. Its output rides along
    /// with the next batch.
    async fn compute(&self, node: usize) -> Result<Decision, Stopped> {
        let Node {
            name, policy, work, ..
        } = &self.definition.nodes[node];
        let Work::Pure(function) = work else {
            unreachable!("only pure nodes come here");
        };
        let begun = Begun::now();
        let mut attempt = 1;
        loop {
            let (function, context) = (Arc::clone(function), self.context(node));
            let computed = tokio::task::spawn_blocking(move || guarded(|| function(&context)));
            let error = match tokio::time::timeout(policy.timeout, computed).await {
                Ok(Ok(Ok(output))) => {
                    let kind = SagaEventKind::Succeeded;
                    let draft = begun.draft(id_of(node), kind, attempt, Some(output.clone()));
                    lock(&self.log).ride(draft);
                    return Ok(Ok(output));
                }
                Ok(Ok(Err(error))) => return Ok(Err(Failure::from_node(name, error))),
                Ok(Err(error)) => (ErrorClass::Panicked, error.to_string()),
                Err(_) => (
                    ErrorClass::TimedOut,
                    format!("it took longer than {:?}", policy.timeout),
                ),
            };
            if !policy.tries_again(error.0, attempt) {
                return Ok(Err(Failure::from_call(name, error.0, attempt, error.1)));
            }
            self.pause(policy.longest_pause(attempt)).await;
            attempt += 1;
        }
    }

    /// Records that a node failed, unless its effect has come after all: a try whose outcome nobody
    /// learned may reach the server after a later one was refused. The log takes only one of the two.
    ///
    /// Of a saga that is not born nothing is recorded: its first batch was refused, and there is nothing.
    /// Should a neighbour's batch commit all the same, the failure is recorded before that is undone.
    async fn fail(&self, node: usize, failure: Failure, begun: Begun) -> Result<Decision, Stopped> {
        let attempts = failure.attempts();
        let data = serde_json::to_value(&failure).ok();
        let draft = begun.draft(id_of(node), SagaEventKind::Failed, attempts, data);
        if self.is_unborn() {
            *lock(&self.unrecorded) = Some((node, draft));
            return Ok(Err(failure));
        }
        let decided = self.write(node, draft).await?;
        Ok(decided.unwrap_or(Err(failure)))
    }

    /// Runs a node's undo until it is decided: done, or given up, which is for a person to look at.
    pub async fn undo(&self, node: usize, part: Part) -> Result<Result<(), Failure>, Stopped> {
        let Node { name, work, .. } = &self.definition.nodes[node];
        // Where nothing was written nothing is undone; and of an external node the guard does it.
        if self.is_unborn()
            || matches!(
                (work, part),
                (Work::Pure(_), _) | (Work::External(..), Part::Whole)
            )
        {
            return Ok(Ok(()));
        }
        let unrecorded = lock(&self.unrecorded).clone();
        if let Some((failed, draft)) = unrecorded {
            self.write(failed, draft).await?;
            lock(&self.unrecorded).take();
        }
        loop {
            let begun = Begun::now();
            self.probe(Commit::Undo, name, Side::Before)?;
            let undone = match work {
                Work::External(..) => self.call_undo(node, begun).await?,
                _ => self.change_undo(node, begun).await?,
            };
            if let Err(failure) = undone {
                return self.park(node, failure, begun).await.map(Err);
            }
            if self.probe(Commit::Undo, name, Side::After)? != Verdict::Repeat {
                return Ok(Ok(()));
            }
        }
    }

    /// Runs the undo of a db node.
    async fn change_undo(&self, node: usize, begun: Begun) -> Result<Result<(), Failure>, Stopped> {
        let Node {
            name, policy, work, ..
        } = &self.definition.nodes[node];
        let Work::Db(_, Some(undo)) = work else {
            return Ok(Ok(()));
        };
        let node_id = id_of(node);
        let mut attempt = 1;
        loop {
            let context = self.context(node);
            let failure = match guarded(|| undo(&context)) {
                Err(error) => Failure::from_node(name, error),
                Ok(batch) => {
                    let draft = begun.draft(node_id, SagaEventKind::UndoFinished, attempt, None);
                    let own = Own::Event(draft);
                    match self.commit(batch, Vec::new(), own, policy.timeout).await? {
                        Committed::Now => return Ok(Ok(())),
                        Committed::Before(events)
                            if log::find(&events, node_id, SagaEventKind::UndoFinished)
                                .is_some() =>
                        {
                            return Ok(Ok(()));
                        }
                        Committed::Not(error) => Failure::from_batch(name, &error),
                        Committed::Before(_) | Committed::Ended(_) | Committed::Again => continue,
                    }
                }
            };
            if attempt >= policy.undo_attempts_max {
                return Ok(Err(failure.after(attempt)));
            }
            tracing::warn!(
                saga_id = %self.fence.saga_id, node = name, attempt, error = %failure,
                "an undo was refused; it is tried again"
            );
            self.pause(policy.longest_pause(attempt)).await;
            attempt += 1;
        }
    }

    /// Records that an undo is given up, and why.
    async fn park(&self, node: usize, failure: Failure, begun: Begun) -> Result<Failure, Stopped> {
        let data = serde_json::to_value(&failure).ok();
        let attempts = failure.attempts();
        let draft = begun.draft(id_of(node), SagaEventKind::UndoFailed, attempts, data);
        self.write(node, draft).await?;
        Ok(failure)
    }

    /// What a node's function sees now.
    pub(super) fn context(&self, node: usize) -> ErasedContext {
        let all = Arc::clone(&lock(&self.outputs));
        let node = &self.definition.nodes[node];
        let params = match node.params {
            None => Arc::clone(&self.params),
            Some(place) => {
                let name = &self.definition.nodes[place].name;
                Arc::new(all.get(name).cloned().unwrap_or(Value::Null))
            }
        };
        ErasedContext {
            params,
            change: Change {
                id: self.fence.saga_id,
                time: time::now(),
            },
            outputs: Outputs {
                all,
                scope: Arc::clone(&node.scope),
            },
        }
    }

    /// Waits up to this long, drawn anew each time; shorter when there is nothing more to wait for.
    pub(super) async fn pause(&self, longest: Duration) {
        let pause = longest.mul_f64(rand::rng().random_range(0.0..=1.0));
        let mut given_up = self.given_up.subscribe();
        tokio::select! {
            () = self.stopped() => {}
            _ = given_up.wait_for(|given_up| *given_up), if self.is_unborn() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    pub(super) fn probe(&self, commit: Commit, what: &str, side: Side) -> Result<Verdict, Stopped> {
        let saga_id = self.fence.saga_id;
        let verdict = self.means.probe.at(&Point {
            saga_id,
            commit,
            what: what.to_owned(),
            side,
        });
        if verdict == Verdict::Halt {
            return Err(self.stop("it was halted"));
        }
        Ok(verdict)
    }

    /// Does nothing more for the saga.
    pub(super) fn stop(&self, why: &str) -> Stopped {
        tracing::info!(saga_id = %self.fence.saga_id, why, "this process has no more to do with the saga");
        self.stopped.send_replace(true);
        Stopped
    }

    /// Whether the saga's end is recorded already.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Since when a node has been at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(Instant);

impl Begun {
    pub fn now() -> Self {
        Self(Instant::now())
    }

    pub fn micros(self) -> i64 {
        i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    pub fn draft(
        self,
        node_id: i64,
        kind: SagaEventKind,
        attempts: u32,
        data: Option<Value>,
    ) -> Draft {
        Draft {
            node_id,
            kind,
            attempts,
            duration_us: Some(self.micros()),
            data,
        }
    }
}

/// Notes what a node gave under all its names.
fn keep(outputs: &mut BTreeMap<String, Value>, node: &Node, output: Value) {
    for name in &node.also {
        outputs.insert(name.clone(), output.clone());
    }
    outputs.insert(node.name.clone(), output);
}

/// Asks a node's function. A panic in it is an error like any other: nothing has happened yet.
fn guarded<T>(function: impl FnOnce() -> Result<T, NodeError>) -> Result<T, NodeError> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|_| {
        Err(NodeError::Corrupt(
            "the node's function panicked".to_owned(),
        ))
    })
}

/// A node's id in the log is its place in the definition.
pub fn id_of(node: usize) -> i64 {
    i64::try_from(node).expect("a definition has fewer nodes than an i64 can count")
}

/// The data behind these locks is whole at every await and every panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty batch, for events alone.
pub(super) fn nothing() -> Batch<()> {
    Batch::new()
}
