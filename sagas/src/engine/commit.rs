//! How a batch of a saga gets through: event and fence first, or last the saga's row when it has none yet.
//!
//! A saga whose caller waits is *unborn* until its first batch has committed, for its row is part of it, at
//! its end. A refusal of that batch has written nothing. When the reply to it is lost, the row is written alone,
//! under the key that the batch would have written: either the batch has committed, or it never can any
//! more, and the saga is like any other.

use std::sync::atomic::Ordering;
use std::time::Duration;

use db_model::batch::{Batch, BatchError, Busy, Persistence, Step};
use db_model::model::SagaEvent;
use db_model::query::saga::{self, NewSaga, Progress};
use db_model::query::saga_event::{self, Rejection};
use db_model::types::SagaEventKind;
use db_model::types::limits::BATCH_DEADLINE;
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::log::{self, Decision, Draft};
use super::run::{Birth, Run, Stopped, lock, nothing};
use crate::probe::{Commit, Side};
use crate::submit::SubmitError;

/// The pause after an error that nobody foresaw, before the log is written again.
const UNFORESEEN_PAUSE: Duration = Duration::from_secs(1);

/// What a batch records of its own.
#[derive(Clone, Debug)]
pub enum Own {
    /// That something happened to a node.
    Event(Draft),
    /// That the last node is done, and the saga with it.
    End(Progress),
}

/// What became of a batch with an event in it.
pub enum Committed {
    /// It committed.
    Now,
    /// One of its events was there already, or nobody knows; these are all that are.
    Before(Vec<SagaEvent>),
    /// The saga has ended, and gave this.
    Ended(Value),
    /// It was refused.
    Not(BatchError),
    /// The database could not do it now, and the saga is not born: another try may.
    Again,
}

impl Run {
    /// Commits `first`, what rides along, the batch's own record and the node's effect, in this order,
    /// until the database has decided. Each try may take `deadline`.
    pub(super) async fn commit(
        &self,
        effect: Batch<()>,
        mut first: Vec<Step<()>>,
        own: Own,
        deadline: Duration,
    ) -> Result<Committed, Stopped> {
        let _gate = self.gate().await;
        if self.is_stopped() {
            return Err(Stopped);
        }
        let unborn = self.unborn();
        let (draft, end) = match own {
            Own::Event(draft) => (Some(draft), None),
            Own::End(progress) => (None, Some(progress)),
        };
        let is_end = end.is_some();
        let events = lock(&self.log).reserve(draft);
        let mut record: Vec<Step<()>> = unborn
            .iter()
            .map(|row| saga::insert(NewSaga::clone(row)))
            .collect();
        // The saga's row before its events: its lock is taken for the update at once, and not shared first.
        record.extend(end.map(|progress| saga::progress(self.fence, progress)));
        record.append(&mut first);
        record.extend(events.iter().map(|event| {
            // A row that is written or updated in front is the fence.
            if unborn.is_some() || is_end {
                saga_event::insert_with_saga(self.fence.saga_id, event)
            } else {
                saga_event::insert(self.fence, event)
            }
        }));
        let (batch, persistence) = match unborn {
            // Nobody else knows the new row, so there is no lock to be in order; and this very batch is never
            // sent twice, so no guard can give a false answer before the key is met. What the effect's guards
            // refuse then has not even begun to write.
            Some(_) => (effect.before(record), Persistence::Conflicts),
            None => (effect.after(record), Persistence::Endless),
        };
        let sent = batch
            .commit_each(&self.means.writes, persistence, deadline)
            .await;
        if let Err(error) = sent {
            let committed = match unborn {
                Some(row) => self.not_born(*row, error).await,
                None => self.not_committed(error).await,
            };
            // Only now: an earlier try may have committed, and what is recorded keeps its number.
            lock(&self.log).release(&events);
            return committed;
        }
        lock(&self.log).written(&events);
        self.ended.fetch_or(is_end, Ordering::AcqRel);
        self.born();
        Ok(Committed::Now)
    }

