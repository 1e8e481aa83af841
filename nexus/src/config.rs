//! What can be configured, after the command line and the environment are read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use db_model::model::ProjectLimits;
use db_model::types::limits::{
    DRAIN_GRACE, FLEET_PROJECTS_DEFAULT, OPERATION_WAIT_MAX, PROJECT_INSTANCES_DEFAULT,
    PROJECT_MEMORY_BYTES_DEFAULT, PROJECT_VCPUS_DEFAULT, SAGAS_RUNNING_MAX,
};

// Limits of the HTTP side.

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

// Limits of the process.

/// How long a request waits for a database connection.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long `/readyz` waits for the database.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(2);
/// Connections that the embedded server takes, from all processes on its folder.
pub const EMBEDDED_CONNECTIONS_MAX: u32 = 200;
/// Connections of the write pool, unless told.
pub const WRITE_POOL_SIZE_DEFAULT: u32 = 16;
/// Connections of the read pool, unless told.
pub const READ_POOL_SIZE_DEFAULT: u32 = 16;
/// Connections of one pool at most.
pub const POOL_SIZE_MAX: u32 = 1_000;

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The folder of the embedded server, when there is no URL.
    pub data_dir: PathBuf,
    /// A database of one's own. It always wins, and nothing is started.
    pub url: Option<String>,
    /// Where PostgreSQL's programs are, when they shall not be searched.
    pub bin_dir: Option<PathBuf>,
    /// Connections of the write pool.
    pub write_pool_size: u32,
    /// Connections of the read pool.
    pub read_pool_size: u32,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            data_dir: "./nexus-data".into(),
            url: None,
            bin_dir: None,
            write_pool_size: WRITE_POOL_SIZE_DEFAULT,
            read_pool_size: READ_POOL_SIZE_DEFAULT,
        }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the API is.
    pub listen: SocketAddr,
    /// Where health and readiness are.
    pub admin_listen: SocketAddr,
    /// Where the data is.
    pub database: DatabaseConfig,
    /// Projects that a new fleet may have.
    pub fleet_projects: i64,
    /// Limits of a project whose creator names none.
    pub project_limits: ProjectLimits,
    /// Sagas that run at once; more are answered with 503.
    pub sagas_running_max: usize,
    /// How long a shutdown waits for what runs.
    pub drain_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            database: DatabaseConfig::default(),
            fleet_projects: FLEET_PROJECTS_DEFAULT,
            project_limits: ProjectLimits {
                instances: PROJECT_INSTANCES_DEFAULT,
                vcpus: PROJECT_VCPUS_DEFAULT,
                memory_bytes: PROJECT_MEMORY_BYTES_DEFAULT,
            },
            sagas_running_max: SAGAS_RUNNING_MAX,
            drain_grace: DRAIN_GRACE,
        }
    }
}
