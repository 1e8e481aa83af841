//! Where the sagas run: projects with wide quotas in a database, a gate that keeps sagas from ending, and what must
//! be in the database after each cell.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use db_model::books;
use db_model::connect::ConnectOptions;
use db_model::pool::{PoolOptions, WritePool};
use db_model::types::limits::POOL_WAIT;
use tokio::time::sleep;

use super::client::SPREAD_PROJECTS;
use super::look::{Look, Wal};
use crate::bench::place::{PROJECTS, project_id};

/// The number of the project that may have no instances.
pub const REFUSING_PROJECT: u64 = PROJECTS;
/// Between two looks at a database that is about to come to rest.
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than it takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Sagas that have not ended.
pub const UNFINISHED: &str = "SELECT count(*) FROM saga WHERE time_finished IS NULL";

/// Whether there are any, which is told faster.
pub const ANY_UNFINISHED: &str =
    "SELECT count(*) FROM (SELECT 1 FROM saga WHERE time_finished IS NULL LIMIT 1) one";
/// Whether there are events that are not published.
const ANY_UNPUBLISHED: &str =
    "SELECT count(*) FROM (SELECT 1 FROM event WHERE sequence IS NULL LIMIT 1) one";

/// Whoever comes to the event of an instance is told that a lock is not free, and comes again.
const GATE: &str = "\
CREATE OR REPLACE FUNCTION bench_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the gate is closed' USING ERRCODE = '55P03'; END $$;
CREATE TRIGGER bench_gate BEFORE INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION bench_gate()";

/// The database that is measured.
#[derive(Debug)]
pub struct Ground {
    options: ConnectOptions,
    /// A session for looking.
    pub look: Look,
    seen: Books,
}

/// What is in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    instances: i64,
    charged: i64,
    events: i64,
    unfinished: i64,
}

impl Ground {
    /// A database in which the projects are, put there by [`Place::prepare`]. One of them shall refuse.
    ///
    /// # Errors
    /// When the database cannot be reached or written to.
    ///
    /// [`Place::prepare`]: crate::bench::place::Place::prepare
    pub async fn new(options: &ConnectOptions, wal: Option<Wal>) -> Result<Self> {
        let mut ground = Self {
            options: options.clone(),
            look: Look::new(options, wal).await?,
            seen: Books::default(),
        };
        let refusing = project_id(REFUSING_PROJECT);
        let refuse =
            format!("UPDATE project_quota SET instances_limit = 0 WHERE project_id = '{refusing}'");
        ground.look.execute(&refuse).await?;
        ground.seen = ground.books().await?;
        Ok(ground)
    }