    /// Lets one batch at a time through while something rides along: the saga's row, or events of nodes that
    /// compute. Two batches of neighbours would both carry it, and the second be refused for that alone.
    async fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        if !self.is_unborn() && !lock(&self.log).has_riders() {
            return None;
        }
        let gate = self.riding.lock().await;
        (self.is_unborn() || lock(&self.log).has_riders()).then_some(gate)
    }

    fn unborn(&self) -> Option<Box<NewSaga>> {
        match &*self.birth.borrow() {
            Birth::Unborn(row) => Some(row.clone()),
            Birth::Born | Birth::Never(_) => None,
        }
    }

    fn born(&self) {
        self.birth.send_if_modified(|birth| {
            let is_new = matches!(birth, Birth::Unborn(_));
            if is_new {
                *birth = Birth::Born;
            }
            is_new
        });
    }

    /// After an error of a saga that is.
    async fn not_committed(&self, error: BatchError) -> Result<Committed, Stopped> {
        match saga_event::rejection(&error) {
            Some(Rejection::Fenced) => Err(self.stop("another process holds it")),
            Some(Rejection::Ended) => self.ended_as().await,
            None if error.is_final() => Ok(Committed::Not(error)),
            rejection => {
                if rejection.is_none() {
                    unforeseen(&error).await;
                }
                Ok(Committed::Before(self.recorded().await))
            }
        }
    }

    /// After an error of a first batch.
    async fn not_born(&self, row: NewSaga, error: BatchError) -> Result<Committed, Stopped> {
        let lost = |error: &BatchError| {
            let column = error.server().and_then(|server| server.column.as_deref());
            column == Some("executor_id")
        };
        match error {
            error if lost(&error) => Err(self.never(SubmitError::Lost)),
            // A session that broke, or a server that ends: another one may be had at once.
            BatchError::Busy(Busy::NotSent(_) | Busy::Server { .. })
                if !*self.given_up.borrow() =>
            {
                Ok(Committed::Again)
            }
            // Who waited for a session, a lock or a turn has waited for long, and nothing was written.
            error @ BatchError::Busy(_) => Err(self.never(SubmitError::unavailable(error))),
            BatchError::Ambiguous(_)
            | BatchError::TooLarge(_)
            | BatchError::Unreadable { .. }
            | BatchError::Recorded { .. } => {
                self.be_born(row).await?;
                Ok(Committed::Before(self.recorded().await))
            }
            error => Ok(Committed::Not(error)),
        }
    }

    /// Writes the saga's row alone.
    pub(super) async fn be_born(&self, row: NewSaga) -> Result<(), Stopped> {
        let insert = Batch::new().step(saga::insert(row)).discard();
        match insert
            .commit_as(&self.means.writes, Persistence::Endless)
            .await
        {
            Ok(()) | Err(BatchError::Recorded { .. }) => {
                self.born();
                Ok(())
            }
            Err(error) => Err(self.never(SubmitError::of_insert(error))),
        }
    }

    /// The saga will not be.
    fn never(&self, error: SubmitError) -> Stopped {
        let why = error.to_string();
        self.birth.send_replace(Birth::Never(error));
        self.stop(&why)
    }

    /// Makes an event durable now. Gives what the log says of the node's action if that stood there
    /// before a failure was written.
    pub(super) async fn write(
        &self,
        node: usize,
        draft: Draft,
    ) -> Result<Option<Decision>, Stopped> {
        let what = format!("{}/{}", self.definition.nodes[node].name, draft.kind);
        self.probe(Commit::Event, &what, Side::Before)?;
        loop {
            // The saga's row first: its lock is taken for the update at once, and not shared before.
            let first = match draft.kind {
                SagaEventKind::Failed => {
                    vec![saga::progress(
                        self.fence,
                        Progress::Unwinding(draft.data.clone()),
                    )]
                }
                _ => Vec::new(),
            };
            let own = Own::Event(draft.clone());
            match self.commit(nothing(), first, own, BATCH_DEADLINE).await? {
                Committed::Now => break,
                Committed::Before(events) => {
                    if log::find(&events, draft.node_id, draft.kind).is_some() {
                        break;
                    }
                    let decided = log::decision(&events, draft.node_id);
                    if draft.kind == SagaEventKind::Failed && decided.is_some() {
                        return Ok(decided);
                    }
                }
                Committed::Ended(output) => return Ok(Some(Ok(output))),
                Committed::Not(error) => unforeseen(&error).await,
                Committed::Again => {
                    let policy = &self.definition.nodes[node].policy;
                    self.pause(policy.pause_max).await;
                }
            }
        }
        self.probe(Commit::Event, &what, Side::After).map(|_| None)
    }

    /// Records the end of the saga, unless its last node did. Whoever waits for it is answered only after
    /// this.
    pub async fn finish(&self, end: Progress) -> Result<(), Stopped> {
        if self.has_ended() {
            return Ok(());
        }
        if let Some(row) = self.unborn() {
            if !matches!(end, Progress::Succeeded { .. }) {
                return Ok(());
            }
            self.be_born(*row).await?;
        }
        self.probe(Commit::Finish, "", Side::Before)?;
        loop {
            let events = lock(&self.log).reserve(None);
            let mut steps = vec![saga::progress(self.fence, end.clone())];
            steps.extend(
                events
                    .iter()
                    .map(|event| saga_event::insert_with_saga(self.fence.saga_id, event)),
            );
            let batch = nothing().after(steps);
            match batch
                .commit_as(&self.means.writes, Persistence::Endless)
                .await
            {
                Ok(()) => break,
                Err(error) => match saga_event::rejection(&error) {
                    Some(Rejection::Fenced) => return Err(self.stop("another process holds it")),
                    Some(Rejection::Ended) => break,
                    Some(Rejection::Recorded) => {
                        self.recorded().await;
                        lock(&self.log).release(&events);
                    }
                    None => {
                        lock(&self.log).release(&events);
                        unforeseen(&error).await;
                    }
                },
            }
        }
        self.probe(Commit::Finish, "", Side::After)?;
        Ok(())
    }

    /// The saga's events as the database holds them.
    async fn recorded(&self) -> Vec<SagaEvent> {
        loop {
            let list = Batch::new().step(saga_event::list(vec![self.fence.saga_id]));
            match list
                .commit_as(&self.means.writes, Persistence::Endless)
                .await
            {
                Ok((events,)) => {
                    lock(&self.log).found(&events);
                    return events;
                }
                Err(error) => unforeseen(&error).await,
            }
        }
    }

    /// What the saga gave that an earlier try of this process has ended.
    async fn ended_as(&self) -> Result<Committed, Stopped> {
        loop {
            let output = Batch::new().step(saga::output(self.fence.saga_id));
            match output
                .commit_as(&self.means.writes, Persistence::Endless)
                .await
            {
                Ok((rows,)) => {
                    let Some(output) = rows.into_iter().next().and_then(|row| row.output) else {
                        return Err(self.stop("it has ended otherwise"));
                    };
                    self.ended.store(true, Ordering::Release);
                    return Ok(Committed::Ended(output));
                }
                Err(error) => unforeseen(&error).await,
            }
        }
    }
}

/// The log has to be written, and no error makes that less so.
async fn unforeseen(error: &BatchError) {
    tracing::error!(%error, "the saga log cannot be written; trying again");
    tokio::time::sleep(UNFORESEEN_PAUSE).await;
}
