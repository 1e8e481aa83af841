//! A connection that sends a whole batch as one pipeline with one Sync: PostgreSQL's implicit transaction.
//!
//! The server's ReadyForQuery is the only judge. A flight is poisoned before it writes and un-poisoned when the
//! server says that it is idle again; whatever happens in between, a dropped future included, leaves a connection
//! that nobody will use. What the statements mean, and running them again, is left to the batch.

mod answer;
mod cache;
mod error;
mod open;
mod self_test;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::{Answer, Column, Field, Row};
pub(super) use error::chain;
pub use error::{FlightError, Lost, NotSent, ServerError};
pub use open::{Landing, Standing};
pub use self_test::SelfTestError;

use super::text;
use crate::connect::{self, Access, ConnectError, ConnectOptions, Wire};
use bytes::{Bytes, BytesMut};
use cache::{Cache, Plan};
use state::{Progress, State};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// One statement with its parameters.
#[derive(Clone, Debug)]
pub struct Query {
    /// The text; also the key under which the prepared statement is kept.
    pub sql: Arc<str>,
    /// The parameters `$1`, `$2`, ...
    pub binds: Vec<Bind>,
}

impl Query {
    /// Bytes of the text and of the parameters.
    pub(super) fn bytes(&self) -> usize {
        let values = self.binds.iter().filter_map(|bind| bind.value.as_ref());
        self.sql.len() + values.map(Bytes::len).sum::<usize>()
    }
}

/// One parameter of a statement.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The type; 0 lets the server infer it.
    pub oid: u32,
    /// The value in binary format; `None` is NULL.
    pub value: Option<Bytes>,
}

/// A session that flies batches. It is not shared: one batch at a time.
pub struct Flight {
    /// Gone once the session cannot be used any more.
    wire: Option<Wire>,
    /// What the server sent and nobody has read yet.
    received: BytesMut,
    cache: Cache,
    /// What the last ReadyForQuery said; nothing once something was written since.
    standing: Option<Standing>,
    /// Whether a statement may have left something behind in the session.
    changed: bool,
    backend_pid: i32,
    server_version: String,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight")
            .field("backend_pid", &self.backend_pid)
            .field("clean", &self.is_clean())
            .finish_non_exhaustive()
    }
}

