//! Group J: a node whose outcome is unknown while its neighbour fails.

use nexus_tests::outside::Fault;
use nexus_tests::proxy::Trouble;
use nexus_tests::trial::{self, Deed, Ground, Item, definition, ended, key_outside, quick, submit};
use reqwest::Method;
use sagas::probe::NoProbe;
use sagas::{Outcome, Start};
use std::sync::Arc;

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
        println!("{held:?}");
        let ground = Ground::new().await;
        let proxy = ground.database.proxy().await;
        let stages = [vec![Item::Db(0), Item::External(1)], vec![Item::Last(2)]];
        let trial = definition("trial", &stages, quick).unwrap();
        let pools = ground.database.pools_through(&proxy);
        let executor = trial::start(pools, vec![trial], Arc::new(NoProbe)).await;
        let batch = "INSERT INTO trial ";
        if held == Held::HasCommitted {
            proxy.on(Trouble::LoseReply.to(batch));
            // Nor does its second try get there.
            proxy.on(Trouble::FreezeAfter(0).to(batch));
        } else {
            proxy.on(Trouble::FreezeAfter(0).to(batch));
        }
        ground.outside.script("n01:", [Fault::HangBeforeEffect]);
        let params = ground.params().with(1, Deed::Break);
        let mut submitted = submit(&executor, "trial", &params, Start::Durable).await;
        let (id, key) = (submitted.id(), key_outside(submitted.id(), "n01"));
        proxy.frozen().await;
        ground.outside.hang(1).await;
        ground.outside.release();
        ground.becomes(id, "unwinding").await;
        // It is known to have failed, and nothing is undone yet: not even its own effect.
        assert_eq!(ground.outside.count(&key, &Method::DELETE), 0);
        let log = ground.log(id).await;
        assert!(
            log.iter().all(|event| !event.kind.starts_with("undo")),
            "{log:?}"
        );
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
