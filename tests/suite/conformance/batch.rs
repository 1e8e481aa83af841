//! Group A: what a batch is, and how it fails.

use db_model::batch::{Batch, BatchError, Step};
use db_model::constraint::Refusal;
use db_model::model::{FLEET_ID, ProjectLimits};
use db_model::pool::{PoolOptions, WritePool};
use db_model::query::project_quota::InstanceCharge;
use db_model::query::{Change, fleet_quota, project_quota};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use futures::{StreamExt, stream};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, GIB};

use super::{SOON, executor, quota, sql, waits_for_locks};

const TABLES: &str = "\
CREATE TABLE parent (id bigint CONSTRAINT parent_pkey PRIMARY KEY);
CREATE TABLE child (id bigint CONSTRAINT child_pkey PRIMARY KEY, parent_id bigint
    CONSTRAINT child_parent_id_fkey REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO parent VALUES (0)";

async fn with_tables() -> TestDatabase {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a20_a_batch_is_one_round_trip_on_a_cold_and_on_a_warm_connection() {
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    // The session is open and set up, and has seen no statement of a batch.
    drop(pools.writes.get().await.unwrap());
    for (ids, temperature) in [([1, 2, 3], "cold"), ([4, 5, 6], "warm")] {
        proxy.take_traffic();
        let insert = |label, id: i64| {
            let query = diesel::sql_query("INSERT INTO parent VALUES ($1)");
            Step::exactly_one(label, query.bind::<BigInt, _>(id))
        };
        let batch = Batch::new()
            .step(insert("first", ids[0]))
            .step(insert("second", ids[1]))
            .step(insert("third", ids[2]));
        batch.commit(&pools.writes).await.unwrap();
        let traffic = proxy.take_traffic();
        let trips: usize = traffic.iter().map(|t| t.round_trips()).sum();
        assert_eq!(trips, 1, "{temperature}: {traffic:?}");
        let parses = traffic.iter().any(|t| t.sent.contains('P'));
        assert_eq!(parses, temperature == "cold", "{traffic:?}");
    }
    assert_eq!(proxy.connections(), 1);
    assert_eq!(database.number("SELECT count(*) FROM parent").await, 7);
    database.assert_books_balance().await;
}

/// Three steps, of which the middle one is refused.
fn broken(first: i64, last: i64) -> Batch<((), (), ())> {
    let parent = |label, id: i64| sql(label, format!("INSERT INTO parent VALUES ({id})"));
    Batch::new()
        .step(parent("project", first))
        .step(parent("vpc", 0))
        .step(parent("router", last))
}

fn assert_names_the_middle(error: &BatchError) {
    assert!(matches!(error, BatchError::Unexpected { .. }), "{error:?}");
    let step = error.step().unwrap();
    assert_eq!((step.label, step.index), ("vpc", 1));
    assert_eq!(error.server().unwrap().sqlstate, "23505");
    assert_eq!(error.constraint(), Some("parent_pkey"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_a02_a03_a_failing_middle_step_leaves_nothing_on_cold_connections() {
    let database = with_tables().await;
    let options = PoolOptions {
        write_size: 1,
        read_size: 1,
        wait: SOON,
        audit: false,
    };
    let rounds = stream::iter(0..300).map(|round| {
        let pool = WritePool::new(database.options(), &options);
        async move {
            let error = broken(10 + 2 * round, 11 + 2 * round).commit(&pool).await;
            assert_names_the_middle(&error.unwrap_err());
            // The session is idle and stays in the pool.
            assert_eq!(pool.state().idle, 1);
        }
    });
    rounds.buffer_unordered(8).collect::<()>().await;
    assert_eq!(database.number("SELECT count(*) FROM parent").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_a_failing_middle_step_leaves_nothing_on_a_warm_connection() {
    let database = with_tables().await;
    let pools = database.pools();
    for round in 0..300 {
        let error = broken(10, 11).commit(&pools.writes).await.unwrap_err();
        assert_names_the_middle(&error);
        assert_eq!(pools.writes.state().slots, 1, "round {round}");
    }
    assert_eq!(database.number("SELECT count(*) FROM parent").await, 1);
    database.assert_books_balance().await;
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_outputs_have_their_types_and_the_order_of_the_steps() {
    let database = with_tables().await;
    let pools = database.pools();
    let ids = |label| {
        Step::<Vec<Id>>::rows(
            label,
            diesel::sql_query("SELECT id FROM parent ORDER BY id"),
        )
    };
    let add = diesel::sql_query("INSERT INTO parent SELECT generate_series(1, 3)");
    let batch = Batch::new()
        .step(ids("before"))
        .step(Step::count("add", add))
        .step(sql("nothing", "SELECT 1"))
        .step(ids("after"))
        .step(fleet_quota::view());
    let (before, added, (), after, fleet) = batch.commit(&pools.writes).await.unwrap();
    assert_eq!(before, [Id { id: 0 }]);
    assert_eq!(added, 3);
    assert_eq!(
        after.iter().map(|row| row.id).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!((fleet.len(), fleet[0].id), (1, FLEET_ID));
    let all = Batch::all(vec![ids("one"), ids("two")]);
    let all = all.commit(&pools.writes).await.unwrap();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a06_a_guard_refuses_on_the_server_with_its_label_and_fresh_numbers() {
    let database = with_tables().await;
    let executor = executor(&database).await;
    let limits = ProjectLimits {
        instances: 3,
        ..fixture::WIDE
    };
    let project = fixture::project(&executor, "web", limits).await;
    // A competitor that takes the last two units, and has not committed yet.
    let mut client = database.client().await;
    let competitor = client.transaction().await.unwrap();
    let take = "UPDATE project_quota SET instances_used = 3 WHERE project_id = $1";
    competitor.execute(take, &[&project.id]).await.unwrap();

    let pools = database.pools();
    let charge = InstanceCharge {
        vcpus: 1,
        memory_bytes: GIB,
    };
    let batch = Batch::new()
        .step(sql("before", "INSERT INTO parent VALUES (1)"))
        .step(project_quota::charge(Change::new(), project.id, charge))
        .step(sql("after", "INSERT INTO parent VALUES (2)"));
    let writes = pools.writes.clone();
    let refused = tokio::spawn(async move { batch.commit(&writes).await });
    waits_for_locks(&database, 1).await;
    competitor.commit().await.unwrap();

    let Err(BatchError::Refused { step, refusal, .. }) = refused.await.unwrap() else {
        panic!("not refused");
    };
    assert_eq!((step.label, step.index), ("project_quota.charge", 1));
    let expected = Refusal::QuotaExceeded {
        scope: "project".to_owned(),
        scope_id: project.id,
        resource: "instances".to_owned(),
        limit: 3,
        used: 3,
        requested: 1,
    };
    assert_eq!(refusal, expected);
    assert_eq!(database.number("SELECT count(*) FROM parent").await, 1);
    let give_back = "UPDATE project_quota SET instances_used = 0 WHERE project_id = $1";
    client.execute(give_back, &[&project.id]).await.unwrap();
    assert_eq!(quota(&pools.writes, project.id).await.vcpus_used, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_deferred_constraint_fails_the_commit_and_no_step() {
    let database = with_tables().await;
    let pools = database.pools();
    let batch = Batch::new()
        .step(sql("child", "INSERT INTO child VALUES (1, 99)"))
        .step(sql("parent", "INSERT INTO parent VALUES (1)"));
    let error = batch.commit(&pools.writes).await.unwrap_err();
    let BatchError::AtCommit { error: server, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.sqlstate, "23503");
    assert_eq!(error.constraint(), Some("child_parent_id_fkey"));
    assert_eq!(error.step(), None);
    assert_eq!(pools.writes.state().idle, 1);
    let rows = "SELECT (SELECT count(*) FROM child) + (SELECT count(*) FROM parent)";
    assert_eq!(database.number(rows).await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a08_a_statement_that_fails_after_some_rows_is_an_error() {
    let database = with_tables().await;
    let pools = database.pools();
    // The first row that makes it fail comes long after the server has sent others.
    let rows = "SELECT 100000 / (99999 - n) AS id FROM generate_series(1, 100000) AS n";
    let batch = Batch::new()
        .step(sql("before", "INSERT INTO parent VALUES (1)"))
        .step(Step::<Vec<Id>>::rows("rows", diesel::sql_query(rows)));
    let error = batch.commit(&pools.writes).await.unwrap_err();
    assert_eq!(error.server().unwrap().sqlstate, "22012");
    assert_eq!(error.step().unwrap().label, "rows");
    assert_eq!(database.number("SELECT count(*) FROM parent").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a12_an_empty_batch_sends_nothing_and_one_of_one_step_no_begin() {
    let database = with_tables().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    Batch::new().commit(&pools.writes).await.unwrap();
    let none: Vec<()> = Batch::all(Vec::new()).commit(&pools.writes).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(proxy.connections(), 0);

    drop(pools.writes.get().await.unwrap());
    proxy.take_traffic();
    let one = Batch::new().step(sql("one", "INSERT INTO parent VALUES (1)"));
    one.commit(&pools.writes).await.unwrap();
    let sent: String = proxy.take_traffic().into_iter().map(|t| t.sent).collect();
    let count = |tag| sent.matches(tag).count();
    assert_eq!(
        (count('B'), count('E'), count('S'), count('Q')),
        (1, 1, 1, 0)
    );
    database.assert_books_balance().await;
}