    /// Keeps the server from tidying up by itself now and then, in whoever's time that falls, and from removing the log
    /// that is still to be looked into.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn calm(&mut self) -> Result<()> {
        for command in [
            "ALTER SYSTEM SET autovacuum = off",
            "ALTER SYSTEM SET checkpoint_timeout = '1h'",
            "ALTER SYSTEM SET wal_keep_size = '1GB'",
            "SELECT pg_reload_conf()",
        ] {
            self.look.execute(command).await?;
        }
        Ok(())
    }

    /// Empties the tables that grow, so that each scenario begins alike.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sweep(&mut self) -> Result<()> {
        let sweep = "TRUNCATE instance, saga, saga_event, event; \
                     UPDATE project_quota SET instances_used = 0, vcpus_used = 0, memory_bytes_used = 0";
        self.look.execute(sweep).await?;
        self.settle().await
    }

    /// Tidies up behind whatever was done, which nobody does meanwhile.
    async fn settle(&mut self) -> Result<()> {
        for command in ["VACUUM ANALYZE", "CHECKPOINT"] {
            self.look.execute(command).await?;
        }
        self.seen = self.books().await?;
        Ok(())
    }

    /// Adds finished sagas until there are so many: copies of one that is there, with ids and times from before it.
    ///
    /// # Errors
    /// When the server refuses, or there is none to copy.
    pub async fn fill(&mut self, sagas: u64) -> Result<()> {
        let there = self.look.number("SELECT count(*) FROM saga").await?;
        ensure!(there > 0, "there is no saga to copy");
        let missing = i64::try_from(sagas)? - there;
        let id = "'00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')";
        let created = format!("(f.s).time_created - make_interval(secs => ({missing} - n) * 0.01)");
        let project = format!("lpad((100000000001 + n % {SPREAD_PROJECTS})::text, 32, '0')");
        let fill = format!(
            "CREATE TEMPORARY TABLE model AS SELECT * FROM saga WHERE time_finished IS NOT NULL LIMIT 1; \
             INSERT INTO saga SELECT copy.* \
             FROM (SELECT s FROM saga s JOIN model USING (id)) f, generate_series(1, {missing}) n, \
             jsonb_populate_record(f.s, jsonb_build_object('id', {id}, 'resource_id', {id}, 'project_id', {project}, \
             'time_created', {created})) copy; \
             INSERT INTO saga_event SELECT copy.* \
             FROM (SELECT e FROM saga_event e JOIN model ON model.id = e.saga_id) f, generate_series(1, {missing}) n, \
             jsonb_populate_record(f.e, jsonb_build_object('saga_id', {id})) copy; \
             DROP TABLE model"
        );
        self.look.execute(&fill).await?;
        self.settle().await
    }

    /// Closes the gate: sagas begin, and do not end.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn close_gate(&mut self) -> Result<()> {
        self.look.execute(GATE).await
    }

    /// Opens it again.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open_gate(&mut self) -> Result<()> {
        self.look.execute("DROP TRIGGER bench_gate ON event").await
    }

    /// Waits until every instance that is paid for stands in the state `creating` and so many sagas have not ended.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn at_the_gate(&mut self, sagas: i64) -> Result<()> {
        let creating = "SELECT count(*) FROM instance WHERE state = 'creating'";
        self.wait_for(creating, sagas, Duration::from_secs(300))
            .await
    }

    /// Waits until no saga runs and all events are published: what was asked for has been paid for then.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn come_to_rest(&mut self) -> Result<()> {
        self.wait_for(ANY_UNFINISHED, 0, WAIT_MAX).await?;
        self.wait_for(ANY_UNPUBLISHED, 0, WAIT_MAX).await
    }

    /// Waits until nobody but `others` has a session.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn be_alone(&mut self, others: i64) -> Result<()> {
        let asked = Instant::now();
        while self.look.sessions().await? > others {
            ensure!(asked.elapsed() < WAIT_MAX, "sessions are left over");
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until a query gives a number.
    ///
    /// # Errors
    /// When that does not come in time.
    pub async fn wait_for(&mut self, sql: &str, wanted: i64, time: Duration) -> Result<()> {
        let asked = Instant::now();
        loop {
            let number = self.look.number(sql).await?;
            if number == wanted {
                return Ok(());
            }
            ensure!(
                asked.elapsed() < time,
                "not correct: {number} and not {wanted}: {sql}"
            );
            sleep(PAUSE).await;
        }
    }

    /// Looks whether exactly so many instances were made since the last look, each paid for and told once, and whether
    /// the books balance.
    ///
    /// # Errors
    /// When they do not.
    pub async fn check(&mut self, made: u64) -> Result<()> {
        let now = self.books().await?;
        let before = std::mem::replace(&mut self.seen, now);
        let done = Books {
            instances: now.instances - before.instances,
            charged: now.charged - before.charged,
            events: now.events - before.events,
            unfinished: now.unfinished,
        };
        let made = i64::try_from(made)?;
        let expected = Books {
            instances: made,
            charged: made,
            events: made,
            unfinished: 0,
        };
        ensure!(
            done == expected,
            "not correct: {done:?}, but {expected:?} was acknowledged"
        );
        let pools = PoolOptions {
            write_size: 1,
            read_size: 1,
            wait: POOL_WAIT,
            audit: false,
        };
        let report = books::check(&WritePool::new(self.options.clone(), &pools)).await?;
        ensure!(report.balanced(), "the books do not balance: {report:?}");
        Ok(())
    }

    async fn books(&mut self) -> Result<Books> {
        Ok(Books {
            instances: self
                .look
                .number("SELECT count(*) FROM instance WHERE state = 'stopped'")
                .await?,
            charged: self
                .look
                .number("SELECT coalesce(sum(instances_used), 0)::bigint FROM project_quota")
                .await?,
            events: self.look.number("SELECT count(*) FROM event").await?,
            unfinished: self.look.number(UNFINISHED).await?,
        })
    }
}
