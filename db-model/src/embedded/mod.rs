//! A private PostgreSQL for a machine on which none is set up: found among the installed ones, made, started, shared by
//! all processes on one data folder, brought back when it dies, and stopped by the last of them.
//!
//! It needs Linux (/proc). It leaves to others when to use it at all (a database URL comes first), the schema, and pools.

mod binaries;
mod cluster;
mod error;
mod handle;
mod layout;
mod locks;
mod postmaster;
mod server;
mod user;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use self::layout::Layout;
use self::server::Running;

pub use self::binaries::Machine;
pub use self::error::EmbeddedError;
pub use self::handle::{Embedded, Stopped};

/// The superuser of the private cluster, as whom the service connects.
const ROLE: &str = "nexus";
/// The service's database.
const DATABASE: &str = "nexus";
/// How long a process may take to start or stop the server before others on the folder give up: longer than any wait
/// within a start.
const START_LOCK_WAIT: Duration = Duration::from_secs(360);
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

/// The last lines of a program's output as one line.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_one_line() {
        assert_eq!(one_line(" \n"), "(nothing)");
        let many: String = (0..20).map(|line| format!("line {line}\n")).collect();
        assert!(one_line(&many).starts_with("line 8 | ") && one_line(&many).ends_with("| line 19"));
    }
}
