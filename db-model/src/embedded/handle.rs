//! A process's part in a running server: what it may know of it, keeping it alive, and leaving it.
//! How a server is found or started is left to the module above.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::binaries::Machine;
use super::error::EmbeddedError;
use super::layout::Layout;
use super::postmaster::Postmaster;
use super::server::{self, Running};
use super::{DATABASE, EmbeddedOptions, ROLE, START_LOCK_WAIT, bring_up, cluster, locks};

/// Between two looks of [`Embedded::watch`].
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// The longest time between two tries of [`Embedded::watch`] to bring the server back.
const REVIVE_PAUSE_MAX: Duration = Duration::from_secs(15);

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

impl Embedded {
    pub(super) fn new(
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
        format!(
            "{} {}",
            quoted(&self.inner.psql.to_string_lossy()),
            self.url()
        )
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
    /// As [`start`](super::start); it may be called again.
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
            match Postmaster::find(&self.layout.data) {
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

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    if word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
    {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_a_quoted_path() {
        assert_eq!(quoted("/a b/psql"), "'/a b/psql'");
        assert_eq!(
            quoted("/usr/lib/postgresql/15/bin/psql"),
            "/usr/lib/postgresql/15/bin/psql"
        );
        assert_eq!(quoted("/it's here/psql"), r"'/it'\''s here/psql'");
    }
}
