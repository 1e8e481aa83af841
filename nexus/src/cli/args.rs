//! Flags that several commands share, and the configuration that they make.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use db_model::model::ProjectLimits;
use db_model::purge::Retention;
use db_model::types::limits::{
    DRAIN_GRACE, FLEET_PROJECTS_DEFAULT, PROJECT_INSTANCES_DEFAULT, PROJECT_MEMORY_BYTES_DEFAULT,
    PROJECT_VCPUS_DEFAULT, PURGE_INTERVAL_DEFAULT, PURGE_INTERVAL_MAX, PURGE_INTERVAL_MIN,
    QUOTA_LIMIT_MAX, RETAIN_DEFAULT, RETAIN_MAX, RETAIN_MIN, SAGAS_RUNNING_MAX,
};

use crate::config::{Config, DatabaseConfig};
use db_model::types::limits::{POOL_SIZE_MAX, READ_POOL_SIZE_DEFAULT, WRITE_POOL_SIZE_DEFAULT};

/// Where the data is.
#[derive(Clone, Debug, Args)]
pub struct DatabaseArgs {
    /// The folder of the embedded PostgreSQL, used when no database URL is given.
    #[arg(
        long,
        env = "NEXUS_DATA_DIR",
        default_value = "./nexus-data",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// A PostgreSQL of your own; nothing is started then. DATABASE_URL is read too.
    #[arg(
        long,
        env = "NEXUS_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// Where PostgreSQL's programs are; searched for unless given. PG_BIN_DIR is read too.
    #[arg(long, env = "NEXUS_PG_BIN_DIR", value_name = "FOLDER")]
    pub pg_bin_dir: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The configuration: flags first, then NEXUS_.., then the names that others use too.
    pub fn config(self) -> DatabaseConfig {
        self.config_with(|name| env::var(name).ok())
    }

    fn config_with(self, variable: impl Fn(&str) -> Option<String>) -> DatabaseConfig {
        let set = |text: &String| !text.is_empty();
        let url = self
            .database_url
            .filter(set)
            .or_else(|| variable("DATABASE_URL").filter(set));
        let bin_dir = self.pg_bin_dir.filter(|path| !path.as_os_str().is_empty());
        let common = || variable("PG_BIN_DIR").filter(set).map(PathBuf::from);
        DatabaseConfig {
            data_dir: self.data_dir,
            url,
            bin_dir: bin_dir.or_else(common),
            ..DatabaseConfig::default()
        }
    }
}

/// A server.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// Where the API and its documentation are.
    #[arg(
        long,
        env = "NEXUS_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        value_parser = address
    )]
    pub listen: SocketAddr,
    /// Where health and readiness are.
    #[arg(
        long,
        env = "NEXUS_ADMIN_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS",
        value_parser = address
    )]
    pub admin_listen: SocketAddr,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Database connections for changes.
    #[arg(long, env = "NEXUS_WRITE_POOL_SIZE", default_value_t = WRITE_POOL_SIZE_DEFAULT,
        value_name = "COUNT", value_parser = pool_size())]
    pub write_pool_size: u32,
    /// Database connections for reads.
    #[arg(long, env = "NEXUS_READ_POOL_SIZE", default_value_t = READ_POOL_SIZE_DEFAULT,
        value_name = "COUNT", value_parser = pool_size())]
    pub read_pool_size: u32,
    /// Projects that a new fleet may have; later it is changed over the API.
    #[arg(long, env = "NEXUS_DEFAULT_PROJECTS", default_value_t = FLEET_PROJECTS_DEFAULT,
        value_name = "COUNT", value_parser = quota_limit())]
    pub default_projects: i64,
    /// Instances that a project may have when its creator names no limit.
    #[arg(long, env = "NEXUS_DEFAULT_INSTANCES", default_value_t = PROJECT_INSTANCES_DEFAULT,
        value_name = "COUNT", value_parser = quota_limit())]
    pub default_instances: i64,
    /// Virtual CPUs that a project's instances may have together when its creator names no limit.
    #[arg(long, env = "NEXUS_DEFAULT_VCPUS", default_value_t = PROJECT_VCPUS_DEFAULT,
        value_name = "COUNT", value_parser = quota_limit())]
    pub default_vcpus: i64,
    /// Memory that a project's instances may have together when its creator names no limit.
    #[arg(long, env = "NEXUS_DEFAULT_MEMORY_BYTES", default_value_t = PROJECT_MEMORY_BYTES_DEFAULT,
        value_name = "BYTES", value_parser = quota_limit())]
    pub default_memory_bytes: i64,
    /// Operations that run at once; more are answered with 503.
    #[arg(long, env = "NEXUS_SAGAS_RUNNING_MAX", value_name = "COUNT",
        default_value_t = u32::try_from(SAGAS_RUNNING_MAX).expect("the limit is small"),
        value_parser = clap::value_parser!(u32).range(1..))]
    pub sagas_running_max: u32,
    /// How long a shutdown waits for what runs.
    #[arg(long, env = "NEXUS_DRAIN_GRACE_SECONDS", default_value_t = DRAIN_GRACE.as_secs(),
        value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=3600))]
    pub drain_grace_seconds: u64,
    /// How long the rows of deleted projects and instances are kept.
    #[arg(long, env = "NEXUS_RETAIN_DELETED", default_value_t = RETAIN_DEFAULT.into(),
        value_name = "DURATION", value_parser = retention)]
    pub retain_deleted: humantime::Duration,
    /// How long operations are kept that succeeded or failed; at their address is nothing afterwards.
    #[arg(long, env = "NEXUS_RETAIN_OPERATIONS", default_value_t = RETAIN_DEFAULT.into(),
        value_name = "DURATION", value_parser = retention)]
    pub retain_operations: humantime::Duration,
    /// How long events are kept from their publication; a reader that comes from further back is told so.
    #[arg(long, env = "NEXUS_RETAIN_EVENTS", default_value_t = RETAIN_DEFAULT.into(),
        value_name = "DURATION", value_parser = retention)]
    pub retain_events: humantime::Duration,
    /// How often what was kept for long enough is removed.
    #[arg(long, env = "NEXUS_PURGE_INTERVAL", default_value_t = PURGE_INTERVAL_DEFAULT.into(),
        value_name = "DURATION", value_parser = purge_interval)]
    pub purge_interval: humantime::Duration,
}

