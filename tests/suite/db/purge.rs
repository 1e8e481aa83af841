//! What the purge removes, and what it leaves alone.

use std::time::Duration;

use db_model::batch::Batch;
use db_model::feed;
use db_model::purge::{self, Removed, Retention};
use db_model::query::{Change, instance, project, saga};
use nexus_tests::{TestDatabase, past};
use tokio_postgres::Client;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Keeps everything for an hour.
const RETENTION: Retention = Retention {
    deleted: HOUR,
    operations: HOUR,
    events: HOUR,
};

async fn round(database: &TestDatabase, retention: &Retention) -> Removed {
    let mut removed = Removed::default();
    let writes = database.pools().writes;
    purge::round(&writes, retention, Duration::ZERO, &mut removed)
        .await
        .unwrap();
    removed
}

fn of_each(count: u64) -> Removed {
    Removed {
        instances: count,
        projects: count,
        sagas: count,
        executors: count,
        events: count,
    }
}

/// How many rows of each table there are.
async fn counts(database: &TestDatabase) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in [
        "instance",
        "project",
        "project_quota",
        "saga",
        "saga_event",
        "executor",
    ] {
        counts.push(
            database
                .number(&format!("SELECT count(*) FROM {table}"))
                .await,
        );
    }
    counts
}

#[tokio::test]
async fn what_is_old_goes_with_what_belongs_to_it_and_what_is_young_stays() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 3, "61 minutes").await;
    past::everything(&client, "young", 2, "59 minutes").await;
    assert_eq!(round(&database, &RETENTION).await, of_each(3));
    assert_eq!(counts(&database).await, [2, 2, 2, 2, 8, 2]);
    assert_eq!(round(&database, &RETENTION).await, Removed::default());
    // Each age is a matter of its own.
    let retention = Retention {
        deleted: Duration::ZERO,
        ..RETENTION
    };
    let removed = round(&database, &retention).await;
    assert_eq!((removed.instances, removed.projects), (2, 2));
    assert_eq!(counts(&database).await, [0, 0, 0, 2, 8, 2]);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_process_whose_clock_is_days_behind_makes_nothing_older() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 1, "1 day").await;
    let live = "UPDATE instance SET time_deleted = NULL, time_over = NULL; \
                UPDATE project SET time_deleted = NULL, time_over = NULL; \
                UPDATE saga SET state = 'running', time_finished = NULL";
    client.batch_execute(live).await.unwrap();
    let id = async |column: &str| -> Uuid {
        let row = client.query_one(column, &[]).await.unwrap();
        row.get(0)
    };
    let mut change = Change::new();
    change.time -= 9 * 24 * HOUR;
    let fence = saga::Fence {
        saga_id: id("SELECT id FROM saga").await,
        executor_id: id("SELECT executor_id FROM saga").await,
        generation: 1,
    };
    let ended = saga::Progress::Succeeded {
        output: serde_json::Value::Null,
        attempts: None,
        duration_us: None,
    };
    Batch::new()
        .step(instance::delete(
            change,
            id("SELECT id FROM instance").await,
        ))
        .step(project::delete(change, id("SELECT id FROM project").await))
        .step(saga::progress(fence, ended))
        .commit(&database.pools().writes)
        .await
        .unwrap();
    // What is shown is the process's; what the purge goes by is not.
    let shown = "SELECT count(*) FROM instance i, project p WHERE i.time_deleted < now() - interval '8 days' \
                 AND p.time_deleted = i.time_deleted";
    assert_eq!(database.number(shown).await, 1);
    let removed = round(&database, &RETENTION).await;
    assert_eq!(
        (removed.instances, removed.projects, removed.sagas),
        (0, 0, 0)
    );
    assert_eq!(counts(&database).await, [1, 1, 1, 1, 4, 1]);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_kind_that_cannot_be_purged_holds_no_other_up() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 3, "1 day").await;
    let keep = "DELETE FROM instance WHERE id = (SELECT min(id::text)::uuid FROM instance); \
                CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ \
                BEGIN RAISE EXCEPTION 'this one stays'; END $$; \
                CREATE TRIGGER kept BEFORE DELETE ON instance FOR EACH ROW EXECUTE FUNCTION keep(); \
                CREATE TRIGGER kept BEFORE DELETE ON executor FOR EACH ROW EXECUTE FUNCTION keep()";
    client.batch_execute(keep).await.unwrap();
    let mut removed = Removed::default();
    let writes = database.pools().writes;
    let error = purge::round(&writes, &RETENTION, Duration::ZERO, &mut removed)
        .await
        .unwrap_err();
    assert_eq!(error.kind, "instances");
    assert!(
        error.error.to_string().contains("instance.purge"),
        "{error:?}"
    );
    let others: Vec<_> = error.others.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(others, ["executors"]);
    let left = Removed {
        projects: 1,
        sagas: 3,
        events: 3,
        ..Removed::default()
    };
    assert_eq!(removed, left);
    client
        .batch_execute("DROP TRIGGER kept ON instance; DROP TRIGGER kept ON executor")
        .await
        .unwrap();
    let removed = round(&database, &RETENTION).await;
    assert_eq!(
        (removed.instances, removed.projects, removed.executors),
        (2, 2, 3)
    );
    database.assert_books_balance().await;
}

