//! The three lock files of one cluster, all `flock`s, which the kernel drops with the last process that has them open:
//! - `start.lock`, exclusive, while a process decides about the server: starts, joins, revives or stops it;
//! - `users.lock`, shared, as long as a process uses the server: who can make it exclusive is the last one;
//! - `server.lock`, exclusive, the server's own standard input, so that it is held exactly as long as any process of the
//!   server lives, orphaned backends included, and also where its process ids mean nothing (another container).
//!
//! What follows from a lock is decided in `server` and in the module itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::EmbeddedError;
use super::user::Owner;

/// Between two tries to get a lock.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a lock may seem held by a process that is only being forked: between fork and exec a child of any thread has
/// copies of all open files, also of those that were closed since.
const FORK_WAIT: Duration = Duration::from_millis(100);

/// Opens a file of the cluster for appending, made for the owner if it does not exist; a link is not followed.
pub(super) fn open(path: &Path, owner: &Owner) -> Result<File, EmbeddedError> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).append(true).custom_flags(flags);
    match options.clone().create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            owner.give_file(&file, path)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options
            .open(path)
            .map_err(EmbeddedError::path("open", path)),
        Err(cause) => Err(EmbeddedError::path("create", path)(cause)),
    }
}

/// Takes the exclusive lock, waiting at most this long for others.
pub(super) async fn exclusive(
    path: &Path,
    owner: &Owner,
    wait: Duration,
) -> Result<File, EmbeddedError> {
    let file = open(path, owner)?;
    if try_exclusive(&file, path, wait).await? {
        return Ok(file);
    }
    Err(EmbeddedError::LockHeld {
        path: path.to_owned(),
        waited_s: wait.as_secs(),
    })
}

/// Registers this process as a user of the server. The caller holds the start lock, under which alone the file is ever
/// locked exclusively, so this waits for nobody but a fork.
pub(super) async fn shared(path: &Path, owner: &Owner) -> Result<File, EmbeddedError> {
    const WAIT: Duration = Duration::from_secs(5);
    let file = open(path, owner)?;
    let end = Instant::now() + WAIT;
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::LockHeld {
                    path: path.to_owned(),
                    waited_s: WAIT.as_secs(),
                });
            }
            Err(TryLockError::Error(cause)) => {
                return Err(EmbeddedError::path("lock", path)(cause));
            }
        }
    }
}

/// Whether this user is the last one: true when its lock could be made exclusive. The caller holds the start lock, or
/// two that leave at once could each see the other. When false, the shared lock is lost (flock converts by dropping).
pub(super) async fn is_last(users: &File, path: &Path) -> Result<bool, EmbeddedError> {
    try_exclusive(users, path, FORK_WAIT).await
}

/// Whether a process of the server holds its lock. Probes are shared, so that two of them do not take each other for it.
pub(super) fn is_held(path: &Path, owner: &Owner) -> Result<bool, EmbeddedError> {
    let file = open(path, owner)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(cause)) => Err(EmbeddedError::path("lock", path)(cause)),
    }
}

async fn try_exclusive(file: &File, path: &Path, wait: Duration) -> Result<bool, EmbeddedError> {
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(cause)) => {
                return Err(EmbeddedError::path("lock", path)(cause));
            }
        }
    }
}
