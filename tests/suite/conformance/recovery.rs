//! Group J: a saga that is run again, and a process that does not know yet that it is dead.

use std::sync::Arc;

use db_model::batch::Batch;
use db_model::query;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Rule, Trouble};
use nexus_tests::script::{Cue, Script};
use sagas::probe::{Commit, Side};
use sagas::saga::InstanceCreate;
use sagas::{Executor, ExecutorOptions, Outcome, SubmitError};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Gate, SOON, begin_create, create, created, delete, ends, instances, outcome, params, probed,
    quick, quota, saga_row,
};

/// What a batch of each node changes, to be found in its text.
const QUOTA: &str = "UPDATE \"project_quota\"";
const INSTANCE: &str = "UPDATE \"instance\"";

async fn recorded_output(database: &TestDatabase, id: Uuid) -> Value {
    let client = database.client().await;
    let select = "SELECT output::text FROM saga WHERE id = $1 AND state = 'succeeded'";
    let text: String = client.query_one(select, &[&id]).await.unwrap().get(0);
    serde_json::from_str(&text).unwrap()
}

async fn failed_events(database: &TestDatabase) -> i64 {
    let count = "SELECT count(*) FROM saga_event WHERE kind NOT IN ('started', 'succeeded')";
    database.number(count).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j06_j07_j08_a_create_whose_reply_is_lost_at_the_limit_is_charged_once() {
    for trouble in [
        Trouble::LoseReply,
        Trouble::CutAtSync,
        Trouble::CutReplyAfter(3),
    ] {
        let database = TestDatabase::new().await;
        let proxy = database.proxy().await;
        let pools = database.pools_through(&proxy);
        let executor = Executor::start(pools.clone(), ExecutorOptions::default())
            .await
            .unwrap();
        let project = fixture::project(&executor, "web", instances(2)).await;
        fixture::instance(&executor, project.id, "one").await;
        let before = quota(&pools.writes, project.id).await;
        assert_eq!(before.instances_used, before.instances_limit - 1);

        proxy.on(trouble.to(QUOTA));
        let mut submitted = begin_create(&executor, params(project.id, "two")).await;
        let instance = created(outcome(&mut submitted).await);
        assert_eq!(proxy.troubles(), 1, "no trouble was met");
        let recorded = recorded_output(&database, submitted.id()).await;
        assert_eq!(recorded, serde_json::json!({ "V1": instance }));
        let after = quota(&pools.writes, project.id).await;
        assert_eq!(after.instances_used, 2);
        assert_eq!(after.generation, before.generation + 1, "charged twice");
        assert_eq!(failed_events(&database).await, 0);
        database.assert_books_balance().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j09_a_saga_is_never_refused_for_what_it_did_itself() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let executor = Executor::start(pools.clone(), ExecutorOptions::default())
        .await
        .unwrap();
    let project = fixture::project(&executor, "web", WIDE).await;
    // The name is its own; so is the state that it left behind.
    for (name, text) in [("by-insert", QUOTA), ("by-stop", INSTANCE)] {
        proxy.on(Trouble::LoseReply.to(text));
        let instance = created(create(&executor, params(project.id, name)).await);
        proxy.on(Trouble::LoseReply.to(INSTANCE));
        proxy.on(Trouble::LoseReply.to(QUOTA));
        let outcome = delete(&executor, &instance).await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    }
    assert_eq!(proxy.troubles(), 6);
    assert_eq!(failed_events(&database).await, 0);
    assert_eq!(quota(&pools.writes, project.id).await.generation, 2 + 4);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn j10_a_zombie_is_stopped_by_the_fence_before_its_guard_can_refuse() {
    let database = TestDatabase::new().await;
    let asleep = Gate::new(Commit::Action, "insert", Side::Before);
    let half_way = Gate::new(Commit::Action, "stop", Side::Before);
    let zombie_pools = database.pools();
    let other = probed(database.pools(), half_way.clone()).await;
    let project = fixture::project(&other, "web", instances(1)).await;
    let zombie = probed(zombie_pools.clone(), asleep.clone()).await;
    let mut submitted = begin_create(&zombie, params(project.id, "one")).await;
    asleep.reached().await;

    // It is dead for everybody but itself, and another is half way through its saga.
    zombie.stop();
    let end = Batch::new().step(query::executor::end(zombie.id()));
    end.commit(&zombie_pools.writes).await.unwrap();
    half_way.reached().await;
    let row = saga_row(&database, submitted.id()).await;
    assert_eq!(row, ("running".to_owned(), 2, false));
    // Now its guards would refuse: the quota is used up, and the name is taken.
    let used = quota(&zombie_pools.writes, project.id).await;
    assert_eq!(used.instances_used, used.instances_limit);

    asleep.open();
    let ended = outcome(&mut submitted).await;
    assert!(matches!(ended, Outcome::Lost), "{ended:?}");
    // Its batch was stopped by the fence: it has neither gone on nor so much as tried to record a refusal.
    assert_eq!(asleep.passed(), ["insert"]);
    assert_eq!(quota(&zombie_pools.writes, project.id).await, used);
    half_way.open();
    ends(&database, submitted.id()).await;
    let row = saga_row(&database, submitted.id()).await;
    assert_eq!(row, ("succeeded".to_owned(), 2, true));
    assert_eq!(failed_events(&database).await, 0);
    database.assert_books_balance().await;
}

/// A process that is stopped, and another that declares it dead.
struct Stopped {
    database: TestDatabase,
    proxy: nexus_tests::proxy::Proxy,
    stopped: Executor,
    project_id: Uuid,
}

impl Stopped {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let proxy = database.proxy().await;
        let stopped = Executor::start(database.pools_through(&proxy), quick())
            .await
            .unwrap();
        let project = fixture::project(&stopped, "web", WIDE).await;
        Self {
            database,
            proxy,
            stopped,
            project_id: project.id,
        }
    }

    /// Starts the other, and waits until it has declared this one dead.
    async fn is_declared_dead(&self) -> Executor {
        self.stopped.stop();
        let other = Executor::start(self.database.pools(), quick())
            .await
            .unwrap();
        let ended = format!(
            "SELECT count(*) FROM executor WHERE id = '{}' AND time_ended IS NOT NULL",
            self.stopped.id()
        );
        self.database
            .eventually("it is declared dead", async || {
                self.database.number(&ended).await == 1
            })
            .await;
        other
    }

    async fn submit(&self, name: &str) -> Result<sagas::Submitted<InstanceCreate>, SubmitError> {
        self.stopped
            .submit(params(self.project_id, name), "conformance")
            .await
    }

    /// How many sagas there are, the project's among them. All have ended.
    async fn sagas(&self) -> i64 {
        let running = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
        self.database
            .eventually("every saga has ended", async || {
                self.database.number(running).await == 0
            })
            .await;
        self.database.number("SELECT count(*) FROM saga").await
    }
}

/// Told that it is dead; or its session was ended before the Sync, and nothing was started either.
fn assert_refused(submitted: &Result<sagas::Submitted<InstanceCreate>, SubmitError>) {
    let expected = matches!(
        submitted,
        Err(SubmitError::Lost | SubmitError::Unavailable(_))
    );
    assert!(expected, "{submitted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j11_a_process_that_wakes_after_its_lease_is_refused() {
    let scene = Stopped::new().await;
    let _other = scene.is_declared_dead().await;
    let refused = scene.submit("late").await;
    assert_refused(&refused);
    assert_eq!(scene.sagas().await, 1);
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j11_a_process_that_is_stopped_while_it_submits_is_refused() {
    let scene = Stopped::new().await;
    scene
        .proxy
        .on(Trouble::FreezeAfter(2).to("INSERT INTO saga ("));
    let (refused, _other) = tokio::join!(scene.submit("late"), async {
        scene.proxy.frozen().await;
        let other = scene.is_declared_dead().await;
        scene.proxy.thaw();
        other
    });
    assert_refused(&refused);
    assert_eq!(scene.sagas().await, 1);
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j11_a_saga_whose_process_never_heard_that_it_was_submitted_is_ended_by_another() {
    let scene = Stopped::new().await;
    // However often it asks.
    scene.proxy.on(Rule {
        times: usize::MAX,
        ..Trouble::LoseReply.to("INSERT INTO saga (")
    });
    let (refused, other) = tokio::join!(scene.submit("late"), async {
        nexus_tests::eventually("a reply is lost", async || scene.proxy.troubles() > 0).await;
        let other = scene.is_declared_dead().await;
        assert_eq!(scene.sagas().await, 2);
        scene.proxy.clear();
        other
    });
    assert!(matches!(refused, Err(SubmitError::Lost)), "{refused:?}");
    assert_eq!(scene.sagas().await, 2);
    assert_eq!(
        scene.database.number("SELECT count(*) FROM instance").await,
        1
    );
    assert_eq!(other.drain(SOON).await, 0);
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j02_an_undo_that_runs_twice_gives_back_once() {
    let database = TestDatabase::new().await;
    let script = Arc::new(Script::default());
    let executor = probed(database.pools(), script.clone()).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    fixture::instance(&executor, project.id, "kept").await;
    let writes = database.pools().writes;
    let before = quota(&writes, project.id).await;

    script.set(vec![Cue::fail("stop"), Cue::repeat(Commit::Undo, "insert")]);
    let undone = create(&executor, params(project.id, "undone")).await;
    assert!(matches!(undone, Outcome::Failed(_)), "{undone:?}");
    let undos = script.passed().into_iter();
    let undos = undos.filter(|point| (point.commit, point.side) == (Commit::Undo, Side::After));
    assert_eq!(undos.count(), 2);
    let after = quota(&writes, project.id).await;
    assert_eq!(after.instances_used, before.instances_used);
    assert_eq!(
        after.generation,
        before.generation + 2,
        "one charge, one release"
    );
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j03_a_node_that_runs_again_after_its_commit_takes_what_was_recorded() {
    let database = TestDatabase::new().await;
    let script = Arc::new(Script::default());
    let executor = probed(database.pools(), script.clone()).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    let writes = database.pools().writes;
    for (place, node) in (1..).zip(["insert", "stop"]) {
        script.set(vec![Cue::repeat(Commit::Action, node)]);
        let mut submitted = begin_create(&executor, params(project.id, node)).await;
        let instance = created(outcome(&mut submitted).await);
        let runs = script.passed().into_iter().filter(|point| {
            (point.commit, point.side) == (Commit::Action, Side::After) && point.what == node
        });
        assert_eq!(runs.count(), 2);
        let recorded = recorded_output(&database, submitted.id()).await;
        assert_eq!(recorded, serde_json::json!({ "V1": instance }));
        assert_eq!(quota(&writes, project.id).await.instances_used, place);
    }
    assert_eq!(failed_events(&database).await, 0);
    database.assert_books_balance().await;
}
