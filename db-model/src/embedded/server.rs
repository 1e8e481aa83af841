//! The server process: launched, found, waited for, stopped. Every function here is called under the start lock.
//! Who may use the server, and who is the last to do so, is decided in the module above.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::binaries::Binaries;
use super::error::EmbeddedError;
use super::layout::{Layout, SOCKET_NAME, same_folder};
use super::postmaster::{self, Postmaster, Status};
use super::{DATABASE, EmbeddedOptions, ROLE, locks, one_line};

/// Between two looks at a server that comes or goes.
const PAUSE: Duration = Duration::from_millis(20);
/// For a server to answer, a recovery after a crash included.
const ANSWER_WAIT: Duration = Duration::from_secs(300);
/// For one try to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// For backends to notice that their server is gone, before they are told.
const ORPHANS_WAIT: Duration = Duration::from_secs(5);
/// For backends to end after that.
const ORPHANS_END_WAIT: Duration = Duration::from_secs(30);
/// For a fast shutdown, before an immediate one.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// For an immediate shutdown.
const QUIT_WAIT: Duration = Duration::from_secs(10);
/// A log greater than this is set aside at the next launch.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// A server that answers, and the service's database in it.
#[derive(Debug)]
pub(super) struct Running {
    pub postmaster: Postmaster,
    /// Whether it writes through to disk. None when it is too busy to answer more than that it is.
    pub fsync: Option<bool>,
}

/// What a try to connect tells of the server.
enum Answer {
    Ready {
        fsync: bool,
    },
    NoDatabase,
    /// No connection is free, so it runs, and has been in use.
    Full,
    NotYet(String),
}

/// Waits until the server is one of two things: answering, or gone together with all its processes.
pub(super) async fn settle(layout: &Layout) -> Result<Option<Running>, EmbeddedError> {
    let begin = Instant::now();
    let mut orphaned_since = None;
    let mut told = false;
    let mut said = "it says nothing".to_owned();
    loop {
        if let Some(postmaster) = Postmaster::find(&layout.data)? {
            orphaned_since = None;
            match postmaster.status {
                Status::Ready => match ask(layout).await {
                    Answer::Ready { fsync } => {
                        return Ok(Some(Running {
                            postmaster,
                            fsync: Some(fsync),
                        }));
                    }
                    Answer::Full => {
                        return Ok(Some(Running {
                            postmaster,
                            fsync: None,
                        }));
                    }
                    Answer::NoDatabase => create_database(layout).await?,
                    Answer::NotYet(why) => said = why,
                },
                Status::Starting => said = "it is starting".to_owned(),
                Status::Stopping => said = "it is stopping".to_owned(),
            }
            if begin.elapsed() >= ANSWER_WAIT {
                let waited_s = begin.elapsed().as_secs();
                return Err(EmbeddedError::NotAnswering {
                    data: layout.data.clone(),
                    waited_s,
                    said,
                    log: layout.log.clone(),
                });
            }
        } else {
            if is_gone(layout)? {
                return Ok(None);
            }
            // A server that has not written its pid file yet, or backends that outlive theirs.
            let since = orphaned_since.get_or_insert_with(Instant::now).elapsed();
            if since >= ORPHANS_WAIT && !told {
                postmaster::end_backends(&layout.data);
                told = true;
            }
            if since >= ORPHANS_END_WAIT {
                return Err(EmbeddedError::Orphans {
                    data: layout.data.clone(),
                    who: who_is_left(&layout.data),
                });
            }
        }
        sleep(PAUSE).await;
    }
}