impl Flight {
    /// Opens a session that may write, on the first host that accepts it.
    ///
    /// # Errors
    /// If no session could be opened.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let opened = connect::open(options, Access::Write).await?;
        // `open` made sure that the last answer was read to its end, so the stream begins with the next one. Client
        // and connection are dropped without being polled again: nothing says good-bye to the server.
        let wire = opened.shared.take();
        Ok(Self {
            wire: Some(wire.ok_or(ConnectError::Protocol("the stream was not lent"))?),
            received: BytesMut::new(),
            cache: Cache::new(),
            standing: Some(Standing::Idle),
            changed: false,
            backend_pid: opened.backend_pid,
            server_version: opened.server_version,
        })
    }

    /// Runs `queries` as one transaction: all of them, or none. No queries send nothing.
    ///
    /// `deadline` bounds the whole call. When it passes the session is closed.
    ///
    /// A cached statement that the server finds stale is forgotten and the whole pipeline sent once more; nothing
    /// was committed then.
    ///
    /// Dropping the future leaves the session poisoned, and the batch committed or not.
    ///
    /// # Errors
    /// [`FlightError`] tells apart whether nothing was committed, or nobody knows.
    pub async fn fly(
        &mut self,
        queries: &[Query],
        deadline: Duration,
    ) -> Result<Vec<Answer>, FlightError> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let until = Instant::now() + deadline;
        let plan = self.cache.plan(queries);
        let result = self.once(queries, &plan, until).await;
        match result {
            Err(FlightError::Refused { index, error })
                if error.is_stale_statement() && plan.is_warm(index) && self.is_clean() =>
            {
                tracing::debug!(%error, "cached statements are stale; the pipeline is sent once more");
                self.cache.forget(&plan, queries);
                let plan = self.cache.plan(queries);
                self.once(queries, &plan, until).await
            }
            result => result,
        }
    }

    /// Whether the last ReadyForQuery was idle and nothing is under way: only then another batch may fly.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.standing == Some(Standing::Idle) && self.wire.is_some()
    }

    /// Whether the session is still as it was when it was opened, as far as the statements' texts tell: no setting,
    /// temporary table, LISTEN or lock that the next user would meet.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        !self.changed
    }

    /// The process id of the session's backend on the server.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// The server's version as it reports it, such as `15.8`.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Looks, without asking the server, whether it has closed the session.
    pub(crate) async fn check(&mut self) -> bool {
        // Lets the runtime look at its sockets first: what it has not heard of, reading does not find.
        tokio::task::yield_now().await;
        if self.is_clean()
            && let Some(lost) = self.gone().await
        {
            tracing::debug!(cause = %chain(&lost), "a session was lost while nobody used it");
            self.close();
        }
        self.is_clean()
    }

    /// Why the session is gone, if it is, as far as that has been heard.
    async fn gone(&mut self) -> Option<Lost> {
        std::future::poll_fn(|cx| Poll::Ready(self.poll_gone(cx))).await
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Option<Lost> {
        let Some(wire) = self.wire.as_mut() else {
            return Some(Lost::Closed);
        };
        loop {
            let ended = match wire::poll_receive(wire, &mut self.received, cx) {
                Poll::Pending => return state::ends_session(&mut self.received),
                Poll::Ready(Ok(0)) => Lost::Closed,
                Poll::Ready(Err(error)) => Lost::Io(error),
                Poll::Ready(Ok(_)) => continue,
            };
            // The server says why before it closes.
            return Some(state::ends_session(&mut self.received).unwrap_or(ended));
        }
    }

    fn close(&mut self) {
        self.standing = None;
        self.wire = None;
    }

    async fn once(
        &mut self,
        queries: &[Query],
        plan: &Plan,
        until: Instant,
    ) -> Result<Vec<Answer>, FlightError> {
        if !self.is_clean() {
            return Err(NotSent::Poisoned.into());
        }
        let (state, standing, sync_left) = self.land(queries, plan, until).await?;
        match standing {
            Ok(Standing::Idle) => state.into_result(),
            Ok(standing) => {
                self.close();
                Err(state.into_failure(Lost::NotIdle(standing), sync_left))
            }
            Err(lost) => Err(state.into_failure(lost, sync_left)),
        }
    }

    /// Sends a pipeline and reads its answers up to ReadyForQuery: what they say, how the session stands
    /// after it or how it was lost, and whether the whole pipeline may have left.
    async fn land<'plan>(
        &mut self,
        queries: &[Query],
        plan: &'plan Plan,
        until: Instant,
    ) -> Result<(State<'plan>, Result<Standing, Lost>, bool), NotSent> {
        if let Some(lost) = self.gone().await {
            self.close();
            return Err(NotSent::Lost(lost));
        }
        let pipeline = wire::encode(queries, plan, self.cache.closing())?;
        let Some(stream) = self.wire.as_mut() else {
            return Err(NotSent::Poisoned);
        };
        self.standing = None;
        // Looked at when it is prepared: what is in the cache has been looked at.
        let new = queries
            .iter()
            .zip(&plan.steps)
            .filter(|(_, step)| step.parse);
        self.changed |= new
            .into_iter()
            .any(|(query, _)| text::changes_session(&query.sql));
        let closing = self.cache.closing().len();
        let mut state = State::new(plan, closing);
        let mut sent = 0;
        let exchange = wire::exchange(
            stream,
            &pipeline,
            &mut sent,
            &mut self.received,
            |received| state.advance(received, &mut self.cache, queries),
        );
        let ended = tokio::time::timeout_at(until, exchange).await;
        // The Sync is the last thing in the pipeline: unless the whole of it left, the server commits nothing.
        let sync_left = sent == pipeline.len();
        let lost = match ended {
            Ok(Ok(Progress::Ready(standing))) => {
                self.standing = Some(standing);
                self.cache.closed(closing);
                return Ok((state, Ok(standing), sync_left));
            }
            Ok(Ok(Progress::More)) => Lost::Closed,
            Ok(Err(lost)) => lost,
            Err(_elapsed) => Lost::Deadline,
        };
        self.close();
        Ok((state, Err(lost), sync_left))
    }
}
