//! A connection lost at the worst moments: what the caller is told, and that a key makes it once.

use db_model::batch::{BatchError, Persistence};
use db_model::constraint::Refusal;
use db_model::model::Project;
use db_model::query::executor::session_name;
use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, event};
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::proxy::{Proxy, Rule, Trouble};

use super::{executor, quota};

struct Scene {
    database: TestDatabase,
    project: Project,
    proxy: Proxy,
    pools: db_model::Database,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let executor = executor(&database).await;
        let project = fixture::project(&executor, "web", WIDE).await;
        let proxy = database.proxy().await;
        let pools = database.pools_through(&proxy);
        Self {
            database,
            project,
            proxy,
            pools,
        }
    }

    /// The server processes of the pools' sessions.
    async fn sessions(&self) -> Vec<i32> {
        let select = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let name = session_name(self.pools.executor_id());
        let client = self.database.client().await;
        let rows = client.query(select, &[&name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Updates a limit under a trouble. Gives how it ended, and how often the row was changed by it.
    async fn update(
        &self,
        trouble: Trouble,
        times: usize,
        limit: i64,
        persistence: Persistence,
    ) -> (Result<(), BatchError>, i64) {
        let before = quota(&self.pools.writes, self.project.id).await;
        let sessions = self.sessions().await;
        assert_eq!(
            sessions.len(),
            1,
            "one batch after another needs one session"
        );
        let troubles = self.proxy.troubles();
        self.proxy.on(Rule {
            times,
            ..trouble.to("UPDATE \"project_quota\"")
        });
        let limits = LimitsUpdate {
            instances: Some(limit),
            ..LimitsUpdate::default()
        };
        let update = project_quota::update(
            Change::new(),
            self.project.id,
            limits,
            Some(before.generation),
        );
        let ended = match update.commit_as(&self.pools.writes, persistence).await {
            Err(error) if event::is_recorded(&error) => Ok(()),
            ended => ended.map(drop),
        };
        assert_eq!(
            self.proxy.troubles(),
            troubles + times,
            "no trouble was met"
        );
        // What a cut session may still commit, it commits before it is gone.
        self.database
            .eventually("the cut session is gone", async || {
                self.sessions()
                    .await
                    .iter()
                    .all(|pid| !sessions.contains(pid))
            })
            .await;
        let after = quota(&self.pools.writes, self.project.id).await;
        let changes = after.generation - before.generation;
        let set = after.instances_limit == limit;
        assert_eq!(set, changes > 0, "{before:?} {after:?}");
        (ended, changes)
    }
}

const CUTS: [Trouble; 4] = [
    Trouble::CutBeforeSync,
    Trouble::CutAtSync,
    Trouble::LoseReply,
    Trouble::CutReplyAfter(2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_lost_connection_is_never_reported_as_done_or_as_refused() {
    let scene = Scene::new().await;
    for (limit, trouble) in (10..).zip(CUTS.repeat(5)) {
        let (ended, changes) = scene
            .update(trouble, 1, limit, Persistence::Conflicts)
            .await;
        match (trouble, ended) {
            (Trouble::CutBeforeSync, Err(BatchError::Ambiguous(_) | BatchError::Busy(_))) => {
                assert_eq!(changes, 0, "committed without a Sync");
            }
            (Trouble::CutAtSync, Err(BatchError::Ambiguous(_))) => assert!(changes <= 1),
            (_, Err(BatchError::Ambiguous(_))) => assert_eq!(changes, 1, "{trouble:?}"),
            (_, ended) => panic!("{trouble:?}: {ended:?}"),
        }
    }
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_keyed_batch_is_run_again_and_its_key_makes_it_once() {
    let scene = Scene::new().await;
    for (limit, trouble) in (10..).zip(CUTS.repeat(5)) {
        let persistence = if limit % 2 == 0 {
            Persistence::Keyed
        } else {
            Persistence::Endless
        };
        let (ended, changes) = scene.update(trouble, 1, limit, persistence).await;
        match ended {
            Ok(()) => assert_eq!(changes, 1, "{trouble:?}"),
            // Known not to have left: a keyed batch is then as limited as any other.
            Err(BatchError::Busy(_)) if persistence == Persistence::Keyed => assert_eq!(changes, 0),
            Err(error) => panic!("{trouble:?} {persistence:?}: {error:?}"),
        }
    }
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_keyed_batch_is_once_however_often_its_reply_is_lost() {
    let scene = Scene::new().await;
    let (ended, changes) = scene
        .update(Trouble::LoseReply, 5, 7, Persistence::Keyed)
        .await;
    ended.unwrap();
    assert_eq!(changes, 1);
    scene.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_after_a_lost_reply_only_a_refusal_that_lasts_is_told() {
    let scene = Scene::new().await;
    let refused = async |generation| {
        quota(&scene.pools.writes, scene.project.id).await;
        scene
            .proxy
            .on(Trouble::LoseReply.to("UPDATE \"project_quota\""));
        let limits = LimitsUpdate::default();
        project_quota::update(Change::new(), scene.project.id, limits, generation)
            .commit_as(&scene.pools.writes, Persistence::Keyed)
            .await
            .unwrap_err()
    };
    let error = refused(Some(1)).await;
    assert!(
        matches!(
            &error,
            BatchError::Refused {
                refusal: Refusal::Changed { .. },
                ..
            }
        ),
        "{error:?}"
    );
    // The first try may still be on its way, and arrive when the project is open again.
    let client = scene.database.client().await;
    let close = |open, state| {
        format!("UPDATE project_quota SET open = {open}; UPDATE project SET state = '{state}'")
    };
    client
        .batch_execute(&close(false, "deleting"))
        .await
        .unwrap();
    let error = refused(None).await;
    assert!(matches!(error, BatchError::Ambiguous(_)), "{error:?}");
    client.batch_execute(&close(true, "active")).await.unwrap();
    scene.database.assert_books_balance().await;
}
