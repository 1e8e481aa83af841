//! Executors: running processes and their leases, all in database time.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Integer, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::batch::Step;
use crate::types::limits::PURGE_ROWS_MAX;

/// With what the `application_name` of every executor's sessions begins; its id follows.
const SESSION_NAME_PREFIX: &str = "nexus/";

/// The `application_name` of an executor's sessions.
pub fn session_name(id: Uuid) -> String {
    format!("{SESSION_NAME_PREFIX}{id}")
}

/// A process that starts.
#[derive(Clone, Debug)]
pub struct NewExecutor {
    /// The id.
    pub id: Uuid,
    /// The machine's name.
    pub host: String,
    /// The process id there.
    pub pid: i64,
    /// The version of the program.
    pub version: &'static str,
}

/// Registers a process with its first lease. Sent over the connection that will carry the heartbeat,
/// whose server process stands for the life of the executor.
pub fn register(executor: NewExecutor, lease: Duration) -> Step<()> {
    let insert = diesel::sql_query(
        "INSERT INTO executor (id, host, pid, version, backend_pid, backend_start, time_started, \
         time_heartbeat, time_lease_expires) \
         SELECT $1, $2, $3, $4, a.pid, a.backend_start, clock_timestamp(), clock_timestamp(), \
         clock_timestamp() + make_interval(secs => $5) \
         FROM pg_stat_activity a WHERE a.pid = pg_backend_pid() \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind::<SqlUuid, _>(executor.id)
    .bind::<Text, _>(executor.host)
    .bind::<BigInt, _>(executor.pid)
    .bind::<Text, _>(executor.version)
    .bind::<Double, _>(lease.as_secs_f64());
    Step::statement("executor.register", insert)
}

/// The session over which a lease was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct HeartbeatSession {
    /// The server process.
    #[diesel(sql_type = Integer)]
    pub backend_pid: i32,
}

