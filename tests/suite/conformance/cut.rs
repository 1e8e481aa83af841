//! Group J: the connection cut at every message of a create and of a delete, in either direction.

use std::time::Duration;

use db_model::Database;
use db_model::model::{Instance, ProjectQuota};
use futures::{StreamExt, stream};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Proxy, Trouble};
use sagas::saga::{InstanceCreate, InstanceDelete, instance_delete};
use sagas::{Executor, ExecutorOptions, Outcome, Saga, Start, SubmitError};
use uuid::Uuid;

use super::{outcome, params, quota};

/// Cases that run at once, on projects of their own.
const AT_ONCE: usize = 4;

/// What is done under a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Delete,
}

/// A process whose only flights are those of its sagas: it neither beats nor takes over meanwhile.
async fn quiet(pools: Database) -> Executor {
    let options = ExecutorOptions {
        heartbeat_interval: Duration::from_secs(3_600),
        lease: Duration::from_secs(7_200),
        watchdog_interval: Duration::from_secs(3_600),
        takes_over: false,
        ..ExecutorOptions::default()
    };
    Executor::start(pools, options).await.unwrap()
}

/// A project, and a process that is about to do the deed through a proxy, its session set up.
struct Scene<'a> {
    database: &'a TestDatabase,
    direct: &'a Database,
    proxy: Proxy,
    executor: Executor,
    project_id: Uuid,
    instance: Option<Instance>,
    start: Start,
    before: ProjectQuota,
}

impl<'a> Scene<'a> {
    async fn new(
        database: &'a TestDatabase,
        direct: &'a Database,
        helper: &Executor,
        deed: Deed,
        start: Start,
    ) -> Self {
        let name = format!("p-{}", Uuid::now_v7().simple());
        let project_id = fixture::project(helper, &name, WIDE).await.id;
        let instance = match deed {
            Deed::Create => None,
            Deed::Delete => Some(fixture::instance(helper, project_id, "one").await),
        };
        let proxy = database.proxy().await;
        let pools = database.pools_through(&proxy);
        let executor = quiet(pools.clone()).await;
        drop(pools.writes.get().await.unwrap());
        let before = quota(&direct.writes, project_id).await;
        Self {
            database,
            direct,
            proxy,
            executor,
            project_id,
            instance,
            start,
            before,
        }
    }

    /// Does the deed. Gives whether it was submitted; if it was, it succeeds.
    async fn do_it(&self) -> bool {
        match &self.instance {
            None => {
                self.submit::<InstanceCreate>(params(self.project_id, "one"))
                    .await
            }
            Some(instance) => {
                self.submit::<InstanceDelete>(instance_delete::Params::new(instance, None))
                    .await
            }
        }
    }

    async fn submit<S: Saga>(&self, params: S::Params) -> bool {
        let submitted = match self.start {
            Start::Durable => self.executor.submit::<S>(params, "conformance").await,
            Start::Riding => self.executor.begin::<S>(params, "conformance").await,
        };
        match submitted {
            Ok(mut submitted) => {
                let ended = outcome(&mut submitted).await;
                assert!(matches!(ended, Outcome::Succeeded(_)), "it did not succeed");
                true
            }
            Err(SubmitError::Unavailable(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sees that it was done once, or that nothing was, and that no saga of the project goes on.
    async fn assert_done(&self, done: bool) {
        let live = format!(
            "SELECT count(*) FROM instance WHERE project_id = '{}' \
             AND time_deleted IS NULL AND state = 'stopped'",
            self.project_id
        );
        let there = done != self.instance.is_some();
        assert_eq!(self.database.number(&live).await, i64::from(there));
        let after = quota(&self.direct.writes, self.project_id).await;
        assert_eq!(after.instances_used, i64::from(there));
        let changes = after.generation - self.before.generation;
        assert_eq!(changes, i64::from(done), "charged or released twice");
        let open = format!(
            "SELECT count(*) FROM saga WHERE project_id = '{}' AND time_finished IS NULL",
            self.project_id
        );
        assert_eq!(self.database.number(&open).await, 0, "a saga goes on");
    }
}

/// Every place at which the deed's connection can be cut: the flight, counted from the first one of the
/// deed, and the trouble.
async fn cuts(scene: Scene<'_>) -> Vec<(usize, Trouble)> {
    scene.proxy.take_traffic();
    assert!(scene.do_it().await);
    let sent_and_received = scene.proxy.take_traffic();
    let busy = |traffic: &nexus_tests::proxy::Traffic| !traffic.sent.is_empty();
    let mut busy = sent_and_received.iter().filter(|traffic| busy(traffic));
    let traffic = busy.next().unwrap();
    assert_eq!(busy.next(), None, "flights of more than one session");
    let flights = traffic.sent.split_inclusive('S').map(str::len);
    let answers = traffic.received.split_inclusive('Z').map(str::len);
    let mut cuts = Vec::new();
    for (flight, (messages, answered)) in flights.zip(answers).enumerate() {
        let sending = (0..messages).map(Trouble::CutAfter);
        let answering = (0..answered).map(Trouble::CutReplyAfter);
        let all = sending.chain([Trouble::CutAtSync]).chain(answering);
        cuts.extend(all.map(|trouble| (flight, trouble)));
    }
    cuts
}

async fn cut_at_every_message(deed: Deed, start: Start) {
    let database = TestDatabase::new().await;
    let direct = database.pools();
    let helper = quiet(direct.clone()).await;
    let scene = || Scene::new(&database, &direct, &helper, deed, start);
    let cuts = cuts(scene().await).await;
    let flights = cuts.last().unwrap().0 + 1;
    println!(
        "{deed:?}, {start:?}: {} cuts of {flights} flights",
        cuts.len()
    );
    // The row alone, if it is to be durable first; then a flight for each node, the end in the last.
    let expected = match start {
        Start::Durable => 3,
        Start::Riding => 2,
    };
    assert_eq!(flights, expected, "{cuts:?}");
    assert!(cuts.len() > 40, "{cuts:?}");
    let check = |(flight, trouble): (usize, Trouble)| async move {
        let scene = scene().await;
        scene.proxy.on(trouble.at(scene.proxy.flights() + flight));
        let done = scene.do_it().await;
        println!("flight {flight}, {trouble:?}: {done}");
        assert_eq!(scene.proxy.troubles(), 1, "no trouble was met");
        assert!(done || flight == 0, "submitted, and then not done");
        scene.assert_done(done).await;
        scene.executor.stop();
    };
    stream::iter(cuts)
        .map(check)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    database.assert_database_quiet(&[&direct]).await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_a_create_cut_at_any_message_in_either_direction_ends_and_is_done_once() {
    cut_at_every_message(Deed::Create, Start::Durable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_a_create_whose_row_rides_cut_at_any_message_ends_and_is_done_once() {
    cut_at_every_message(Deed::Create, Start::Riding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_a_delete_cut_at_any_message_in_either_direction_ends_and_is_done_once() {
    cut_at_every_message(Deed::Delete, Start::Durable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_a_delete_whose_row_rides_cut_at_any_message_ends_and_is_done_once() {
    cut_at_every_message(Deed::Delete, Start::Riding).await;
}
