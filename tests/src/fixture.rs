//! Projects and instances, made by the product's own sagas.

use db_model::model::{Instance, Project, ProjectLimits};
use db_model::types::Name;
use sagas::saga::{InstanceCreate, ProjectCreate, instance_create, project_create};
use sagas::testing::Fixture;
use sagas::{Executor, Outcome, Submitted};
use uuid::Uuid;

/// 1 GiB, in bytes.
pub const GIB: i64 = 1 << 30;

/// Limits that no test runs into by accident.
pub const WIDE: ProjectLimits = ProjectLimits {
    instances: 1_000,
    vcpus: 10_000,
    memory_bytes: 1 << 50,
};

/// Creates a project.
pub async fn project(executor: &Executor, name: &str, limits: ProjectLimits) -> Project {
    let params = project_create::Params::new(Name::new(name).unwrap(), String::new(), limits);
    let mut submitted: Submitted<ProjectCreate> = executor.submit(params, "fixture").await.unwrap();
    match submitted.outcome().await {
        Outcome::Succeeded(project_create::Output::V1(project)) => project,
        other => panic!("project {name} was not created: {other:?}"),
    }
}

/// Creates an instance of 1 virtual CPU and 1 GiB.
pub async fn instance(executor: &Executor, project_id: Uuid, name: &str) -> Instance {
    let name = Name::new(name).unwrap();
    let params = instance_create::Params::new(project_id, name, String::new(), 1, GIB);
    let mut submitted: Submitted<InstanceCreate> =
        executor.submit(params, "fixture").await.unwrap();
    match submitted.outcome().await {
        Outcome::Succeeded(instance_create::Output::V1(instance)) => instance,
        other => panic!("the instance was not created: {other:?}"),
    }
}

/// What every replay finds in the database.
pub async fn replayed(executor: &Executor) -> Fixture {
    let project = project(executor, "full", WIDE).await;
    let instance = instance(executor, project.id, "one").await;
    let empty_project = self::project(executor, "empty", WIDE).await;
    Fixture {
        project,
        instance,
        empty_project,
    }
}
