//! The machine on which is measured: where its server's data lies, and what has to be known of it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use tempfile::TempDir;

use super::place::Place;

/// A folder for the server's data on the disk on which things are built, not in memory.
///
/// # Errors
/// When it cannot be made.
pub fn folder() -> io::Result<TempDir> {
    let program = std::env::current_exe()?;
    let beside = program.parent().ok_or(io::ErrorKind::NotFound)?;
    tempfile::Builder::new()
        .prefix("bench-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(beside)
}

/// The machine and the settings of its server that matter.
///
/// # Errors
/// When the server does not tell its settings.
pub async fn notes(place: &Place) -> Result<Vec<(String, String)>> {
    let mut notes = vec![
        ("nexus".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (
            "cores".to_owned(),
            std::thread::available_parallelism()?.to_string(),
        ),
        (
            "processor".to_owned(),
            first_line("/proc/cpuinfo", "model name"),
        ),
        ("load before".to_owned(), first_line("/proc/loadavg", "")),
    ];
    for name in [
        "server_version",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "shared_buffers",
        "max_connections",
    ] {
        notes.push((name.to_owned(), place.setting(name).await?));
    }
    Ok(notes)
}

/// What the first line of a file that begins with a word says after its colon; nothing where there is none.
fn first_line(path: &str, word: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(word));
    let line = line.unwrap_or_default();
    let value = line.split_once(':').map_or(line, |(_, value)| value);
    value.trim().to_owned()
}
