//! A private PostgreSQL for a machine on which none is set up: found among the installed ones, made, started, shared by
//! all processes on one data folder, brought back when it dies, and stopped by the last of them.
//!
//! It needs Linux (/proc). It leaves to others when to use it at all (a database URL comes first), the schema, and pools.

mod binaries;
mod cluster;
mod error;
mod layout;
mod locks;
mod postmaster;
mod server;
mod user;

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::layout::Layout;
use self::server::Running;

pub use self::binaries::Machine;
pub use self::error::EmbeddedError;

/// The superuser of the private cluster, as whom the service connects.
const ROLE: &str = "nexus";
/// The service's database.
const DATABASE: &str = "nexus";
/// How long a process may take to start or stop the server before others on the folder give up: longer than any wait
/// within a start.
const START_LOCK_WAIT: Duration = Duration::from_secs(360);
/// Between two looks of [`Embedded::watch`].
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// The longest time between two tries of [`Embedded::watch`] to bring the server back.
const REVIVE_PAUSE_MAX: Duration = Duration::from_secs(15);

/// What the embedded server is to be like.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The folder of all data, made if it does not exist. Processes with the same folder share one server.
    pub data_dir: PathBuf,
    /// Whether a commit is on disk before it is answered. False (no fsync) is for tests alone.
    pub durable: bool,
    /// The server's limit on connections, of all processes on the folder together. Has no effect on a server that runs.
    pub max_connections: u32,
    /// The folder of `postgres` and `initdb` (`PG_BIN_DIR`). None: the newest installed ones that fit the data.
    pub bin_dir: Option<PathBuf>,
}

/// What leaving the server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// This was the last user: the server was shut down and all its processes are gone.
    Server,
    /// Others use the server, which runs on.
    LeftToOthers,
    /// This was the last user, and the server had already ended.
    AlreadyGone,
}

/// A running server and this process's part in it.
///
/// Dropped without [`Embedded::stop`], the server runs on, and the next start joins it.
#[derive(Debug)]
#[must_use = "call `stop`, or the server outlives this process"]
pub struct Embedded {
    inner: Arc<Inner>,
    adopted: bool,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    options: EmbeddedOptions,
    machine: Machine,
    major: u32,
    psql: PathBuf,
    /// The lock for life; taken out when the handle leaves.
    users: Mutex<Option<File>>,
}

/// Joins the server that runs on the data folder, or starts it, making the data first if there is none.
///
/// # Errors
/// No usable programs, an unusable folder, or a server that does not come up; see [`EmbeddedError`].
pub async fn start(options: EmbeddedOptions) -> Result<Embedded, EmbeddedError> {
    start_on(options, Machine::this()).await
}

/// [`start`] with other places to look at than this machine's usual ones.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    options: EmbeddedOptions,
    machine: Machine,
) -> Result<Embedded, EmbeddedError> {
    let layout = Layout::create(&options.data_dir, &machine)?;
    let start_lock = locks::exclusive(&layout.start_lock, &layout.owner, START_LOCK_WAIT).await?;
    let users = locks::shared(&layout.users_lock, &layout.owner).await?;
    let (running, adopted) = bring_up(&layout, &options, &machine, &start_lock, &users).await?;
    Embedded::new(layout, options, machine, &running, users, adopted)
}

/// Joins the server that runs on the data folder. None when none runs there; then nothing is started or made.
///
/// # Errors
/// An unusable folder, or a server that runs and does not answer; see [`EmbeddedError`].
pub async fn join(options: EmbeddedOptions) -> Result<Option<Embedded>, EmbeddedError> {
    join_on(options, Machine::this()).await
}

/// [`join`] with other places to look at than this machine's usual ones.
///
/// # Errors
/// As [`join`].
pub async fn join_on(
    options: EmbeddedOptions,
    machine: Machine,
) -> Result<Option<Embedded>, EmbeddedError> {
    let Some(layout) = Layout::find(&options.data_dir, &machine)? else {
        return Ok(None);
    };
    let _start_lock = locks::exclusive(&layout.start_lock, &layout.owner, START_LOCK_WAIT).await?;
    let Some(running) = server::settle(&layout).await? else {
        return Ok(None);
    };
    let users = locks::shared(&layout.users_lock, &layout.owner).await?;
    Embedded::new(layout, options, machine, &running, users, true).map(Some)
}

/// Finds the server or starts it. Under the start lock; true when it was already running.
async fn bring_up(
    layout: &Layout,
    options: &EmbeddedOptions,
    machine: &Machine,
    start_lock: &File,
    users: &File,
) -> Result<(Running, bool), EmbeddedError> {
    if let Some(running) = server::settle(layout).await? {
        if !options.durable || running.fsync != Some(false) {
            tracing::info!(data = %layout.data.display(), pid = running.postmaster.pid, "joined the running database server");
            return Ok((running, true));
        }
        let last = locks::is_last(users, &layout.users_lock).await?;
        if last {
            // Left over by a test: nobody's any more, and replaced by a durable one.
            server::stop(layout).await?;
        }
        users
            .lock_shared()
            .map_err(EmbeddedError::path("lock", &layout.users_lock))?;
        if !last {
            return Err(EmbeddedError::NotDurable {
                data: layout.data.clone(),
            });
        }
    }
    let major = cluster::major(&layout.data)?;
    let needed = major.map(|major| (major, layout.data.as_path()));
    let binaries = binaries::find(options.bin_dir.as_deref(), needed, machine, &layout.owner)?;
    if major.is_none() {
        cluster::create(layout, &binaries, options.durable, start_lock).await?;
    }
    let running = server::launch(layout, &binaries, options).await?;
    tracing::info!(
        data = %layout.data.display(), pid = running.postmaster.pid, major = binaries.major, uid = layout.owner.uid,
        "started the database server"
    );
    Ok((running, false))
}

