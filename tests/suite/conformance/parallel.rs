//! Group J: a node whose outcome is unknown while its neighbour fails.

use std::sync::Arc;

use nexus_tests::proxy::{Rule, Trouble};
use nexus_tests::trial::{
    self, Deed, Ground, Hold, Item, definition, ended, key_outside, quick, submit,
};
use reqwest::Method;
use sagas::probe::{Commit, Point, Side};
use sagas::{Outcome, Start};
use uuid::Uuid;

/// The first statement of a node's batch.
const EVENT: &str = "INSERT INTO saga_event";

/// What becomes of the batch that the network holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It goes on.
    Arrives,
    /// Its connection ends before it reaches the server.
    IsLost,
    /// It has committed, and nobody was told.
    HasCommitted,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j15_a_neighbours_unknown_outcome_is_settled_before_anything_is_undone() {
    for held in [Held::Arrives, Held::IsLost, Held::HasCommitted] {
        let ground = Ground::new().await;
        let proxy = ground.database.proxy().await;
        let stages = [vec![Item::Db(0), Item::External(1)], vec![Item::Last(2)]];
        let trial = definition("trial", &stages, quick).unwrap();
        let pools = ground.database.pools_through(&proxy);
        // The call is not begun before the row's batch is held.
        let hold = Arc::new(Hold::at(&Point {
            saga_id: Uuid::nil(),
            commit: Commit::Event,
            what: "n01/started".to_owned(),
            side: Side::Before,
        }));
        let executor = trial::start(pools, vec![trial], hold.clone()).await;
        // Of what binds and executes it, nothing reaches the server: it would lock the saga's row.
        let mut freeze: Rule = Trouble::FreezeAfter(2).to(EVENT);
        if held == Held::HasCommitted {
            proxy.on(Trouble::LoseReply.to(EVENT));
            // It is the second try that waits.
            freeze.skip = 1;
        }
        proxy.on(freeze);
        let params = ground.params().with(1, Deed::Break);
        let mut submitted = submit(&executor, "trial", &params, Start::Durable).await;
        let (id, key) = (submitted.id(), key_outside(submitted.id(), "n01"));
        hold.reached().await;
        proxy.frozen().await;
        hold.open();
        ground.becomes(id, "unwinding").await;
        // It is known to have failed, and nothing is undone yet: not even its own effect.
        assert_eq!(ground.outside.made(&key), 1);
        assert_eq!(ground.outside.count(&key, &Method::DELETE), 0);
        let log = ground.log(id).await;
        assert!(
            log.iter().all(|event| !event.kind.starts_with("undo")),
            "{log:?}"
        );
        let committed = i64::from(held == Held::HasCommitted);
        assert_eq!(ground.count().await, committed, "{held:?}");
        match held {
            Held::Arrives => proxy.thaw(),
            Held::IsLost | Held::HasCommitted => proxy.cut(),
        }
        let outcome = ended(&mut submitted).await;
        assert!(
            matches!(outcome, Outcome::Failed(_)),
            "{held:?}: {outcome:?}"
        );
        assert_eq!(ground.effects(id).await, [(0, (1, 1))].into(), "{held:?}");
        assert_eq!(ground.count().await, 0);
        assert_eq!(ground.outside.count(&key, &Method::DELETE), 1);
        assert!(ground.outside.effects().is_empty());
        ground.assert_log_is_whole(id).await;
        ground.database.assert_books_balance().await;
    }
}
