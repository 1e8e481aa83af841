//! Group G: inserts that compete for one key.

use std::time::{Duration, Instant};

use db_model::batch::{Batch, BatchError, Busy, Isolation, Step};
use db_model::model::Project;
use db_model::query::project;
use db_model::types::ProjectState;
use db_model::types::limits::LOCK_TIMEOUT;
use diesel::prelude::*;
use diesel::upsert::excluded;
use futures::future::join_all;
use nexus_tests::{Answer, TestDatabase, TestService};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{SOON, sql, waits_for_locks};

diesel::table! {
    thing (id) {
        id -> Uuid,
        key -> Text,
    }
}

async fn with_things() -> TestDatabase {
    let database = TestDatabase::new().await;
    let table = "CREATE TABLE thing (id uuid CONSTRAINT thing_pkey PRIMARY KEY, \
                 key text CONSTRAINT thing_key_key UNIQUE); CREATE SEQUENCE attempt";
    database.client().await.batch_execute(table).await.unwrap();
    database
}

fn get_or_create(id: Uuid, key: &str) -> Step<Uuid> {
    let insert = diesel::insert_into(thing::table)
        .values((thing::id.eq(id), thing::key.eq(key.to_owned())))
        .on_conflict(thing::key)
        .do_update()
        .set(thing::key.eq(excluded(thing::key)))
        .returning(thing::id);
    Step::get_or_create("thing.get_or_create", insert)
}

