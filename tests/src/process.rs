//! The program itself as a process: started, asked, frozen, killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::Value;

use crate::Answer;
use crate::folder::{self, DataFolder};

/// Longer than anything here takes, on a busy machine too.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The program, built beside the suites.
pub fn path() -> PathBuf {
    // The test binary is `target/<profile>/deps/suite-<hash>`; only Cargo's own tests know more.
    let binary = std::env::current_exe().unwrap();
    let profile = binary
        .ancestors()
        .nth(2)
        .expect("a test binary lies below its profile's folder");
    profile.join("nexus-under-test")
}

/// A client that uses no proxy of the machine's and does not wait for ever.
pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(WAIT_MAX)
        .build()
        .unwrap()
}

/// The same with a connection for each request: an idle one may be closed by a service that ends at the
/// very moment at which it is used again, and nobody answers that request.
pub fn client_of_one_request() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(WAIT_MAX)
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

/// The program with its arguments, not started yet. Of the variables that it reads, it has only
/// those that the test gives it.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// With arguments.
    pub fn new(arguments: &[&str]) -> Self {
        Self::at(&path(), arguments)
    }

    /// A copy of the program elsewhere.
    pub fn at(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let read = ["NEXUS_", "PG", "DATABASE_URL", "RUST_"];
            if read.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// A server on a folder, on ports of its own.
    pub fn server(folder: &DataFolder) -> Self {
        Self::loopback().flag("--data-dir", folder.data_dir())
    }

    /// A server on a database, on ports of its own.
    pub fn server_on(url: &str) -> Self {
        Self::loopback().flag("--database-url", url)
    }

    /// A server on ports of its own, without a word about its data.
    pub fn loopback() -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut program = Self::new(&["server"]);
        program.command.args(ports);
        program
    }

    /// One more flag.
    pub fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.arg(name).arg(value.into());
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Where it works.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The user that it runs as; for root only.
    pub fn user(mut self, user: u32) -> Self {
        self.command.uid(user).gid(user);
        self
    }

    /// Starts it and waits for nothing.
    pub fn spawn(mut self) -> Process {
        let mut child = self.command.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Process {
            child,
            stdout,
            stderr,
            client: client(),
            places: None,
        }
    }

    /// Starts a server and waits until it is ready.
    pub async fn start(self) -> Process {
        let mut process = self.spawn();
        process.ready().await;
        process
    }

    /// Runs it to its end.
    pub async fn run(self) -> Ended {
        let mut process = self.spawn();
        process.exited().await
    }
}

/// What a program left that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to standard output.
    pub stdout: String,
    /// All that it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Its exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Where a server is, by its own word.
#[derive(Clone, Debug)]
struct Places {
    api: String,
    admin: String,
    psql: String,
}

/// A running program. Dropped, it is killed, and shows what it wrote if the test failed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// A client that keeps connections.
    pub client: Client,
    places: Option<Places>,
}

impl Process {
    /// Waits until it has said where it is.
    pub async fn listening(&mut self) {
        let places = |record: &Value| {
            let text = |name: &str| record[name].as_str().map(str::to_owned);
            (record["message"] == "listening").then(|| Places {
                api: text("api").unwrap().trim_end_matches("/v1").to_owned(),
                admin: text("admin").unwrap(),
                psql: text("psql").unwrap(),
            })
        };
        let begun = Instant::now();
        while self.places.is_none() {
            self.places = self.log().iter().find_map(places);
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended, {status}: {}", self.stderr.text());
            }
            assert!(begun.elapsed() < WAIT_MAX, "the program does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until `/readyz` says that it is.
    pub async fn ready(&mut self) {
        self.listening().await;
        crate::eventually("the server is ready", async || {
            self.readyz()
                .await
                .is_some_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// What `/readyz` says; none when nobody answers.
    pub async fn readyz(&self) -> Option<Answer> {
        let request = self.client.get(format!("{}/readyz", self.places().admin));
        Some(Answer::read(request.send().await.ok()?).await)
    }

    /// What `/metrics` says of one metric with these labels; 0 when it is not there.
    pub async fn metric(&self, name: &str) -> u64 {
        let request = self.client.get(format!("{}/metrics", self.places().admin));
        let text = request.send().await.unwrap().text().await.unwrap();
        crate::metric(&text, name)
    }

    fn places(&self) -> &Places {
        self.places.as_ref().expect("the server listens")
    }

    /// The base address of its API.
    pub fn api(&self) -> String {
        self.places().api.clone()
    }

    /// The line for a shell that opens its database.
    pub fn psql(&self) -> &str {
        &self.places().psql
    }

    /// The URL of its embedded database.
    pub fn database_url(&self) -> String {
        let (_, url) = self.psql().rsplit_once(' ').unwrap();
        assert!(url.starts_with("postgresql://"), "{url}");
        url.to_owned()
    }

    /// A request of its API to be completed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.places().api))
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.unwrap()).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        folder::signal(self.pid(), signal);
    }

    /// Stops all its threads where they are; [`Signal::CONT`] wakes it up.
    pub async fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        // A thread goes on until it hears of the signal.
        crate::eventually("every thread stands still", async || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
                stat.is_ok_and(|stat| stat.contains(") T "))
            })
        })
        .await;
    }

    /// Whether it has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub async fn exited(&mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < WAIT_MAX, "the program does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.stdout.end().await;
        self.stderr.end().await;
        Ended {
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Kills it, as the machine would that runs out of memory.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.exited().await;
    }

    /// Ends it as a supervisor would, and sees that it ends well.
    pub async fn terminate(&mut self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.exited().await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        ended
    }

    /// Its log so far, a record a line.
    pub fn log(&self) -> Vec<Value> {
        records(&self.stdout.text())
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
            let lines: Vec<_> = stdout.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("process {}: {stderr}\n{}", self.pid(), last.join("\n"));
        }
    }
}

/// The records of a log in JSON; a line that is not yet whole is left out.
pub fn records(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// What a process writes, read as it comes.
#[derive(Debug)]
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let text = Arc::clone(&text);
            move || {
                let mut stream = BufReader::new(stream);
                let mut line = Vec::new();
                while stream
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|read| read > 0)
                {
                    text.lock()
                        .unwrap()
                        .push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    /// Waits until nobody writes any more.
    async fn end(&mut self) {
        if let Some(reader) = self.reader.take() {
            tokio::task::spawn_blocking(|| reader.join().unwrap())
                .await
                .unwrap();
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}
