//! One saga as this process runs it: its fence, its log, and how its nodes' batches commit.
//!
//! The event of a node, with the fence, is the first statement of the node's batch. Effect and event
//! commit together, so a second run meets the event's key before any guard can answer, rolls back,
//! and takes the recorded output. A process that lost the saga is stopped by the fence in the same
//! statement.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db_model::batch::{Batch, BatchError, Persistence, Step};
use db_model::model::SagaEvent;
use db_model::pool::WritePool;
use db_model::query::Change;
use db_model::query::saga::{self, Fence, Progress};
use db_model::query::saga_event::{self, NewEvent, Rejection};
use db_model::types::time;
use serde_json::Value;
use tokio::sync::watch;

use super::log::{self, Decision, FAILED, Log, SUCCEEDED, UNDO_FINISHED};
use crate::definition::{Definition, ErasedContext, NodeError};
use crate::failure::Failure;
use crate::probe::{Commit, Point, Probe, Side, Verdict};

/// The pause after an error that nobody foresaw, before the log is written again.
const UNFORESEEN_PAUSE: Duration = Duration::from_secs(1);

/// A saga under way.
#[derive(Debug)]
pub struct Run {
    pub definition: Arc<Definition>,
    pub fence: Fence,
    pub params: Value,
    pub(super) writes: WritePool,
    probe: Arc<dyn Probe>,
    log: Mutex<Log>,
    outputs: Mutex<Vec<(&'static str, Value)>>,
    lost: watch::Sender<bool>,
}

/// This process does not hold the saga any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSaga;

impl Run {
    /// A saga with the log that it has so far; none if it is new.
    pub fn new(
        definition: Arc<Definition>,
        fence: Fence,
        params: Value,
        writes: WritePool,
        probe: Arc<dyn Probe>,
        events: &[SagaEvent],
    ) -> Self {
        let outputs = definition.node_names().zip(0..).filter_map(|(name, id)| {
            let event = events
                .iter()
                .find(|e| e.node_id == id && e.kind == SUCCEEDED)?;
            Some((name, event.data.clone().unwrap_or(Value::Null)))
        });
        let outputs = Mutex::new(outputs.collect());
        let log = Mutex::new(Log::recovered(events));
        Self {
            definition,
            fence,
            params,
            writes,
            probe,
            log,
            outputs,
            lost: watch::Sender::new(false),
        }
    }

    /// Resolves once this process does not hold the saga any more, and only then: the sender is here.
    pub async fn lost(&self) {
        self.lost.subscribe().wait_for(|lost| *lost).await.ok();
    }

    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// The output of the last node.
    pub fn output(&self) -> Value {
        let outputs = lock(&self.outputs);
        outputs.last().map_or(Value::Null, |(_, last)| last.clone())
    }

    /// Runs a node's action until it is decided: its output, or why it failed.
    pub async fn act(&self, node: usize) -> Result<Decision, LostSaga> {
        let name = self.definition.nodes[node].name;
        loop {
            let verdict = self.probe(Commit::Action, name, Side::Before)?;
            let tried = if verdict == Verdict::Fail {
                Err(Failure::unexpected(name, "failed by a probe".to_owned()))
            } else {
                self.act_once(node).await?
            };
            let decided = match tried {
                Err(failure) => self.fail(node, failure).await?,
                done => done,
            };
            if let Ok(output) = &decided {
                let mut outputs = lock(&self.outputs);
                if !outputs.iter().any(|(known, _)| *known == name) {
                    outputs.push((name, output.clone()));
                }
            }
            if self.probe(Commit::Action, name, Side::After)? != Verdict::Repeat {
                return Ok(decided);
            }
        }
    }

    async fn act_once(&self, node: usize) -> Result<Decision, LostSaga> {
        let name = self.definition.nodes[node].name;
        let node_id = id_of(node);
        loop {
            let change = Change {
                id: self.fence.saga_id,
                time: time::now(),
            };
            let (batch, output) = match self.plan(
                |context| (self.definition.nodes[node].action)(context),
                change,
            ) {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(Failure::from_node(name, error))),
            };
            let own = NewEvent {
                node_id,
                kind: SUCCEEDED,
                data: Some(output.clone()),
                time: change.time,
            };
            match self.commit(batch, Vec::new(), own).await? {
                Committed::Now => return Ok(Ok(output)),
                Committed::Before(events) => {
                    if let Some(decided) = log::decision(&events, node_id) {
                        return Ok(decided);
                    }
                }
                Committed::Not(error) => return Ok(Err(Failure::from_batch(name, &error))),
            }
        }
    }

