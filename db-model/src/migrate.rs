//! Bringing the database to this binary's schema.

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio_postgres::Client;

use crate::batch::flight::{Flight, SelfTestError};
use crate::batch::{Batch, BatchError};
use crate::connect::{self, ConnectError, ConnectOptions};
use crate::pool::{PoolOptions, WritePool};
use crate::query::{self, Change};
use crate::types::limits::{BATCH_DEADLINE, CONNECT_TIMEOUT};

/// The migrations of this binary.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The key of the transaction-level advisory lock under which one process at a time migrates.
const MIGRATION_LOCK: i64 = 0x6e65_7875_736d_6967;

/// Why the database cannot be brought to this binary's schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is not reachable, or allows no writes.
    #[error("{}", chain(.0))]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("preparing the database: {}", chain(.0))]
    Query(#[from] tokio_postgres::Error),
    /// The session could not be used for migrations.
    #[error("preparing the database: {0}")]
    Session(#[from] diesel::ConnectionError),
    /// A migration failed. Those before it stay applied.
    #[error("migrating the database: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
    /// Another, newer version of the program has been here.
    #[error(
        "the database has the schema of a newer version of nexus (migration {found}, this version \
         ends with {known}): start that version, or use another database"
    )]
    Newer {
        /// The newest migration of the database.
        found: String,
        /// The newest migration of this binary.
        known: String,
    },
    /// The server does not run a pipeline as one transaction.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// The fleet's quota row could not be made.
    #[error("preparing the database: {0}")]
    Batch(#[from] BatchError),
    /// The task of the migrations ended early.
    #[error("migrating the database: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// An error with all that is behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Applies the migrations that are missing, checks that the server keeps the promises on which
/// batches stand, and makes the fleet's quota row if there is none.
///
/// Safe beside other processes that do the same: one at a time migrates.
///
/// # Errors
/// [`MigrateError`].
pub async fn run(options: &ConnectOptions, fleet_projects: i64) -> Result<(), MigrateError> {
    let lock = connect::client(options).await?;
    warn_about_settings(&lock).await?;
    // The transaction is held by this session while another one migrates: the lock goes with it,
    // whatever becomes of this process.
    lock.batch_execute(&format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
    ))
    .await?;
    let client = connect::client(options).await?;
    client.batch_execute("SET statement_timeout = 0").await?;
    apply(AsyncPgConnection::try_from(client).await?).await?;
    lock.batch_execute("COMMIT").await?;

    Flight::connect(options)
        .await?
        .self_test(BATCH_DEADLINE)
        .await?;
    let one = PoolOptions {
        write_size: 1,
        read_size: 1,
        wait: CONNECT_TIMEOUT,
        audit: false,
    };
    let pool = WritePool::new(options.clone(), &one);
    let ensure = query::fleet_quota::ensure(Change::new(), fleet_projects);
    Batch::new().step(ensure).commit(&pool).await?;
    Ok(())
}

/// Applies what is missing, unless the database is ahead of this binary.
async fn apply(session: AsyncPgConnection) -> Result<(), MigrateError> {
    let apply = move || {
        let mut harness = AsyncMigrationHarness::new(session);
        let applied = harness
            .applied_migrations()
            .map_err(MigrateError::Migration)?;
        let known = versions().map_err(MigrateError::Migration)?;
        if let Some(found) = applied
            .iter()
            .filter(|version| !known.contains(version))
            .max()
        {
            let known = known
                .iter()
                .max()
                .map(ToString::to_string)
                .unwrap_or_default();
            return Err(MigrateError::Newer {
                found: found.to_string(),
                known,
            });
        }
        let new = harness
            .run_pending_migrations(MIGRATIONS)
            .map_err(MigrateError::Migration)?;
        if !new.is_empty() {
            tracing::info!(migrations = new.len(), "the database was migrated");
        }
        Ok(())
    };
    tokio::task::spawn_blocking(apply).await?
}

fn versions() -> diesel::migration::Result<Vec<MigrationVersion<'static>>> {
    let migrations: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS.migrations()?;
    Ok(migrations
        .iter()
        .map(|migration| migration.name().version().as_owned())
        .collect())
}

/// Warns when the server may lose what it has confirmed.
async fn warn_about_settings(client: &Client) -> Result<(), MigrateError> {
    let row = client
        .query_one(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit')",
            &[],
        )
        .await?;
    let (fsync, synchronous_commit): (String, String) = (row.get(0), row.get(1));
    if fsync == "off" {
        tracing::warn!(
            "the database runs with fsync=off: a power cut or a crash of the machine can lose or damage what was committed"
        );
    }
    if synchronous_commit == "off" {
        tracing::warn!(
            "the database runs with synchronous_commit=off: a crash of the server can lose what was committed"
        );
    }
    Ok(())
}
