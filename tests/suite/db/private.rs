//! A PostgreSQL of one test, for what the shared one has not: passwords, TLS, settings, and being stopped.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nexus_tests::server;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// A server on a socket and a loopback port, ended with this value.
pub struct PrivateServer {
    folder: TempDir,
    programs: PathBuf,
    user: (u32, u32),
    process: Option<Child>,
    pub port: u16,
}

impl PrivateServer {
    /// Starts a server that trusts local sockets and asks `hba` for everything else.
    pub async fn start(hba: &str, settings: &str) -> Self {
        let (programs, uid, gid) = server::programs().await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            folder: TempDir::new().unwrap(),
            programs,
            user: (uid, gid),
            process: None,
            port: free.local_addr().unwrap().port(),
        };
        drop(free);
        server.give(server.folder());
        let made = server
            .command("initdb")
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
        let lines = "fsync = off\nlisten_addresses = '127.0.0.1'\nmax_connections = 50\n";
        server.configure(&format!("{lines}{settings}\n"));
        server.run().await;
        server
    }

    /// Adds lines to the configuration, for the next start.
    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{lines}")).unwrap();
    }

    /// Makes a file or folder the server's own.
    pub fn give(&self, path: &Path) {
        chown(path, Some(self.user.0), Some(self.user.1)).unwrap();
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of the server's programs, run as the server's user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if rustix::process::geteuid().is_root() {
            command.uid(self.user.0).gid(self.user.1);
        }
        command
            .current_dir(self.folder())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts it again and waits until it answers.
    pub async fn run(&mut self) {
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder())
            .arg(format!("-cport={}", self.port))
            .spawn()
            .unwrap();
        self.process = Some(child);
        nexus_tests::eventually("the server answers", async || self.client().await.is_some()).await;
    }

    /// Stops it: clients are cut off.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Has it end as in a crash: what it had not written is lost.
    pub fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.process.take() {
            kill_process(Pid::from_child(&child), signal).unwrap();
            child.wait().unwrap();
        }
    }

    /// A session apart from everything under test.
    async fn client(&self) -> Option<Client> {
        let (client, connection) = Config::new()
            .host_path(self.folder())
            .port(self.port)
            .user("postgres")
            .dbname("postgres")
            .connect(NoTls)
            .await
            .ok()?;
        tokio::spawn(connection);
        client.simple_query("select 1").await.ok()?;
        Some(client)
    }

    /// Runs SQL, and gives the first column of the first row, or nothing.
    pub async fn sql(&self, sql: &str) -> String {
        let answer = self.client().await.unwrap().simple_query(sql).await;
        let messages = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let value = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        value.unwrap_or_default().to_owned()
    }

    /// How to reach it over its socket.
    pub fn url(&self) -> String {
        let (folder, port) = (self.folder().display(), self.port);
        format!("host={folder} port={port} user=postgres dbname=postgres")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Immediate shutdown; the folder goes away with it.
        self.end(Signal::QUIT);
    }
}