/// So many tasks that want the row of one key, each with an id of its own.
async fn race(database: &TestDatabase, tasks: usize, key: &'static str) -> Vec<Uuid> {
    let writes = database.pools().writes;
    let one = |_| {
        let writes = writes.clone();
        tokio::spawn(async move {
            let batch = Batch::new().step(get_or_create(Uuid::now_v7(), key));
            batch.commit(&writes).await.unwrap().0
        })
    };
    let ids = join_all((0..tasks).map(one)).await;
    ids.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g02_get_or_create_gives_all_racers_the_same_row() {
    let database = with_things().await;
    for key in ["one", "two", "three"] {
        let ids = race(&database, 16, key).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM thing").await, 3);

    // They wait for one who commits, and for one who does not.
    for (key, end) in [("four", "COMMIT"), ("five", "ROLLBACK")] {
        let holder = database.client().await;
        let first = Uuid::now_v7();
        let insert = format!("BEGIN; INSERT INTO thing VALUES ('{first}', '{key}')");
        holder.batch_execute(&insert).await.unwrap();
        let (ids, ()) = tokio::join!(race(&database, 6, key), async {
            waits_for_locks(&database, 6).await;
            holder.batch_execute(end).await.unwrap();
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(ids[0] == first, end == "COMMIT");
    }
    assert_eq!(database.number("SELECT count(*) FROM thing").await, 5);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_the_form_without_an_update_gives_no_row_under_contention_and_is_refused() {
    const DO_NOTHING: &str = "WITH made AS (INSERT INTO thing VALUES ($1, 'one') \
        ON CONFLICT (key) DO NOTHING RETURNING id) \
        SELECT id FROM made UNION ALL SELECT id FROM thing WHERE key = 'one'";
    let database = with_things().await;
    let (holder, other) = (database.client().await, database.client().await);
    let first = Uuid::now_v7();
    let insert = format!("BEGIN; INSERT INTO thing VALUES ('{first}', 'one')");
    holder.batch_execute(&insert).await.unwrap();
    let second = Uuid::now_v7();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&second];
    let writes = database.pools().writes;
    let ours = Batch::new().step(get_or_create(Uuid::now_v7(), "one"));
    let (theirs, ours, ()) = tokio::join!(
        other.query(DO_NOTHING, &parameters),
        ours.commit(&writes),
        async {
            waits_for_locks(&database, 2).await;
            holder.batch_execute("COMMIT").await.unwrap();
        }
    );
    assert_eq!(theirs.unwrap().len(), 0, "the form gives a row after all");
    assert_eq!(ours.unwrap().0, first);

    let do_nothing = diesel::insert_into(thing::table)
        .values((thing::id.eq(second), thing::key.eq("two")))
        .on_conflict(thing::key)
        .do_nothing()
        .returning(thing::id);
    let step = Step::<Uuid>::get_or_create("thing.do_nothing", do_nothing);
    let error = Batch::new().step(step).commit(&writes).await.unwrap_err();
    assert!(matches!(error, BatchError::Invalid(_)), "{error:?}");
    assert!(error.to_string().contains("DO UPDATE"), "{error}");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g07_at_a_stricter_level_a_racer_conflicts_and_is_run_again() {
    let database = with_things().await;
    let writes = database.pools().writes;
    for (key, level) in [
        ("repeatable", Isolation::RepeatableRead),
        ("serializable", Isolation::Serializable),
    ] {
        let holder = database.client().await;
        let first = Uuid::now_v7();
        let insert = format!("BEGIN; INSERT INTO thing VALUES ('{first}', '{key}')");
        holder.batch_execute(&insert).await.unwrap();
        let before = attempts(&database).await;
        let batch = Batch::new()
            .step(sql("count", "SELECT nextval('attempt')"))
            .step(get_or_create(Uuid::now_v7(), key))
            .isolation(level);
        let (made, ()) = tokio::join!(batch.commit(&writes), async {
            waits_for_locks(&database, 1).await;
            holder.batch_execute("COMMIT").await.unwrap();
        });
        assert_eq!(made.unwrap().1, first, "{level:?}");
        assert_eq!(attempts(&database).await - before, 2, "{level:?}");
    }
    database.assert_books_balance().await;
}

/// How often the sequence was asked.
async fn attempts(database: &TestDatabase) -> i64 {
    let asked = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM attempt";
    database.number(asked).await
}

async fn create(service: &TestService, name: &str) -> Answer {
    let body = json!({ "name": name });
    service.post("/v1/projects", &body).await
}

async fn instance(service: &TestService, name: &str) -> Answer {
    let body = json!({ "name": name, "vcpus": 1, "memory_bytes": 1 << 20 });
    service.post("/v1/projects/web/instances", &body).await
}

/// Of two answers, one made it and the other names who did.
#[track_caller]
fn assert_one_made_it(answers: [&Answer; 2]) {
    let [made, refused] = match answers.map(|answer| answer.status.as_u16()) {
        [201, 409] => answers,
        [409, 201] => [answers[1], answers[0]],
        _ => panic!("{answers:?}"),
    };
    assert_eq!(refused.body["error_code"], "name_taken");
    assert_eq!(refused.body["existing_id"], made.body["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_g09_g10_of_two_creates_one_has_the_name_and_is_charged_also_after_a_delete() {
    let service = TestService::start().await;
    let used = "SELECT projects_used FROM fleet_quota";
    let (one, other) = tokio::join!(create(&service, "web"), create(&service, "web"));
    assert_one_made_it([&one, &other]);
    assert_eq!(service.database.number(used).await, 1);
    let used = "SELECT instances_used FROM project_quota";
    for _ in 0..5 {
        let (one, other) = tokio::join!(instance(&service, "one"), instance(&service, "one"));
        assert_one_made_it([&one, &other]);
        assert_eq!(service.database.number(used).await, 1);
        let deleted = service.delete("/v1/projects/web/instances/one").await;
        assert_eq!(deleted.status, 204);
        assert_eq!(service.database.number(used).await, 0);
    }
    let deleted = "SELECT count(*) FROM instance WHERE time_deleted IS NOT NULL";
    assert_eq!(service.database.number(deleted).await, 5);
    service.end().await;
}

/// A project's row that a session holds and has not committed.
fn uncommitted(id: Uuid, name: &str) -> String {
    format!(
        "BEGIN; INSERT INTO project VALUES ('{id}', '{name}', '', 'active', 1, '{id}', now(), now())"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g04_g05_a_create_waits_for_its_own_name_only_and_succeeds_when_the_first_rolls_back() {
    let service = TestService::start().await;
    let holder = service.database.client().await;
    for (name, end) in [("kept", "COMMIT"), ("left", "ROLLBACK")] {
        let first = Uuid::now_v7();
        holder
            .batch_execute(&uncommitted(first, name))
            .await
            .unwrap();
        let (waiter, ()) = tokio::join!(create(&service, name), async {
            waits_for_locks(&service.database, 1).await;
            holder.batch_execute(end).await.unwrap();
        });
        if end == "COMMIT" {
            assert_eq!(waiter.status, 409, "{waiter:?}");
            assert_eq!(waiter.body["existing_id"], first.to_string());
        } else {
            assert_eq!(waiter.status, 201, "{waiter:?}");
        }
    }
    let other = "BEGIN; INSERT INTO project VALUES (gen_random_uuid(), 'held', '', 'active', 1, \
                 gen_random_uuid(), now(), now())";
    holder.batch_execute(other).await.unwrap();
    let free = tokio::time::timeout(SOON, create(&service, "free")).await;
    assert_eq!(free.unwrap().status, 201);
    holder
        .batch_execute("ROLLBACK; DELETE FROM project WHERE name = 'kept'")
        .await
        .unwrap();
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g06_an_insert_that_is_blocked_waits_for_as_long_as_its_lock_time_out() {
    let service = TestService::start().await;
    let database = &service.database;
    let holder = database.client().await;
    holder
        .batch_execute(&uncommitted(Uuid::now_v7(), "web"))
        .await
        .unwrap();
    let id = Uuid::now_v7();
    let row = Project {
        id,
        name: "web".to_owned(),
        description: String::new(),
        state: ProjectState::Creating,
        generation: 1,
        changed_by: id,
        time_created: db_model::types::time::now(),
        time_modified: db_model::types::time::now(),
        time_deleted: None,
    };
    let begun = Instant::now();
    let blocked = Batch::new()
        .step(project::insert(&row))
        .lock_timeout(Duration::from_millis(100));
    let error = blocked.commit(&database.pools().writes).await.unwrap_err();
    let busy = matches!(error, BatchError::Busy(Busy::Timeout { .. }));
    assert!(busy, "{error:?}");
    assert_eq!(error.server().unwrap().sqlstate, "55P03");
    assert_eq!(error.step().unwrap().label, "project.insert");
    assert!(begun.elapsed() < LOCK_TIMEOUT, "{:?}", begun.elapsed());

    // Who waits is told to come again once the lock has not come free, and nothing was written.
    let answer = create(&service, "web").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.body["error_code"], "unavailable");
    assert!(answer.body["operation_id"].is_null(), "{answer:?}");
    assert_eq!(database.number("SELECT count(*) FROM saga").await, 0);

    // An operation that is durable goes on waiting, whatever its caller does.
    let body = json!({ "name": "web" });
    let patient = service.request(Method::POST, "/v1/projects").json(&body);
    let accepted = service
        .send(patient.header("prefer", "respond-async, wait=1"))
        .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let path = format!("/v1/operations/{}", accepted.body["id"].as_str().unwrap());
    database
        .eventually("the operation ends", async || {
            service.get(&path).await.body["state"] == "succeeded"
        })
        .await;

    // What cannot even be made durable is refused, as busy.
    holder
        .batch_execute("BEGIN; LOCK TABLE saga IN SHARE MODE")
        .await
        .unwrap();
    let answer = create(&service, "other").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.body["error_code"], "unavailable");
    holder.batch_execute("ROLLBACK").await.unwrap();
    service.end().await;
}