impl Embedded {
    fn new(
        layout: Layout,
        options: EmbeddedOptions,
        machine: Machine,
        running: &Running,
        users: File,
        adopted: bool,
    ) -> Result<Self, EmbeddedError> {
        let major = cluster::major(&layout.data)?.unwrap_or_default();
        let beside = running
            .postmaster
            .bin_dir
            .as_ref()
            .map(|dir| dir.join("psql"))
            .filter(|psql| psql.exists());
        let psql = beside.unwrap_or_else(|| "psql".into());
        let users = Mutex::new(Some(users));
        Ok(Self {
            inner: Arc::new(Inner {
                layout,
                options,
                machine,
                major,
                psql,
                users,
            }),
            adopted,
        })
    }

    /// The database's URL, `postgresql://nexus@<socket folder, percent-encoded>:5432/nexus`, as tokio-postgres and
    /// libpq read it. There is no password: the folder of the socket is closed to others.
    #[must_use]
    pub fn url(&self) -> String {
        let folder = self.inner.layout.socket_dir.as_os_str().as_bytes();
        let host: String = folder
            .iter()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(*byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        format!("postgresql://{ROLE}@{host}:5432/{DATABASE}")
    }

    /// A command line for a shell that opens the database in psql.
    #[must_use]
    pub fn psql(&self) -> String {
        let program = self.inner.psql.to_string_lossy();
        let plain = program
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
        let program = if plain {
            program.into_owned()
        } else {
            format!("'{}'", program.replace('\'', r"'\''"))
        };
        format!("{program} {}", self.url())
    }

    /// Whether the server was already running and this process joined it.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The data folder as it was asked for, absolute and without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.inner.layout.data_dir
    }

    /// PostgreSQL's own data folder: in [`Embedded::data_dir`], or elsewhere when root's data folder cannot be entered
    /// by the server's user.
    #[must_use]
    pub fn cluster_dir(&self) -> &Path {
        &self.inner.layout.data
    }

    /// The server's log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.inner.layout.log
    }

    /// PostgreSQL's major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.inner.major
    }

    /// Brings the server back if it has died. Several processes may do so at once: one starts it, the others join.
    ///
    /// # Errors
    /// As [`start`]; it may be called again.
    pub async fn revive(&self) -> Result<(), EmbeddedError> {
        self.inner.revive().await
    }

    /// Keeps the server alive until this handle is stopped or dropped: looks four times a second and revives it, again
    /// and again with growing pauses when that fails. To be run as a background task.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.watch().await }
    }

    /// Leaves the server, and shuts it down if nobody else uses it: clients are cut off, open transactions roll back.
    ///
    /// # Errors
    /// The server does not stop, or another process keeps the start lock; see [`EmbeddedError`].
    pub async fn stop(self) -> Result<Stopped, EmbeddedError> {
        let layout = &self.inner.layout;
        let _start_lock =
            locks::exclusive(&layout.start_lock, &layout.owner, START_LOCK_WAIT).await?;
        // From here on `watch` lets the server be. Declared after the start lock, so that it is given up first: the next
        // one to leave must not meet it.
        let Some(users) = self.inner.take_users() else {
            return Ok(Stopped::LeftToOthers);
        };
        if !locks::is_last(&users, &layout.users_lock).await? {
            return Ok(Stopped::LeftToOthers);
        }
        let stopped = server::stop(layout).await?;
        Ok(if stopped {
            Stopped::Server
        } else {
            Stopped::AlreadyGone
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.inner.take_users());
    }
}

impl Inner {
    fn take_users(&self) -> Option<File> {
        self.users
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn has_left(&self) -> bool {
        self.users
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    async fn revive(&self) -> Result<(), EmbeddedError> {
        let layout = &self.layout;
        let start_lock =
            locks::exclusive(&layout.start_lock, &layout.owner, START_LOCK_WAIT).await?;
        // A copy of the same lock, so that it is not held across the waits below.
        let users = self
            .users
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(File::try_clone);
        let Some(users) = users else { return Ok(()) };
        let users = users.map_err(EmbeddedError::path("open", &layout.users_lock))?;
        bring_up(layout, &self.options, &self.machine, &start_lock, &users)
            .await
            .map(|_| ())
    }

    async fn watch(&self) {
        let mut pause = WATCH_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if self.has_left() {
                return;
            }
            match postmaster::Postmaster::find(&self.layout.data) {
                Ok(Some(_)) => pause = WATCH_PAUSE,
                Ok(None) => {
                    tracing::warn!(data = %self.layout.data.display(), "the database server is gone; starting it again");
                    pause = self.revive_or_longer(pause).await;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot see whether the database server lives");
                    pause = REVIVE_PAUSE_MAX.min(pause * 2);
                }
            }
        }
    }

    /// Tries once and returns the pause before the next look.
    async fn revive_or_longer(&self, pause: Duration) -> Duration {
        match self.revive().await {
            Ok(()) => WATCH_PAUSE,
            Err(error) => {
                tracing::error!(%error, "cannot start the database server again");
                REVIVE_PAUSE_MAX.min(pause * 2)
            }
        }
    }
}

/// The last lines of a program's output as one line of bounded length.
fn one_line(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return "(nothing)".to_owned();
    }
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
