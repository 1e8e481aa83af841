//! Which process is the cluster's server, from `postmaster.pid` and /proc. A process id alone proves nothing: after a
//! reboot it may be anybody's, and a zombie keeps it. Nothing here changes anything but by [`Postmaster::signal`].

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::error::EmbeddedError;
use super::layout::same_folder;

/// What the server says of itself in the last line of `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Starting,
    Ready,
    Stopping,
}

/// A live process that is proven to be the server of one data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub pid: u32,
    pub status: Status,
    /// The folder of its program.
    pub bin_dir: Option<PathBuf>,
}

impl Postmaster {
    /// The server of this data folder, if one lives: the process of the pid file, when its command line is `postgres`
    /// with this folder.
    pub fn find(data: &Path) -> Result<Option<Self>, EmbeddedError> {
        let path = data.join("postmaster.pid");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(EmbeddedError::path("read", &path)(cause)),
        };
        let Some((pid, status)) = parse(&text) else {
            return Ok(None);
        };
        let command_line = command_line(pid);
        let Some(program) = server_of(&command_line, data) else {
            return Ok(None);
        };
        let bin_dir = program
            .parent()
            .filter(|dir| dir.is_absolute())
            .map(Path::to_owned);
        Ok(Some(Self {
            pid,
            status,
            bin_dir,
        }))
    }

    /// Sends a signal. To be called right after [`Postmaster::find`], which proved what the process is.
    pub fn signal(&self, signal: Signal, data: &Path) -> Result<(), EmbeddedError> {
        send(self.pid, signal).map_err(EmbeddedError::path("signal the server of", data))
    }
}

/// The live processes of PostgreSQL that work in this folder: the server and its backends, also when the server is gone.
pub(super) fn at_work_in(folder: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| same_folder(Path::new(&format!("/proc/{pid}/cwd")), folder))
        // Somebody's shell may stand in the folder too.
        .filter(|pid| {
            command_line(*pid)
                .first()
                .is_some_and(|program| is_postgres(program))
        })
        .collect()
}

/// Asks backends whose server is gone to end at once. A process that has not named itself a backend is left alone.
pub(super) fn end_backends(folder: &Path) {
    for pid in at_work_in(folder) {
        if command_line(pid)
            .first()
            .is_some_and(|title| title.starts_with(b"postgres: "))
        {
            match send(pid, Signal::QUIT) {
                Ok(()) => tracing::warn!(pid, "told a backend to end that outlived its server"),
                Err(error) => {
                    tracing::warn!(pid, %error, "cannot end a backend that outlived its server")
                }
            }
        }
    }
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        // It went by itself.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

/// The process id and status of a `postmaster.pid`; none while the server is still writing it.
fn parse(text: &str) -> Option<(u32, Status)> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let status = match lines.nth(6).map(str::trim) {
        Some("ready" | "standby") => Status::Ready,
        Some("stopping") => Status::Stopping,
        _ => Status::Starting,
    };
    Some((pid, status))
}

/// The arguments of a process; none for one that is gone or a zombie.
fn command_line(pid: u32) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// The program, when the command line is that of a server on this data folder.
fn server_of<'a>(command_line: &'a [Vec<u8>], data: &Path) -> Option<&'a Path> {
    let program = command_line
        .first()
        .filter(|program| is_postgres(program))?;
    let folder = command_line
        .windows(2)
        .find(|pair| pair[0] == b"-D")
        .map(|pair| Path::new(OsStr::from_bytes(&pair[1])))?;
    same_folder(folder, data).then(|| Path::new(OsStr::from_bytes(program)))
}

/// Whether a program or process title is PostgreSQL's: ".../postgres", or "postgres: checkpointer".
fn is_postgres(program: &[u8]) -> bool {
    program.starts_with(b"postgres: ")
        || Path::new(OsStr::from_bytes(program)).file_name() == Some(OsStr::new("postgres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_also_while_it_is_being_written() {
        let whole = "4242\n/data\n1700000000\n5432\n/run\n\n  5 32769\nready   \n";
        assert_eq!(parse(whole), Some((4242, Status::Ready)));
        assert_eq!(
            parse(&whole.replace("ready   ", "stopping")),
            Some((4242, Status::Stopping))
        );
        assert_eq!(parse("4242\n/data\n"), Some((4242, Status::Starting)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_postgres_with_this_folder_is_its_server() {
        let line = |parts: &[&str]| {
            parts
                .iter()
                .map(|part| part.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let server = line(&["/usr/lib/postgresql/15/bin/postgres", "-D", "/tmp"]);
        assert_eq!(
            server_of(&server, Path::new("/tmp")),
            Some(Path::new("/usr/lib/postgresql/15/bin/postgres"))
        );
        assert_eq!(server_of(&server, Path::new("/proc")), None);
        assert_eq!(
            server_of(&line(&["sleep", "-D", "/tmp"]), Path::new("/tmp")),
            None
        );
        assert_eq!(
            server_of(&line(&["postgres: checkpointer "]), Path::new("/tmp")),
            None
        );
        assert_eq!(server_of(&[], Path::new("/tmp")), None);
    }
}
