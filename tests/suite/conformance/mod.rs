//! What the transaction layer and the sagas on it must show, case by case. A test is named after its
//! cases: a letter for the group and two digits.

mod batch;
mod compile;
mod compose;
mod connection_lost;
mod contention;
mod cut;
mod durable;
mod insert;
mod keyed;
mod late;
mod parallel;
mod purge;
mod quota;
mod recovery;
mod restart;
mod retry;
mod session;
mod silent;
mod takeover;
mod transaction;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use db_model::Database;
use db_model::batch::{Batch, Step};
use db_model::constraint::Refusal;
use db_model::model::{Instance, ProjectLimits, ProjectQuota};
use db_model::pool::WritePool;
use db_model::query::project_quota;
use db_model::types::Name;
use futures::FutureExt;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::GIB;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sagas::probe::{Commit, Point, Probe, Side, Verdict};
use sagas::saga::{InstanceCreate, InstanceDelete, instance_create, instance_delete};
use sagas::{Cause, Executor, ExecutorOptions, Failure, Outcome, Saga, Submitted};
use tokio::sync::watch;
use uuid::Uuid;

/// Longer than anything here takes that ends at all.
const SOON: Duration = Duration::from_secs(20);

/// A step of plain SQL.
fn sql(label: &'static str, text: impl Into<String>) -> Step<()> {
    Step::statement(label, diesel::sql_query(text.into()))
}

/// A process that runs sagas on the database.
async fn executor(database: &TestDatabase) -> Executor {
    Executor::start(database.pools(), ExecutorOptions::default())
        .await
        .unwrap()
}

/// The same, watched by a probe.
async fn probed(pools: Database, probe: Arc<dyn Probe>) -> Executor {
    let options = ExecutorOptions {
        probe,
        ..ExecutorOptions::default()
    };
    Executor::start(pools, options).await.unwrap()
}

/// Beats and takes over in the pace of a test.
fn quick() -> ExecutorOptions {
    ExecutorOptions {
        heartbeat_interval: Duration::from_millis(100),
        lease: Duration::from_millis(1_000),
        ..ExecutorOptions::default()
    }
}

/// So many instances, and of the rest as much as anybody wants.
fn instances(instances: i64) -> ProjectLimits {
    ProjectLimits {
        instances,
        ..nexus_tests::fixture::WIDE
    }
}

/// An instance of 1 virtual CPU and 1 GiB.
fn params(project_id: Uuid, name: impl Into<String>) -> instance_create::Params {
    let name = Name::new(name).unwrap();
    instance_create::Params::new(project_id, name, String::new(), 1, GIB)
}

/// How a saga ended; a saga that does not end fails the test.
async fn outcome<S: Saga>(submitted: &mut Submitted<S>) -> Outcome<S::Output> {
    let ended = tokio::time::timeout(SOON, submitted.outcome()).await;
    ended.unwrap_or_else(|_| panic!("saga {} does not end", submitted.id()))
}

async fn begin_create(
    executor: &Executor,
    params: instance_create::Params,
) -> Submitted<InstanceCreate> {
    executor.submit(params, "conformance").await.unwrap()
}

async fn create(
    executor: &Executor,
    params: instance_create::Params,
) -> Outcome<instance_create::Output> {
    let mut submitted = begin_create(executor, params).await;
    outcome(&mut submitted).await
}

async fn delete(executor: &Executor, instance: &Instance) -> Outcome<instance_delete::Output> {
    let params = instance_delete::Params::new(instance, None);
    let mut submitted: Submitted<InstanceDelete> =
        executor.submit(params, "conformance").await.unwrap();
    outcome(&mut submitted).await
}

fn created(outcome: Outcome<instance_create::Output>) -> Instance {
    match outcome {
        Outcome::Succeeded(instance_create::Output::V1(instance)) => instance,
        other => panic!("not created: {other:?}"),
    }
}

