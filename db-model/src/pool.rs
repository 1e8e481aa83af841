//! The two pools, both to the primary: flights for writing, and read-only Diesel sessions for reading.
//!
//! bb8 bounds how many sessions there are and hands out slots; what is in a slot is looked at, thrown away and
//! replaced here, at checkout, so that whoever waits hears the true reason when the database is away.
//!
//! A session that is not known to be as it was opened is ended and never mended.

mod audit;

use crate::batch::flight::{Flight, ServerError};
use crate::connect::{self, Access, ConnectError, ConnectOptions, Shared};
use crate::effect::{self, EffectInTransaction};
use crate::types::limits;
use audit::AuditError;
use bb8::ManageConnection;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// The sizes of the pools and how long one waits for them.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Sessions for writing. More writers than this on one row only wait in the database instead of here.
    pub write_size: u32,
    /// Sessions for reading.
    pub read_size: u32,
    /// Longest wait for a session, connecting included.
    pub wait: Duration,
    /// Whether the server is asked, each time a session is handed out again, what its last user has left in it; one
    /// round trip each. Tests do. Otherwise the texts of what it was sent have to tell.
    pub audit: bool,
}

/// Why a pool gave no session.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Every session was in use for as long as one waits.
    #[error("no session came free in time")]
    Exhausted,
    /// The database could not be reached for as long as one waits, or refuses us.
    #[error("the database is not available")]
    Unavailable(#[source] ConnectError),
    /// The task has a transaction open: waiting for another session could wait for itself. A bug.
    #[error(transparent)]
    InTransaction(#[from] EffectInTransaction),
}

/// How many sessions a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Slots in use or idle. A slot whose session was lost counts until it is handed out again.
    pub slots: u32,
    /// Slots that nobody holds.
    pub idle: u32,
    /// Sessions that were ended because an audit found something in them. Each is a bug.
    pub soiled: u64,
}

/// The pool of sessions that write.
#[derive(Clone, Debug)]
pub struct WritePool(Pool<Flight>);

impl WritePool {
    /// A pool that connects when it is asked for the first session. Must be called on a Tokio runtime.
    #[must_use]
    pub fn new(options: ConnectOptions, pool: &PoolOptions) -> Self {
        Self(Pool::new(options, pool.write_size, pool))
    }

    /// A session that is clean and whose server has not hung up, connecting if need be.
    ///
    /// # Errors
    /// If none came free, or the database could not be reached, within the pool's `wait`.
    pub async fn get(&self) -> Result<PooledFlight, PoolError> {
        self.0.get().await.map(PooledFlight)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn state(&self) -> PoolState {
        self.0.state()
    }

    /// Where [`PoolState::soiled`] is counted, also after the pool is gone.
    #[must_use]
    pub fn soiled(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.soiled)
    }
}

/// A flight of the write pool; dropping it gives it back, or ends it if it is not clean.
#[derive(Debug)]
pub struct PooledFlight(Pooled<Flight>);

impl Deref for PooledFlight {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        self.0.link()
    }
}

impl DerefMut for PooledFlight {
    fn deref_mut(&mut self) -> &mut Flight {
        self.0.link_mut()
    }
}

/// The pool of sessions that read. They refuse to write.
#[derive(Clone, Debug)]
pub struct ReadPool(Pool<Reader>);

impl ReadPool {
    /// A pool that connects when it is asked for the first session. Must be called on a Tokio runtime.
    #[must_use]
    pub fn new(options: ConnectOptions, pool: &PoolOptions) -> Self {
        Self(Pool::new(options, pool.read_size, pool))
    }

    /// A session that is idle, without an open transaction, and whose server has not hung up.
    ///
    /// # Errors
    /// If none came free, or the database could not be reached, within the pool's `wait`.
    pub async fn get(&self) -> Result<PooledReader, PoolError> {
        let session = PooledReader(self.0.get().await?);
        // What an earlier query was told is none of the next one's.
        drop(session.take_error());
        Ok(session)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn state(&self) -> PoolState {
        self.0.state()
    }

    /// Where [`PoolState::soiled`] is counted, also after the pool is gone.
    #[must_use]
    pub fn soiled(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.soiled)
    }
}

/// A Diesel session of the read pool; dropping it gives it back, or ends it if it has a transaction open.
#[derive(Debug)]
pub struct PooledReader(Pooled<Reader>);

impl PooledReader {
    /// What the server said last when it refused something on this session, if nobody has taken it yet.
    pub(crate) fn take_error(&self) -> Option<ServerError> {
        self.0.link().shared.take_error()
    }
}

impl Deref for PooledReader {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.0.link().session
    }
}

impl DerefMut for PooledReader {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.0.link_mut().session
    }
}

/// A session as a pool sees it.
trait Link: Send + 'static {
    /// Opens one.
    fn open(options: &ConnectOptions) -> impl Future<Output = Result<Self, ConnectError>> + Send
    where
        Self: Sized;

    /// Whether it may be given to the next user, as far as is known here and now.
    fn is_reusable(&self) -> bool;

    /// The same, looking at what has happened since; without asking the server if that can be helped.
    fn check(&mut self) -> impl Future<Output = bool> + Send;

    /// Asks the server what is left in it: nothing, if it is as it was opened.
    fn audit(&mut self) -> impl Future<Output = Result<String, AuditError>> + Send;
}

impl Link for Flight {
    async fn open(options: &ConnectOptions) -> Result<Self, ConnectError> {
        Self::connect(options).await
    }

    fn is_reusable(&self) -> bool {
        self.is_clean() && self.is_unchanged()
    }

    async fn check(&mut self) -> bool {
        Self::check(self).await
    }

    async fn audit(&mut self) -> Result<String, AuditError> {
        audit::of_flight(self).await
    }
}