/// Starts the server and waits until it answers. The caller has seen by [`settle`] that none is left.
pub(super) async fn launch(
    layout: &Layout,
    binaries: &Binaries,
    options: &EmbeddedOptions,
) -> Result<Running, EmbeddedError> {
    // Nobody is at work in the folder, so these are of the dead. PostgreSQL itself would trust a process id that a
    // zombie or a stranger has.
    let socket = layout.socket_dir.join(SOCKET_NAME);
    let mut socket_lock = socket.clone().into_os_string();
    socket_lock.push(".lock");
    for stale in [
        &layout.data.join("postmaster.pid"),
        &socket,
        Path::new(&socket_lock),
    ] {
        remove_if_there(stale)?;
    }
    let log = open_log(layout)?;
    let log_start = log
        .metadata()
        .map_err(EmbeddedError::path("read", &layout.log))?
        .len();
    spawn(layout, binaries, options, log).await?;
    match settle(layout).await? {
        Some(running) => Ok(running),
        None => Err(EmbeddedError::DidNotStart {
            data: layout.data.clone(),
            log: layout.log.clone(),
            tail: tail_of(&layout.log, log_start),
        }),
    }
}

/// Stops the server and waits until it is gone: clients are cut off, open transactions roll back, everything is written.
/// False when none ran.
pub(super) async fn stop(layout: &Layout) -> Result<bool, EmbeddedError> {
    let found = match Postmaster::find(&layout.data)? {
        Some(found) => found,
        // It may be about to write its pid file, or only its backends may be left.
        None => match settle(layout).await? {
            Some(running) => running.postmaster,
            None => return Ok(false),
        },
    };
    found.signal(Signal::INT, &layout.data)?;
    if wait_gone(layout, STOP_WAIT).await? {
        return Ok(true);
    }
    // Proven anew: the process may have become another one's in the meantime.
    if let Some(postmaster) = Postmaster::find(&layout.data)? {
        tracing::warn!(
            pid = postmaster.pid,
            "the database server does not stop; telling it to quit at once"
        );
        postmaster.signal(Signal::QUIT, &layout.data)?;
    } else {
        postmaster::end_backends(&layout.data);
    }
    if wait_gone(layout, QUIT_WAIT).await? {
        return Ok(true);
    }
    Err(EmbeddedError::WillNotStop {
        data: layout.data.clone(),
        pid: found.pid,
        log: layout.log.clone(),
    })
}

/// Whether no process of the server is left, seen by its lock and by /proc alike: the lock also shows processes in other
/// containers, and /proc those that somebody started without it.
fn is_gone(layout: &Layout) -> Result<bool, EmbeddedError> {
    Ok(!locks::is_held(&layout.server_lock, &layout.owner)?
        && postmaster::at_work_in(&layout.data).is_empty())
}

