//! Group J: taking over from a process that is frozen, and leaving alone what has ended.

use std::sync::Arc;

use db_model::batch::Batch;
use db_model::types::limits::LEASE;
use db_model::{connect, query};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Rule, Trouble};
use nexus_tests::script::{Cue, Script};
use sagas::probe::{Commit, Point, Side};
use sagas::{Executor, ExecutorOptions, Outcome};
use uuid::Uuid;

use super::{
    Gate, assert_keeps_its_lease, begin_create, create, created, ends, executor, outcome, params,
    probed, quick, quota, saga_row, waits_for_locks,
};

/// A create whose batch is frozen half way: the quota is charged, the instance is not there, and the
/// locks of both the saga's row and the quota's are held.
struct Frozen {
    database: TestDatabase,
    proxy: nexus_tests::proxy::Proxy,
    frozen: Executor,
    submitted: sagas::Submitted<sagas::saga::InstanceCreate>,
    project_id: Uuid,
}

impl Frozen {
    async fn new(options: ExecutorOptions) -> Self {
        let database = TestDatabase::new().await;
        let proxy = database.proxy().await;
        let frozen = Executor::start(database.pools_through(&proxy), options)
            .await
            .unwrap();
        let project = fixture::project(&frozen, "web", WIDE).await;
        // Two events, with one statement; then the charge's four messages; then those of the insert.
        proxy.on(Trouble::FreezeAfter(10).to("UPDATE \"project_quota\""));
        let submitted = begin_create(&frozen, params(project.id, "frozen")).await;
        proxy.frozen().await;
        frozen.stop();
        // Nor does it send anything else.
        proxy.on(Rule {
            times: usize::MAX,
            ..Trouble::FreezeAfter(0).into()
        });
        Self {
            database,
            proxy,
            frozen,
            submitted,
            project_id: project.id,
        }
    }

