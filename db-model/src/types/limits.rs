//! Every limit of the product, in one place.

use std::time::Duration;

// What callers may send.

/// Characters of a project's or instance's name.
pub const NAME_CHARACTERS_MAX: usize = 63;
/// Characters of a description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 512;
/// Virtual CPUs of one instance, from 1.
pub const INSTANCE_VCPUS_MAX: i64 = 1_024;
/// The unit of memory, and the least that an instance has: 1 MiB, in bytes.
pub const MEMORY_BYTES_UNIT: i64 = 1 << 20;
/// Memory of one instance: 16 TiB, in bytes.
pub const INSTANCE_MEMORY_BYTES_MAX: i64 = 16 << 40;
/// The greatest quota limit: 2^53, up to which every JSON reader keeps whole numbers exact.
pub const QUOTA_LIMIT_MAX: i64 = 1 << 53;
/// Items of a page when the caller names no limit.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Items of a page at most.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Bytes of a request's body.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 << 10;
/// Characters of a request id that a caller sends.
pub const REQUEST_ID_CHARACTERS_MAX: usize = 128;
/// How long a request waits for its operation when the caller does not say.
pub const OPERATION_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// How long a caller may ask a request to wait for its operation.
pub const OPERATION_WAIT_MAX: Duration = Duration::from_secs(120);

// Default quotas, when the configuration names none.

/// Projects of the fleet.
pub const FLEET_PROJECTS_DEFAULT: i64 = 1_000;
/// Instances of a project.
pub const PROJECT_INSTANCES_DEFAULT: i64 = 100;
/// Virtual CPUs of a project.
pub const PROJECT_VCPUS_DEFAULT: i64 = 400;
/// Memory of a project: 1 TiB, in bytes.
pub const PROJECT_MEMORY_BYTES_DEFAULT: i64 = 1 << 40;

// Batches.

/// Steps of one batch.
pub const BATCH_STEPS_MAX: usize = 256;
/// Bytes of SQL and binds of a batch that locks a quota or saga row: one write of a socket, for a
/// pipeline that a frozen process sent by half holds its locks beyond every time-out.
pub const BATCH_LOCKING_BYTES_MAX: usize = 64 << 10;
/// Bytes of SQL and binds of any other batch.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often a batch is sent when the server asks for a retry (40001, 40P01).
pub const BATCH_ATTEMPTS_MAX: u32 = 10;
/// How often a batch is sent before the log warns of it, then less and less often.
pub const BATCH_ATTEMPTS_QUIET: u32 = 16;
/// The pause before the first retry of a batch; each further one is twice as long, with jitter.
pub const BATCH_RETRY_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two tries of a batch.
pub const BATCH_RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long a batch whose outcome is unknown is sent again to learn it: far less than a key is kept
/// ([`RETAIN_MIN`]), for without the key it would be done twice.
pub const BATCH_KEYED_WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// How long the answer to a batch may take before the connection is given up.
pub const BATCH_DEADLINE: Duration = Duration::from_secs(30);

// Transactions and hooks.

/// Steps of one transaction.
pub const TRANSACTION_STEPS_MAX: usize = 256;
/// How long a transaction may take, its commit not counted.
pub const TRANSACTION_DEADLINE: Duration = Duration::from_secs(30);
/// How long a transaction may have nothing to do before the log warns of it: its locks are held.
pub const TRANSACTION_HELD_QUIET: Duration = Duration::from_millis(50);
/// How long the answer to a rollback may take before the connection is given up.
pub const TRANSACTION_ROLLBACK_DEADLINE: Duration = Duration::from_secs(5);
/// Sections in one another.
pub const TRANSACTION_SECTIONS_DEPTH_MAX: usize = 8;
/// Sections of one transaction: beyond 64 subtransactions every reader on the server gets slower.
pub const TRANSACTION_SECTIONS_MAX: usize = 32;
/// Hooks of one transaction.
pub const TRANSACTION_HOOKS_MAX: usize = 64;
/// How long the server is asked how a transaction ended whose COMMIT was not answered: longer than it
/// takes the server to end a session that says nothing.
pub const TRANSACTION_RESOLVE_WAIT: Duration = Duration::from_secs(15);
/// The pause between two such questions.
pub const TRANSACTION_RESOLVE_PAUSE: Duration = Duration::from_millis(100);
/// How often hooks may queue further hooks.
pub const HOOK_ROUNDS_MAX: usize = 32;
/// How long one hook may take.
pub const HOOK_DEADLINE: Duration = Duration::from_secs(10);