    /// Records that a node failed, unless its effect has come after all: a try whose outcome nobody
    /// learned may reach the server after a later one was refused. The log takes only one of the two.
    async fn fail(&self, node: usize, failure: Failure) -> Result<Decision, LostSaga> {
        let event = NewEvent {
            node_id: id_of(node),
            kind: FAILED,
            data: serde_json::to_value(&failure).ok(),
            time: time::now(),
        };
        let decided = self.write(self.definition.nodes[node].name, event).await?;
        Ok(decided.unwrap_or(Err(failure)))
    }

    /// Runs a node's undo until it is decided: done, or refused, which is for a person to look at.
    pub async fn undo(&self, node: usize) -> Result<Result<(), Failure>, LostSaga> {
        let name = self.definition.nodes[node].name;
        loop {
            self.probe(Commit::Undo, name, Side::Before)?;
            let decided = self.undo_once(node).await?;
            if self.probe(Commit::Undo, name, Side::After)? != Verdict::Repeat {
                return Ok(decided);
            }
        }
    }

    async fn undo_once(&self, node: usize) -> Result<Result<(), Failure>, LostSaga> {
        let name = self.definition.nodes[node].name;
        let node_id = id_of(node);
        loop {
            let change = Change {
                id: self.fence.saga_id,
                time: time::now(),
            };
            let batch = match &self.definition.nodes[node].undo {
                None => Batch::new(),
                Some(undo) => match self.plan(|context| undo(context), change) {
                    Ok(batch) => batch,
                    Err(error) => return Ok(Err(Failure::from_node(name, error))),
                },
            };
            let own = NewEvent {
                node_id,
                kind: UNDO_FINISHED,
                data: None,
                time: change.time,
            };
            match self.commit(batch, Vec::new(), own).await? {
                Committed::Now => return Ok(Ok(())),
                Committed::Before(events) => {
                    if log::find(&events, node_id, UNDO_FINISHED).is_some() {
                        return Ok(Ok(()));
                    }
                }
                Committed::Not(error) => return Ok(Err(Failure::from_batch(name, &error))),
            }
        }
    }

    /// Records an event of steno's: at once when it must be durable now, otherwise with the next.
    pub async fn record(&self, event: NewEvent) -> Result<(), LostSaga> {
        if self.is_lost() {
            return Err(LostSaga);
        }
        let place = usize::try_from(event.node_id).unwrap_or(usize::MAX);
        // steno's own first and last node do nothing that a recovery would have to know.
        let Some(node) = self.definition.nodes.get(place) else {
            return Ok(());
        };
        {
            let mut log = lock(&self.log);
            if log.has(event.node_id, event.kind) {
                return Ok(());
            }
            if !log.unwinding && event.kind != FAILED {
                log.ride(event);
                return Ok(());
            }
        }
        self.write(node.name, event).await.map(drop)
    }

    /// Makes an event durable now. Gives what the log says of the node's action if that stood there
    /// before a failure was written.
    async fn write(&self, name: &str, event: NewEvent) -> Result<Option<Decision>, LostSaga> {
        let what = format!("{name}/{}", event.kind);
        self.probe(Commit::Event, &what, Side::Before)?;
        loop {
            // The saga's row first: its lock is taken for the update at once, and not shared before.
            let first = match event.kind {
                FAILED => vec![saga::progress(self.fence, Progress::unwinding(&event.data))],
                _ => Vec::new(),
            };
            match self.commit(Batch::new(), first, event.clone()).await? {
                Committed::Now => break,
                Committed::Before(events) => {
                    if log::find(&events, event.node_id, event.kind).is_some() {
                        break;
                    }
                    let decided = log::decision(&events, event.node_id);
                    if event.kind == FAILED && decided.is_some() {
                        return Ok(decided);
                    }
                }
                Committed::Not(error) => unforeseen(&error).await,
            }
        }
        lock(&self.log).unwinding |= event.kind == FAILED;
        self.probe(Commit::Event, &what, Side::After).map(|_| None)
    }

