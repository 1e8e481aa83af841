//! A server, from its listeners to its end.
//!
//! Start: listeners, database, migrations, pools, executor, routes. End, within the grace: stop
//! accepting, finish what runs, drain the executor, let go of the embedded database.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use axum::Router;
use axum_server::Handle;
use db_model::Database;
use db_model::migrate::{self, MigrateError};
use db_model::pool::PoolOptions;
use db_model::purge::Retention;
use sagas::{Executor, ExecutorOptions, StartError};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::app::App;
use crate::background::{publish, purge};
use crate::config::Config;
use crate::database::{self, Data, DataError};
use crate::http::error::chain;
use crate::telemetry::{self, Output};
use crate::{admin, metrics, router};
use db_model::types::limits::{LOST_GRACE, POOL_WAIT};

/// Why a server did not start, or did not end well. Each is one line for a person.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no database.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The schema cannot be brought to this version.
    #[error("cannot prepare the database {at}")]
    Migrate {
        /// Which, without the password.
        at: String,
        /// What failed.
        source: Box<MigrateError>,
    },
    /// The executor does not start.
    #[error("cannot start running operations")]
    Executor(#[from] StartError),
    /// Another process counts this one as dead and has taken its operations over.
    #[error("this process has lost its lease and ends: others go on with its operations")]
    Lost,
    /// The task that publishes events panicked: the process goes instead of living on half.
    #[error("publishing events ended by itself")]
    Publishing,
    /// So did the task that purges: what is over would pile up in silence.
    #[error("purging ended by itself")]
    Purging,
    /// A listener broke.
    #[error("serving HTTP")]
    Serve(#[source] io::Error),
}

/// A server that is ready to answer.
pub struct Server {
    api: TcpListener,
    admin: TcpListener,
    api_address: SocketAddr,
    admin_address: SocketAddr,
    data: Data,
    app: App,
    drain_grace: Duration,
    retention: Retention,
    purge_interval: Duration,
}

/// Starts a server, tells where it is, and runs it until `shutdown`.
///
/// # Errors
/// [`ServerError`], when it does not start or does not end well.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
    let server = Server::start(config).await?;
    server.announce();
    server.run(shutdown).await
}

impl Server {
    /// Starts a server. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError`], when a part does not start.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        metrics::install();
        // The listeners first: a port in use shall cost nothing.
        let (api, api_address) = listen(config.listen)?;
        let (admin, admin_address) = listen(config.admin_listen)?;
        let data = database::open(&config.database).await?;
        match start_app(&config, &data).await {
            Ok(app) => Ok(Self {
                api,
                admin,
                api_address,
                admin_address,
                data,
                app,
                drain_grace: config.drain_grace,
                retention: config.retention,
                purge_interval: config.purge_interval,
            }),
            Err(error) => {
                // The first error says more than one of giving up.
                if let Err(close) = data.close().await {
                    tracing::warn!(cause = %chain(&close), "the embedded PostgreSQL is left as it is");
                }
                Err(error)
            }
        }
    }

    /// Where the API is, with the port that was given.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where health and readiness are, with the port that was given.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the endpoints work with.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Tells a person on a terminal, or else the log, where everything is.
    pub fn announce(&self) {
        let api = format!("http://{}/v1", self.api_address);
        let docs = format!("http://{}/docs", self.api_address);
        let admin = format!("http://{}", self.admin_address);
        let data = match &self.data.embedded {
            Some(embedded) => embedded.data_dir().display().to_string(),
            None => self.data.connect.display(),
        };
        let psql = self.data.psql();
        let text = format!(
            "Nexus {}\n  API    {api}\n  Docs   {docs}\n  Admin  {admin}/readyz\n  Data   {data}\n  SQL    {psql}\n",
            env!("CARGO_PKG_VERSION"),
        );
        let shown = telemetry::terminal(Output::Stdout)
            && io::stdout().lock().write_all(text.as_bytes()).is_ok();
        if !shown {
            tracing::info!(api, docs, admin, data, psql, "listening");
        }
        for address in [self.api_address, self.admin_address] {
            if is_beyond_this_machine(address) {
                tracing::warn!(
                    %address,
                    "listening beyond this machine without authentication: everyone who reaches \
                     the address may change everything"
                );
            }
        }
    }

    /// Answers until `shutdown`, then ends within the grace.
    ///
    /// # Errors
    /// [`ServerError`], when it ends otherwise.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            data,
            app,
            drain_grace,
            retention,
            purge_interval,
            ..
        } = self;
        let watch = data
            .embedded
            .as_ref()
            .map(|embedded| tokio::spawn(embedded.watch()));
        let upkeep = tokio::spawn(metrics::keep());
        let (api, mut api_task) = serve(self.api, router::build(app.clone()));
        let (admin, mut admin_task) = serve(self.admin, admin::build(app.clone()));

        let writes = app.database().writes.clone();
        let ending = app.ending().clone();
        let mut purging = tokio::spawn(purge::run(writes, retention, purge_interval, ending));
        let mut publishing = tokio::spawn(publish::run(app.database().clone()));

        let ended = tokio::select! {
            () = shutdown => Ok(()),
            _ = &mut publishing => Err(ServerError::Publishing),
            _ = &mut purging => Err(ServerError::Purging),
            () = app.executor().lost() => Err(ServerError::Lost),
            error = broken(&mut api_task) => Err(error),
            error = broken(&mut admin_task) => Err(error),
        };
        app.ending().cancel();
        let grace = if ended.is_ok() {
            drain_grace
        } else {
            LOST_GRACE
        };
        tracing::info!(grace_seconds = grace.as_secs(), "shutting down");
        let begin = Instant::now();
        finish_requests(&app, &api, &mut api_task, grace).await;
        if !matches!(ended, Err(ServerError::Lost)) {
            let released = app
                .executor()
                .drain(grace.saturating_sub(begin.elapsed()))
                .await;
            if released == 0 {
                tracing::info!(released, "every operation has ended");
            } else {
                tracing::info!(
                    released,
                    "operations are left to other processes or to the next start"
                );
            }
        }
        publishing.abort();
        admin.shutdown();
        upkeep.abort();
        if let Some(watch) = watch {
            watch.abort();
        }
        let closed = data.close().await;
        ended.and(closed.map_err(ServerError::from))
    }
}