// Deletes.

/// Blockers that a refused delete names.
pub const BLOCKERS_NAMED_MAX: i64 = 20;

// Sagas.

/// Sagas that one process runs at once, those it took over not counted.
pub const SAGAS_RUNNING_MAX: usize = 1_024;
/// Of these the sagas of one project, so that a busy one leaves room for the others.
pub const SAGAS_RUNNING_PER_PROJECT_MAX: usize = 512;
/// Sagas taken over from dead processes that one process runs at once.
pub const SAGAS_RECOVERING_MAX: usize = 32;
/// Sagas that one look takes over.
pub const SAGAS_ADOPTED_PER_PAGE_MAX: usize = 500;
/// Sagas that one process has taken over and that have not ended: more are left to others until then.
pub const SAGAS_ADOPTED_MAX: usize = 1_000;
/// How long nothing may be recorded of a saga before it counts as stalled, unless its definition says.
pub const SAGA_STALLED_AFTER: Duration = Duration::from_secs(5 * 60);
/// How often a process looks for sagas that do not get on.
pub const WATCHDOG_INTERVAL: Duration = Duration::from_secs(5);
/// How long the function of a pure node may take, unless its definition says.
pub const NODE_COMPUTE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call of an external node may take, unless its definition says.
pub const NODE_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often an external node is tried, unless its definition says: for about five minutes.
pub const NODE_ATTEMPTS_MAX: u32 = 40;
/// How often an undo is tried before it waits for a person, unless its definition says.
pub const UNDO_ATTEMPTS_MAX: u32 = 8;
/// The longest pause before the second try of a node or undo; each further one is twice as long.
pub const NODE_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries of a node or undo.
pub const NODE_RETRY_PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often a process renews its lease.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a process counts as alive after its last heartbeat.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long a process that ends waits for the end of its lease to be recorded.
pub const LEASE_END_WAIT: Duration = Duration::from_secs(2);
/// How long after a start of the database no session is held to be gone: everybody reconnects.
pub const DATABASE_RESTART_GRACE: Duration = Duration::from_secs(1);
/// How old a saga of this process must be before it counts as forgotten when it does not run: longer
/// than any step of the clock and than the way from its row to its task.
pub const SAGA_SETTLED_AGE: Duration = Duration::from_secs(10);
/// How long a shutdown waits for running requests and sagas.
pub const DRAIN_GRACE: Duration = Duration::from_secs(20);
/// What `Retry-After` asks for when the service is busy.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

// The purge.

/// Rows that one batch of the purge removes, those not counted that belong to one of them alone: the quota
/// row of a project, and the log of a saga, which has a few events for each of its nodes.
pub const PURGE_ROWS_MAX: i64 = 500;
/// The pause between two batches of the purge: requests come first.
pub const PURGE_PAUSE: Duration = Duration::from_millis(50);
/// How often a process looks for what is to be purged, unless told.
pub const PURGE_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest time between two rounds of the purge that may be configured.
pub const PURGE_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest time between two rounds of the purge that may be configured.
pub const PURGE_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How many times longer the purge waits at most after rounds that failed.
pub const PURGE_BACKOFF_MAX: u32 = 16;
/// How long deleted rows, finished operations and events are kept, unless told: 7 days.
pub const RETAIN_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The shortest retention that may be configured: an operation outlives by far whoever waits for it or was
/// told where to look ([`OPERATION_WAIT_MAX`]), every retry of a batch that is known by its event, and the clocks' differences.
pub const RETAIN_MIN: Duration = Duration::from_secs(60 * 60);
/// The longest retention that may be configured: ten years of 365.25 days.
pub const RETAIN_MAX: Duration = Duration::from_secs(10 * 31_557_600);