async fn wait_gone(layout: &Layout, wait: Duration) -> Result<bool, EmbeddedError> {
    let end = Instant::now() + wait;
    while !is_gone(layout)? {
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}

fn who_is_left(data: &Path) -> String {
    let processes = postmaster::at_work_in(data);
    if processes.is_empty() {
        return "none is visible from here: look in other containers that share the folder"
            .to_owned();
    }
    format!(
        "processes {}",
        processes
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// Runs the server, with its lock as standard input.
async fn spawn(
    layout: &Layout,
    binaries: &Binaries,
    options: &EmbeddedOptions,
    log: File,
) -> Result<(), EmbeddedError> {
    // Only probes can hold it now, each for an instant.
    let lock = locks::exclusive(&layout.server_lock, &layout.owner, Duration::from_secs(5)).await?;
    let stderr = log
        .try_clone()
        .map_err(EmbeddedError::path("open", &layout.log))?;
    let program = binaries.program("postgres");
    let mut command = layout.owner.command(&program, &layout.home);
    command
        .arg("-D")
        .arg(&layout.data)
        .arg("-k")
        .arg(&layout.socket_dir);
    for setting in [
        "listen_addresses=".to_owned(),
        "port=5432".to_owned(),
        "unix_socket_permissions=0700".to_owned(),
        format!("max_connections={}", options.max_connections),
        format!("fsync={}", if options.durable { "on" } else { "off" }),
        "synchronous_commit=on".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ] {
        command.arg("-c").arg(setting);
    }
    command
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(stderr));
    let mut child = command
        .spawn()
        .map_err(|cause| EmbeddedError::Run { program, cause })?;
    // Closes this process's copy of the lock.
    drop(command);
    // Somebody has to take the exit status, or a zombie would keep the process id as long as this process lives.
    let reaper = std::thread::Builder::new()
        .name("postgres-reaper".to_owned())
        .spawn(move || match child.wait() {
            Ok(status) => tracing::debug!(%status, "the database server ended"),
            Err(error) => tracing::warn!(%error, "cannot wait for the database server"),
        });
    if let Err(error) = reaper {
        tracing::warn!(%error, "no thread to wait for the database server; it will leave a zombie");
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), EmbeddedError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EmbeddedError::path("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn open_log(layout: &Layout) -> Result<File, EmbeddedError> {
    if layout
        .log
        .symlink_metadata()
        .is_ok_and(|meta| meta.len() > LOG_BYTES_MAX)
    {
        let old = layout.log.with_extension("log.old");
        std::fs::rename(&layout.log, &old).map_err(EmbeddedError::path("rename", &layout.log))?;
    }
    locks::open(&layout.log, &layout.owner)
}

/// What was written to the log since the offset, on one line.
fn tail_of(log: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log)
        .and_then(|mut file| file.seek(SeekFrom::Start(offset)).map(|_| file))
        .and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
    match read {
        Ok(_) => one_line(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(cannot be read: {error})"),
    }
}

/// Runs one simple query and waits until the connection is closed, so that it is in nobody's way afterwards.
async fn query(
    layout: &Layout,
    database: &str,
    sql: &str,
) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host_path(&layout.socket_dir)
        .port(5432)
        .user(ROLE)
        .dbname(database)
        .application_name("nexus-embedded");
    let (client, connection) = config.connect(NoTls).await?;
    let answer = async move { client.simple_query(sql).await };
    // The client is dropped with its future, which lets the connection end.
    let (answer, closed) = tokio::join!(answer, connection);
    if let Err(error) = closed {
        tracing::debug!(%error, "the connection to the embedded server broke");
    }
    answer
}

/// Asks the server of the socket whether it is ready, and whether it is the one of this data folder.
async fn ask(layout: &Layout) -> Answer {
    let sql = "SELECT current_setting('fsync'), current_setting('data_directory')";
    let messages = match timeout(CONNECT_WAIT, query(layout, DATABASE, sql)).await {
        Err(_) => return Answer::NotYet("it accepts no connection".to_owned()),
        Ok(Err(error)) => {
            return match error.code() {
                Some(&SqlState::INVALID_CATALOG_NAME) => Answer::NoDatabase,
                Some(&SqlState::TOO_MANY_CONNECTIONS) => Answer::Full,
                _ => Answer::NotYet(describe(&error)),
            };
        }
        Ok(Ok(messages)) => messages,
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?, row.get(1)?)),
        _ => None,
    });
    match row {
        Some((fsync, folder)) if same_folder(Path::new(folder), &layout.data) => Answer::Ready {
            fsync: fsync == "on",
        },
        Some((_, folder)) => {
            Answer::NotYet(format!("on its socket the server of {folder} answers"))
        }
        None => Answer::NotYet("it does not tell its data folder".to_owned()),
    }
}

/// Makes the service's database. Only under the start lock, so nobody else makes it meanwhile.
async fn create_database(layout: &Layout) -> Result<(), EmbeddedError> {
    let sql = format!("CREATE DATABASE {DATABASE}");
    let fail = |cause| EmbeddedError::CreateDatabase {
        data: layout.data.clone(),
        cause,
    };
    match timeout(ANSWER_WAIT, query(layout, "postgres", &sql)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(fail(describe(&error))),
        Err(_) => Err(fail("no answer".to_owned())),
    }
}

/// tokio-postgres prints "db error" and keeps the rest in the source.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}
