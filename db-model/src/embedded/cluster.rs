//! The cluster on disk: made once by initdb, and whole or not there at all. Running it is `server`'s.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::binaries::Binaries;
use super::error::EmbeddedError;
use super::layout::{Layout, is_empty};
use super::postmaster;
use super::{ROLE, one_line};

/// How long the rest of a killed initdb may take to end.
const LEFTOVER_WAIT: Duration = Duration::from_secs(10);

/// The major version of the cluster; none while there is no cluster.
pub(super) fn major(data: &Path) -> Result<Option<u32>, EmbeddedError> {
    let path = data.join("PG_VERSION");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if data.exists() && !is_empty(data)? {
                return Err(EmbeddedError::refused(
                    data,
                    "it is not a PostgreSQL data folder: it has no PG_VERSION",
                ));
            }
            return Ok(None);
        }
        Err(cause) => return Err(EmbeddedError::path("read", &path)(cause)),
    };
    match text.trim().parse() {
        Ok(major) => Ok(Some(major)),
        Err(_) => Err(EmbeddedError::refused(
            &path,
            format!("{:?} is no version", text.trim()),
        )),
    }
}

/// Makes the cluster. It is made under another name and renamed when complete, so what a killed initdb leaves is only rubbish.
///
/// initdb holds the start lock too (as its standard input): when this process is killed, the next start waits for it.
pub(super) async fn create(
    layout: &Layout,
    binaries: &Binaries,
    durable: bool,
    start_lock: &File,
) -> Result<(), EmbeddedError> {
    remove_leftover(&layout.init).await?;
    let program = binaries.program("initdb");
    let stdin = start_lock
        .try_clone()
        .map_err(EmbeddedError::path("open", &layout.start_lock))?;
    let mut command = layout.owner.command(&program, &layout.home);
    command.args([
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",
        "--username",
        ROLE,
    ]);
    if !durable {
        command.arg("--no-sync");
    }
    command
        .arg("-D")
        .arg(&layout.init)
        .stdin(Stdio::from(stdin));
    let output = tokio::process::Command::from(command)
        .output()
        .await
        .map_err(|cause| EmbeddedError::Run {
            program: program.clone(),
            cause,
        })?;
    if !output.status.success() {
        let stderr = one_line(&String::from_utf8_lossy(&output.stderr));
        remove_leftover(&layout.init).await?;
        return Err(EmbeddedError::InitDb {
            data: layout.data.clone(),
            status: output.status,
            stderr,
        });
    }
    std::fs::rename(&layout.init, &layout.data)
        .map_err(EmbeddedError::path("rename", &layout.init))?;
    // The rename itself has to survive a power cut, or the cluster would be gone with all that was committed since.
    File::open(&layout.home)
        .and_then(|home| home.sync_all())
        .map_err(EmbeddedError::path("sync", &layout.home))
}

/// Removes what a killed initdb left. Its own child may still be writing for a moment.
async fn remove_leftover(init: &Path) -> Result<(), EmbeddedError> {
    let end = Instant::now() + LEFTOVER_WAIT;
    loop {
        let busy = !postmaster::at_work_in(init).is_empty();
        let removed = if busy {
            Ok(())
        } else {
            std::fs::remove_dir_all(init)
        };
        match removed {
            Ok(()) if !busy => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) if Instant::now() >= end => {
                return Err(EmbeddedError::path("remove", init)(cause));
            }
            Ok(()) if Instant::now() >= end => {
                return Err(EmbeddedError::refused(
                    init,
                    "a PostgreSQL process works in it: end it, then start again",
                ));
            }
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}