/// Renews the lease of an executor that has not been ended, and gives the session over which it did,
/// or nothing when the lease is lost for good.
pub fn heartbeat(id: Uuid, lease: Duration) -> Step<Vec<HeartbeatSession>> {
    let update = diesel::sql_query(
        "UPDATE executor e SET time_heartbeat = clock_timestamp(), \
         time_lease_expires = clock_timestamp() + make_interval(secs => $2), \
         backend_pid = a.pid, backend_start = a.backend_start \
         FROM pg_stat_activity a WHERE a.pid = pg_backend_pid() \
         AND e.id = $1 AND e.time_ended IS NULL RETURNING e.backend_pid",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Double, _>(lease.as_secs_f64());
    Step::rows("executor.heartbeat", update)
}

/// Ends an executor: its sagas may be taken over at once.
pub fn end(id: Uuid) -> Step<()> {
    let update = diesel::sql_query(
        "UPDATE executor SET time_ended = clock_timestamp() WHERE id = $1 AND time_ended IS NULL",
    )
    .bind::<SqlUuid, _>(id);
    Step::statement("executor.end", update)
}

/// Shortens the lease of every other executor whose heartbeat session is gone to `left`. A live one
/// sees that its session is gone, reconnects and renews it in that time; a dead one does not.
///
/// Right after a restart of the database every session is gone, and nothing follows from it.
pub fn shorten_leases(id: Uuid, left: Duration, restart_grace: Duration) -> Step<u64> {
    let update = diesel::sql_query(
        "UPDATE executor e SET time_lease_expires = clock_timestamp() + make_interval(secs => $2) \
         WHERE e.id <> $1 AND e.time_ended IS NULL \
         AND e.time_lease_expires > clock_timestamp() + make_interval(secs => $2) \
         AND clock_timestamp() > pg_postmaster_start_time() + make_interval(secs => $3) \
         AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a \
         WHERE a.datname = current_database() \
         AND a.pid = e.backend_pid AND a.backend_start = e.backend_start)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Double, _>(left.as_secs_f64())
    .bind::<Double, _>(restart_grace.as_secs_f64());
    Step::count("executor.shorten_leases", update)
}

/// An executor that was just declared dead.
#[derive(Clone, Debug, QueryableByName)]
pub struct Ended {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The machine's name.
    #[diesel(sql_type = Text)]
    pub host: String,
    /// The process id there.
    #[diesel(sql_type = BigInt)]
    pub pid: i64,
}

/// Ends every other executor whose lease has run out, if this one's has not.
pub fn end_expired(id: Uuid) -> Step<Vec<Ended>> {
    let update = diesel::sql_query(
        "UPDATE executor SET time_ended = clock_timestamp() \
         WHERE id <> $1 AND time_ended IS NULL AND time_lease_expires <= clock_timestamp() \
         AND EXISTS (SELECT 1 FROM executor e WHERE e.id = $1 AND e.time_ended IS NULL \
         AND e.time_lease_expires > clock_timestamp()) \
         RETURNING id, host, pid",
    )
    .bind::<SqlUuid, _>(id);
    Step::rows("executor.end_expired", update)
}

/// A session that was told to end.
#[derive(Clone, Debug, QueryableByName)]
pub struct EndedSession {
    /// The server process.
    #[diesel(sql_type = Integer)]
    pub backend_pid: i32,
}

/// Ends the sessions that dead executors have left: a pipeline half sent by a frozen process holds
/// its locks beyond every time-out of the server.
///
/// All of them, each time: whoever declared an executor dead may have died before it came to this, and
/// a frozen process that wakes for a moment may have opened more. An executor that ended itself is left
/// alone for as long as its last lease would have run. Only those of this database: a restored copy
/// beside the original holds the same executors' rows, and the original's sessions are not its own.
pub fn end_sessions() -> Step<Vec<EndedSession>> {
    // First the list, then the ends: in one WHERE the planner puts the cheap function before the join,
    // or before the comparison of names, and ends every session of the server, this one included.
    let select = diesel::sql_query(
        "WITH dead AS MATERIALIZED (\
         SELECT a.pid FROM pg_stat_activity a \
         JOIN executor e ON a.datname = current_database() \
         AND a.application_name = $1 || e.id::text \
         WHERE e.time_ended IS NOT NULL AND e.time_lease_expires <= clock_timestamp()) \
         SELECT pid AS backend_pid FROM dead WHERE pg_terminate_backend(pid)",
    )
    .bind::<Text, _>(SESSION_NAME_PREFIX);
    Step::rows("executor.end_sessions", select)
}

/// Removes executors that ended longer than `age` ago, at most [`PURGE_ROWS_MAX`], the oldest first; gives
/// how many.
///
/// One stays for as long as a saga names it, and for as long as it has sessions: [`end_sessions`] knows by
/// the row whose they are.
pub fn purge(age: Duration) -> Step<u64> {
    // Those that stay, of stuck sagas, are few: they cannot fill a batch.
    let delete = diesel::sql_query(format!(
        "WITH candidate AS MATERIALIZED (\
         SELECT id FROM executor WHERE time_ended < now() - make_interval(secs => $1) \
         ORDER BY time_ended, id LIMIT {PURGE_ROWS_MAX} FOR UPDATE SKIP LOCKED), \
         old AS MATERIALIZED (SELECT c.id FROM candidate c \
         WHERE NOT EXISTS (SELECT 1 FROM saga s WHERE s.executor_id = c.id AND s.time_finished IS NULL) \
         AND NOT EXISTS (SELECT 1 FROM saga s WHERE s.executor_id = c.id AND s.time_finished IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datname = current_database() \
         AND a.application_name = $2 || c.id::text)) \
         DELETE FROM executor WHERE id IN (SELECT id FROM old)",
    ))
    .bind::<Double, _>(age.as_secs_f64())
    .bind::<Text, _>(SESSION_NAME_PREFIX);
    Step::count("executor.purge", delete)
}
