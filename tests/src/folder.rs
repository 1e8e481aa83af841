//! A data folder of a test with an embedded PostgreSQL of its own.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use db_model::connect::ConnectOptions;
use db_model::embedded::{self, EmbeddedOptions, Stopped};
use db_model::migrate;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::database::FLEET_PROJECTS;

/// A file system in memory, where a cluster is made many times faster than on some disks.
const MEMORY: &str = "/dev/shm";

/// A place for a data folder. Dropped, it ends the server that the test left behind, and shows its
/// log if the test failed.
#[derive(Debug)]
pub struct DataFolder {
    place: TempDir,
}

impl DataFolder {
    /// A place without a data folder yet, which every user may enter.
    pub fn empty() -> Self {
        let mut builder = tempfile::Builder::new();
        builder
            .prefix("nexus-process-")
            .permissions(Permissions::from_mode(0o755));
        // Often too small in a container, or no place for programs.
        let suits = statvfs(MEMORY).is_ok_and(|memory| {
            memory.f_bavail * memory.f_frsize > 2 << 30
                && !memory.f_flag.contains(StatVfsMountFlags::NOEXEC)
        });
        let place = if suits {
            builder.tempdir_in(MEMORY)
        } else {
            builder.tempdir()
        };
        Self {
            place: place.unwrap(),
        }
    }

    /// A data folder with the schema: a copy of one that tests at the same time share, for to make
    /// one takes seconds.
    pub async fn new() -> Self {
        static SEED: Mutex<Weak<DataFolder>> = Mutex::const_new(Weak::new());
        let mut shared = SEED.lock().await;
        let seed = match shared.upgrade() {
            Some(seed) => seed,
            None => Arc::new(Self::made().await),
        };
        *shared = Arc::downgrade(&seed);
        drop(shared);
        let folder = Self::empty();
        let copied = Command::new("cp")
            .arg("-a")
            .args([seed.data_dir(), folder.data_dir()])
            .status()
            .unwrap();
        assert!(copied.success());
        folder
    }

    async fn made() -> Self {
        let folder = Self::empty();
        let embedded = embedded::start(folder.options()).await.unwrap();
        let options = ConnectOptions::parse(&embedded.url()).unwrap();
        migrate::run(&options, FLEET_PROJECTS).await.unwrap();
        assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
        folder
    }

    /// Makes the data folder, empty, and gives it to a user.
    pub fn give_to(&self, user: u32) {
        DirBuilder::new()
            .mode(0o700)
            .create(self.data_dir())
            .unwrap();
        chown(self.data_dir(), Some(user), Some(user)).unwrap();
    }

    /// The place around the data folder.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.place().join("nexus-data")
    }

    /// PostgreSQL's own folder in it.
    pub fn cluster(&self) -> PathBuf {
        self.data_dir().join("postgres/data")
    }

    /// How a test itself starts or joins the server.
    pub fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            data_dir: self.data_dir(),
            durable: true,
            max_connections: 100,
            bin_dir: None,
        }
    }

    /// The live server of this folder, from its pid file and command line.
    pub fn server(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let real = self.cluster().canonicalize().ok()?;
        String::from_utf8_lossy(&line)
            .contains(real.to_str()?)
            .then_some(pid)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.data_dir().join("postgres/server.log");
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("{}:\n{}", log.display(), last.join("\n"));
        }
        let begin = Instant::now();
        while let Some(server) = self.server()
            && begin.elapsed() < Duration::from_secs(10)
        {
            signal(server, Signal::QUIT);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends a signal. That the process is gone already is as good.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).ok();
}