/// Whether others than this machine's own users may reach an address.
fn is_beyond_this_machine(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

async fn start_app(config: &Config, data: &Data) -> Result<App, ServerError> {
    migrate::run(&data.connect, config.fleet_projects)
        .await
        .map_err(|source| ServerError::Migrate {
            at: data.connect.display(),
            source: Box::new(source),
        })?;
    let pools = PoolOptions {
        write_size: config.database.write_pool_size,
        read_size: config.database.read_pool_size,
        wait: POOL_WAIT,
        audit: false,
    };
    let database = Database::new(data.connect.clone(), &pools, Uuid::now_v7());
    let options = ExecutorOptions {
        sagas_running_max: config.sagas_running_max,
        ..ExecutorOptions::default()
    };
    let executor = Executor::start(database.clone(), options).await?;
    Ok(App::new(database, executor, config.project_limits))
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|source| ServerError::Listen { address, source })
}

type Task = JoinHandle<io::Result<()>>;

fn serve(listener: TcpListener, routes: Router) -> (Handle<SocketAddr>, Task) {
    let handle = Handle::new();
    let serving = handle.clone();
    let task = tokio::spawn(async move {
        let mut server = axum_server::from_tcp(listener)?.handle(serving);
        // A caller that has sent its request and closes its side, or hangs up, is still served:
        // otherwise a request whose end arrives along with it may be dropped before it has begun.
        server.http_builder().http1().half_close(true);
        server.serve(routes.into_make_service()).await
    });
    (handle, task)
}

/// Resolves when a listener ends that nobody asked to end.
async fn broken(task: &mut Task) -> ServerError {
    let error = match task.await {
        Ok(Ok(())) => io::Error::other("a listener ended by itself"),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    };
    ServerError::Serve(error)
}

/// Stops accepting and lets requests end. After half of the grace, callers who wait for an
/// operation are told where to look; after three quarters, connections are cut.
async fn finish_requests(app: &App, api: &Handle<SocketAddr>, task: &mut Task, grace: Duration) {
    api.graceful_shutdown(Some(grace * 3 / 4));
    if task.is_finished() {
        return;
    }
    let waits_end = async {
        tokio::time::sleep(grace / 2).await;
        app.waits_end().cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = waits_end => {}
        ended = task => {
            if let Ok(Err(error)) = ended {
                tracing::warn!(cause = %error, "a listener ended badly");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine_alone() {
        let beyond = |address: &str| is_beyond_this_machine(address.parse().unwrap());
        for address in [
            "127.0.0.1:1",
            "127.8.9.10:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!beyond(address), "{address}");
        }
        for address in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
            "[fe80::1]:1",
        ] {
            assert!(beyond(address), "{address}");
        }
    }
}
