//! The database fails, hangs and comes back at each thing that a saga records.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use nexus_tests::proxy::{Proxy, Trouble};
use nexus_tests::trial::{Deed, Ground, Item, Params, definition, ended, quick, stages_of, submit};
use sagas::registry::Registry;
use sagas::{Executor, ExecutorOptions, Outcome, Start};

/// Cases that run at once.
const AT_ONCE: usize = 4;

/// How long the database is away: longer than a few tries take.
const AWAY: Duration = Duration::from_millis(300);

/// What the database does when something is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It hangs, and goes on.
    Hangs,
    /// It takes what is recorded, hangs before it says so, and its connections end.
    HangsAndFails,
    /// It is gone, takes no connection for a while, and comes back.
    IsAway,
}

fn trial() -> Vec<Vec<Item>> {
    let mut stages = stages_of([Item::Db(0), Item::Pure(1), Item::External(2)]);
    stages.push(vec![Item::Db(3), Item::Db(4)]);
    stages.push(vec![Item::Last(5)]);
    stages
}

/// A process that says nothing but what its sagas do.
async fn quiet(ground: &Ground, proxy: &Proxy) -> Executor {
    let definition = definition("trial", &trial(), quick).unwrap();
    let registry = Registry::new([Ok(definition)]).unwrap();
    let long = Duration::from_secs(3_600);
    let options = ExecutorOptions {
        registry: Arc::new(registry),
        heartbeat_interval: long,
        lease: long * 2,
        watchdog_interval: long,
        takes_over: false,
        ..ExecutorOptions::default()
    };
    let pools = ground.database.pools_through(proxy);
    let executor = Executor::start(pools, options).await.unwrap();
    // The watchdog looks once.
    nexus_tests::eventually("it is quiet", async || {
        let flights = proxy.flights();
        tokio::time::sleep(Duration::from_millis(50)).await;
        flights == proxy.flights()
    })
    .await;
    executor
}

async fn run(ground: &Ground, params: &Params, trouble: Option<(usize, Does)>) -> usize {
    let proxy = ground.database.proxy().await;
    let executor = quiet(ground, &proxy).await;
    let before = proxy.flights();
    if let Some((flight, does)) = trouble {
        let what = match does {
            Does::HangsAndFails => Trouble::LoseReply,
            Does::Hangs | Does::IsAway => Trouble::FreezeAfter(0),
        };
        proxy.on(what.at(before + flight));
    }
    let mut submitted = submit(&executor, "trial", params, Start::Riding).await;
    if let Some((_, does)) = trouble {
        nexus_tests::eventually("the trouble is met", async || proxy.troubles() > 0).await;
        match does {
            Does::Hangs => tokio::time::sleep(AWAY).await,
            Does::HangsAndFails => {}
            Does::IsAway => {
                proxy.refuse(true);
                proxy.cut();
                tokio::time::sleep(AWAY).await;
                proxy.refuse(false);
            }
        }
        proxy.thaw();
    }
    let outcome = ended(&mut submitted).await;
    let id = submitted.id();
    let effects = ground.effects(id).await;
    let state = ground.saga(id).await.unwrap().0;
    let fails = params.deeds.contains_key(&5);
    assert_eq!(
        matches!(outcome, Outcome::Succeeded(_)),
        !fails,
        "{trouble:?}: {outcome:?}"
    );
    assert_eq!(
        matches!(outcome, Outcome::Failed(_)),
        fails,
        "{trouble:?}: {outcome:?}"
    );
    assert_eq!(state, if fails { "failed" } else { "succeeded" });
    let undone = i64::from(fails);
    let mut wanted: Vec<_> = [0, 3, 4].map(|slot| (slot, (1, undone))).into();
    wanted.extend((!fails).then_some((5, (1, 0))));
    assert_eq!(effects, wanted.into_iter().collect(), "{trouble:?}");
    assert_eq!(ground.outside_of(id).is_empty(), fails, "{trouble:?}");
    ground.assert_log_is_whole(id).await;
    executor.stop();
    proxy.flights() - before
}

async fn trouble_at_everything(params: impl Fn(&Ground) -> Params) {
    let ground = Ground::new().await;
    let params = params(&ground);
    let flights = run(&ground, &params, None).await;
    assert!(flights >= 5, "{flights}");
    let troubles = (0..flights).flat_map(|flight| {
        [Does::Hangs, Does::HangsAndFails, Does::IsAway].map(|does| Some((flight, does)))
    });
    println!("{flights} flights");
    let cases = troubles.map(|trouble| run(&ground, &params, trouble));
    stream::iter(cases)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    ground.assert_count_holds().await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_is_done_once_though_the_database_hangs_fails_and_comes_back_at_each_record() {
    trouble_at_everything(Ground::params).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_is_undone_once_though_the_database_hangs_fails_and_comes_back_at_each_record() {
    trouble_at_everything(|ground| ground.params().with(5, Deed::Break)).await;
}
