//! Group A: batches of parts, the names of steps, and texts that no batch may send.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use db_model::batch::{Batch, BatchError, Isolation, Step};
use db_model::constraint::Refusal;
use db_model::types::ResourceKind;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use futures::FutureExt;
use nexus_tests::TestDatabase;
use rand::RngExt;
use uuid::Uuid;

use super::{chance, sql};

const TABLES: &str = "\
CREATE TABLE project_item (id bigint CONSTRAINT project_item_pkey PRIMARY KEY);
CREATE TABLE network_item (id bigint CONSTRAINT network_item_pkey PRIMARY KEY)";

async fn with_tables() -> TestDatabase {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database
}

async fn items(database: &TestDatabase) -> i64 {
    let count = "SELECT (SELECT count(*) FROM project_item) + (SELECT count(*) FROM network_item)";
    database.number(count).await
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn not_found(kind: ResourceKind) -> Option<Refusal> {
    let id = Uuid::nil();
    Some(Refusal::NotFound { kind, id })
}

/// What one function gives: two steps, whose refusals are read by its own table.
fn project(id: i64) -> Batch<((), Vec<Id>)> {
    let insert = sql("vpc", format!("INSERT INTO project_item VALUES ({id})"));
    let all = diesel::sql_query("SELECT id FROM project_item ORDER BY id");
    Batch::new()
        .step(insert.refused_by(|_, _| not_found(ResourceKind::Project)))
        .step(Step::rows("all", all))
}

/// What another gives, with labels and a constraint's table of its own.
fn network(id: i64) -> Batch<(u64,)> {
    let insert = diesel::sql_query("INSERT INTO network_item VALUES ($1)").bind::<BigInt, _>(id);
    Batch::new()
        .step(Step::count("vpc", insert).refused_by(|_, _| not_found(ResourceKind::Instance)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_parts_are_one_transaction_and_one_flight_and_each_keeps_its_names_and_refusals() {
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    drop(pools.writes.get().await.unwrap());
    let whole = |project_id, network_id| {
        Batch::new()
            .step(sql("first", "SELECT 1"))
            .part("project", project(project_id))
            .part("network", Batch::new().part("inner", network(network_id)))
    };
    proxy.take_traffic();
    let outputs = whole(1, 1).commit(&pools.writes).await.unwrap();
    let traffic = proxy.take_traffic();
    let trips: usize = traffic.iter().map(|traffic| traffic.round_trips()).sum();
    assert_eq!(trips, 1, "{traffic:?}");
    let ((), ((), projects), ((networks,),)) = outputs;
    assert_eq!((projects, networks), (vec![Id { id: 1 }], 1));

    let shown = format!("{:?}", whole(1, 1));
    let labels = r#"["first", "project/vpc", "project/all", "network/inner/vpc"]"#;
    assert_eq!(shown, labels);
    for (batch, label, index, kind) in [
        (whole(1, 2), "project/vpc", 1, ResourceKind::Project),
        (whole(2, 1), "network/inner/vpc", 3, ResourceKind::Instance),
    ] {
        let error = batch.commit(&pools.writes).await.unwrap_err();
        let BatchError::Refused { step, refusal, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!((step.label, step.index), (label, index));
        assert_eq!(Some(refusal), not_found(kind));
        assert_eq!(items(&database).await, 2, "half of it has stayed");
    }
    database.assert_books_balance().await;
}

#[derive(Debug, QueryableByName)]
struct Setting {
    #[diesel(sql_type = diesel::sql_types::Text)]
    value: String,
}

/// Shows a setting as the transaction has it.
fn setting(name: &str) -> Batch<(Vec<Setting>,)> {
    let show = format!("SELECT current_setting('{name}') AS value");
    Batch::new().step(Step::rows("setting", diesel::sql_query(show)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_a_part_has_the_isolation_and_time_outs_that_it_asks_for_or_is_refused() {
    const LONG: Duration = Duration::from_secs(7);
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let serializable = || setting("transaction_isolation").isolation(Isolation::Serializable);
    let lock = || setting("lock_timeout").lock_timeout(LONG);
    let statement = || setting("statement_timeout").statement_timeout(LONG);
    let whole = Batch::new;
    for (batch, part, asked) in [
        (
            whole().part("a", serializable()).discard(),
            "a",
            "an isolation level",
        ),
        (
            whole()
                .isolation(Isolation::RepeatableRead)
                .part("a", serializable())
                .discard(),
            "a",
            "an isolation level",
        ),
        (
            whole()
                .part(
                    "a",
                    whole().isolation(Isolation::Serializable).part("b", lock()),
                )
                .isolation(Isolation::Serializable)
                .discard(),
            "a/b",
            "a lock time-out",
        ),
        (
            whole()
                .part("a", statement())
                .statement_timeout(2 * LONG)
                .discard(),
            "a",
            "a statement time-out",
        ),
        (
            whole().part("a", lock()).map(drop).after(Vec::new()),
            "a",
            "a lock time-out",
        ),
    ] {
        let error = batch.commit(&pools.writes).await.unwrap_err();
        let BatchError::Invalid(message) = &error else {
            panic!("{error:?}");
        };
        let begin = format!("part {part} asks for {asked} ");
        assert!(message.starts_with(&begin), "{message}");
    }
    assert_eq!(proxy.connections(), 0, "something went on the wire");

    // Said before the part or behind it, and what the part does not ask for is the whole's.
    let batch = whole()
        .isolation(Isolation::Serializable)
        .part("a", serializable())
        .part("b", lock())
        .part("c", setting("statement_timeout"))
        .lock_timeout(LONG)
        .statement_timeout(LONG);
    let ((isolation,), (lock,), (statement,)) = batch.commit(&pools.writes).await.unwrap();
    assert_eq!(isolation[0].value, "serializable");
    assert_eq!(lock[0].value, "7s");
    assert_eq!(statement[0].value, "7s");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_steps_that_an_error_could_not_tell_apart_are_refused_before_anything_is_sent() {
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let one = || sql("one", "SELECT 1");
    let many = || Batch::all(vec![one(), one()]);
    for batch in [
        Batch::new().step(one()).step(one()).discard(),
        Batch::new()
            .part("a", network(1))
            .part("a", network(2))
            .discard(),
        Batch::new()
            .part("a", many())
            .part("a", network(1))
            .step(sql("a/one", "SELECT 1"))
            .discard(),
        Batch::new().step(one()).discard().after(vec![one()]),
    ] {
        let shown = format!("{batch:?}");
        let error = batch.commit(&pools.writes).await.unwrap_err();
        let BatchError::Invalid(message) = &error else {
            panic!("{shown}: {error:?}");
        };
        assert!(message.contains("the same label"), "{message}");
    }
    assert_eq!(proxy.connections(), 0, "something went on the wire");

    // Many of one kind are told apart by their index, and so are those that a saga puts first.
    let first = vec![sql("event", "SELECT 1"), sql("event", "SELECT 1")];
    let failing = [1, 1].map(|id| sql("item", format!("INSERT INTO project_item VALUES ({id})")));
    let batch = Batch::all(failing.into()).discard().after(first);
    let error = batch.commit(&pools.writes).await.unwrap_err();
    let step = error.step().unwrap();
    assert_eq!((step.label, step.index), ("item", 3));
    let parts = Batch::new()
        .part("a", many())
        .part("b", many())
        .part("c", network(1));
    parts.commit(&pools.writes).await.unwrap();
    assert_eq!(items(&database).await, 1);
    database.assert_books_balance().await;
}

/// Two rows or none, with some time in between.
fn pair(round: i64) -> Batch<()> {
    let insert = |label, id| sql(label, format!("INSERT INTO project_item VALUES ({id})"));
    Batch::new()
        .step(insert("first", 2 * round))
        .step(sql("while", "SELECT pg_sleep(0.001)"))
        .step(insert("second", 2 * round + 1))
        .discard()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a16_a_panic_beside_a_batch_leaves_it_whole_and_every_session_in_its_pool() {
    const ROUNDS: i64 = 100;
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let mut chance = chance();
    let writes = Arc::new(pools.writes.clone());
    for round in 0..ROUNDS {
        // While it is awaited, from before the first byte to after the last.
        let (writes, pause) = (Arc::clone(&writes), chance.random_range(0..6_000));
        let caller = tokio::spawn(async move {
            let beside = async {
                tokio::time::sleep(Duration::from_micros(pause)).await;
                boom();
            };
            let (result, ()) = tokio::join!(pair(round).commit(&writes), beside);
            result
        });
        assert!(caller.await.unwrap_err().is_panic());
    }
    // While it is built, and while its answer is read, when it has committed.
    let building = async {
        let batch = pair(ROUNDS);
        boom();
        batch.commit(&pools.writes).await
    };
    assert!(AssertUnwindSafe(building).catch_unwind().await.is_err());
    let reading = pair(ROUNDS + 1).map(|()| boom());
    let reading = reading.commit(&pools.writes);
    assert!(AssertUnwindSafe(reading).catch_unwind().await.is_err());

    database.assert_database_quiet(&[&pools]).await;
    assert!(proxy.connections() <= 8, "sessions were lost over it");
    let halves = "SELECT count(*) FROM \
                  (SELECT 1 FROM project_item GROUP BY id / 2 HAVING count(*) <> 2) AS h";
    assert_eq!(database.number(halves).await, 0);
    let of = |round: i64| format!("SELECT count(*) FROM project_item WHERE id / 2 = {round}");
    assert_eq!(database.number(&of(ROUNDS)).await, 0);
    assert_eq!(database.number(&of(ROUNDS + 1)).await, 2);
    database.assert_books_balance().await;
}

/// Panics without a word, as far as the compiler knows only perhaps.
fn boom() {
    if std::hint::black_box(true) {
        resume_unwind(Box::new("beside the batch"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a17_a_text_that_ends_the_transaction_or_changes_the_session_is_never_sent() {
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    for text in [
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "; COMMIT",
        "/* a */ end -- b",
        "ROLLBACK",
        "ABORT",
        "SAVEPOINT a",
        "RELEASE a",
        "PREPARE a AS SELECT 1",
        "EXECUTE a",
        "DEALLOCATE a",
        "SET lock_timeout = 1",
        "SET SESSION lock_timeout = 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "RESET lock_timeout",
        "LISTEN a",
        "UNLISTEN a",
        "DISCARD ALL",
        "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
        "COPY project_item FROM STDIN",
        "VACUUM",
        "DO 'BEGIN COMMIT; END'",
        "CALL a()",
        "CREATE TEMP TABLE a ()",
        "SELECT 1 INTO TEMP a",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SELECT set_config('lock_timeout', '1', false)",
        "CREATE INDEX CONCURRENTLY a ON project_item (id)",
        "DROP INDEX CONCURRENTLY project_item_pkey",
        "REINDEX TABLE CONCURRENTLY project_item",
        "CREATE DATABASE a",
        "DROP DATABASE a",
        "ALTER SYSTEM SET log_min_duration_statement = '1h'",
        "CLUSTER",
        "CHECKPOINT",
        "CREATE TABLE a ()",
        "TRUNCATE project_item",
    ] {
        let batch = Batch::new()
            .step(sql("before", "INSERT INTO project_item VALUES (1)"))
            .step(sql("text", text));
        let error = batch.commit(&pools.writes).await.unwrap_err();
        let BatchError::Invalid(message) = &error else {
            panic!("{text}: {error:?}");
        };
        assert!(message.starts_with("text (step 1): "), "{message}");
    }
    assert_eq!(proxy.connections(), 0, "something went on the wire");

    // What ends with the transaction is nobody else's business.
    let holds = |value| format!("SELECT 1 / (current_setting('lock_timeout') = '{value}')::int");
    let batch = Batch::new()
        .step(sql("setting", "SET LOCAL lock_timeout = 1"))
        .step(sql("holds", holds("1ms")))
        .step(sql(
            "function",
            "SELECT set_config('lock_timeout', '2', true)",
        ))
        .step(sql("again", holds("2ms")))
        .step(sql("lock", "SELECT pg_advisory_xact_lock(1)"))
        .step(sql("notify", "SELECT pg_notify('a', 'COMMIT')"))
        .step(sql("also", "NOTIFY a, 'ROLLBACK'"))
        .step(sql("constraints", "SET CONSTRAINTS ALL IMMEDIATE"));
    batch.commit(&pools.writes).await.unwrap();
    let after = Batch::new().step(sql("after", holds("5s")));
    after.commit(&pools.writes).await.unwrap();
    assert_eq!(proxy.connections(), 1, "a session was given up");
    assert_eq!(items(&database).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a17_a_statement_that_commits_by_itself_leaves_no_half_of_a_batch() {
    let database = with_tables().await;
    let pools = database.pools();
    for text in [
        "CREATE INDEX CONCURRENTLY project_item_other_idx ON project_item (id)",
        "ALTER SYSTEM SET log_min_duration_statement = '1h'",
    ] {
        // As the first of a pipeline the server would run it, and commit it.
        let batch = Batch::new()
            .step(sql("first", text))
            .step(sql("second", "SELECT 1 / 0"));
        let error = batch.commit(&pools.writes).await.unwrap_err();
        assert!(matches!(error, BatchError::Invalid(_)), "{error:?}");
    }
    let index = "SELECT count(*) FROM pg_class WHERE relname = 'project_item_other_idx'";
    assert_eq!(database.number(index).await, 0, "the first step is there");
    database.assert_books_balance().await;
}
