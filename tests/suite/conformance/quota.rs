//! Group K: limits, under as many clients as there are.

use std::sync::Arc;

use db_model::batch::{Batch, BatchError};
use db_model::constraint::Refusal;
use db_model::model::ProjectLimits;
use db_model::query::{Change, fleet_quota, instance, project_quota};
use db_model::types::{InstanceState, Name};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, GIB, WIDE};
use nexus_tests::script::{Cue, Script};
use sagas::saga::{ProjectCreate, instance_create, project_create};
use sagas::{Outcome, Submitted};
use uuid::Uuid;

use super::{
    Gate, begin_create, create, created, delete, executor, failure, instances, is_quota_exceeded,
    outcome, params, probed, quota, refusal, set_instances_limit,
};

fn sized(project_id: Uuid, name: &str, vcpus: i64, memory_bytes: i64) -> instance_create::Params {
    let name = Name::new(name).unwrap();
    instance_create::Params::new(project_id, name, String::new(), vcpus, memory_bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k01_k05_of_400_adds_at_a_limit_of_100_exactly_100_succeed() {
    let database = TestDatabase::new().await;
    let executors = [executor(&database).await, executor(&database).await];
    let project = fixture::project(&executors[0], "web", instances(100)).await;
    let clients = (0..16).map(|client| {
        let executor = executors[client % 2].clone();
        tokio::spawn(async move {
            let mut counts = (0, 0);
            for number in 0..25 {
                let name = format!("i-{client}-{number}");
                match create(&executor, params(project.id, name)).await {
                    Outcome::Succeeded(_) => counts.0 += 1,
                    refused => {
                        let refusal = refusal(refused);
                        assert!(is_quota_exceeded(&refusal), "{refusal:?}");
                        counts.1 += 1;
                    }
                }
            }
            counts
        })
    });
    let mut counts = (0, 0);
    for client in futures::future::join_all(clients).await {
        let (succeeded, refused) = client.unwrap();
        counts = (counts.0 + succeeded, counts.1 + refused);
    }
    assert_eq!(counts, (100, 300));
    let rows = "SELECT count(*) FROM instance WHERE state = 'stopped' AND time_deleted IS NULL";
    assert_eq!(database.number(rows).await, 100);
    let quota = quota(&database.pools().writes, project.id).await;
    assert_eq!((quota.instances_used, quota.vcpus_used), (100, 100));
    assert_eq!(quota.memory_bytes_used, 100 * GIB);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k01_the_fleet_takes_exactly_as_many_projects_as_its_limit() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let pools = database.pools();
    let limit = fleet_quota::update(Change::new(), 10, None);
    limit.commit(&pools.writes).await.unwrap();
    let clients = (0..20).map(|number| {
        let executor = executor.clone();
        tokio::spawn(async move {
            let name = Name::new(format!("p{number}")).unwrap();
            let params = project_create::Params::new(name, String::new(), WIDE);
            let mut submitted: Submitted<ProjectCreate> =
                executor.submit(params, "conformance").await.unwrap();
            outcome(&mut submitted).await
        })
    });
    let mut succeeded = 0;
    for client in futures::future::join_all(clients).await {
        match client.unwrap() {
            Outcome::Succeeded(_) => succeeded += 1,
            refused => assert!(is_quota_exceeded(&refusal(refused))),
        }
    }
    assert_eq!(succeeded, 10);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k02_deletes_and_creates_at_the_limit_never_pass_it_and_never_stick_below() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let project = fixture::project(&executor, "web", instances(4)).await;
    let watcher = tokio::spawn({
        let writes = database.pools().writes;
        async move {
            loop {
                let quota = quota(&writes, project.id).await;
                assert!(quota.instances_used <= quota.instances_limit, "{quota:?}");
                tokio::task::yield_now().await;
            }
        }
    });
    let clients = (0..8).map(|client| {
        let executor = executor.clone();
        tokio::spawn(async move {
            for round in 0..12 {
                let name = format!("i-{client}-{round}");
                match create(&executor, params(project.id, name)).await {
                    Outcome::Succeeded(instance_create::Output::V1(instance)) => {
                        let ended = delete(&executor, &instance).await;
                        assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
                    }
                    refused => assert!(is_quota_exceeded(&refusal(refused))),
                }
            }
        })
    });
    for client in futures::future::join_all(clients).await {
        client.unwrap();
    }
    watcher.abort();
    assert!(
        watcher.await.unwrap_err().is_cancelled(),
        "the limit was passed"
    );
    // Every unit is free again: the limit can be filled, and no more.
    for name in ["a", "b", "c", "d"] {
        created(create(&executor, params(project.id, name)).await);
    }
    let refused = create(&executor, params(project.id, "e")).await;
    assert!(is_quota_exceeded(&refusal(refused)));
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k03_k09_a_charge_of_three_resources_is_all_or_nothing_and_tells_the_numbers() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let writes = database.pools().writes;
    let limits = ProjectLimits {
        instances: 3,
        vcpus: 8,
        memory_bytes: 10 * GIB,
    };
    let project = fixture::project(&executor, "web", limits).await;
    created(create(&executor, sized(project.id, "one", 5, 4 * GIB)).await);
    let before = quota(&writes, project.id).await;
    let used = (
        before.instances_used,
        before.vcpus_used,
        before.memory_bytes_used,
    );
    assert_eq!(used, (1, 5, 4 * GIB));

    let exceeded = |resource: &str, limit, used, requested| Refusal::QuotaExceeded {
        scope: "project".to_owned(),
        scope_id: project.id,
        resource: resource.to_owned(),
        limit,
        used,
        requested,
    };
    // One more than is left of each; where two are short, the first is named.
    let short = [
        (4, GIB, exceeded("vcpus", 8, 5, 4)),
        (
            3,
            7 * GIB,
            exceeded("memory_bytes", 10 * GIB, 4 * GIB, 7 * GIB),
        ),
        (4, 7 * GIB, exceeded("vcpus", 8, 5, 4)),
    ];
    for (vcpus, memory_bytes, expected) in short {
        let refused = create(&executor, sized(project.id, "two", vcpus, memory_bytes)).await;
        assert_eq!(refusal(refused), expected);
        assert_eq!(quota(&writes, project.id).await, before);
    }
    // Exactly what is left.
    created(create(&executor, sized(project.id, "two", 3, 6 * GIB)).await);
    created(
        match create(&executor, sized(project.id, "three", 1, GIB)).await {
            Outcome::Failed(failed) => {
                assert_eq!(
                    refusal::<()>(Outcome::Failed(failed)),
                    exceeded("vcpus", 8, 8, 1)
                );
                set_instances_limit(&writes, project.id, 2).await;
                let refused = create(&executor, sized(project.id, "three", 1, GIB)).await;
                assert_eq!(refusal(refused), exceeded("instances", 2, 2, 1));
                set_instances_limit(&writes, project.id, 3).await;
                let vcpus = project_quota::LimitsUpdate {
                    vcpus: Some(9),
                    memory_bytes: Some(11 * GIB),
                    ..project_quota::LimitsUpdate::default()
                };
                let raise = project_quota::update(Change::new(), project.id, vcpus, None);
                raise.commit(&writes).await.unwrap();
                create(&executor, sized(project.id, "three", 1, GIB)).await
            }
            other => panic!("not refused: {other:?}"),
        },
    );
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k04_a_failed_create_returns_its_share_once() {
    let database = TestDatabase::new().await;
    let script = Arc::new(Script::default());
    let executor = probed(database.pools(), script.clone()).await;
    let writes = database.pools().writes;
    let project = fixture::project(&executor, "web", instances(2)).await;
    fixture::instance(&executor, project.id, "kept").await;
    let before = quota(&writes, project.id).await;
    let undo_twice = Cue::repeat(sagas::probe::Commit::Undo, "insert");
    for cues in [vec![Cue::fail("stop")], vec![Cue::fail("stop"), undo_twice]] {
        script.set(cues);
        let failed = failure(create(&executor, params(project.id, "failing")).await);
        assert_eq!(failed.node, "stop");
        let after = quota(&writes, project.id).await;
        assert_eq!(after.instances_used, before.instances_used);
        assert_eq!(after.vcpus_used, before.vcpus_used);
        assert_eq!(after.memory_bytes_used, before.memory_bytes_used);
    }
    // One charge and one release each.
    let generation = quota(&writes, project.id).await.generation;
    assert_eq!(generation, before.generation + 4);
    script.set(Vec::new());
    created(create(&executor, params(project.id, "failing")).await);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k06_a_limit_may_be_lowered_below_what_is_used() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let writes = database.pools().writes;
    let project = fixture::project(&executor, "web", instances(3)).await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        made.push(fixture::instance(&executor, project.id, name).await);
    }
    set_instances_limit(&writes, project.id, 1).await;
    // Refused until the use is below the new limit, and with the true numbers.
    for used in [3, 2, 1] {
        let refused = refusal(create(&executor, params(project.id, "d")).await);
        let Refusal::QuotaExceeded {
            limit, used: said, ..
        } = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((limit, said), (1, used));
        let ended = delete(&executor, &made.pop().unwrap()).await;
        assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
    }
    created(create(&executor, params(project.id, "d")).await);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k08_a_second_release_breaks_on_a_check_that_is_named() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let writes = database.pools().writes;
    let project = fixture::project(&executor, "web", WIDE).await;
    let made = fixture::instance(&executor, project.id, "one").await;
    let release = || {
        let change = Change::new();
        Batch::new().step(project_quota::release(change, project.id, made.id))
    };
    let from = [InstanceState::Stopped];
    let to = InstanceState::Deleting;
    let retire = instance::set_state(Change::new(), made.id, &from, to, None);
    let delete = instance::delete(Change::new(), made.id);
    let proper = release().step(retire).step(delete);
    proper.commit(&writes).await.unwrap();
    let before = quota(&writes, project.id).await;
    assert_eq!(before.instances_used, 0);

    // Forged: nothing but the release.
    let error = release().commit(&writes).await.unwrap_err();
    assert!(matches!(error, BatchError::Unexpected { .. }), "{error:?}");
    assert_eq!(error.server().unwrap().sqlstate, "23514");
    let named = error.constraint().unwrap();
    assert!(
        named.starts_with("project_quota_") && named.ends_with("_used_check"),
        "{named}"
    );
    assert_eq!(error.step().unwrap().label, "project_quota.release");
    assert_eq!(quota(&writes, project.id).await, before);
    let released = Batch::new().step(fleet_quota::release(Change::new()));
    let again = Batch::new().step(fleet_quota::release(Change::new()));
    released.commit(&writes).await.unwrap();
    let error = again.commit(&writes).await.unwrap_err();
    assert_eq!(error.constraint(), Some("fleet_quota_projects_used_check"));
    Batch::new()
        .step(fleet_quota::charge(Change::new()))
        .commit(&writes)
        .await
        .unwrap();
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn k10_an_undo_never_charges_when_a_competitor_took_the_released_unit() {
    use sagas::probe::{Commit, Side};
    let database = TestDatabase::new().await;
    let other = executor(&database).await;
    let writes = database.pools().writes;
    let project = fixture::project(&other, "web", instances(1)).await;

    // A create that fails is held just after its undo has released the unit.
    let gate = Gate::new(Commit::Undo, "insert", Side::After);
    let failing = Failing(gate.clone());
    let failing = probed(database.pools(), Arc::new(failing)).await;
    let mut submitted = begin_create(&failing, params(project.id, "failing")).await;
    gate.reached().await;
    created(create(&other, params(project.id, "competitor")).await);
    gate.open();
    assert_eq!(failure(outcome(&mut submitted).await).node, "stop");
    let after = quota(&writes, project.id).await;
    assert_eq!((after.instances_used, after.instances_limit), (1, 1));
    database.assert_books_balance().await;
}

/// Fails a create at its last node, and holds it at a gate.
#[derive(Debug)]
struct Failing(Arc<Gate>);

impl sagas::probe::Probe for Failing {
    fn at(&self, point: &sagas::probe::Point) -> sagas::probe::Verdict {
        use sagas::probe::{Side, Verdict};
        if point.what == "stop" && point.side == Side::Before {
            return Verdict::Fail;
        }
        self.0.at(point)
    }
}
