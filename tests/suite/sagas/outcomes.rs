//! The sagas as their callers see them, without HTTP.

use db_model::model::ProjectLimits;
use db_model::types::Name;
use nexus_tests::TestDatabase;
use sagas::saga::{InstanceCreate, ProjectCreate, instance_create, project_create};
use sagas::{Executor, ExecutorOptions, Outcome};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_and_an_instance_are_created() {
    let database = TestDatabase::new().await;
    let executor = Executor::start(database.pools(), ExecutorOptions::default())
        .await
        .unwrap();
    let limits = ProjectLimits {
        instances: 10,
        vcpus: 10,
        memory_bytes: 1 << 40,
    };
    let params = project_create::Params::new(Name::new("web").unwrap(), String::new(), limits);
    let mut submitted = executor
        .submit::<ProjectCreate>(params, "test")
        .await
        .unwrap();
    let Outcome::Succeeded(project_create::Output::V1(project)) = submitted.outcome().await else {
        panic!("not created");
    };
    let params = instance_create::Params::new(
        project.id,
        Name::new("one").unwrap(),
        String::new(),
        2,
        1 << 30,
    );
    let mut submitted = executor
        .submit::<InstanceCreate>(params, "test")
        .await
        .unwrap();
    let outcome = submitted.outcome().await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(executor.drain(std::time::Duration::from_secs(5)).await, 0);
    database.assert_books_balance().await;
}
