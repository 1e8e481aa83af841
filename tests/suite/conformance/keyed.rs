//! A batch that has committed though its caller got no answer: it is known by its key, and its hooks run.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use db_model::batch::{Batch, BatchError, Hook, Persistence};
use db_model::model::ProjectQuota;
use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, event};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Rule, Trouble};
use uuid::Uuid;

use super::{executor, sql};

#[derive(Clone, Default)]
struct Ran(Arc<AtomicUsize>);

impl Ran {
    fn hook(&self) -> Hook {
        let ran = Arc::clone(&self.0);
        Hook::new("counts", async move |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        })
    }

    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets a limit, and has the key of the change.
fn update(change: Change, project_id: Uuid) -> Batch<Vec<ProjectQuota>> {
    let limits = LimitsUpdate {
        instances: Some(7),
        ..LimitsUpdate::default()
    };
    project_quota::update(change, project_id, limits, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_a_batch_is_known_by_its_key_as_a_part_too_and_its_hooks_do_not_run_again() {
    let database = TestDatabase::new().await;
    let creator = executor(&database).await;
    let project = fixture::project(&creator, "web", WIDE).await;
    let writes = database.pools().writes;
    let (change, ran) = (Change::new(), Ran::default());
    let part = || {
        Batch::new()
            .part("quota", update(change, project.id))
            .after_commit(ran.hook())
    };
    part().commit(&writes).await.unwrap();
    for persistence in [
        Persistence::Conflicts,
        Persistence::Keyed,
        Persistence::Endless,
    ] {
        let error = part().commit_as(&writes, persistence).await.unwrap_err();
        assert!(event::is_recorded(&error), "{error:?}");
        let label = error.step().unwrap().label;
        assert_eq!(label, "quota/event.of_project_quota");
        assert!(error.is_final());
        assert_eq!(error.outcome(), "recorded");
    }
    assert_eq!(ran.times(), 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_only_the_constraint_of_the_key_at_the_step_of_the_key_is_the_key() {
    let database = TestDatabase::new().await;
    let table = "CREATE TABLE item (id int CONSTRAINT item_pkey PRIMARY KEY, \
                 other int CONSTRAINT item_other_key UNIQUE); INSERT INTO item VALUES (1, 1)";
    database.client().await.batch_execute(table).await.unwrap();
    let writes = database.pools().writes;
    let insert = |id, other| {
        let text = format!("INSERT INTO item VALUES ({id}, {other})");
        sql("insert", text)
    };
    for (step, is_key) in [
        (insert(1, 2).key("item_pkey"), true),
        (insert(2, 1).key("item_pkey"), false),
        (insert(1, 2), false),
    ] {
        let error = Batch::new().step(step).commit(&writes).await.unwrap_err();
        let recorded = matches!(error, BatchError::Recorded { .. });
        let unexpected = matches!(error, BatchError::Unexpected { .. });
        assert_eq!((recorded, unexpected), (is_key, !is_key), "{error:?}");
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_the_hooks_of_a_keyed_batch_whose_replies_are_lost_run_once() {
    let database = TestDatabase::new().await;
    let creator = executor(&database).await;
    let project = fixture::project(&creator, "web", WIDE).await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    for times in [1, 3] {
        let ran = Ran::default();
        let troubles = proxy.troubles();
        proxy.on(Rule {
            times,
            ..Trouble::LoseReply.to("INSERT INTO \"event\"")
        });
        let update = update(Change::new(), project.id)
            .after_commit(ran.hook())
            .commit_as(&pools.writes, Persistence::Keyed);
        let error = update.await.unwrap_err();
        assert_eq!(proxy.troubles(), troubles + times);
        assert!(event::is_recorded(&error), "{error:?}");
        assert_eq!(ran.times(), 1);
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_the_hooks_of_a_batch_that_answers_too_much_run_for_it_has_committed() {
    let database = TestDatabase::new().await;
    let table = "CREATE TABLE item (id int)";
    database.client().await.batch_execute(table).await.unwrap();
    let pools = database.pools();
    let ran = Ran::default();
    let batch = Batch::new()
        .step(sql("insert", "INSERT INTO item VALUES (1)"))
        .step(sql("many", "SELECT generate_series(1, 1000001)"))
        .after_commit(ran.hook());
    let error = batch.commit(&pools.writes).await.unwrap_err();
    assert!(matches!(error, BatchError::TooLarge(_)), "{error:?}");
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);
    assert_eq!(ran.times(), 1);
    database.assert_books_balance().await;
}