#[tokio::test]
async fn an_event_ages_from_its_publication() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let client = database.client().await;
    let outage = "INSERT INTO event (id, kind, resource_id, resource_name, resource_generation, time_recorded) \
                  VALUES (gen_random_uuid(), 'project.created', gen_random_uuid(), 'web', 2, now() - interval '9 days')";
    client.batch_execute(outage).await.unwrap();
    assert_eq!(feed::publish(&pools).await.unwrap(), 1);
    assert_eq!(round(&database, &RETENTION).await.events, 0);
    let later = "UPDATE event SET time_published = now() - interval '61 minutes'";
    client.batch_execute(later).await.unwrap();
    assert_eq!(round(&database, &RETENTION).await.events, 1);
    database.assert_books_balance().await;
}

/// From now on the database's clock stands still, years from that of the processes.
async fn stop_the_clock(database: &TestDatabase, client: &Client) {
    let shift = format!(
        "CREATE SCHEMA stopped; CREATE FUNCTION stopped.now() RETURNS timestamptz LANGUAGE sql STABLE \
         AS $$ SELECT timestamptz '2001-02-03 04:05:06Z' $$; \
         ALTER DATABASE {} SET search_path = stopped, public, pg_catalog",
        database.name()
    );
    client.batch_execute(&shift).await.unwrap();
}

