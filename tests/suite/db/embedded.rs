//! The embedded PostgreSQL: how it is started, shared, lost and found again. Needs an installed PostgreSQL.
//! Here are the folders and processes of these tests; the tests are in the modules.

mod folders;
mod life;
mod programs;

use std::fs::{DirBuilder, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use db_model::embedded::{self, Embedded, EmbeddedOptions, Stopped};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

/// The account under which root plays the ordinary user.
const NOBODY: u32 = 65534;
/// Set for a process of [`as_another_process`]: its data folder.
const CHILD: &str = "NEXUS_EMBEDDED_CHILD";
/// Set as well: the folder of its programs.
const CHILD_BIN_DIR: &str = "NEXUS_EMBEDDED_CHILD_BIN_DIR";

/// A file system in memory.
const MEMORY: &str = "/dev/shm";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether data folders can be in memory, where a cluster is made twenty times faster than on some disks. A container's
/// is often too small, or no place for programs.
fn memory_suits() -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    let roomy = statvfs(MEMORY).is_ok_and(|memory| {
        memory.f_bavail * memory.f_frsize > 2 << 30
            && !memory.f_flag.contains(StatVfsMountFlags::NOEXEC)
    });
    roomy && rustix::fs::access(MEMORY, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A data folder of one test. Dropped, it ends the server that the test left behind, and shows its log if the test failed.
struct Folder {
    temp: tempfile::TempDir,
}

impl Folder {
    /// An empty place, which also the server's user may enter.
    fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        builder
            .prefix("nexus-embedded-")
            .permissions(Permissions::from_mode(0o755));
        let temp = if memory_suits() {
            builder.tempdir_in(MEMORY)
        } else {
            builder.tempdir()
        };
        Self {
            temp: temp.unwrap(),
        }
    }

    /// A place with a cluster that was started and stopped before: a copy, since initdb takes more than a second.
    async fn seeded() -> Self {
        static SEED: Mutex<Weak<Folder>> = Mutex::const_new(Weak::new());
        let mut shared = SEED.lock().await;
        let seed = match shared.upgrade() {
            Some(seed) => seed,
            None => {
                let seed = Folder::new();
                let embedded = embedded::start(seed.options()).await.unwrap();
                assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
                Arc::new(seed)
            }
        };
        *shared = Arc::downgrade(&seed);
        drop(shared);
        let folder = Folder::new();
        DirBuilder::new()
            .mode(0o755)
            .create(folder.data_dir())
            .unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(seed.home())
            .arg(folder.data_dir())
            .status()
            .unwrap();
        assert!(copied.success());
        folder
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    fn data_dir(&self) -> PathBuf {
        self.path().join("nexus-data")
    }

    fn home(&self) -> PathBuf {
        self.data_dir().join("postgres")
    }

    fn cluster(&self) -> PathBuf {
        self.home().join("data")
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            data_dir: self.data_dir(),
            durable: false,
            max_connections: 20,
            bin_dir: None,
        }
    }

    async fn start(&self) -> Embedded {
        embedded::start(self.options()).await.unwrap()
    }

    /// Whether a process of the server lives, also one that /proc does not show.
    fn server_lock_is_held(&self) -> bool {
        let lock = std::fs::File::open(self.home().join("server.lock")).unwrap();
        lock.try_lock_shared().is_err()
    }

    /// The live server of this folder, from its pid file and command line.
    fn server(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let real = self.cluster().canonicalize().ok()?;
        String::from_utf8_lossy(&line)
            .contains(real.to_str()?)
            .then_some(pid)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home().join("server.log")).unwrap_or_default();
            eprintln!("the server's log of {}:\n{log}", self.home().display());
        }
        let begin = Instant::now();
        while let Some(pid) = self.server()
            && begin.elapsed() < Duration::from_secs(10)
        {
            signal(pid, Signal::QUIT);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // That it is gone already is as good.
    kill_process(pid, signal).ok();
}

/// Waits for a condition, at most 20 seconds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "waited in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn uid_of(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

async fn connect(embedded: &Embedded) -> Client {
    let (client, connection) = tokio_postgres::connect(&embedded.url(), NoTls)
        .await
        .unwrap();
    // Cut by some of the tests.
    tokio::spawn(async move { connection.await.ok() });
    client
}

async fn ask(embedded: &Embedded, sql: &str) -> String {
    connect(embedded)
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

/// Another process of the service: this test binary, running [`as_another_process`] alone.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Service {
    fn start(folder: &Folder, user: Option<u32>, bin_dir: Option<&Path>) -> Self {
        // Through /proc, since another user may not be allowed to walk to the binary.
        let mut command = Command::new("/proc/self/exe");
        command.args([
            "--exact",
            "db::embedded::as_another_process",
            "--nocapture",
            "--test-threads=1",
        ]);
        command
            .env(CHILD, folder.data_dir())
            .env("PGPORT", "1")
            .env("LC_ALL", "none")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(bin_dir) = bin_dir {
            command.env(CHILD_BIN_DIR, bin_dir);
        }
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next thing that it reports.
    fn report(&mut self) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.stdout.read_line(&mut line).unwrap(),
                0,
                "the other process ended: {seen}"
            );
            if let Some((_, report)) = line.split_once("report: ") {
                return report.trim().to_owned();
            }
            seen.push_str(&line);
        }
    }

    fn stop(&mut self) -> String {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"stop\n")
            .unwrap();
        self.report()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Not a test by itself: what [`Service`] runs.
#[tokio::test]
async fn as_another_process() {
    let Some(data_dir) = std::env::var_os(CHILD) else {
        return;
    };
    let bin_dir = std::env::var_os(CHILD_BIN_DIR).map(PathBuf::from);
    let options = EmbeddedOptions {
        data_dir: data_dir.into(),
        durable: false,
        max_connections: 20,
        bin_dir,
    };
    let embedded = embedded::start(options).await.unwrap();
    println!("report: adopted {}", embedded.adopted());
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next())
        .await
        .unwrap();
    if line.is_some() {
        println!("report: {:?}", embedded.stop().await.unwrap());
    }
}
