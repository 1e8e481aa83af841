//! Which database: one's own by URL, or the embedded one of a folder.

use std::path::PathBuf;

use db_model::connect::{ConnectError, ConnectOptions};
use db_model::embedded::{self, Embedded, EmbeddedError, EmbeddedOptions};

use crate::config::DatabaseConfig;
use db_model::types::limits::EMBEDDED_CONNECTIONS_MAX;

/// Where the data is, reachable.
pub struct Data {
    /// How to connect.
    pub connect: ConnectOptions,
    /// The embedded server, if it is one.
    pub embedded: Option<Embedded>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] ConnectError),
    /// The embedded server gave up.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A command needs a running server and does not start one.
    #[error(
        "no embedded PostgreSQL runs on {}: start one with `nexus server --data-dir {}`, or name a \
         database with --database-url", .0.display(), .0.display()
    )]
    NotRunning(PathBuf),
}

/// For the server: a URL always wins and starts nothing; else the embedded server is started, or
/// joined when another process has.
///
/// # Errors
/// [`DataError`], when there is no database.
pub async fn open(config: &DatabaseConfig) -> Result<Data, DataError> {
    match &config.url {
        Some(url) => of_url(url),
        None => of_embedded(embedded::start(options(config)).await?).await,
    }
}

/// For commands: as [`open`], but starts nothing.
///
/// # Errors
/// [`DataError`], when there is no database.
pub async fn join(config: &DatabaseConfig) -> Result<Data, DataError> {
    match &config.url {
        Some(url) => of_url(url),
        None => match embedded::join(options(config)).await? {
            Some(embedded) => of_embedded(embedded).await,
            None => Err(DataError::NotRunning(config.data_dir.clone())),
        },
    }
}

impl Data {
    /// A line for a shell that opens the database.
    pub fn psql(&self) -> String {
        match &self.embedded {
            Some(embedded) => embedded.psql(),
            None => format!("psql '{}'", self.connect.conninfo().replace('\'', r"'\''")),
        }
    }

    /// Lets go of the embedded server, which ends with its last user.
    ///
    /// # Errors
    /// [`DataError`], when it does not stop.
    pub async fn close(self) -> Result<(), DataError> {
        if let Some(embedded) = self.embedded {
            embedded.stop().await?;
        }
        Ok(())
    }
}

fn of_url(url: &str) -> Result<Data, DataError> {
    let connect = ConnectOptions::parse(url)?;
    Ok(Data {
        connect,
        embedded: None,
    })
}

async fn of_embedded(embedded: Embedded) -> Result<Data, DataError> {
    match ConnectOptions::parse(&embedded.url()) {
        Ok(connect) => Ok(Data {
            connect,
            embedded: Some(embedded),
        }),
        Err(error) => {
            embedded.stop().await?;
            Err(error.into())
        }
    }
}

fn options(config: &DatabaseConfig) -> EmbeddedOptions {
    EmbeddedOptions {
        data_dir: config.data_dir.clone(),
        durable: true,
        max_connections: EMBEDDED_CONNECTIONS_MAX,
        bin_dir: config.bin_dir.clone(),
    }
}
