//! Random programs of batches, transactions and sections, with faults, held against a model.

mod ledger;
mod model;
mod program;
mod run;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nexus_tests::TestDatabase;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Programs of one run of the test with one client.
const PROGRAMS: u32 = 64;

/// Rounds of one run of the test with two.
const ROUNDS: u32 = 40;

/// Set `NEXUS_TEST_SEED` to what a failed run printed to have its programs again.
fn runner(cases: u32) -> TestRunner {
    let given = std::env::var("NEXUS_TEST_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("NEXUS_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, random)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn random_programs_do_what_the_model_says_whatever_the_network_does() {
    let mut runner = runner(PROGRAMS);
    let runtime = runtime();
    let (database, bench) = runtime.block_on(async {
        let database = TestDatabase::new().await;
        let bench = run::Bench::new(&database).await;
        (database, Arc::new(bench))
    });
    let result = runner.run(&program::program(), |program| {
        runtime.block_on(bench.run(&program))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    runtime.block_on(async {
        bench.assert_quiet(&database).await;
        database.assert_books_balance().await;
    });
}

#[test]
fn two_random_clients_at_once_leave_what_they_were_told() {
    let mut runner = runner(ROUNDS);
    runtime().block_on(async {
        let database = TestDatabase::new().await;
        let bench = ledger::Bench::new(&database).await;
        let mut rounds = 0;
        // Which client meets which is not in the seed.
        while rounds < ROUNDS || rounds < 4 * ROUNDS && !bench.met_every_conflict() {
            let round = ledger::round().new_tree(&mut runner).unwrap().current();
            bench.run(&round).await;
            rounds += 1;
        }
        let [serializations, deadlocks, repeated] =
            [&bench.serializations, &bench.deadlocks, &bench.repeated]
                .map(|count| count.load(Ordering::Relaxed));
        println!("{rounds} rounds, {serializations} x 40001, {deadlocks} x 40P01, {repeated} committed later");
        assert!(serializations > 0, "nobody met a newer row");
        assert!(deadlocks > 0, "nobody waited for the other crosswise");
        assert!(repeated > 0, "nobody committed at a second try");
        bench.assert_quiet(&database).await;
        database.assert_books_balance().await;
    });
}
