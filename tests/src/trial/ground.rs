//! Where trials run: a database with their tables, a service outside, and executors that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_model::Database;
use db_model::batch::Batch;
use db_model::query;
use sagas::definition::Definition;
use sagas::probe::{NoProbe, Point, Probe, Verdict};
use sagas::registry::Registry;
use sagas::{Executor, ExecutorOptions, Outcome, Start, SubmittedAny};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use super::node::{Params, key_outside};
use super::table::subject;
use crate::outside::Outside;
use crate::{SOON, TestDatabase};

/// No key: a second effect must not be hidden by one.
const TABLES: &str = "\
CREATE TABLE trial (saga_id uuid NOT NULL, slot bigint NOT NULL, kind text NOT NULL);
CREATE TABLE trial_count (value bigint NOT NULL);
INSERT INTO trial_count VALUES (0)";

/// A database and a service outside.
#[derive(Debug)]
pub struct Ground {
    /// The database. A test ends in its `assert_books_balance`.
    pub database: TestDatabase,
    /// The service outside.
    pub outside: Outside,
    client: Client,
}

/// A line of a saga's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The node's place in the definition.
    pub node_id: i64,
    /// What happened.
    pub kind: String,
    /// Which part of the node's life it decides.
    pub phase: i16,
    /// Its place in the log.
    pub sequence: i64,
    /// How often the node was tried.
    pub attempts: i32,
    /// The output or the error.
    pub data: Value,
}

impl Ground {
    /// New, and with nothing done.
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let client = database.client().await;
        client.batch_execute(TABLES).await.unwrap();
        let outside = Outside::start().await;
        Self {
            database,
            outside,
            client,
        }
    }

    /// Parameters with which everything succeeds.
    pub fn params(&self) -> Params {
        Params {
            outside: self.outside.url().to_owned(),
            ..Params::default()
        }
    }

    /// A process that runs these.
    pub async fn executor(&self, definitions: Vec<Definition>) -> Executor {
        start(self.database.pools(), definitions, Arc::new(NoProbe)).await
    }

    /// Declares a process dead, as the others do when its lease is over. What it has under way goes on.
    pub async fn declare_dead(&self, executor: &Executor) {
        executor.stop();
        let end = "UPDATE executor SET time_ended = clock_timestamp() WHERE id = $1 AND time_ended IS NULL";
        self.client.execute(end, &[&executor.id()]).await.unwrap();
    }

    /// How a saga stands, and its generation. Nothing when there is none.
    pub async fn saga(&self, id: Uuid) -> Option<(String, i64)> {
        let select = "SELECT state, generation FROM saga WHERE id = $1";
        let row = self.client.query_opt(select, &[&id]).await.unwrap()?;
        Some((row.get(0), row.get(1)))
    }

    /// Waits until a saga stands so.
    pub async fn becomes(&self, id: Uuid, state: &str) {
        crate::eventually(state, async || {
            self.saga(id).await.is_some_and(|(now, _)| now == state)
        })
        .await;
    }

    /// Waits until a saga has ended or is stuck, and gives which.
    pub async fn ends(&self, id: Uuid) -> String {
        crate::eventually("the saga ends", async || self.is_over(id).await).await;
        self.saga(id).await.unwrap().0
    }

    /// Whether a saga has ended or is stuck.
    pub async fn is_over(&self, id: Uuid) -> bool {
        let over = |(state, _): (String, i64)| state != "running" && state != "unwinding";
        self.saga(id).await.is_some_and(over)
    }

    /// A saga's log.
    pub async fn log(&self, id: Uuid) -> Vec<Event> {
        let select = "SELECT node_id, kind, phase, sequence, attempts, data::text FROM saga_event \
                      WHERE saga_id = $1 ORDER BY sequence, node_id, phase";
        let rows = self.client.query(select, &[&id]).await.unwrap();
        let event = |row: &tokio_postgres::Row| {
            let data: Option<String> = row.get(5);
            Event {
                node_id: row.get(0),
                kind: row.get(1),
                phase: row.get(2),
                sequence: row.get(3),
                attempts: row.get(4),
                data: data.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
            }
        };
        rows.iter().map(event).collect()
    }

    /// Sees that a saga's log is numbered from 1 without gaps, and gives it.
    pub async fn assert_log_is_whole(&self, id: Uuid) -> Vec<Event> {
        let log = self.log(id).await;
        let numbers = log.iter().map(|event| event.sequence);
        assert!(
            numbers.eq(1..=i64::try_from(log.len()).unwrap()),
            "{log:#?}"
        );
        log
    }

    /// How often each slot's effect was made and taken back by a saga.
    pub async fn effects(&self, id: Uuid) -> BTreeMap<usize, (i64, i64)> {
        let select = "SELECT slot, count(*) FILTER (WHERE kind = 'do'), \
                      count(*) FILTER (WHERE kind = 'undo') FROM trial WHERE saga_id = $1 GROUP BY slot";
        let rows = self.client.query(select, &[&id]).await.unwrap();
        let of = |row: &tokio_postgres::Row| {
            let slot: i64 = row.get(0);
            (usize::try_from(slot).unwrap(), (row.get(1), row.get(2)))
        };
        rows.iter().map(of).collect()
    }

    /// The counter: how many effects are there.
    pub async fn count(&self) -> i64 {
        self.database.number("SELECT value FROM trial_count").await
    }

    /// Checks that the counter has not drifted from the effects and undos that it counts.
    ///
    /// # Panics
    /// If it has.
    pub async fn assert_count_holds(&self) {
        let rows = "SELECT count(*) FILTER (WHERE kind = 'do') - count(*) FILTER (WHERE kind = 'undo') FROM trial";
        assert_eq!(self.count().await, self.database.number(rows).await);
    }

    /// The nodes of a saga whose effect is outside.
    pub fn outside_of(&self, id: Uuid) -> BTreeSet<String> {
        let suffix = key_outside(id, "");
        let effects = self.outside.effects();
        let nodes = effects.iter().filter_map(|key| key.strip_suffix(&suffix));
        nodes.map(str::to_owned).collect()
    }

    /// Lets a saga go on that is stuck or under way, as a person would.
    pub async fn retry(&self, id: Uuid) {
        let pools = self.database.pools();
        let retry = Batch::new()
            .step(query::saga::retry(id))
            .step(query::saga_event::retry_undos(id));
        let (retried, ()) = retry.commit(&pools.writes).await.unwrap();
        assert_eq!(retried.len(), 1);
    }

    /// Does something to the database.
    pub async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }
}

