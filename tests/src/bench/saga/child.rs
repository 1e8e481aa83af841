//! The service under measurement as a process of its own, so that its processor time and memory are its alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::client::Connection;
use super::no_log::Style;
use super::proc::{self, Memory};

/// Longer than a service takes to start or to end.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at one that does.
const PAUSE: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The product: a saga.
    Product,
    /// A service without a log.
    NoLog(Style),
}

impl Way {
    /// What is compared with each other.
    pub const ALL: [Self; 3] = [
        Self::Product,
        Self::NoLog(Style::Plain),
        Self::NoLog(Style::Batched),
    ];

    /// The same, and how much of the difference is the product's HTTP.
    pub const PARTS: [Self; 4] = [
        Self::Product,
        Self::NoLog(Style::Plain),
        Self::NoLog(Style::Batched),
        Self::NoLog(Style::Edged),
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::NoLog(Style::Plain) => "no log, plain",
            Self::NoLog(Style::Batched) => "no log, batched",
            Self::NoLog(Style::Edged) => "no log, batched, behind the product's edge",
        }
    }
}

/// How services are started: this very program, which is the product when its first argument is `server`.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The program.
    pub program: PathBuf,
    /// Where the services write their logs.
    pub logs: PathBuf,
    /// The database.
    pub url: String,
}

/// A service that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: PathBuf,
    api: String,
    admin: Option<String>,
    /// When it was started.
    pub started: Instant,
}

impl Starter {
    /// Starts a service and waits until it listens; `flags` are more for the product.
    ///
    /// # Errors
    /// When it ends instead.
    pub async fn start(&self, way: Way, flags: &[String]) -> Result<Service> {
        let mut command = self.command();
        match way {
            Way::Product => {
                let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
                command.arg("server").args(ports).args(flags);
            }
            Way::NoLog(style) => {
                let style = style.to_possible_value().context("every style has one")?;
                command.args(["no-log", "--style", style.get_name()]);
            }
        }
        command.args(["--database-url", &self.url]);
        let log = self.logs.join(format!("{}.log", uuid::Uuid::now_v7()));
        let stdout = File::create(&log).with_context(|| format!("{}", log.display()))?;
        command.stderr(stdout.try_clone()?).stdout(stdout);
        let started = Instant::now();
        let mut service = Service {
            child: command.spawn().context("starting the service")?,
            log,
            api: String::new(),
            admin: None,
            started,
        };
        service.listening().await?;
        Ok(service)
    }

    /// The program with none of the variables that it reads.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir("/").stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let read = ["NEXUS_", "PG", "DATABASE_URL", "RUST_"];
            if read.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Service {
    /// Waits until it has said where it is.
    async fn listening(&mut self) -> Result<()> {
        loop {
            let text = std::fs::read_to_string(&self.log)?;
            let records = text.lines().map(serde_json::from_str::<Value>);
            let said = records
                .flatten()
                .find(|said| said["message"] == "listening");
            if let Some(said) = said {
                let address = |name: &str| {
                    let url = said[name].as_str()?.strip_prefix("http://")?;
                    Some(url.trim_end_matches("/v1").to_owned())
                };
                self.api = address("api").context("no address")?;
                self.admin = address("admin");
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the service ended, {status}: {}", last_line(&self.log));
            }
            ensure!(
                self.started.elapsed() < WAIT_MAX,
                "the service does not listen"
            );
            sleep(PAUSE).await;
        }
    }

    /// Waits until the product says that it is ready.
    ///
    /// # Errors
    /// When it does not get so far.
    pub async fn ready(&self) -> Result<()> {
        let admin = self.admin.as_deref().context("only the product is asked")?;
        let mut connection = Connection::open(admin).await?;
        while connection.get("/readyz").await? != 200 {
            ensure!(
                self.started.elapsed() < WAIT_MAX,
                "the service is not ready"
            );
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Where it answers.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Its processor time.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        proc::processor_time(self.child.id())
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        proc::memory(self.child.id())
    }

    /// Ends it as a supervisor would.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("ending the service")?;
        let asked = Instant::now();
        while self.exited()?.is_none() {
            ensure!(asked.elapsed() < WAIT_MAX, "the service does not end");
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Kills it at once.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill(mut self) -> Result<()> {
        ensure!(
            self.exited()?.is_none(),
            "the service ended by itself: {}",
            last_line(&self.log)
        );
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}