// The change feed.

/// Events that one batch publishes.
pub const EVENTS_PUBLISHED_AT_ONCE_MAX: i64 = 500;
/// How often a process looks for events to publish while there are some.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
/// The same after a while without any, and while the database is away.
pub const PUBLISH_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The greatest number of the feed: 2^53, up to which every JSON reader keeps whole numbers exact.
pub const FEED_SEQUENCE_MAX: i64 = 1 << 53;
/// Numbers of the feed that one page looks at, whatever its filter lets pass.
pub const FEED_SCAN_MAX: i64 = 10_000;

// Following an operation.

/// Operations that callers follow at one process at once: each asks the database about once a second.
pub const OPERATION_STREAMS_MAX: usize = 128;
/// How often the log of an operation that is followed is looked at while something comes.
pub const OPERATION_FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// The same after a while without anything, and while the database is away.
pub const OPERATION_FOLLOW_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How long a stream may be silent before a comment is sent, which finds out whether anybody still reads.
pub const OPERATION_STREAM_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Operations that the command line lists, unless told.
pub const OPERATIONS_LISTED_DEFAULT: u32 = 50;

// Sessions: set on every connection right after it was authenticated.

/// Longest time one statement may run on the server.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a row lock; a hot row answers "busy" instead of piling up sessions.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time the server keeps an open transaction whose client says nothing.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a running statement looks whether its client is still there.
pub const CLIENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

// Connecting.

/// Longest wait for one host to accept a TCP connection, where the URL says nothing else.
pub const CONNECT_HOST_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for a connection from the first packet to a session that is set up, all hosts together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two tries of a pool to reach a database that is away.
pub const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(100);

// Flights.

/// Bytes of one pipeline at most. Batches have a lower limit of their own; this one guards the driver.
pub const FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows that the answers of one flight may have together.
pub const ANSWER_ROWS_MAX: usize = 1_000_000;
/// Bytes that the rows of one flight may have together; also the longest single message that is accepted.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an error of the server that a reading session keeps, to say what it was.
pub const SERVER_ERROR_BYTES_MAX: usize = 64 * 1024;
/// Prepared statements that one connection keeps.
pub const STATEMENTS_CACHED_MAX: usize = 256;

// Pools.

/// A pooled connection older than this is replaced, so that a moved primary or a changed role is noticed.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// A pooled connection unused for this long is closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10 * 60);

// Requests.

/// How long a request's body may take to arrive.
pub const REQUEST_BODY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of a body that is too long that are read, so that its sender gets to reading the answer.
pub const REQUEST_BODY_DISCARDED_BYTES_MAX: usize = 1 << 20;
/// How long a request may take: longer than a body and the longest wait for an operation together,
/// which have limits of their own; this one is for what nobody thought of.
pub const REQUEST_WAIT_MAX: Duration = OPERATION_WAIT_MAX
    .saturating_add(REQUEST_BODY_WAIT_MAX)
    .saturating_add(Duration::from_secs(30));
/// Characters of a page token.
pub const PAGE_TOKEN_CHARACTERS_MAX: usize = 1_024;

// The process.

/// How long a request waits for a database connection.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long `/readyz` waits for the database.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the recorder of metrics is tidied up.
pub const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Connections that the embedded server takes, from all processes on its folder.
pub const EMBEDDED_CONNECTIONS_MAX: u32 = 200;
/// Connections of the write pool, unless told.
pub const WRITE_POOL_SIZE_DEFAULT: u32 = 16;
/// Connections of the read pool, unless told.
pub const READ_POOL_SIZE_DEFAULT: u32 = 16;
/// Connections for sagas that were taken over; never more than the write pool has.
pub const RECOVERY_POOL_SIZE_MAX: u32 = 16;
/// Connections of one pool at most.
pub const POOL_SIZE_MAX: u32 = 1_000;
/// How long requests may go on in a process that has lost its lease and may write nothing any more.
pub const LOST_GRACE: Duration = Duration::from_secs(1);
