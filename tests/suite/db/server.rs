//! A private PostgreSQL server for the tests of the wire, started from installed binaries. Scaffolding.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server on a socket and a loopback port, ended with this value.
pub struct Server {
    folder: TempDir,
    process: Option<Child>,
    pub port: u16,
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new(format!("{BINARIES}/{program}"));
    let id = |flag: &str| {
        let output = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse::<u32>()
            .unwrap()
    };
    command
        .uid(id("-u"))
        .gid(id("-g"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Server {
    /// A server that tests running at the same time share; it ends with the last of them.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start("", &[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Starts a server that trusts local sockets and asks `hba` for everything else.
    pub fn start(hba: &str, settings: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        std::process::Command::new("chmod")
            .arg("777")
            .arg(folder.path())
            .status()
            .unwrap();
        let mut server = Self {
            folder,
            process: None,
            port: free_port(),
        };
        let made = as_postgres("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
            .arg(server.data())
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::write(
            server.data().join("pg_hba.conf"),
            format!("local all all trust\n{hba}\n"),
        )
        .unwrap();
        let mut lines =
            String::from("fsync = off\nlisten_addresses = '127.0.0.1'\nmax_connections = 50\n");
        for setting in settings {
            lines.push_str(&format!("{setting}\n"));
        }
        let path = server.data().join("postgresql.auto.conf");
        std::fs::write(path, lines).unwrap();
        server.run();
        server
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn run(&mut self) {
        let child = as_postgres("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .arg(format!("-cport={}", self.port))
            .spawn()
            .unwrap();
        self.process = Some(child);
        let began = Instant::now();
        while !self.psql_ok("postgres", "select 1") {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server; `mode` is that of pg_ctl.
    pub fn stop(&mut self, mode: &str) {
        as_postgres("pg_ctl")
            .args(["stop", "-w", "-m", mode, "-D"])
            .arg(self.data())
            .status()
            .unwrap();
        if let Some(mut child) = self.process.take() {
            child.wait().unwrap();
        }
    }

    fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(format!("{BINARIES}/psql"));
        command.args([
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        command
            .arg("-h")
            .arg(self.folder.path())
            .arg("-p")
            .arg(self.port.to_string());
        command
    }

    fn psql_ok(&self, database: &str, sql: &str) -> bool {
        self.psql_command(database, sql)
            .output()
            .unwrap()
            .status
            .success()
    }

    /// Runs SQL apart from everything under test and returns what it prints.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.psql_command(database, sql).output().unwrap();
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql(
            "postgres",
            &format!("create database {name} template template0"),
        );
        name
    }

    pub fn socket_url(&self, database: &str) -> String {
        format!(
            "host={} port={} user=postgres dbname={database}",
            self.folder.path().display(),
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // Immediate shutdown; the folder goes away with it.
            Command::new("kill")
                .args(["-QUIT", &child.id().to_string()])
                .status()
                .ok();
            child.wait().ok();
        }
    }
}
