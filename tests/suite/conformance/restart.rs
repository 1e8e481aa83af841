//! Group J: a database that goes away under processes that live on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use db_model::connect::{self, ConnectOptions};
use db_model::embedded::{self, Embedded, EmbeddedOptions};
use db_model::pool::PoolOptions;
use db_model::{Database, books, migrate};
use nexus_tests::TestDatabase;
use nexus_tests::fixture;
use nexus_tests::proxy::Trouble;
use rustix::process::{Pid, Signal, kill_process};
use sagas::saga::InstanceCreate;
use sagas::{Executor, ExecutorOptions, Outcome, SubmitError};
use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{assert_keeps_its_lease, executor, instances, outcome, params};

/// A server of this test alone.
struct Private {
    server: Embedded,
    // After the server, whose drop it outlives.
    _folder: tempfile::TempDir,
}

impl Private {
    async fn new() -> Self {
        let mut folder = tempfile::Builder::new();
        folder
            .prefix("nexus-restart-")
            .permissions(Permissions::from_mode(0o755));
        let folder = folder.tempdir().unwrap();
        let options = EmbeddedOptions {
            data_dir: folder.path().join("nexus-data"),
            durable: false,
            max_connections: 100,
            bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
        };
        let server = embedded::start(options).await.unwrap();
        let private = Self {
            server,
            _folder: folder,
        };
        migrate::run(&private.options(), 100).await.unwrap();
        private
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.server.url()).unwrap()
    }

    async fn client(&self) -> Client {
        connect::client(&self.options()).await.unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client()
            .await
            .query_one(sql, &[])
            .await
            .unwrap()
            .get(0)
    }

    fn signal(&self, signal: Signal) {
        let file = self.server.cluster_dir().join("postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap();
        let pid = text.lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn pools(&self) -> Database {
        let pools = PoolOptions {
            write_size: 8,
            read_size: 2,
            wait: Duration::from_secs(10),
            audit: false,
        };
        Database::new(self.options(), &pools, Uuid::now_v7())
    }
}

/// Creates instances until it is told to stop. Gives how many; none may be lost to another process.
async fn load(
    executor: Executor,
    project_id: Uuid,
    who: usize,
    stop: watch::Receiver<bool>,
) -> i64 {
    let mut made = 0;
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let params = params(project_id, format!("i-{who}-{number}"));
        match executor
            .submit::<InstanceCreate>(params, "conformance")
            .await
        {
            Ok(mut submitted) => {
                let ended = outcome(&mut submitted).await;
                assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
                made += 1;
            }
            // Nothing was started.
            Err(SubmitError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j04_j14_a_restart_of_the_database_makes_nobody_take_over_a_live_ones_sagas() {
    let private = Private::new().await;
    let mut executors = Vec::new();
    for _ in 0..4 {
        let started = Executor::start(private.pools(), ExecutorOptions::default()).await;
        executors.push(started.unwrap());
    }
    let project = fixture::project(&executors[0], "web", instances(1_000_000)).await;
    let (stop, stopped) = watch::channel(false);
    let loads: Vec<_> = executors
        .iter()
        .enumerate()
        .map(|(who, executor)| {
            tokio::spawn(load(executor.clone(), project.id, who, stopped.clone()))
        })
        .collect();
    let count = "SELECT count(*) FROM instance WHERE state = 'stopped'";
    for signal in [Signal::KILL, Signal::QUIT] {
        let before = private.number(count).await;
        nexus_tests::eventually("there is some load", async || {
            private.number(count).await >= before + 20
        })
        .await;
        private.signal(signal);
        private.server.revive().await.unwrap();
        // Past the grace after the start and past the shortest lease: whoever was to be taken for dead
        // by now has been.
        let beaten = "SELECT count(*) FROM executor \
                      WHERE time_heartbeat > pg_postmaster_start_time() + interval '5 s'";
        let ended = "SELECT count(*) FROM executor WHERE time_ended IS NOT NULL";
        nexus_tests::eventually("every executor lives on", async || {
            assert_eq!(
                private.number(ended).await,
                0,
                "a live one was declared dead"
            );
            private.number(beaten).await == 4
        })
        .await;
    }
    stop.send_replace(true);
    let mut made = 0;
    for load in loads {
        made += load.await.unwrap();
    }
    for executor in &executors {
        assert_keeps_its_lease(executor);
        assert_eq!(executor.drain(super::SOON).await, 0);
    }
    assert_eq!(
        private
            .number("SELECT count(*) FROM saga WHERE generation > 1")
            .await,
        0
    );
    assert_eq!(
        private
            .number("SELECT count(*) FROM saga WHERE state <> 'succeeded'")
            .await,
        0
    );
    assert_eq!(private.number(count).await, made);
    let report = books::check(&private.pools().writes).await.unwrap();
    assert!(report.balanced(), "{report:#?}");
    private.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j14_a_live_process_on_a_slow_network_outlives_the_loss_of_its_heartbeat_session() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    proxy.delay(Duration::from_millis(25));
    let slow = Executor::start(database.pools_through(&proxy), ExecutorOptions::default())
        .await
        .unwrap();
    let other = executor(&database).await;
    let client = database.client().await;
    let beat = async || -> (chrono::DateTime<chrono::Utc>, i32) {
        let select = "SELECT time_heartbeat, backend_pid FROM executor WHERE id = $1";
        let row = client.query_one(select, &[&slow.id()]).await.unwrap();
        (row.get(0), row.get(1))
    };
    for _ in 0..4 {
        // The worst instant: the next heartbeat is a whole pause away.
        let (last, _) = beat().await;
        database
            .eventually("a heartbeat", async || beat().await.0 > last)
            .await;
        let (last, session) = beat().await;
        let end = "SELECT pg_terminate_backend($1)";
        client.execute(end, &[&session]).await.unwrap();
        database
            .eventually("a heartbeat over another session", async || {
                let ended = "SELECT count(*) FROM executor WHERE time_ended IS NOT NULL";
                assert_eq!(
                    database.number(ended).await,
                    0,
                    "a live one was declared dead"
                );
                beat().await.0 > last
            })
            .await;
    }
    assert_keeps_its_lease(&slow);
    assert_keeps_its_lease(&other);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j14_a_live_process_outlives_a_heartbeat_that_is_never_answered() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let options = ExecutorOptions {
        heartbeat_interval: Duration::from_millis(500),
        lease: Duration::from_secs(4),
        ..ExecutorOptions::default()
    };
    let cut_off = Executor::start(database.pools_through(&proxy), options.clone())
        .await
        .unwrap();
    let other = Executor::start(database.pools(), options).await.unwrap();
    // The session stands, and nothing comes of it any more, as behind a cable that was pulled.
    proxy.on(Trouble::FreezeAfter(0).to("UPDATE executor e SET time_heartbeat"));
    proxy.frozen().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let ended = "SELECT count(*) FROM executor WHERE time_ended IS NOT NULL";
    assert_eq!(database.number(ended).await, 0, "it was declared dead");
    assert_keeps_its_lease(&cut_off);
    assert_keeps_its_lease(&other);
    proxy.thaw();
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j14_a_process_ends_in_time_though_the_database_says_nothing() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let ending = Executor::start(pools, ExecutorOptions::default())
        .await
        .unwrap();
    proxy.on(Trouble::FreezeAfter(2).to("UPDATE executor SET time_ended"));
    let drained = tokio::time::timeout(Duration::from_secs(5), ending.drain(Duration::ZERO));
    assert_eq!(drained.await.expect("it waits for the database"), 0);
    assert_eq!(proxy.troubles(), 1, "no trouble was met");
    proxy.thaw();
    database.assert_books_balance().await;
}
