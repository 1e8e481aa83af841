//! Following a saga's log as it grows, whichever process runs it: the one way for streams and commands.
//!
//! Nothing is told twice, and no number is passed over. Leaves it to others what is made of the events.

use std::time::Duration;

use db_model::pool::ReadPool;
use db_model::read::{self, ReadError};
use db_model::types::SagaState;
use db_model::types::limits::{OPERATION_FOLLOW_INTERVAL, OPERATION_FOLLOW_INTERVAL_MAX};
use sagas::registry::Registry;
use uuid::Uuid;

use crate::api::operation::{Operation, OperationEvent, contiguous, tell};

/// What a look has found.
#[derive(Debug)]
pub enum Look {
    /// More of the log, and there is more to come.
    More(Vec<OperationEvent>),
    /// The rest of the log, and the operation as it ended, or as it waits for a person.
    End(Vec<OperationEvent>, Box<Operation>),
    /// There is no such operation any more.
    Gone,
}

/// Reads one saga's log from a place on.
#[derive(Debug)]
pub struct Follower {
    reads: ReadPool,
    saga_id: Uuid,
    /// The number of the last event that was told.
    after: i64,
    pause: Duration,
}

impl Follower {
    /// From behind a number on; 0 is the beginning.
    pub fn new(reads: ReadPool, saga_id: Uuid, after: i64) -> Self {
        Self {
            reads,
            saga_id,
            after,
            pause: Duration::ZERO,
        }
    }

    /// Waits until there is something to tell. A database that is away makes the wait longer and nothing else.
    /// Who drops this half way has missed nothing.
    ///
    /// # Errors
    /// [`ReadError`], when asking again would not help.
    pub async fn next(&mut self, registry: &Registry) -> Result<Look, ReadError> {
        loop {
            tokio::time::sleep(self.pause).await;
            match self.look(registry).await {
                Ok(Look::More(events)) if events.is_empty() => {}
                Ok(look) => {
                    self.pause = OPERATION_FOLLOW_INTERVAL;
                    return Ok(look);
                }
                Err(error) if error.is_busy() => {
                    tracing::debug!(saga_id = %self.saga_id, %error, "its log cannot be read; trying again");
                }
                Err(error) => return Err(error),
            }
            let longer = self.pause.mul_f64(1.5);
            self.pause = longer.clamp(OPERATION_FOLLOW_INTERVAL, OPERATION_FOLLOW_INTERVAL_MAX);
        }
    }

    async fn look(&mut self, registry: &Registry) -> Result<Look, ReadError> {
        // The row before the log: what belongs to an end that is seen here is in the log that is read then.
        let Some(saga) = read::saga::view(&self.reads, self.saga_id).await? else {
            return Ok(Look::Gone);
        };
        let definition = registry.of_row(&saga.name, &saga.definition_hash);
        // One that is stuck may go on, so that a number that is missing may still be given.
        let events = if matches!(saga.state, SagaState::Succeeded | SagaState::Failed) {
            read::saga::events(&self.reads, self.saga_id).await?
        } else {
            let events = read::saga::events_after(&self.reads, self.saga_id, self.after).await?;
            contiguous(events, self.after)
        };
        let mut events = tell(&saga, &events, definition.map(AsRef::as_ref));
        events.retain(|event| event.sequence > self.after);
        if let Some(last) = events.last() {
            self.after = last.sequence;
        }
        Ok(match saga.time_finished {
            Some(_) => Look::End(events, Box::new(saga.into())),
            None => Look::More(events),
        })
    }
}
