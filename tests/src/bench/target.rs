//! The server under measurement, and the two ways to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A server on a Unix socket, and a database of it.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
    port: u16,
    user: String,
    database: String,
}

/// The way to the server.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    /// Its Unix socket.
    Local,
    /// A line on this port.
    Line(u16),
}

/// Where a client connects to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder of a socket, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Server {
    /// The server of `url`, whose programs are in a folder.
    ///
    /// # Errors
    /// When the URL is not that of a database behind a Unix socket.
    pub fn new(programs: PathBuf, url: &str) -> Result<Self> {
        let config: Config = url.parse()?;
        let [Host::Unix(folder)] = config.get_hosts() else {
            bail!("{url} is no Unix socket");
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Ok(Self {
            programs,
            folder: folder.clone(),
            socket: folder.join(format!(".s.PGSQL.{port}")),
            port,
            user: config.get_user().context("no user")?.to_owned(),
            database: config.get_dbname().context("no database")?.to_owned(),
        })
    }

    /// The folder of its programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who connects.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where to connect to.
    pub fn target(&self, network: Network) -> Target {
        match network {
            Network::Local => Target {
                host: self.folder.to_string_lossy().into_owned(),
                port: self.port,
            },
            Network::Line(port) => Target {
                host: "127.0.0.1".to_owned(),
                port,
            },
        }
    }

    /// The same with user and database, as tokio-postgres reads it.
    pub fn url(&self, network: Network) -> String {
        let Target { host, port } = self.target(network);
        let (user, database) = (&self.user, &self.database);
        format!("host='{host}' port={port} user={user} dbname={database} sslmode=disable")
    }
}
