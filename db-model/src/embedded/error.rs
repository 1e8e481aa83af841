//! Everything that can keep the embedded server from running, each as one line that says what, where and what would be right.
//! It leaves it to the caller to print it: causes stand in the line itself and are not repeated by `source()`.

use std::io;
use std::path::{Path, PathBuf};

/// Why an embedded PostgreSQL could not be found, started, joined or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No usable PostgreSQL on this machine.
    #[error(
        "no PostgreSQL 15 to 18 found (looked in {looked}; {found}): install one (Debian: apt install postgresql), \
         set PG_BIN_DIR to the folder that holds `postgres` and `initdb`, \
         or use a database of your own with --database-url or DATABASE_URL"
    )]
    NoBinaries {
        /// The places searched, in their order.
        looked: String,
        /// What was found there and why it was not taken.
        found: String,
    },
    /// `PG_BIN_DIR` is set, but what it names cannot be used.
    #[error("PG_BIN_DIR {dir} cannot be used: {why}; it must hold `postgres` and `initdb` of PostgreSQL 15 to 18", dir = .dir.display())]
    BinDir {
        /// The folder named by `PG_BIN_DIR`.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The data belongs to a major version that is not at hand.
    #[error(
        "the data in {data} needs PostgreSQL {needed}, but found {found}: install PostgreSQL {needed}, \
         set PG_BIN_DIR to its programs, or choose another data folder", data = .data.display()
    )]
    WrongMajor {
        /// The cluster's folder.
        data: PathBuf,
        /// The major version in its `PG_VERSION`.
        needed: u32,
        /// What was found instead.
        found: String,
    },
    /// A file or folder could not be made, read or changed.
    #[error("cannot {doing} {path}: {cause}", path = .path.display())]
    Path {
        /// The attempted operation, a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// A file or folder has the wrong owner, kind or content and is not touched.
    #[error("{path} cannot be used: {why}", path = .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The process is root and no account exists to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and {passwd} has neither `postgres` nor `nobody`: \
         run as an ordinary user, or use --database-url", passwd = .passwd.display()
    )]
    NoServerUser {
        /// The file of accounts that was read.
        passwd: PathBuf,
    },
    /// A program could not be run at all.
    #[error("cannot run {program}: {cause}", program = .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// `initdb` ran and failed; nothing of it is left that disturbs the next start.
    #[error("initdb of {data} failed ({status}): {stderr}", data = .data.display())]
    InitDb {
        /// The cluster's folder.
        data: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote, on one line.
        stderr: String,
    },
    /// The server ended before it answered.
    #[error("the database server of {data} did not start; {log} ends with: {tail}", data = .data.display(), log = .log.display())]
    DidNotStart {
        /// The cluster's folder.
        data: PathBuf,
        /// The server's log.
        log: PathBuf,
        /// The end of what this start wrote there, on one line.
        tail: String,
    },
    /// The server lives but did not answer in time. It is left running: a recovery goes on, and the next start joins it.
    #[error(
        "the database server of {data} has not answered for {waited_s} s ({said}); it is left running, \
         see {log} and start again", data = .data.display(), log = .log.display()
    )]
    NotAnswering {
        /// The cluster's folder.
        data: PathBuf,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// What the last try said.
        said: String,
        /// The server's log.
        log: PathBuf,
    },
    /// Another process has been starting or stopping the server for too long.
    #[error("{path} has been held by another process for {waited_s} s: it is starting or stopping the server and hangs", path = .path.display())]
    LockHeld {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// Processes of an earlier server still use the data, so no other server may start on it.
    #[error(
        "{data} is still used by processes of a server that is gone ({who}): end them, then start again", data = .data.display()
    )]
    Orphans {
        /// The cluster's folder.
        data: PathBuf,
        /// The process ids, or where they can be if none is visible from here.
        who: String,
    },
    /// The running server neither ended on SIGINT nor on SIGQUIT.
    #[error("the database server of {data} (process {pid}) does not stop; see {log}", data = .data.display(), log = .log.display())]
    WillNotStop {
        /// The cluster's folder.
        data: PathBuf,
        /// The postmaster.
        pid: u32,
        /// The server's log.
        log: PathBuf,
    },
    /// A durable server was asked for and the one that runs is not, while others use it.
    #[error(
        "the running database server of {data} was started without fsync and others use it: \
         stop them first, or choose another data folder", data = .data.display()
    )]
    NotDurable {
        /// The cluster's folder.
        data: PathBuf,
    },
    /// The server answers, but the service's own database could not be made in it.
    #[error("cannot create the database `nexus` in {data}: {cause}", data = .data.display())]
    CreateDatabase {
        /// The cluster's folder.
        data: PathBuf,
        /// The server's answer.
        cause: String,
    },
}

impl EmbeddedError {
    /// A `map_err` closure for one operation on one path.
    pub(super) fn path(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Path {
            doing,
            path: path.to_owned(),
            cause,
        }
    }

    /// A path that is refused, with the reason and what would be right.
    pub(super) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}