impl ServerArgs {
    /// The configuration.
    pub fn config(self) -> Config {
        let database = DatabaseConfig {
            write_pool_size: self.write_pool_size,
            read_pool_size: self.read_pool_size,
            ..self.database.config()
        };
        Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            database,
            fleet_projects: self.default_projects,
            project_limits: ProjectLimits {
                instances: self.default_instances,
                vcpus: self.default_vcpus,
                memory_bytes: self.default_memory_bytes,
            },
            sagas_running_max: usize::try_from(self.sagas_running_max)
                .expect("a u32 fits on every machine that runs this"),
            drain_grace: Duration::from_secs(self.drain_grace_seconds),
            retention: Retention {
                deleted: *self.retain_deleted,
                operations: *self.retain_operations,
                events: *self.retain_events,
            },
            purge_interval: *self.purge_interval,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080")
}

fn retention(text: &str) -> Result<humantime::Duration, String> {
    duration(text, RETAIN_MIN, RETAIN_MAX, "7days, 72h or 1h")
}

fn purge_interval(text: &str) -> Result<humantime::Duration, String> {
    duration(text, PURGE_INTERVAL_MIN, PURGE_INTERVAL_MAX, "60s or 5min")
}

/// A duration with its unit, not shorter than `least` and not longer than `most`.
fn duration(
    text: &str,
    least: Duration,
    most: Duration,
    example: &str,
) -> Result<humantime::Duration, String> {
    let read: humantime::Duration = text
        .parse()
        .map_err(|error| format!("must be a number with a unit, such as {example}: {error}"))?;
    if (least..=most).contains(&read) {
        return Ok(read);
    }
    let shown = humantime::format_duration;
    Err(format!(
        "must be from {} to {}, such as {example}",
        shown(least),
        shown(most)
    ))
}

fn pool_size() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(POOL_SIZE_MAX))
}

fn quota_limit() -> RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(0..=QUOTA_LIMIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Server {
        #[command(flatten)]
        args: ServerArgs,
    }

    #[test]
    fn flags_and_configuration_have_the_same_defaults() {
        let args = Server::try_parse_from(["nexus"]).unwrap().args;
        let config = args.config();
        let url = config.database.url.clone();
        let bin_dir = config.database.bin_dir.clone();
        // The machine's own variables may be set.
        let database = DatabaseConfig {
            url,
            bin_dir,
            ..DatabaseConfig::default()
        };
        assert_eq!(
            config,
            Config {
                database,
                ..Config::default()
            }
        );
    }

    #[test]
    fn the_flag_wins_over_the_common_name_and_empty_means_unset() {
        let args = |url: Option<&str>| DatabaseArgs {
            data_dir: "data".into(),
            database_url: url.map(str::to_owned),
            pg_bin_dir: None,
        };
        let common = |name: &str| Some(format!("common {name}"));
        let url = |args: DatabaseArgs| args.config_with(common).url.unwrap();
        assert_eq!(url(args(Some("mine"))), "mine");
        assert_eq!(url(args(Some(""))), "common DATABASE_URL");
        assert_eq!(url(args(None)), "common DATABASE_URL");
        let config = args(None).config_with(common);
        assert_eq!(config.bin_dir, Some("common PG_BIN_DIR".into()));
        assert_eq!(args(None).config_with(|_| Some(String::new())).url, None);
    }
}
