//! Group K: everything at once: deletes against deletes, creates, repair and the project's own delete.

use db_model::books;
use db_model::constraint::Refusal;
use db_model::model::Instance;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use rand::RngExt;
use sagas::saga::{ProjectDelete, instance_create, project_delete};
use sagas::{Executor, Outcome, Submitted};
use uuid::Uuid;

use super::{
    chance, create, created, delete, executor, instances, is_quota_exceeded, outcome, params,
    quota, refusal, set_instances_limit,
};

/// The server counts a deadlock whether or not the batch was run again.
async fn assert_no_deadlock(database: &TestDatabase) {
    // A session reports what it has counted when it ends, or after a while.
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    database
        .eventually("the sessions have ended", async || {
            database.number(sessions).await == 0
        })
        .await;
    assert_eq!(database.number(deadlocks).await, 0, "there were deadlocks");
}

/// Creates and deletes by chance in one project until `rounds` are over.
async fn churn(executor: Executor, project_id: Uuid, client: usize, rounds: usize, seed: u64) {
    use rand::SeedableRng;
    let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
    let mut mine: Vec<Instance> = Vec::new();
    for round in 0..rounds {
        if !mine.is_empty() && chance.random_bool(0.5) {
            let instance = mine.swap_remove(chance.random_range(0..mine.len()));
            let ended = delete(&executor, &instance).await;
            assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
            continue;
        }
        // A name that others want as well and that comes and goes, or one of its own.
        let name = if chance.random_bool(0.7) {
            "wanted".to_owned()
        } else {
            format!("own-{client}-{round}")
        };
        match create(&executor, params(project_id, name)).await {
            Outcome::Succeeded(instance_create::Output::V1(instance)) => mine.push(instance),
            refused => {
                let refusal = refusal(refused);
                let expected =
                    is_quota_exceeded(&refusal) || matches!(refusal, Refusal::NameTaken { .. });
                assert!(expected, "{refusal:?}");
            }
        }
    }
}

/// Lets every statement rest on what it has locked, so that two orders of locking meet.
const REST: &str = "\
CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.004);
    RETURN NULL;
