//! Sagas whose row is part of their first batch: what is refused has never been, and what is lost on the way
//! is decided by the row.

use std::time::Duration;

use db_model::batch::Batch;
use db_model::model::ProjectLimits;
use db_model::query;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, GIB, WIDE};
use nexus_tests::proxy::Trouble;
use sagas::saga::{InstanceCreate, instance_create};
use sagas::{Executor, ExecutorOptions, Outcome, SubmitError, Submitted};
use uuid::Uuid;

async fn executor(database: db_model::Database) -> Executor {
    Executor::start(database, ExecutorOptions::default())
        .await
        .unwrap()
}

async fn begin(executor: &Executor, project_id: Uuid, name: &str) -> Submitted<InstanceCreate> {
    let name = db_model::types::Name::new(name).unwrap();
    let params = instance_create::Params::new(project_id, name, String::new(), 1, GIB);
    executor.begin(params, "unborn").await.unwrap()
}

async fn outcome(submitted: &mut Submitted<InstanceCreate>) -> Outcome<instance_create::Output> {
    tokio::time::timeout(Duration::from_secs(30), submitted.outcome())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_quota_writes_nothing_and_leaves_no_operation() {
    let database = TestDatabase::new().await;
    let executor = executor(database.pools()).await;
    let none = ProjectLimits {
        instances: 0,
        ..WIDE
    };
    let project = fixture::project(&executor, "web", none).await;
    let sagas = database.number("SELECT count(*) FROM saga").await;
    for number in 0..20 {
        let mut submitted = begin(&executor, project.id, &format!("i{number}")).await;
        let refused = outcome(&mut submitted).await;
        assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        assert!(!submitted.is_born());
    }
    assert_eq!(database.number("SELECT count(*) FROM saga").await, sagas);
    let events = "SELECT count(*) FROM saga_event e WHERE NOT EXISTS (SELECT FROM saga s WHERE s.id = e.saga_id)";
    assert_eq!(database.number(events).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_batch_whose_reply_is_lost_is_decided_by_the_sagas_row() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let helper = executor(database.pools()).await;
    let project = fixture::project(&helper, "web", WIDE).await;
    let executor = executor(database.pools_through(&proxy)).await;
    proxy.on(Trouble::LoseReply.to("INSERT INTO saga ("));
    let mut submitted = begin(&executor, project.id, "one").await;
    let done = outcome(&mut submitted).await;
    assert!(matches!(done, Outcome::Succeeded(_)), "{done:?}");
    assert!(submitted.is_born());
    assert_eq!(proxy.troubles(), 1, "no reply was lost");
    let once = "SELECT count(*) FROM instance WHERE generation = 2 AND state = 'stopped'";
    assert_eq!(database.number(once).await, 1);
    assert_eq!(executor.drain(Duration::from_secs(5)).await, 0);
    assert_eq!(helper.drain(Duration::from_secs(5)).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_given_up_before_it_is_born_never_comes() {
    let database = TestDatabase::new().await;
    let executor = executor(database.pools()).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    let holder = database.client().await;
    holder
        .batch_execute("BEGIN; SELECT FROM project_quota FOR UPDATE")
        .await
        .unwrap();
    let mut submitted = begin(&executor, project.id, "one").await;
    submitted.give_up();
    assert!(!submitted.is_born());
    // Its batch waits for the lock until that is in vain.
    let ended = outcome(&mut submitted).await;
    let busy = matches!(ended, Outcome::NotTaken(SubmitError::Unavailable(_)));
    assert!(busy, "{ended:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM instance").await, 0);
    let sagas = "SELECT count(*) FROM saga WHERE name = 'instance-create'";
    assert_eq!(database.number(sagas).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_lease_is_over_begins_nothing() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let executor = executor(pools.clone()).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    // It is declared dead, and does not know it yet.
    executor.stop();
    let end = Batch::new().step(query::executor::end(executor.id()));
    end.commit(&pools.writes).await.unwrap();
    let mut submitted = begin(&executor, project.id, "one").await;
    let ended = outcome(&mut submitted).await;
    let lost = matches!(ended, Outcome::NotTaken(SubmitError::Lost));
    assert!(lost, "{ended:?}");
    assert_eq!(database.number("SELECT count(*) FROM instance").await, 0);
    database.assert_books_balance().await;
}
