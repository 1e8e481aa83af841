//! What the database has done: transactions, log and processor time, read on a session whose own share is known.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use db_model::connect::{self, ConnectOptions};
use tokio::process::Command;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::proc;

/// A session for looking and meddling. It asks in the simple protocol: each text is one transaction.
#[derive(Debug)]
pub struct Look {
    client: Client,
    asked: u64,
    postmaster: u32,
    wal: Option<Wal>,
}

/// Where the write-ahead log lies, and what reads it.
#[derive(Clone, Debug)]
pub struct Wal {
    /// `pg_waldump`.
    pub program: PathBuf,
    /// The folder of its segments.
    pub folder: PathBuf,
}

/// How far the database has come.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The next number of a transaction that writes.
    pub writing: u64,
    /// Bytes of write-ahead log.
    pub wal: u64,
    /// Processor time of the server, all its processes together.
    pub processor_time: Duration,
}

impl Look {
    /// A session of the database; without `wal` nobody looks into the log.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn new(options: &ConnectOptions, wal: Option<Wal>) -> Result<Self> {
        let client = connect::client(options).await.context("a session")?;
        let mut look = Self {
            client,
            asked: 0,
            postmaster: 0,
            wal,
        };
        // The server's first process starts all others.
        let own = look.number("SELECT pg_backend_pid()").await?;
        look.postmaster = proc::parent(u32::try_from(own)?)?;
        // A lock that is waited for comes free when a process ends.
        look.execute("SET lock_timeout = '60s'; SET statement_timeout = '10min'")
            .await?;
        Ok(look)
    }

    /// The numbers in the first row of a query.
    async fn numbers(&mut self, sql: &str) -> Result<Vec<i64>> {
        self.asked += 1;
        let said = self.client.simple_query(sql).await;
        let said = said.with_context(|| sql.to_owned())?;
        let row = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.with_context(|| format!("no row: {sql}"))?;
        let column = |index| row.get(index).unwrap_or_default().parse();
        let numbers: Result<_, _> = (0..row.len()).map(column).collect();
        numbers.with_context(|| format!("no number: {sql}"))
    }

    /// The first number of a query.
    ///
    /// # Errors
    /// When the server gives none.
    pub async fn number(&mut self, sql: &str) -> Result<i64> {
        let numbers = self.numbers(sql).await?;
        numbers.first().copied().context("no column")
    }

    /// Runs statements whose rows nobody needs.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.asked += 1;
        let ran = self.client.batch_execute(sql).await;
        ran.with_context(|| sql.to_owned())
    }

    /// How far the database has come; true as long as nobody is at work.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn read(&mut self) -> Result<Reading> {
        let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot()), \
                   (pg_current_wal_insert_lsn() - '0/0')::bigint";
        let numbers = self.numbers(sql).await?;
        let [writing, wal] = numbers[..] else {
            anyhow::bail!("two columns were asked for");
        };
        Ok(Reading {
            writing: u64::try_from(writing)?,
            wal: u64::try_from(wal)?,
            processor_time: proc::processor_time_of_tree(self.postmaster)?,
        })
    }

    /// Commits in the database so far, those of this session left out. A session that is idle tells its own late, so
    /// this is true when there is no other.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn commits(&mut self) -> Result<i64> {
        self.execute("SELECT pg_stat_force_next_flush()").await?;
        let own = i64::try_from(self.asked)?;
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Ok(self.number(sql).await? - own)
    }

    /// Sessions of the database beside this one.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn sessions(&mut self) -> Result<i64> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.number(sql).await
    }

    /// How many bytes of the log between two places are images of pages, which the first change of a page after a
    /// checkpoint writes; nothing where nobody looks into the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn page_images(&self, from: u64, to: u64) -> Result<Option<u64>> {
        let Some(wal) = &self.wal else {
            return Ok(None);
        };
        let place = |place: u64| format!("{:X}/{:X}", place >> 32, place & 0xFFFF_FFFF);
        let ran = Command::new(&wal.program)
            .args([
                "--stats",
                "--start",
                &place(from),
                "--end",
                &place(to),
                "--path",
            ])
            .arg(&wal.folder)
            .output()
            .await;
        let output = ran.with_context(|| format!("{}", wal.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("could not find a valid record after") {
            // Nothing was written since.
            return Ok(Some(0));
        }
        let total = text.lines().find_map(|line| line.strip_prefix("Total"));
        // Records, their bytes, images, all: with percentages in brackets between them.
        let mut numbers = total
            .into_iter()
            .flat_map(str::split_whitespace)
            .filter(|word| !word.starts_with('['));
        let images = numbers.nth(2);
        let images = images.with_context(|| format!("{}: {error}", wal.program.display()))?;
        Ok(Some(images.parse()?))
    }
}
