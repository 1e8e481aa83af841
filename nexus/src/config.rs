//! What can be configured, after the command line and the environment are read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use db_model::model::ProjectLimits;
use db_model::purge::Retention;
use db_model::types::limits::{
    DRAIN_GRACE, FLEET_PROJECTS_DEFAULT, PROJECT_INSTANCES_DEFAULT, PROJECT_MEMORY_BYTES_DEFAULT,
    PROJECT_VCPUS_DEFAULT, PURGE_INTERVAL_DEFAULT, READ_POOL_SIZE_DEFAULT, SAGAS_RUNNING_MAX,
    WRITE_POOL_SIZE_DEFAULT,
};

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
    /// How long is kept what is over.
    pub retention: Retention,
    /// How often it is looked for what need not be kept any more.
    pub purge_interval: Duration,
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
            retention: Retention::default(),
            purge_interval: PURGE_INTERVAL_DEFAULT,
        }
    }
}