/// A process that runs these definitions. It looks often for what to take over, and is not taken for dead
/// because the machine is busy.
pub async fn start(
    pools: Database,
    definitions: Vec<Definition>,
    probe: Arc<dyn Probe>,
) -> Executor {
    let registry = Registry::new(definitions.into_iter().map(Ok)).unwrap();
    let options = ExecutorOptions {
        registry: Arc::new(registry),
        heartbeat_interval: Duration::from_millis(100),
        probe,
        ..ExecutorOptions::default()
    };
    Executor::start(pools, options).await.unwrap()
}

/// Submits a trial.
pub async fn submit(
    executor: &Executor,
    name: &str,
    params: &Params,
    start: Start,
) -> SubmittedAny {
    let params = serde_json::to_value(params).unwrap();
    executor
        .submit_any(name, params, subject(), "trial", start)
        .await
        .unwrap()
}

/// How a saga ended for who submitted it; one that does not end fails the test.
pub async fn ended(submitted: &mut SubmittedAny) -> Outcome<Value> {
    let ended = tokio::time::timeout(SOON, submitted.outcome()).await;
    ended.unwrap_or_else(|_| panic!("saga {} does not end", submitted.id()))
}

/// Halts sagas when so many points have been passed since the halt before.
#[derive(Debug, Default)]
pub struct Halts {
    after: Mutex<Vec<usize>>,
    halted: AtomicBool,
}

impl Halts {
    /// The first halt comes first.
    pub fn new(after: &[usize]) -> Arc<Self> {
        let after = after.iter().rev().copied().collect();
        Arc::new(Self {
            after: Mutex::new(after),
            halted: AtomicBool::new(false),
        })
    }

    /// Whether there was a halt since the last was taken.
    pub fn has_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// Takes the halt that there was.
    pub fn take(&self) {
        self.halted.store(false, Ordering::Relaxed);
    }
}

impl Probe for Halts {
    fn at(&self, _: &Point) -> Verdict {
        let mut after = self.after.lock().unwrap();
        match after.last_mut() {
            None => Verdict::Continue,
            Some(0) => {
                after.pop();
                self.halted.store(true, Ordering::Relaxed);
                Verdict::Halt
            }
            Some(points) => {
                *points -= 1;
                Verdict::Continue
            }
        }
    }
}