    /// Records the end of the saga. Whoever waits for it is answered only after this.
    pub async fn finish(&self, end: Progress) -> Result<(), LostSaga> {
        self.probe(Commit::Finish, "", Side::Before)?;
        loop {
            let batch = Batch::new().step(saga::progress(self.fence, end.clone()));
            match batch.commit_as(&self.writes, Persistence::Endless).await {
                Ok(_) => break,
                Err(error) if saga_event::rejection(&error) == Some(Rejection::Fenced) => {
                    return Err(self.lose());
                }
                Err(error) => unforeseen(&error).await,
            }
        }
        self.probe(Commit::Finish, "", Side::After)?;
        Ok(())
    }

    /// Asks a node's function. A panic in it is an error like any other: nothing has happened yet.
    fn plan<T>(
        &self,
        function: impl FnOnce(&ErasedContext<'_>) -> Result<T, NodeError>,
        change: Change,
    ) -> Result<T, NodeError> {
        let outputs = lock(&self.outputs).clone();
        let context = ErasedContext {
            params: &self.params,
            change,
            outputs: &outputs,
        };
        catch_unwind(AssertUnwindSafe(|| function(&context))).unwrap_or_else(|_| {
            Err(NodeError::Corrupt(
                "the node's function panicked".to_owned(),
            ))
        })
    }

    /// Commits what rides along, the node's own event and the node's effect, in this order, until the
    /// database has decided.
    async fn commit(
        &self,
        effect: Batch<()>,
        mut first: Vec<Step<()>>,
        own: NewEvent,
    ) -> Result<Committed, LostSaga> {
        if self.is_lost() {
            return Err(LostSaga);
        }
        let mut events = lock(&self.log).pending();
        events.push(own);
        first.extend(
            events
                .iter()
                .map(|event| saga_event::insert(self.fence, event)),
        );
        match effect
            .after(first)
            .commit_as(&self.writes, Persistence::Endless)
            .await
        {
            Ok(()) => {
                lock(&self.log).written(&events);
                Ok(Committed::Now)
            }
            Err(error) => match saga_event::rejection(&error) {
                Some(Rejection::Fenced) => Err(self.lose()),
                None if error.is_final() => Ok(Committed::Not(error)),
                rejection => {
                    if rejection.is_none() {
                        unforeseen(&error).await;
                    }
                    let recorded = self.recorded().await;
                    lock(&self.log).found(&recorded);
                    Ok(Committed::Before(recorded))
                }
            },
        }
    }

    /// The saga's events as the database holds them.
    async fn recorded(&self) -> Vec<SagaEvent> {
        loop {
            let list = Batch::new().step(saga_event::list(vec![self.fence.saga_id]));
            match list.commit_as(&self.writes, Persistence::Endless).await {
                Ok((events,)) => return events,
                Err(error) => unforeseen(&error).await,
            }
        }
    }

    fn probe(&self, commit: Commit, what: &str, side: Side) -> Result<Verdict, LostSaga> {
        let saga_id = self.fence.saga_id;
        let verdict = self.probe.at(&Point {
            saga_id,
            commit,
            what: what.to_owned(),
            side,
        });
        if verdict == Verdict::Halt {
            return Err(self.lose());
        }
        Ok(verdict)
    }

    fn lose(&self) -> LostSaga {
        tracing::info!(saga_id = %self.fence.saga_id, "this process does not hold the saga any more");
        self.lost.send_replace(true);
        LostSaga
    }
}

/// What became of a batch with an event in it.
enum Committed {
    /// It committed.
    Now,
    /// One of its events was there already, or nobody knows; these are all that are.
    Before(Vec<SagaEvent>),
    /// It was refused.
    Not(BatchError),
}

/// A node's id in the log is its place in the definition: steno numbers nodes as they are appended.
pub fn id_of(node: usize) -> i64 {
    i64::try_from(node).expect("a definition has fewer nodes than an i64 can count")
}

/// The log has to be written, and no error makes that less so.
async fn unforeseen(error: &BatchError) {
    tracing::error!(%error, "the saga log cannot be written; trying again");
    tokio::time::sleep(UNFORESEEN_PAUSE).await;
}

/// The data behind these locks is whole at every await and every panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