#[tokio::test]
async fn ages_are_told_by_the_database_clock_to_the_microsecond() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 2, "1 day").await;
    stop_the_clock(&database, &client).await;
    assert_eq!(round(&database, &RETENTION).await, Removed::default());
    // An executor waits for nothing but its age then.
    let elsewhere = "UPDATE saga SET executor_id = gen_random_uuid()";
    client.execute(elsewhere, &[]).await.unwrap();
    for (age, removed) in [("1 h", 0), ("1 h 0.000001 s", 2)] {
        let at = format!("timestamptz '2001-02-03 04:05:06Z' - interval '{age}'");
        let update = format!(
            "UPDATE instance SET time_over = {at}; UPDATE project SET time_over = {at}; \
             UPDATE saga SET time_finished = {at}; UPDATE executor SET time_ended = {at}; \
             UPDATE event SET time_published = {at}"
        );
        client.batch_execute(&update).await.unwrap();
        assert_eq!(
            round(&database, &RETENTION).await,
            of_each(removed),
            "{age}"
        );
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_project_stays_for_as_long_as_one_of_its_instances() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 2, "1 day").await;
    let young = "UPDATE instance SET time_over = now() WHERE project_id = (SELECT min(id::text)::uuid FROM project)";
    assert_eq!(client.execute(young, &[]).await.unwrap(), 1);
    let removed = round(&database, &RETENTION).await;
    assert_eq!((removed.instances, removed.projects), (1, 1));
    assert_eq!(counts(&database).await[..3], [1, 1, 1]);
    let old = "UPDATE instance SET time_over = now() - interval '1 day'";
    client.execute(old, &[]).await.unwrap();
    let removed = round(&database, &RETENTION).await;
    assert_eq!((removed.instances, removed.projects), (1, 1));
    assert_eq!(counts(&database).await[..3], [0, 0, 0]);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn sagas_that_run_or_are_stuck_stay_and_so_do_their_executors() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 5, "1 day").await;
    let numbered = "WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM saga) \
                    UPDATE saga SET state = (ARRAY['running', 'unwinding', 'stuck'])[n], \
                    time_finished = CASE n WHEN 3 THEN time_finished END \
                    FROM numbered WHERE saga.id = numbered.id AND n <= 3";
    assert_eq!(client.execute(numbered, &[]).await.unwrap(), 3);
    let removed = round(&database, &RETENTION).await;
    assert_eq!((removed.sagas, removed.executors), (2, 2));
    assert_eq!(counts(&database).await[3..], [3, 12, 3]);
    let end = "UPDATE saga SET state = 'failed', time_finished = now() - interval '1 day'";
    client.execute(end, &[]).await.unwrap();
    let removed = round(&database, &RETENTION).await;
    assert_eq!((removed.sagas, removed.executors), (3, 3));
    assert_eq!(counts(&database).await[3..], [0, 0, 0]);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn events_go_from_the_beginning_of_the_feed_and_the_feed_says_how_far() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 4, "1 day").await;
    let purged = async || {
        let removed = round(&database, &RETENTION).await.events;
        let feed = "SELECT purged_sequence FROM event_feed";
        (removed, database.number(feed).await)
    };
    // One that is not published yet, however old; and a clock of the past that has jumped.
    let change = "INSERT INTO event (id, kind, resource_id, resource_name, resource_generation, time_recorded) \
                  VALUES (gen_random_uuid(), 'project.created', gen_random_uuid(), 'new', 1, now() - interval '9 days'); \
                  UPDATE event SET time_published = now() WHERE sequence = 3";
    client.batch_execute(change).await.unwrap();
    assert_eq!(purged().await, (2, 2));
    assert_eq!(purged().await, (0, 2));
    let again = "UPDATE event SET time_published = now() - interval '1 day' WHERE sequence = 3";
    client.batch_execute(again).await.unwrap();
    assert_eq!(purged().await, (2, 4));
    assert_eq!(purged().await, (0, 4));
    let left = "SELECT count(*) FROM event WHERE sequence IS NULL AND resource_name = 'new'";
    assert_eq!(database.number(left).await, 1);
    assert_eq!(database.number("SELECT count(*) FROM event").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn an_executor_that_lives_or_has_sessions_stays() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 2, "1 day").await;
    client
        .batch_execute("UPDATE executor SET time_ended = NULL WHERE id = (SELECT min(id::text)::uuid FROM executor)")
        .await
        .unwrap();
    let ended = client
        .query_one("SELECT id FROM executor WHERE time_ended IS NOT NULL", &[])
        .await
        .unwrap();
    let name = db_model::query::executor::session_name(ended.get(0));
    let options = database.options().application_name(name);
    let session = db_model::connect::client(&options).await.unwrap();
    assert_eq!(round(&database, &RETENTION).await.executors, 0);
    drop(session);
    database
        .eventually("the ended one goes once its session has", async || {
            round(&database, &RETENTION).await.executors == 1
        })
        .await;
    assert_eq!(counts(&database).await[5], 1);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn rows_that_another_has_locked_are_passed_over_without_a_wait() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    past::everything(&client, "old", 4, "1 day").await;
    let held = client.transaction().await.unwrap();
    for table in ["instance", "project_quota", "saga", "executor"] {
        let id = if table == "project_quota" {
            "project_id"
        } else {
            "id"
        };
        let lock = format!("SELECT FROM {table} ORDER BY {id} LIMIT 1 FOR SHARE");
        held.execute(&lock, &[]).await.unwrap();
    }
    let removed = round(&database, &RETENTION).await;
    assert_eq!((removed.instances, removed.sagas), (3, 3));
    // One is locked itself, and another may have the instance or the saga that is.
    assert!(
        (2..=3).contains(&removed.projects) && (2..=3).contains(&removed.executors),
        "{removed:?}"
    );
    held.commit().await.unwrap();
    let rest = round(&database, &RETENTION).await;
    assert_eq!((rest.instances, rest.sagas), (1, 1));
    assert_eq!(rest.projects + removed.projects, 4);
    assert_eq!(rest.executors + removed.executors, 4);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn what_is_old_is_found_by_index() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    past::everything(&client, "old", 20, "1 day").await;
    past::everything(&client, "young", 20_000, "1 minute").await;
    let reset = "SELECT pg_stat_reset()";
    client.execute(reset, &[]).await.unwrap();
    assert_eq!(round(&database, &RETENTION).await, of_each(20));
    let unused = "SELECT count(*) FROM pg_stat_user_indexes WHERE idx_scan = 0 AND indexrelname = ANY(ARRAY[\
                  'instance_time_over_idx', 'project_time_over_idx', 'saga_time_finished_idx', \
                  'executor_time_ended_idx', 'instance_project_idx', 'event_sequence_key'])";
    // The server counts a little later.
    database
        .eventually("every index was used", async || {
            database.number(unused).await == 0
        })
        .await;
    database.assert_books_balance().await;
}
