//! The ways in which the model transaction travels, and the sessions on which it does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use db_model::Database;
use db_model::batch::{Batch, Hook, Options, Transaction};
use db_model::connect::ConnectOptions;
use db_model::pool::PoolOptions;
use diesel::result::Error;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use super::model::Model;

/// Longer than any client waits for a session, also behind all others on one row.
const SESSION_WAIT: Duration = Duration::from_secs(60);

/// A way of doing the model transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// diesel-async's `transaction()`, one statement awaited after the other.
    Awaited,
    /// The same with the three statements polled together, BEGIN and COMMIT awaited apart.
    Joined,
    /// A [`Transaction`], step by step.
    Transaction(Extra),
    /// A [`Batch`]: one pipeline, one Sync.
    Batch(Extra),
    /// pgbench, all of it in one message of the simple protocol, BEGIN and COMMIT included.
    OneMessage,
    /// pgbench, prepared statements in one pipeline with one Sync.
    Pipeline,
}

/// What is more or less than in the model transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// All steps in one section.
    Section,
    /// A hook after the commit.
    Hook,
    /// No event.
    NoEvent,
}

impl Variant {
    /// What is compared with each other.
    pub const ALL: [Self; 6] = [
        Self::Awaited,
        Self::Joined,
        Self::Transaction(Extra::None),
        Self::Batch(Extra::None),
        Self::OneMessage,
        Self::Pipeline,
    ];

    /// What shows the cost of the parts.
    pub const PARTS: [Self; 7] = [
        Self::Transaction(Extra::None),
        Self::Transaction(Extra::Section),
        Self::Transaction(Extra::Hook),
        Self::Transaction(Extra::NoEvent),
        Self::Batch(Extra::None),
        Self::Batch(Extra::Hook),
        Self::Batch(Extra::NoEvent),
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Awaited => "diesel-async transaction()",
            Self::Joined => "diesel-async, joined inside",
            Self::Transaction(Extra::None) => "Transaction",
            Self::Transaction(Extra::Section) => "Transaction, one section",
            Self::Transaction(Extra::Hook) => "Transaction, one hook",
            Self::Transaction(Extra::NoEvent) => "Transaction, no event",
            Self::Batch(Extra::None) => "Batch",
            Self::Batch(Extra::Section) => "Batch, one section",
            Self::Batch(Extra::Hook) => "Batch, one hook",
            Self::Batch(Extra::NoEvent) => "Batch, no event",
            Self::OneMessage => "pgbench, one message",
            Self::Pipeline => "pgbench, prepared pipeline",
        }
    }

    /// Whether it runs in this process, and not in pgbench.
    pub fn is_own(self) -> bool {
        !matches!(self, Self::OneMessage | Self::Pipeline)
    }

    /// Events that each transaction leaves.
    pub fn events(self) -> u64 {
        match self {
            Self::Transaction(Extra::NoEvent) | Self::Batch(Extra::NoEvent) => 0,
            _ => 1,
        }
    }

    /// Hooks that each transaction runs.
    pub fn hooks(self) -> u64 {
        match self {
            Self::Transaction(Extra::Hook) | Self::Batch(Extra::Hook) => 1,
            _ => 0,
        }
    }
}

/// The sessions of one process: those of Diesel, and as many of the product.
#[derive(Clone, Debug)]
pub struct Sessions {
    diesel: Pool<AsyncPgConnection>,
    database: Database,
    hooks: Arc<AtomicU64>,
}

impl Sessions {
    /// At most `size` of each kind, opened when they are needed.
    ///
    /// # Errors
    /// When `url` is not understood.
    pub async fn new(url: &str, size: u32) -> Result<Self> {
        let mut config = ManagerConfig::default();
        // The default asks the server at each checkout.
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let diesel = Pool::builder()
            .max_size(size)
            .connection_timeout(SESSION_WAIT)
            .test_on_check_out(false)
            .build(manager)
            .await
            .context("opening Diesel's sessions")?;
        let pools = PoolOptions {
            write_size: size,
            read_size: 1,
            wait: SESSION_WAIT,
            audit: false,
        };
        let options = ConnectOptions::parse(url)?;
        Ok(Self {
            diesel,
            database: Database::new(options, &pools, Uuid::now_v7()),
            hooks: Arc::default(),
        })
    }

