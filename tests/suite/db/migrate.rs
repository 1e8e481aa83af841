//! Bringing a database to the schema: up and down, side by side, and where it is not possible.

use std::io::Write;
use std::sync::{Arc, Mutex};

use db_model::connect::{ConnectError, ConnectOptions};
use db_model::migrate::{self, MIGRATIONS, MigrateError};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::MigrationHarness;
use nexus_tests::TestDatabase;
use tracing_subscriber::util::SubscriberInitExt;

use super::catalog::{assert_same, dump};
use super::options;
use super::private::PrivateServer;

const PROJECTS: i64 = 7;

/// Does something with the migrations, through Diesel's own harness.
async fn with_harness<T: Send + 'static>(
    database: &TestDatabase,
    act: impl FnOnce(&mut AsyncMigrationHarness<AsyncPgConnection>) -> T + Send + 'static,
) -> T {
    let session = AsyncPgConnection::try_from(database.client().await)
        .await
        .unwrap();
    let act = move || act(&mut AsyncMigrationHarness::new(session));
    tokio::task::spawn_blocking(act).await.unwrap()
}

#[tokio::test]
async fn every_migration_goes_up_down_and_up_again() {
    let database = TestDatabase::empty().await;
    let mut before = vec![dump(&database).await];
    while with_harness(&database, |harness| {
        harness.has_pending_migration(MIGRATIONS).unwrap()
    })
    .await
    {
        with_harness(&database, |harness| {
            harness.run_next_migration(MIGRATIONS).map(drop).unwrap()
        })
        .await;
        before.push(dump(&database).await);
    }
    let migrated = before.pop().unwrap();
    assert_eq!(before.len(), 16, "each migration goes up by itself");
    for before in before.iter().rev() {
        with_harness(&database, |harness| {
            harness.revert_last_migration(MIGRATIONS).map(drop).unwrap()
        })
        .await;
        assert_same(&dump(&database).await, before);
    }
    migrate::run(&database.options(), PROJECTS).await.unwrap();
    assert_same(&dump(&database).await, &migrated);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_migrate_once() {
    let database = TestDatabase::empty().await;
    let runs = (0..6).map(|index| {
        let options = database.options();
        tokio::spawn(async move { migrate::run(&options, PROJECTS + index).await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    let count = "SELECT count(*) FROM __diesel_schema_migrations";
    assert_eq!(database.number(count).await, 16);
    let limit = database
        .number("SELECT projects_limit FROM fleet_quota")
        .await;
    assert!((PROJECTS..PROJECTS + 6).contains(&limit), "{limit}");
    // Again it does nothing, and leaves the limit that somebody may have changed.
    migrate::run(&database.options(), 99).await.unwrap();
    assert_eq!(
        database
            .number("SELECT projects_limit FROM fleet_quota")
            .await,
        limit
    );
    database.assert_books_balance().await;
}

#[tokio::test]
async fn the_schema_of_a_newer_version_is_refused_and_left_alone() {
    let database = TestDatabase::new().await;
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    database.client().await.batch_execute(newer).await.unwrap();
    let before = dump(&database).await;
    let error = migrate::run(&database.options(), PROJECTS)
        .await
        .unwrap_err();
    assert!(matches!(error, MigrateError::Newer { .. }));
    assert_eq!(
        error.to_string(),
        "the database has the schema of a newer version of nexus (migration 99990101000000, this version ends with \
         00000000000016): start that version, or use another database"
    );
    assert_same(&dump(&database).await, &before);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_migration_that_fails_is_named_and_leaves_those_before_it() {
    let database = TestDatabase::empty().await;
    let in_the_way = "CREATE FUNCTION guard_affected(touched bigint, wanted bigint, label text) RETURNS text \
                      LANGUAGE sql AS 'SELECT label'";
    let client = database.client().await;
    client.batch_execute(in_the_way).await.unwrap();
    let error = migrate::run(&database.options(), PROJECTS)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, MigrateError::Migration(_)));
    assert!(
        text.contains("00000000000008") && text.contains("return type"),
        "{text}"
    );
    let count = "SELECT count(*) FROM __diesel_schema_migrations";
    assert_eq!(database.number(count).await, 7);
    client
        .batch_execute("DROP FUNCTION guard_affected")
        .await
        .unwrap();
    migrate::run(&database.options(), PROJECTS).await.unwrap();
    assert_eq!(database.number(count).await, 16);
    database.assert_books_balance().await;
}

/// What a refusal for want of writes says.
fn assert_read_only(result: Result<(), MigrateError>) {
    let error = result.unwrap_err();
    assert!(
        matches!(error, MigrateError::Connect(ConnectError::ReadOnly)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "the database does not allow writes: it is a stand-by, or default_transaction_read_only is on"
    );
}

#[tokio::test]
async fn a_database_that_is_read_only_is_refused_in_one_line() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let set = format!(
        "ALTER DATABASE {} SET default_transaction_read_only",
        database.name()
    );
    client.batch_execute(&format!("{set} = on")).await.unwrap();
    assert_read_only(migrate::run(&database.options(), PROJECTS).await);
    let read_write = format!("SET default_transaction_read_only = off; {set} = off");
    client.batch_execute(&read_write).await.unwrap();
    database.assert_books_balance().await;
}

/// What is logged on this thread while a future runs.
async fn logged<T>(future: impl Future<Output = T>) -> (T, String) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let guard = subscriber.finish().set_default();
    let output = future.await;
    drop(guard);
    let bytes = lines.0.lock().unwrap().clone();
    (output, String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn settings_that_lose_commits_are_warned_about() {
    // The suites' own server runs without fsync.
    let database = TestDatabase::new().await;
    let set = format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        database.name()
    );
    database.client().await.batch_execute(&set).await.unwrap();
    let (result, log) = logged(migrate::run(&database.options(), PROJECTS)).await;
    result.unwrap();
    for setting in ["fsync=off", "synchronous_commit=off"] {
        let warning = log.lines().find(|line| line.contains(setting));
        assert!(
            warning.is_some_and(|line| line.contains("WARN")),
            "{setting}: {log}"
        );
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_durable_primary_is_taken_without_a_word_and_a_stand_by_refused() {
    let mut server = PrivateServer::start("", "fsync = on").await;
    let options: ConnectOptions = options(&server.url());
    let (result, log) = logged(migrate::run(&options, PROJECTS)).await;
    result.unwrap();
    assert!(!log.contains("WARN"), "{log}");
    server.stop();
    let signal = server.data().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    server.give(&signal);
    server.run().await;
    assert_eq!(server.sql("SELECT pg_is_in_recovery()").await, "t");
    assert_read_only(migrate::run(&options, PROJECTS).await);
}
