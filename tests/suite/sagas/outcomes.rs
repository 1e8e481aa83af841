//! The sagas as their callers see them, without HTTP.

use std::sync::Arc;
use std::time::Duration;

use db_model::model::Instance;
use db_model::types::InstanceState;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::script::{Cue, Script};
use sagas::saga::{InstanceDelete, instance_delete};
use sagas::{Executor, ExecutorOptions, Outcome, Submitted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_and_an_instance_are_created() {
    let database = TestDatabase::new().await;
    let options = ExecutorOptions::default();
    let executor = Executor::start(database.pools(), options).await.unwrap();
    let project = fixture::project(&executor, "web", WIDE).await;
    let instance = fixture::instance(&executor, project.id, "one").await;
    assert_eq!(instance.project_id, project.id);
    assert_eq!(instance.state, InstanceState::Stopped);
    assert_eq!(executor.drain(Duration::from_secs(5)).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_instance_is_deleted_and_is_failed_again_when_that_fails() {
    let database = TestDatabase::new().await;
    let script = Arc::new(Script::default());
    let options = ExecutorOptions {
        probe: Arc::clone(&script) as _,
        ..ExecutorOptions::default()
    };
    let executor = Executor::start(database.pools(), options).await.unwrap();
    let project = fixture::project(&executor, "web", WIDE).await;
    let made = fixture::instance(&executor, project.id, "one").await;
    // Nothing in the product makes an instance fail yet.
    let client = database.client().await;
    let fail = "UPDATE instance SET state = 'failed' WHERE id = $1";
    assert_eq!(client.execute(fail, &[&made.id]).await.unwrap(), 1);
    let failed = Instance {
        state: InstanceState::Failed,
        ..made
    };

    script.set(vec![Cue::fail("delete")]);
    let outcome = delete(&executor, &failed).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    let still = "SELECT count(*) FROM instance WHERE state = 'failed' AND time_deleted IS NULL";
    assert_eq!(database.number(still).await, 1);

    script.set(Vec::new());
    let outcome = delete(&executor, &failed).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    let used = "SELECT instances_used FROM project_quota";
    assert_eq!(database.number(used).await, 0);
    database.assert_books_balance().await;
}

async fn delete(executor: &Executor, instance: &Instance) -> Outcome<instance_delete::Output> {
    let params = instance_delete::Params::new(instance, None);
    let mut submitted: Submitted<InstanceDelete> = executor.submit(params, "test").await.unwrap();
    submitted.outcome().await
}