END $$;
CREATE TRIGGER rest AFTER INSERT OR UPDATE OR DELETE ON fleet_quota FOR EACH STATEMENT EXECUTE FUNCTION rest();
CREATE TRIGGER rest AFTER INSERT OR UPDATE OR DELETE ON project_quota FOR EACH STATEMENT EXECUTE FUNCTION rest();
CREATE TRIGGER rest AFTER INSERT OR UPDATE OR DELETE ON project FOR EACH STATEMENT EXECUTE FUNCTION rest();
CREATE TRIGGER rest AFTER INSERT OR UPDATE OR DELETE ON instance FOR EACH STATEMENT EXECUTE FUNCTION rest()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k07_creates_deletes_and_new_limits_in_any_mixture_never_deadlock() {
    let database = TestDatabase::new().await;
    database.client().await.batch_execute(REST).await.unwrap();
    let executors = [executor(&database).await, executor(&database).await];
    let project = fixture::project(&executors[0], "web", instances(12)).await;
    let mut chance = chance();
    let clients: Vec<_> = (0..12)
        .map(|client| {
            let executor = executors[client % 2].clone();
            tokio::spawn(churn(executor, project.id, client, 12, chance.random()))
        })
        .collect();
    // Projects come and go beside them, and the limits move.
    let projects = tokio::spawn({
        let executor = executors[0].clone();
        let writes = database.pools().writes;
        async move {
            for round in 0..12 {
                let made = fixture::project(&executor, "passing", WIDE).await;
                set_instances_limit(&writes, project.id, 9 + round % 4).await;
                let ended = delete_project(&executor, &made).await;
                assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
            }
        }
    });
    for client in clients {
        client.await.unwrap();
    }
    projects.await.unwrap();
    for executor in executors {
        assert_eq!(executor.drain(super::SOON).await, 0);
    }
    assert_no_deadlock(&database).await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k11_of_many_deletes_of_one_instance_one_releases() {
    let database = TestDatabase::new().await;
    let executors = [executor(&database).await, executor(&database).await];
    let writes = database.pools().writes;
    let project = fixture::project(&executors[0], "web", WIDE).await;
    for round in 0..10 {
        let made = fixture::instance(&executors[0], project.id, &format!("i{round}")).await;
        let before = quota(&writes, project.id).await;
        let deletes = (0..4).map(|client| {
            let (executor, made) = (executors[client % 2].clone(), made.clone());
            tokio::spawn(async move { delete(&executor, &made).await })
        });
        let mut succeeded = 0;
        for ended in futures::future::join_all(deletes).await {
            match ended.unwrap() {
                Outcome::Succeeded(_) => succeeded += 1,
                refused => {
                    let refusal = refusal(refused);
                    let expected = matches!(
                        &refusal,
                        Refusal::WrongState { id, .. } | Refusal::NotFound { id, .. } if *id == made.id
                    );
                    assert!(expected, "{refusal:?}");
                }
            }
        }
        assert_eq!(succeeded, 1);
        let after = quota(&writes, project.id).await;
        assert_eq!(after.instances_used, before.instances_used - 1);
        assert_eq!(after.generation, before.generation + 1, "released twice");
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_repair_beside_creates_and_deletes_leaves_no_drift() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let mut pools = database.pools();
    let writes = pools.writes.clone();
    let project = fixture::project(&executor, "web", WIDE).await;
    let mut chance = chance();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            tokio::spawn(churn(
                executor.clone(),
                project.id,
                client,
                12,
                chance.random(),
            ))
        })
        .collect();
    let client = database.client().await;
    let mut mended = 0;
    while !clients.iter().all(|client| client.is_finished()) {
        // Upwards only: below what is used, a release would break on the check.
        let drift = "UPDATE project_quota SET instances_used = instances_used + 3, vcpus_used = vcpus_used + 5";
        client.execute(drift, &[]).await.unwrap();
        client
            .execute(
                "UPDATE fleet_quota SET projects_used = projects_used + 1",
                &[],
            )
            .await
            .unwrap();
        let mut round = Vec::new();
        books::repair(&mut pools, &mut round).await.unwrap();
        mended += round.len();
        let left = books::check(&writes).await.unwrap().drifts;
        assert_eq!(left, [], "repair left a drift");
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(mended >= 3, "{mended} drifts were mended");
    let mut rest = Vec::new();
    books::repair(&mut pools, &mut rest).await.unwrap();
    assert_eq!(rest, []);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_repair_does_not_claim_a_counter_that_has_no_row() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let mut pools = database.pools();
    let writes = pools.writes.clone();
    fixture::project(&executor, "web", WIDE).await;
    let client = database.client().await;
    let lose = "CREATE TEMPORARY TABLE lost AS SELECT * FROM project_quota; DELETE FROM project_quota; \
                UPDATE fleet_quota SET projects_used = 5";
    client.batch_execute(lose).await.unwrap();
    let mut mended = Vec::new();
    books::repair(&mut pools, &mut mended).await.unwrap();
    let scopes: Vec<_> = mended.iter().map(|drift| drift.scope.as_str()).collect();
    assert_eq!(scopes, ["fleet"]);
    assert_eq!(books::check(&writes).await.unwrap().drifts.len(), 3);
    let restore = "INSERT INTO project_quota SELECT * FROM lost";
    client.batch_execute(restore).await.unwrap();
    database.assert_books_balance().await;
}

async fn delete_project(
    executor: &Executor,
    project: &db_model::model::Project,
) -> Outcome<project_delete::Output> {
    let params = project_delete::Params::new(project, None);
    let mut submitted: Submitted<ProjectDelete> =
        executor.submit(params, "conformance").await.unwrap();
    outcome(&mut submitted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k13_a_project_delete_among_32_creates_leaves_all_or_nothing() {
    let database = TestDatabase::new().await;
    let executors = [executor(&database).await, executor(&database).await];
    let mut chance = chance();
    let (mut kept, mut gone) = (0, 0);
    for round in 0..6 {
        let project = fixture::project(&executors[0], &format!("p{round}"), WIDE).await;
        // The delete goes first, last, or somewhere between.
        let place = [0, 32, chance.random_range(0..=32)][round % 3];
        let mut creates = Vec::new();
        let mut closing = None;
        for number in 0..=32 {
            if number == place {
                let (executor, project) = (executors[0].clone(), project.clone());
                closing = Some(tokio::spawn(async move {
                    delete_project(&executor, &project).await
                }));
            }
            if number < 32 {
                let executor = executors[number % 2].clone();
                let params = params(project.id, format!("i{number}"));
                creates.push(tokio::spawn(async move { create(&executor, params).await }));
            }
        }
        let deleted = match closing.unwrap().await.unwrap() {
            Outcome::Succeeded(_) => true,
            refused => {
                let refusal = refusal(refused);
                assert!(matches!(refusal, Refusal::NotEmpty { .. }), "{refusal:?}");
                false
            }
        };
        let mut children = 0;
        for ended in creates {
            match ended.await.unwrap() {
                outcome @ Outcome::Succeeded(_) => {
                    created(outcome);
                    children += 1;
                }
                refused => {
                    let refusal = refusal(refused);
                    let expected = matches!(
                        refusal,
                        Refusal::WrongState { id, .. } | Refusal::NotFound { id, .. } if id == project.id
                    );
                    assert!(expected, "{refusal:?}");
                }
            }
        }
        assert_eq!(children, if deleted { 0 } else { 32 });
        let living = format!(
            "SELECT count(*) FROM instance WHERE project_id = '{}' AND time_deleted IS NULL",
            project.id
        );
        assert_eq!(database.number(&living).await, children);
        (kept, gone) = (kept + i32::from(!deleted), gone + i32::from(deleted));
    }
    println!("{kept} projects stayed, {gone} were deleted");
    for executor in executors {
        assert_eq!(executor.drain(super::SOON).await, 0);
    }
    assert_no_deadlock(&database).await;
    database.assert_books_balance().await;
}