    async fn sessions(&self) -> i64 {
        let name = query::executor::session_name(self.frozen.id());
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'active'"
        );
        self.database.number(&count).await
    }

    /// Another process takes over, and both its own saga and the frozen one's go on.
    async fn others_go_on(mut self) {
        assert_eq!(self.sessions().await, 1);
        // A session that is nobody's; and one in another database of the server, of which this one may
        // be a restored copy: there the same executor lives.
        let here = self.database.client().await;
        let elsewhere = TestDatabase::new().await;
        let name = query::executor::session_name(self.frozen.id());
        let original = elsewhere.options().application_name(name);
        let there = connect::client(&original).await.unwrap();
        let other = Executor::start(self.database.pools(), quick())
            .await
            .unwrap();
        let mut blocked = begin_create(&other, params(self.project_id, "blocked")).await;
        created(outcome(&mut blocked).await);
        ends(&self.database, self.submitted.id()).await;
        let row = saga_row(&self.database, self.submitted.id()).await;
        assert_eq!(row, ("succeeded".to_owned(), 2, true));
        assert_eq!(self.sessions().await, 0);
        for bystander in [here, there] {
            bystander.execute("SELECT 1", &[]).await.unwrap();
        }
        elsewhere.assert_books_balance().await;
        // It wakes up, and can do nothing.
        self.proxy.clear();
        self.proxy.thaw();
        let ended = outcome(&mut self.submitted).await;
        assert!(matches!(ended, Outcome::Lost), "{ended:?}");
        let quota = quota(&self.database.pools().writes, self.project_id).await;
        assert_eq!((quota.instances_used, quota.generation), (2, 4));
        self.database.assert_books_balance().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_a_batch_frozen_half_way_is_ended_with_its_session_and_sagas_go_on() {
    Frozen::new(quick()).await.others_go_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_frozen_sessions_are_ended_also_when_the_first_to_declare_them_dead_died_over_it() {
    let scene = Frozen::new(quick()).await;
    let end = "UPDATE executor SET time_ended = clock_timestamp(), time_lease_expires = clock_timestamp() WHERE id = $1";
    let client = scene.database.client().await;
    client.execute(end, &[&scene.frozen.id()]).await.unwrap();
    scene.others_go_on().await;
}

/// A saga whose process halted at once and is known to be dead.
async fn orphan(database: &TestDatabase, project_id: Uuid, name: &str) -> Uuid {
    orphans(database, project_id, &[name.to_owned()]).await[0]
}

/// Sagas of one process that halted at once and is known to be dead.
async fn orphans(database: &TestDatabase, project_id: Uuid, names: &[String]) -> Vec<Uuid> {
    let script = Arc::new(Script::default());
    let (commit, side) = (Commit::Action, Side::Before);
    let halt = Cue::halt(&Point {
        saga_id: Uuid::nil(),
        commit,
        what: "insert".to_owned(),
        side,
    });
    let options = ExecutorOptions {
        probe: Arc::clone(&script) as _,
        // What it has orphaned before stays so.
        takes_over: false,
        ..ExecutorOptions::default()
    };
    let pools = database.pools();
    let dead = Executor::start(pools.clone(), options).await.unwrap();
    let mut sagas = Vec::new();
    for name in names {
        script.set(vec![halt.clone()]);
        let mut submitted = begin_create(&dead, params(project_id, name)).await;
        let ended = outcome(&mut submitted).await;
        assert!(matches!(ended, Outcome::Lost), "{ended:?}");
        sagas.push(submitted.id());
    }
    dead.stop();
    let end = Batch::new().step(query::executor::end(dead.id()));
    end.commit(&pools.writes).await.unwrap();
    sagas
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j05_of_several_that_recover_each_saga_has_one_and_is_done_once() {
    const SAGAS: i64 = 12;
    let database = TestDatabase::new().await;
    let first = executor(&database).await;
    let project = fixture::project(&first, "web", WIDE).await;
    let before = quota(&database.pools().writes, project.id).await;
    first.stop();
    let names: Vec<_> = (0..SAGAS).map(|number| format!("i-{number}")).collect();
    let sagas = orphans(&database, project.id, &names).await;
    let mut pools = Vec::new();
    for _ in 0..3 {
        pools.push(database.pools());
    }
    // They look often, and none is taken for dead because the machine is busy.
    let options = ExecutorOptions {
        lease: LEASE,
        ..quick()
    };
    let starting = pools
        .iter()
        .map(|pools| Executor::start(pools.clone(), options.clone()));
    let executors = futures::future::join_all(starting).await;
    for id in sagas {
        ends(&database, id).await;
        // Taken over once: a second owner would have raised the generation again.
        let row = saga_row(&database, id).await;
        assert_eq!(row, ("succeeded".to_owned(), 2, true));
    }
    let after = quota(&pools[0].writes, project.id).await;
    assert_eq!(after.instances_used, SAGAS);
    assert_eq!(after.generation, before.generation + SAGAS);
    for executor in executors {
        assert_keeps_its_lease(&executor.unwrap());
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j13_a_saga_whose_end_is_being_written_stays_ended() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let leaving = Executor::start(database.pools_through(&proxy), ExecutorOptions::default())
        .await
        .unwrap();
    let other = executor(&database).await;
    let project = fixture::project(&other, "web", WIDE).await;
    // Its last batch is sent but for the Sync; and it leaves without waiting for it.
    proxy.on(Trouble::FreezeAfter(4).to("UPDATE \"saga\""));
    let mut submitted = begin_create(&leaving, params(project.id, "ending")).await;
    proxy.frozen().await;
    assert_eq!(leaving.drain(std::time::Duration::ZERO).await, 1);

    // The other takes over what it can, and so has looked at this one.
    ends(&database, orphan(&database, project.id, "first").await).await;
    assert_eq!(
        saga_row(&database, submitted.id()).await,
        ("running".to_owned(), 1, false)
    );
    proxy.thaw();
    created(outcome(&mut submitted).await);
    ends(&database, orphan(&database, project.id, "second").await).await;
    assert_eq!(
        saga_row(&database, submitted.id()).await,
        ("succeeded".to_owned(), 1, true)
    );
    database.assert_books_balance().await;
}

/// Lets a take-over wait, once it has looked and before it has locked anything, for a lock of the test.
const WAIT_BETWEEN: &str = "\
ALTER TABLE executor RENAME TO executor_table;
CREATE FUNCTION waits() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_query() LIKE '%UPDATE saga SET executor_id%' THEN
        PERFORM pg_advisory_xact_lock_shared(13);
    END IF;
    RETURN true;
END $$;
CREATE VIEW executor AS SELECT * FROM executor_table WHERE waits()";

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn j13_a_saga_that_ended_while_the_take_over_waited_stays_ended() {
    let database = TestDatabase::new().await;
    // The end is part of the last node's batch.
    let gate = Gate::new(Commit::Action, "stop", Side::Before);
    let helper = executor(&database).await;
    let project = fixture::project(&helper, "web", WIDE).await;
    assert_eq!(helper.drain(super::SOON).await, 0);
    let pools = database.pools();
    let slow = probed(pools.clone(), gate.clone()).await;
    let mut submitted = begin_create(&slow, params(project.id, "ending")).await;
    gate.reached().await;
    slow.stop();
    let end = Batch::new().step(query::executor::end(slow.id()));
    end.commit(&pools.writes).await.unwrap();

    let mut client = database.client().await;
    client.batch_execute(WAIT_BETWEEN).await.unwrap();
    let holder = client.transaction().await.unwrap();
    holder
        .execute("SELECT pg_advisory_xact_lock(13)", &[])
        .await
        .unwrap();
    // It has seen the saga as unfinished and unowned when it comes to wait.
    let other = executor(&database).await;
    waits_for_locks(&database, 1).await;
    gate.open();
    created(outcome(&mut submitted).await);
    holder.commit().await.unwrap();

    ends(&database, orphan(&database, project.id, "later").await).await;
    assert_eq!(
        saga_row(&database, submitted.id()).await,
        ("succeeded".to_owned(), 1, true)
    );
    created(create(&other, params(project.id, "more")).await);
    database.assert_books_balance().await;
}
