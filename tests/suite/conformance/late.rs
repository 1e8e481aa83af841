//! Group J: a batch that arrives after its sender has given it up and has tried again.
//!
//! A network may keep what was sent, and hand it to the server long after the session that sent it
//! is gone. Until then no second try can meet its key.

use db_model::batch::{Batch, Persistence};
use db_model::model::Instance;
use db_model::query::project_quota::{self, InstanceCharge, LimitsUpdate};
use db_model::query::saga::Fence;
use db_model::query::saga_event::{self, NewEvent};
use db_model::query::{Change, event, instance};
use db_model::types::{InstanceState, SagaEventKind, time};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Rule, Trouble};
use sagas::probe::{Commit, Side};
use sagas::saga::instance_create::Params;
use uuid::Uuid;

use super::{
    Gate, begin_create, created, executor, instances, is_quota_exceeded, outcome, params, probed,
    quota, refusal, set_instances_limit,
};

/// The first node's batch as the executor sent it the first time.
fn first_try(executor_id: Uuid, saga_id: Uuid, params: &Params) -> Batch<()> {
    let fence = Fence {
        saga_id,
        executor_id,
        generation: 1,
    };
    let change = Change {
        id: saga_id,
        time: time::now(),
    };
    let row = Instance {
        id: params.instance_id,
        project_id: params.project_id,
        name: params.name.to_string(),
        description: params.description.clone(),
        vcpus: params.vcpus,
        memory_bytes: params.memory_bytes,
        state: InstanceState::Creating,
        generation: 1,
        changed_by: saga_id,
        time_created: params.time,
        time_modified: params.time,
        time_deleted: None,
    };
    let event = NewEvent {
        node_id: 0,
        kind: SagaEventKind::Succeeded,
        sequence: 1,
        attempts: 1,
        duration_us: None,
        data: Some(serde_json::Value::Null),
    };
    let charge = InstanceCharge {
        vcpus: params.vcpus,
        memory_bytes: params.memory_bytes,
    };
    Batch::new()
        .step(saga_event::insert(fence, &event))
        .step(project_quota::charge(change, params.project_id, charge))
        .step(instance::insert(&row))
        .discard()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j06_a_first_try_that_arrives_before_its_refusal_is_recorded_is_what_counts() {
    let database = TestDatabase::new().await;
    let gate = Gate::new(Commit::Event, "insert/failed", Side::Before);
    let pools = database.pools();
    let executor = probed(pools.clone(), gate.clone()).await;
    let project = fixture::project(&executor, "web", instances(0)).await;
    let params = params(project.id, "late");
    let mut submitted = begin_create(&executor, params.clone()).await;
    gate.reached().await;
    set_instances_limit(&pools.writes, project.id, 1).await;
    first_try(executor.id(), submitted.id(), &params)
        .commit(&pools.writes)
        .await
        .unwrap();
    gate.open();
    let instance = created(outcome(&mut submitted).await);
    assert_eq!(instance.id, params.instance_id);
    assert_eq!(quota(&pools.writes, project.id).await.instances_used, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j06_a_first_try_that_arrives_after_its_refusal_was_recorded_does_nothing() {
    let database = TestDatabase::new().await;
    let gate = Gate::new(Commit::Event, "insert/failed", Side::After);
    let pools = database.pools();
    let executor = probed(pools.clone(), gate.clone()).await;
    let project = fixture::project(&executor, "web", instances(0)).await;
    let params = params(project.id, "late");
    let mut submitted = begin_create(&executor, params.clone()).await;
    gate.reached().await;
    set_instances_limit(&pools.writes, project.id, 1).await;
    let late = first_try(executor.id(), submitted.id(), &params)
        .commit(&pools.writes)
        .await;
    gate.open();
    assert!(late.is_err(), "it has taken effect");
    let refusal = refusal(outcome(&mut submitted).await);
    assert!(is_quota_exceeded(&refusal), "{refusal:?}");
    assert_eq!(quota(&pools.writes, project.id).await.instances_used, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j09_a_change_that_committed_is_not_reported_as_refused() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let executor = executor(&database).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    let direct = database.pools();
    let before = quota(&direct.writes, project.id).await;

    // The first try commits. Before the second gets there, somebody else has changed the row.
    let lock = ") FOR UPDATE";
    proxy.on(Trouble::LoseReply.to(lock));
    proxy.on(Rule {
        skip: 1,
        ..Trouble::FreezeAfter(2).to(lock)
    });
    let limits = LimitsUpdate {
        instances: Some(5),
        ..LimitsUpdate::default()
    };
    let generation = Some(before.generation);
    let update = project_quota::update(Change::new(), project.id, limits, generation);
    let update = update.commit_as(&pools.writes, Persistence::Keyed);
    let (result, ()) = tokio::join!(update, async {
        proxy.frozen().await;
        let after = quota(&direct.writes, project.id).await;
        assert_eq!(after.instances_limit, 5);
        fixture::instance(&executor, project.id, "one").await;
        proxy.thaw();
    });
    assert!(result.as_ref().is_err_and(event::is_recorded), "{result:?}");
    let after = quota(&direct.writes, project.id).await;
    assert_eq!((after.instances_limit, after.instances_used), (5, 1));
    database.assert_books_balance().await;
}
