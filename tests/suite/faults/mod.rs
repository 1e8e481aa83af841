//! Random programs of batches, transactions and sections, with faults, held against a model.

mod model;
mod program;
mod run;

use std::sync::Arc;

use nexus_tests::TestDatabase;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Programs of one run of the test.
const PROGRAMS: u32 = 96;

/// Set `NEXUS_TEST_SEED` to what a failed run printed to have its programs again.
#[test]
fn random_programs_do_what_the_model_says_whatever_the_network_does() {
    let given = std::env::var("NEXUS_TEST_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("NEXUS_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: PROGRAMS,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
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