fn failure<T: Debug>(outcome: Outcome<T>) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("did not fail: {other:?}"),
    }
}

/// The domain's reason for which a saga failed.
fn refusal<T: Debug>(outcome: Outcome<T>) -> Refusal {
    match failure(outcome).cause {
        Cause::Refused(refusal) => refusal,
        other => panic!("failed for no reason of the domain: {other:?}"),
    }
}

fn is_quota_exceeded(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::QuotaExceeded { .. })
}

async fn quota(writes: &WritePool, project_id: Uuid) -> ProjectQuota {
    let view = Batch::new().step(project_quota::view(project_id));
    let (mut rows,) = view.commit(writes).await.unwrap();
    rows.pop().unwrap()
}

async fn set_instances_limit(writes: &WritePool, project_id: Uuid, limit: i64) {
    let limits = project_quota::LimitsUpdate {
        instances: Some(limit),
        ..project_quota::LimitsUpdate::default()
    };
    let change = db_model::query::Change::new();
    let update = project_quota::update(change, project_id, limits, None);
    update.commit(writes).await.unwrap();
}

/// How a saga stands: its state, its generation, and whether it has ended.
async fn saga_row(database: &TestDatabase, id: Uuid) -> (String, i64, bool) {
    let select = "SELECT state, generation, time_finished IS NOT NULL FROM saga WHERE id = $1";
    let row = database
        .client()
        .await
        .query_one(select, &[&id])
        .await
        .unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn ends(database: &TestDatabase, id: Uuid) {
    database
        .eventually("the saga ends", async || saga_row(database, id).await.2)
        .await;
}

/// Nobody has declared it dead. Unlike its readiness this does not depend on how busy the machine is.
fn assert_keeps_its_lease(executor: &Executor) {
    assert_eq!(executor.lost().now_or_never(), None, "the lease is lost");
}

/// Waits until so many sessions of the database wait for a lock.
async fn waits_for_locks(database: &TestDatabase, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    database
        .eventually("sessions wait for a lock", async || {
            database.number(waiting).await >= sessions
        })
        .await;
}

/// Numbers of chance whose seed the test prints; set `NEXUS_TEST_SEED` to have them again.
fn chance() -> StdRng {
    let given = std::env::var("NEXUS_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("NEXUS_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Holds the first saga that comes to a point, until it is opened.
#[derive(Debug)]
struct Gate {
    commit: Commit,
    what: &'static str,
    side: Side,
    taken: AtomicBool,
    passed: Mutex<Vec<String>>,
    reached: watch::Sender<bool>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn new(commit: Commit, what: &'static str, side: Side) -> Arc<Self> {
        Arc::new(Self {
            commit,
            what,
            side,
            taken: AtomicBool::new(false),
            passed: Mutex::default(),
            reached: watch::Sender::new(false),
            open: Mutex::new(false),
            opened: Condvar::new(),
        })
    }

    /// Waits until a saga stands before it.
    async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        let wait = tokio::time::timeout(SOON, reached.wait_for(|reached| *reached));
        wait.await.unwrap().unwrap();
    }

    /// What every saga has passed, in order.
    fn passed(&self) -> Vec<String> {
        self.passed.lock().unwrap().clone()
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Probe for Gate {
    fn at(&self, point: &Point) -> Verdict {
        self.passed.lock().unwrap().push(point.what.clone());
        let here =
            (point.commit, point.side) == (self.commit, self.side) && point.what == self.what;
        if here && !self.taken.swap(true, Ordering::Relaxed) {
            self.reached.send_replace(true);
            // Others of the runtime go on meanwhile.
            tokio::task::block_in_place(|| {
                let open = self.open.lock().unwrap();
                // Not for ever: a test that fails before it opens must end as well.
                let wait = self.opened.wait_timeout_while(open, SOON, |open| !*open);
                drop(wait.unwrap());
            });
        }
        Verdict::Continue
    }
}
