//! Reading executors: the processes that run sagas.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::{ReadError, rows};
use crate::pool::ReadPool;

/// A process as its row shows it.
#[derive(Clone, Debug, QueryableByName)]
pub struct Executor {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The machine's name.
    #[diesel(sql_type = Text)]
    pub host: String,
    /// The process id there.
    #[diesel(sql_type = BigInt)]
    pub pid: i64,
    /// The version of the program.
    #[diesel(sql_type = Text)]
    pub version: String,
    /// When it renewed its lease last.
    #[diesel(sql_type = Timestamptz)]
    pub time_heartbeat: DateTime<Utc>,
    /// Whether its lease holds, by the database's clock.
    #[diesel(sql_type = Bool)]
    pub alive: bool,
}

/// Whether the lease of `executor` holds.
const ALIVE: &str = "time_ended IS NULL AND time_lease_expires > clock_timestamp()";

/// A process by id.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn view(pool: &ReadPool, id: Uuid) -> Result<Option<Executor>, ReadError> {
    let query = diesel::sql_query(format!(
        "SELECT id, host, pid, version, time_heartbeat, {ALIVE} AS alive FROM executor WHERE id = $1"
    ))
    .bind::<SqlUuid, _>(id);
    let mut rows: Vec<Executor> = rows!(pool, "executor.view", query)?;
    Ok(rows.pop())
}

#[derive(Debug, QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many processes are alive.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn count_alive(pool: &ReadPool) -> Result<i64, ReadError> {
    let query = diesel::sql_query(format!(
        "SELECT count(*) AS count FROM executor WHERE {ALIVE}"
    ));
    let rows: Vec<Count> = rows!(pool, "executor.count_alive", query)?;
    Ok(rows.first().map_or(0, |row| row.count))
}
