//! Every limit of the database layer, in one place: what is bounded, by how much, and why that much.

use std::time::Duration;

// --- Sessions: set on every connection right after it was authenticated. ---

/// Longest time one statement may run on the server.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a row lock; a hot row answers "busy" instead of piling up sessions.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time the server keeps an open transaction whose client says nothing.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a running statement looks whether its client is still there.
pub const CLIENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

// --- Connecting. ---

/// Longest wait for one host to accept a TCP connection, where the URL says nothing else.
pub const CONNECT_HOST_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for a connection from the first packet to a session that is set up, all hosts together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two tries of a pool to reach a database that is away.
pub const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(100);

// --- Flights. ---

/// Bytes of one pipeline at most. Batches have a lower limit of their own; this one guards the driver.
pub const FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows that the answers of one flight may have together.
pub const ANSWER_ROWS_MAX: usize = 1_000_000;
/// Bytes that the rows of one flight may have together; also the longest single message that is accepted.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Prepared statements that one connection keeps.
pub const STATEMENTS_CACHED_MAX: usize = 256;

// --- Pools. ---

/// A pooled connection older than this is replaced, so that a moved primary or a changed role is noticed.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// A pooled connection unused for this long is closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10 * 60);
