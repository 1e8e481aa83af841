//! Where the bench runs: projects with wide quotas in a database, and what must be in it after each cell.

use anyhow::{Context, Result, ensure};
use db_model::connect::{self, ConnectOptions};
use db_model::types::limits::{
    CLIENT_CHECK_INTERVAL, IDLE_IN_TRANSACTION_TIMEOUT, LOCK_TIMEOUT, QUOTA_LIMIT_MAX,
    STATEMENT_TIMEOUT,
};
use tokio_postgres::Client;
use uuid::Uuid;

/// How many projects the transactions are spread over.
pub const PROJECTS: u64 = 1_000;

/// The database that is measured, and a session for looking at it.
#[derive(Debug)]
pub struct Place {
    client: Client,
    seen: Books,
}

/// What is in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    instances: u64,
    charged: u64,
    events: u64,
}

/// The id of a project by its number, from 1. Its last twelve digits are decimal, so that pgbench can make it too.
pub fn project_id(number: u64) -> Uuid {
    let digits = format!("{:032}", 100_000_000_000 + number);
    Uuid::parse_str(&digits).expect("32 decimal digits are a UUID")
}

impl Place {
    /// Puts the projects into a database that has the schema and nothing else.
    ///
    /// # Errors
    /// When the database cannot be reached or written to.
    pub async fn prepare(options: &ConnectOptions) -> Result<Self> {
        let client = connect::client(options)
            .await
            .context("a session to prepare the database with")?;
        let projects = format!(
            "INSERT INTO project (id, name, description, state, generation, changed_by, time_created, time_modified) \
             SELECT lpad((100000000000 + n)::text, 32, '0')::uuid, 'p' || n, '', 'active', 1, gen_random_uuid(), \
             now(), now() FROM generate_series(1, {PROJECTS}) AS n; \
             INSERT INTO project_quota (project_id, open, instances_limit, instances_used, vcpus_limit, vcpus_used, \
             memory_bytes_limit, memory_bytes_used, generation, changed_by, time_created, time_modified) \
             SELECT id, true, {QUOTA_LIMIT_MAX}, 0, {QUOTA_LIMIT_MAX}, 0, {QUOTA_LIMIT_MAX}, 0, 1, changed_by, \
             now(), now() FROM project; \
             UPDATE fleet_quota SET projects_used = {PROJECTS}"
        );
        client
            .batch_execute(&projects)
            .await
            .context("making the projects")?;
        let mut place = Self {
            client,
            seen: Books::default(),
        };
        place.seen = place.books().await?;
        Ok(place)
    }

    /// Gives every session of this database the product's own settings, whoever opens it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn set_sessions(&self) -> Result<()> {
        for (name, value) in [
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_TIMEOUT,
            ),
            ("client_connection_check_interval", CLIENT_CHECK_INTERVAL),
        ] {
            let value = value.as_millis();
            let role = format!("ALTER ROLE CURRENT_USER SET {name} = {value}");
            self.client
                .batch_execute(&role)
                .await
                .context("settings of the sessions")?;
        }
        Ok(())
    }

    /// Empties the tables that grow, so that each scenario begins alike.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sweep(&mut self) -> Result<()> {
        let sweep = "TRUNCATE instance, saga_event; \
                     UPDATE project_quota SET instances_used = 0, vcpus_used = 0, memory_bytes_used = 0";
        self.client
            .batch_execute(sweep)
            .await
            .context("emptying the tables")?;
        for command in ["VACUUM ANALYZE", "CHECKPOINT"] {
            self.client.batch_execute(command).await.context(command)?;
        }
        self.seen = self.books().await?;
        Ok(())
    }

    /// Looks whether exactly `acknowledged` transactions were done since the last look, each with
    /// `events_each` events.
    ///
    /// # Errors
    /// When the rows, the counters and the acknowledgements do not agree.
    pub async fn check(&mut self, acknowledged: u64, events_each: u64) -> Result<()> {
        let now = self.books().await?;
        let before = std::mem::replace(&mut self.seen, now);
        let done = Books {
            instances: now.instances - before.instances,
            charged: now.charged - before.charged,
            events: now.events - before.events,
        };
        let expected = Books {
            instances: acknowledged,
            charged: acknowledged,
            events: acknowledged * events_each,
        };
        ensure!(
            done == expected,
            "not correct: {done:?}, but {expected:?} was acknowledged"
        );
        Ok(())
    }

    /// A setting of the server.
    ///
    /// # Errors
    /// When the server does not know it.
    pub async fn setting(&self, name: &str) -> Result<String> {
        let row = self
            .client
            .query_one("SELECT current_setting($1)", &[&name])
            .await;
        Ok(row
            .with_context(|| format!("the setting {name}"))?
            .try_get(0)?)
    }

    async fn books(&self) -> Result<Books> {
        let count = "SELECT (SELECT count(*) FROM instance), \
                     (SELECT coalesce(sum(instances_used), 0)::bigint FROM project_quota), \
                     (SELECT count(*) FROM saga_event)";
        let row = self
            .client
            .query_one(count, &[])
            .await
            .context("counting the rows")?;
        let number = |column| -> Result<u64> { Ok(row.try_get::<_, i64>(column)?.try_into()?) };
        Ok(Books {
            instances: number(0)?,
            charged: number(1)?,
            events: number(2)?,
        })
    }
}
