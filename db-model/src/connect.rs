//! Opening sessions on the database.
//!
//! tokio-postgres finds the host, speaks TLS through us, and authenticates; a flight then takes the authenticated
//! stream back and speaks the protocol itself, while everything else keeps the client. Pools and retries are not here.

mod options;
mod stream;
mod text;
mod tls;

use crate::types::limits;
use futures::future::BoxFuture;
pub use options::ConnectOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use stream::{Shared, Wire};
use tls::Lend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Connection, SimpleQueryMessage};

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string, or a combination of its options, is not accepted.
    #[error("the database URL is not accepted: {0}")]
    Options(String),
    /// The file of `sslrootcert` cannot be used.
    #[error("cannot use the root certificates in {}", path.display())]
    RootCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No host could be reached, TLS failed, or the server refused the session.
    #[error("cannot connect to the database")]
    Refused(#[source] tokio_postgres::Error),
    /// The Unix socket could not be opened.
    #[error("cannot open the socket of the database")]
    Socket(#[from] io::Error),
    /// The server is a stand-by or read-only, and the session must be able to write.
    #[error(
        "the database does not allow writes: it is a stand-by, or default_transaction_read_only is on"
    )]
    ReadOnly,
    /// The server accepts writes, and the session was asked to be on one that does not.
    #[error("the database is not read only")]
    NotReadOnly,
    /// Not connected within the time that connecting may take.
    #[error("connecting to the database took too long")]
    TimedOut,
    /// The server answered something that is not understood.
    #[error("the database gave an answer that is not understood: {0}")]
    Protocol(&'static str),
}

impl ConnectError {
    /// The SQLSTATE with which the server refused the session, if it was the server.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.code().map(tokio_postgres::error::SqlState::code),
            _ => None,
        }
    }

    /// Whether trying again later can help: the database is away, starting, or without a primary. A wrong password
    /// or an unknown database stays wrong.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(error) => match error.code() {
                // Too many connections, starting up, shutting down, connection trouble.
                Some(code) => ["53", "57", "58", "08"]
                    .iter()
                    .any(|class| code.code().starts_with(class)),
                None => !is_configuration(error),
            },
            Self::Socket(_) | Self::ReadOnly | Self::TimedOut => true,
            Self::Options(_)
            | Self::RootCertificate { .. }
            | Self::NotReadOnly
            | Self::Protocol(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        let io =
            std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        match io {
            // How tokio-postgres says that `target_session_attrs` was not met, beside that text.
            Some(io) if io.kind() == io::ErrorKind::PermissionDenied => {
                match io.to_string().as_str() {
                    "database does not allow writes" => Self::ReadOnly,
                    "database is not read only" => Self::NotReadOnly,
                    _ => Self::Refused(error),
                }
            }
            _ => Self::Refused(error),
        }
    }
}

/// Errors that tokio-postgres raises before or without a server's word, and that no waiting cures.
fn is_configuration(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("invalid configuration") || text.starts_with("error performing TLS handshake")
}

/// Whether a session may write; set after connecting, since a stand-by is told from a primary by the same setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    ReadOnly,
}

/// A session that is authenticated and set up: no query is under way and the last ReadyForQuery was idle.
pub(crate) struct Opened {
    pub client: Client,
    /// Drives the client. It must be polled for as long as the client is used.
    pub connection: BoxFuture<'static, Result<(), tokio_postgres::Error>>,
    /// The stream, lent to `connection`.
    pub shared: Arc<Shared>,
    pub backend_pid: i32,
    pub server_version: String,
}

/// Opens a plain tokio-postgres client whose connection runs in a task of its own, for heartbeats and migrations.
///
/// The session carries the same settings as every other and may write.
///
/// # Errors
/// If no session could be opened.
pub async fn client(options: &ConnectOptions) -> Result<Client, ConnectError> {
    let opened = open(options, Access::Write).await?;
    tokio::spawn(async move {
        if let Err(error) = opened.connection.await {
            tracing::debug!(%error, "a database connection ended");
        }
    });
    Ok(opened.client)
}

