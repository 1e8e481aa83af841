//! Sagas of random shape, with stages side by side and sagas in sagas, random failures, faults outside and
//! crashes, held against a model: all is done once, or all is undone.

mod draw;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use nexus_tests::outside::Outside;
use nexus_tests::trial::{self, Ground, Halts, definition, ended, key_outside, quick, submit};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use sagas::definition::Definition;
use sagas::{Outcome, Start};
use uuid::Uuid;

use draw::{Kind, Node, Trial};

/// Sagas of one run of the test; `NEXUS_TEST_CASES` makes it longer.
const CASES: u32 = 100;

/// What the sagas of a run met.
#[derive(Debug, Default)]
struct Met {
    succeeded: AtomicUsize,
    failed: AtomicUsize,
    unborn: AtomicUsize,
    crashes: AtomicUsize,
}

/// Set `NEXUS_TEST_SEED` to what a failed run printed to have its sagas again.
fn runner() -> TestRunner {
    let given = std::env::var("NEXUS_TEST_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("NEXUS_TEST_SEED={seed}");
    let cases = std::env::var("NEXUS_TEST_CASES").ok();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: cases.map_or(CASES, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, random)
}

#[test]
fn a_saga_of_any_shape_is_done_once_or_undone_whatever_fails_and_crashes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let ground = runtime.block_on(Ground::new());
    let met = Met::default();
    let result = runner().run(&draw::trial(), |trial| {
        runtime.block_on(run(&ground, &trial, &met));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{met:?}");
    for count in [&met.succeeded, &met.failed, &met.unborn, &met.crashes] {
        assert!(count.load(Ordering::Relaxed) > 0, "{met:?}");
    }
    runtime.block_on(async {
        ground.assert_count_holds().await;
        ground.database.assert_books_balance().await;
    });
}

/// Runs a saga to its end, over as many processes as that takes, and compares.
async fn run(ground: &Ground, trial: &Trial, met: &Met) {
    let name: &str = format!("trial-{}", Uuid::now_v7()).leak();
    let own = || definition(name, &trial.stages, quick).unwrap();
    lay_faults(&ground.outside, trial);
    let halts = Halts::new(&trial.halts);
    let start = || trial::start(ground.database.pools(), vec![own()], halts.clone());
    let mut params = ground.params();
    if let Some((slot, deed)) = trial.failing {
        params = params.with(slot, deed);
    }
    let begin = if trial.riding {
        Start::Riding
    } else {
        Start::Durable
    };
    let mut executor = start().await;
    let mut submitted = submit(&executor, name, &params, begin).await;
    let id = submitted.id();
    let outcome = ended(&mut submitted).await;
    let mut crashed = matches!(outcome, Outcome::Lost);
    let crashes = usize::from(crashed);
    while crashed {
        met.crashes.fetch_add(1, Ordering::Relaxed);
        halts.take();
        ground.declare_dead(&executor).await;
        if ground.saga(id).await.is_none() {
            break;
        }
        executor = start().await;
        nexus_tests::eventually("the saga ends or crashes", async || {
            halts.has_halted() || ground.is_over(id).await
        })
        .await;
        crashed = !ground.is_over(id).await;
    }
    executor.stop();
    ground.outside.idle().await;
    ground.outside.clear();
    let Some((state, _)) = ground.saga(id).await else {
        met.unborn.fetch_add(1, Ordering::Relaxed);
        let refused = matches!(outcome, Outcome::Refused(_)) && trial.failing.is_some();
        assert!(trial.riding && (refused || crashes > 0), "{outcome:?}");
        assert!(ground.effects(id).await.is_empty());
        assert!(ground.log(id).await.is_empty());
        assert!(ground.outside_of(id).is_empty());
        return;
    };
    assert_eq!(
        state,
        if trial.failing.is_some() {
            "failed"
        } else {
            "succeeded"
        }
    );
    let told = match &outcome {
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Lost => state.as_str(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told, state);
    match state.as_str() {
        "failed" => met.failed.fetch_add(1, Ordering::Relaxed),
        _ => met.succeeded.fetch_add(1, Ordering::Relaxed),
    };
    assert_as_the_model_says(ground, trial, id, &own()).await;
}

fn lay_faults(outside: &Outside, trial: &Trial) {
    for (node, fault, method) in &trial.faults {
        outside.on(fault.to(format!("{node}:")).only(method.clone()));
    }
}

async fn assert_as_the_model_says(
    ground: &Ground,
    trial: &Trial,
    id: Uuid,
    definition: &Definition,
) {
    ground.assert_log_is_whole(id).await;
    let effects = ground.effects(id).await;
    let outside = ground.outside_of(id);
    let nodes = trial.nodes();
    assert_eq!(
        nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect::<BTreeSet<_>>(),
        definition
            .node_names()
            .filter(|name| !name.ends_with(".params"))
            .collect(),
    );
    let mut rows = BTreeSet::new();
    for node in &nodes {
        let key = key_outside(id, &node.name);
        let times = effects.get(&node.slot).copied().unwrap_or((0, 0));
        match (node.kind, trial.fate(node)) {
            (Kind::Pure, _) => continue,
            (Kind::Db, fate) => {
                rows.insert(node.slot);
                assert!(fate.allows(times), "{node:?}: {times:?}, {fate:?}");
            }
            (Kind::External, fate) => {
                let made = ground.outside.made(&key);
                let there = outside.contains(&node.name);
                let called = ground.outside.count(&key, &Method::POST) > 0;
                let undone = ground.outside.count(&key, &Method::DELETE) > 0;
                assert!(made <= 1 && (!there || made == 1), "{node:?}");
                assert_eq!(there, fate == draw::Fate::Done, "{node:?}");
                assert_eq!(
                    called && !there,
                    undone && called,
                    "{node:?}: not taken back"
                );
            }
        }
    }
    assert!(
        effects.keys().all(|slot| rows.contains(slot)),
        "{effects:?}"
    );
    let by_name = |node: &Node| trial.fate(node) == draw::Fate::Done && node.kind == Kind::External;
    let wanted: BTreeSet<_> = nodes
        .iter()
        .filter(|node| by_name(node))
        .map(|node| node.name.clone())
        .collect();
    assert_eq!(outside, wanted);
}