/// A Diesel session with what tells its state: diesel-async shows neither the status of the last ReadyForQuery nor
/// that the server has hung up.
struct Reader {
    session: AsyncPgConnection,
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl Link for Reader {
    async fn open(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let opened = connect::open(options, Access::ReadOnly).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = opened.connection.await {
                tracing::debug!(%error, "a reading session ended");
            }
        });
        match AsyncPgConnection::try_from(opened.client).await {
            Ok(session) => {
                opened.shared.settle();
                Ok(Self {
                    session,
                    shared: opened.shared,
                    driver,
                })
            }
            Err(error) => {
                tracing::debug!(%error, "a reading session could not be set up");
                Err(ConnectError::Protocol(
                    "diesel-async could not set the session up",
                ))
            }
        }
    }

    /// A request without its answer is no harm yet: tokio-postgres closes statements behind its user's back.
    fn is_reusable(&self) -> bool {
        !self.driver.is_finished()
            && self.shared.is_unchanged()
            && (self.shared.is_idle() || !self.shared.is_answered())
    }

    async fn check(&mut self) -> bool {
        // One turn for the runtime to hear from the socket, and one for the driver to read it.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        if !self.driver.is_finished() && !self.shared.is_answered() {
            // Its answer comes after all others; only then is the status that of the session.
            return self.session.batch_execute("").await.is_ok() && self.shared.is_idle();
        }
        !self.driver.is_finished() && self.shared.is_idle()
    }

    async fn audit(&mut self) -> Result<String, AuditError> {
        audit::of_reader(&mut self.session).await
    }
}

/// Hands out slots and knows nothing of what is in them, but whether it may stay.
struct Slots<L>(PhantomData<fn() -> L>);

impl<L: Link> ManageConnection for Slots<L> {
    type Connection = Option<L>;
    type Error = Infallible;

    async fn connect(&self) -> Result<Option<L>, Infallible> {
        Ok(None)
    }

    async fn is_valid(&self, _slot: &mut Option<L>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Option<L>) -> bool {
        slot.as_ref().is_some_and(|link| !link.is_reusable())
    }
}

struct Pool<L: Link> {
    slots: bb8::Pool<Slots<L>>,
    options: ConnectOptions,
    wait: Duration,
    audit: bool,
    soiled: Arc<AtomicU64>,
}

impl<L: Link> Clone for Pool<L> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            options: self.options.clone(),
            wait: self.wait,
            audit: self.audit,
            soiled: Arc::clone(&self.soiled),
        }
    }
}

impl<L: Link> std::fmt::Debug for Pool<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("options", &self.options)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl<L: Link> Pool<L> {
    fn new(options: ConnectOptions, size: u32, pool: &PoolOptions) -> Self {
        let slots = bb8::Pool::builder()
            .max_size(size.max(1))
            .test_on_check_out(false)
            .max_lifetime(limits::CONNECTION_AGE_MAX)
            .idle_timeout(limits::CONNECTION_IDLE_MAX)
            .connection_timeout(pool.wait.max(Duration::from_millis(1)))
            .build_unchecked(Slots(PhantomData));
        Self {
            slots,
            options,
            wait: pool.wait,
            audit: pool.audit,
            soiled: Arc::default(),
        }
    }

    async fn get(&self) -> Result<Pooled<L>, PoolError> {
        effect::check("another database session")?;
        let until = Instant::now() + self.wait;
        let mut slot = self
            .slots
            .get_owned()
            .await
            .map_err(|_timed_out| PoolError::Exhausted)?;
        let alive = match slot.as_mut() {
            Some(link) => timeout_at(until, self.check(link)).await.unwrap_or(false),
            None => false,
        };
        if !alive {
            // Out first: should this future be dropped while it connects, an empty slot goes back.
            *slot = None;
            *slot = Some(self.connect(until).await?);
        }
        Ok(Pooled(slot))
    }

    /// Whether a session of an earlier user may be handed out.
    async fn check(&self, link: &mut L) -> bool {
        if !link.check().await {
            return false;
        }
        if !self.audit {
            return true;
        }
        match link.audit().await {
            Ok(left) if left.is_empty() => true,
            Ok(left) => {
                self.soiled.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    left,
                    "a session came back with more than it had; it is ended"
                );
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a session cannot be audited; it is ended");
                false
            }
        }
    }

    /// Connects, again and again while the database is only away.
    async fn connect(&self, until: Instant) -> Result<L, PoolError> {
        let mut last = ConnectError::TimedOut;
        loop {
            match timeout_at(until, L::open(&self.options)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) if error.is_transient() => last = error,
                Ok(Err(error)) => return Err(PoolError::Unavailable(error)),
                Err(_elapsed) => return Err(PoolError::Unavailable(last)),
            }
            if Instant::now() + limits::CONNECT_RETRY_PAUSE >= until {
                return Err(PoolError::Unavailable(last));
            }
            sleep(limits::CONNECT_RETRY_PAUSE).await;
        }
    }

    fn state(&self) -> PoolState {
        let state = self.slots.state();
        PoolState {
            slots: state.connections,
            idle: state.idle_connections,
            soiled: self.soiled.load(Ordering::Relaxed),
        }
    }
}

/// A slot whose session was checked.
struct Pooled<L: Link>(bb8::PooledConnection<'static, Slots<L>>);

impl<L: Link> Pooled<L> {
    fn link(&self) -> &L {
        self.0
            .as_ref()
            .expect("`get` fills the slot before it hands it out, and nobody else empties it")
    }

    fn link_mut(&mut self) -> &mut L {
        self.0
            .as_mut()
            .expect("`get` fills the slot before it hands it out, and nobody else empties it")
    }
}

impl<L: Link> std::fmt::Debug for Pooled<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}