    /// Opens one of each kind.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(&self) -> Result<()> {
        drop(self.diesel.get().await.context("a session of Diesel's")?);
        self.database.ping().await?;
        Ok(())
    }

    /// How long the server takes to answer a question that costs nothing, in milliseconds: the median of many.
    ///
    /// # Errors
    /// When it does not.
    pub async fn round_trip_ms(&self) -> Result<f64> {
        self.database.ping().await?;
        let mut times = Vec::new();
        for _ in 0..101 {
            let asked = Instant::now();
            self.database.ping().await?;
            times.push(asked.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2].as_secs_f64() * 1e3)
    }

    /// The product's pools.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// How many hooks have run since this was last asked.
    pub fn take_hooks(&self) -> u64 {
        self.hooks.swap(0, Ordering::Relaxed)
    }

    /// Does the model transaction once, for one more instance of a project.
    ///
    /// # Errors
    /// When it did not commit; also for the variants that are pgbench's.
    pub async fn run(&mut self, variant: Variant, project_id: Uuid) -> Result<()> {
        let model = Model::draw(project_id);
        match variant {
            Variant::Awaited => self.awaited(&model).await,
            Variant::Joined => self.joined(&model).await,
            Variant::Transaction(extra) => self.transaction(&model, extra).await,
            Variant::Batch(extra) => self.batch(&model, extra).await,
            Variant::OneMessage | Variant::Pipeline => {
                anyhow::bail!("{} runs in a program of its own", variant.name())
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it is what the product is compared with"
    )]
    async fn awaited(&self, model: &Model) -> Result<()> {
        let mut session = self.diesel.get().await?;
        let body = async |session: &mut AsyncPgConnection| {
            model.charge(session).await?;
            model.insert_instance(session).await?;
            model.insert_event(session).await
        };
        (*session).transaction::<_, Error, _>(body).await?;
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it is what the product is compared with"
    )]
    async fn joined(&self, model: &Model) -> Result<()> {
        let mut session = self.diesel.get().await?;
        let body = async |session: &mut AsyncPgConnection| {
            let (charged, inserted, recorded) = futures::join!(
                model.charge(session),
                model.insert_instance(session),
                model.insert_event(session),
            );
            charged.and(inserted).and(recorded)
        };
        (*session).transaction::<_, Error, _>(body).await?;
        Ok(())
    }

    async fn transaction(&mut self, model: &Model, extra: Extra) -> Result<()> {
        let hooks = &self.hooks;
        let body = async |tx: Transaction| {
            let steps = async |tx: Transaction| {
                let (tx, ()) = tx.run(model.charge_step()).await?;
                let (tx, ()) = tx.run(model.instance_step()).await?;
                if extra == Extra::NoEvent {
                    return Ok((tx, ()));
                }
                tx.run(model.event_step()).await
            };
            match extra {
                Extra::Section => {
                    let (tx, ended) = tx.section("bench", steps).await?;
                    match ended {
                        Ok(()) => Ok((tx, ())),
                        Err(cause) => Err(tx.abort(cause)),
                    }
                }
                Extra::Hook => {
                    let (tx, ()) = steps(tx).await?;
                    Ok((tx.after_commit(counting(hooks))?, ()))
                }
                Extra::None | Extra::NoEvent => steps(tx).await,
            }
        };
        let outcome = self.database.transact(Options::new("bench"), body).await;
        Ok(outcome.into_result()?)
    }

    async fn batch(&self, model: &Model, extra: Extra) -> Result<()> {
        let batch = Batch::new()
            .step(model.charge_step())
            .step(model.instance_step());
        let batch = match extra {
            Extra::NoEvent => batch.discard(),
            _ => batch.step(model.event_step()).discard(),
        };
        let batch = match extra {
            Extra::Hook => batch.after_commit(counting(&self.hooks)),
            _ => batch,
        };
        Ok(batch.commit(&self.database.writes).await?)
    }
}

/// A hook that does next to nothing, but is seen to have run.
fn counting(hooks: &Arc<AtomicU64>) -> Hook {
    let hooks = Arc::clone(hooks);
    Hook::new("bench", |_queue| async move {
        hooks.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(())
    })
}