/// Opens a session on the first host that accepts it, within the time that connecting may take.
pub(crate) async fn open(options: &ConnectOptions, access: Access) -> Result<Opened, ConnectError> {
    tokio::time::timeout(limits::CONNECT_TIMEOUT, open_unbounded(options, access))
        .await
        .map_err(|_elapsed| ConnectError::TimedOut)?
}

async fn open_unbounded(options: &ConnectOptions, access: Access) -> Result<Opened, ConnectError> {
    let shared = Arc::new(Shared::new());
    let lend = Lend::new(options.tls(), Arc::clone(&shared))?;
    // `Require` with `Direct` makes tokio-postgres hand the bare socket to `lend`, also where no TLS is wanted.
    let config = options.lending_config();
    match options.unix_socket() {
        Some(path) => {
            let connect = UnixStream::connect(path);
            let stream = tokio::time::timeout(limits::CONNECT_HOST_TIMEOUT, connect)
                .await
                .map_err(|_elapsed| ConnectError::TimedOut)??;
            let (client, connection) = config.connect_raw(stream, lend).await?;
            set_up(
                client,
                connection,
                shared,
                options.session_attributes(),
                access,
            )
            .await
        }
        None => {
            let (client, connection) = config.connect(lend).await?;
            set_up(
                client,
                connection,
                shared,
                options.session_attributes(),
                access,
            )
            .await
        }
    }
}

/// Sets the session up in one round trip. It also makes `connection` read to the end of what `connect` began: with
/// `target_session_attrs` it stops in the middle of an answer, and the stream could not be taken back.
async fn set_up<S, T>(
    client: Client,
    mut connection: Connection<S, T>,
    shared: Arc<Shared>,
    attributes: TargetSessionAttrs,
    access: Access,
) -> Result<Opened, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + Unpin + Send + 'static,
{
    let sql = session_sql(access);
    let answer = {
        let query = client.simple_query(&sql);
        tokio::select! {
            biased;
            answer = query => answer?,
            ended = &mut connection => {
                ended?;
                return Err(ConnectError::Protocol("the server closed the session while it was set up"));
            }
        }
    };
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(ConnectError::Protocol("no row about the session"))?;
    let backend_pid = row.try_get(0)?.and_then(|pid| pid.parse().ok());
    // A Unix socket does not pass the check that tokio-postgres makes for hosts.
    match (row.try_get(1)?, attributes) {
        (Some("on"), TargetSessionAttrs::ReadWrite) => return Err(ConnectError::ReadOnly),
        (Some("off"), TargetSessionAttrs::ReadOnly) => return Err(ConnectError::NotReadOnly),
        _ => {}
    }
    if !shared.is_idle() {
        return Err(ConnectError::Protocol(
            "the session is not idle after it was set up",
        ));
    }
    Ok(Opened {
        backend_pid: backend_pid.ok_or(ConnectError::Protocol("no backend pid"))?,
        server_version: connection
            .parameter("server_version")
            .unwrap_or("unknown")
            .to_owned(),
        connection: Box::pin(connection),
        client,
        shared,
    })
}

/// The times that are set on every session.
pub(crate) const SESSION_TIMES: [(&str, Duration); 4] = [
    ("statement_timeout", limits::STATEMENT_TIMEOUT),
    ("lock_timeout", limits::LOCK_TIMEOUT),
    (
        "idle_in_transaction_session_timeout",
        limits::IDLE_IN_TRANSACTION_TIMEOUT,
    ),
    (
        "client_connection_check_interval",
        limits::CLIENT_CHECK_INTERVAL,
    ),
];

/// The settings of a session, and a question about it that is asked before the last setting takes effect.
fn session_sql(access: Access) -> String {
    let mut sql = String::from(
        "select pg_backend_pid(), current_setting('transaction_read_only'); set timezone = 'UTC'",
    );
    for (name, value) in SESSION_TIMES {
        sql.push_str(&format!("; set {name} = {}", value.as_millis()));
    }
    if access == Access::ReadOnly {
        sql.push_str("; set default_transaction_read_only = on");
    }
    sql
}
