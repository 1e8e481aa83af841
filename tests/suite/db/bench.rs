//! The bench compares ways that do the same: each leaves the same books.

use nexus_tests::TestDatabase;
use nexus_tests::bench::pgbench::Pgbench;
use nexus_tests::bench::place::{PROJECTS, Place, project_id};
use nexus_tests::bench::saga::afterlife;
use nexus_tests::bench::saga::cell::{self, Idle};
use nexus_tests::bench::saga::child::{Starter, Way};
use nexus_tests::bench::saga::client::{Extent, Load, Rows};
use nexus_tests::bench::saga::ground::Ground;
use nexus_tests::bench::variant::{Sessions, Variant};
use nexus_tests::bench::{Network, Server};
use nexus_tests::server;

/// What each variant does.
const TRANSACTIONS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_variant_of_the_bench_leaves_the_same_books() {
    let database = TestDatabase::new().await;
    let mut place = Place::prepare(&database.options()).await.unwrap();
    let (programs, _, _) = server::programs().await;
    let server = Server::new(programs, &database.url().await).unwrap();
    let mut sessions = Sessions::new(&server.url(Network::Local), 1).await.unwrap();
    let mut pgbench = Pgbench::new(&server, sessions.database()).await.unwrap();
    for variant in [&Variant::ALL[..], &Variant::PARTS[..]].concat() {
        if variant.is_own() {
            for number in 1..=TRANSACTIONS {
                let project = project_id(number % PROJECTS);
                sessions.run(variant, project).await.unwrap();
            }
        } else {
            let target = server.target(Network::Local);
            let ran = pgbench.run_some(variant, &target, TRANSACTIONS).await;
            ran.unwrap();
        }
        let checked = place.check(TRANSACTIONS, variant.events()).await;
        checked.unwrap_or_else(|error| panic!("{}: {error:#}", variant.name()));
        let hooks = sessions.take_hooks();
        assert_eq!(hooks, TRANSACTIONS * variant.hooks(), "{}", variant.name());
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_of_the_bench_leaves_the_same_books_and_what_is_killed_goes_on() {
    let database = TestDatabase::new().await;
    drop(Place::prepare(&database.options()).await.unwrap());
    let logs = tempfile::tempdir().unwrap();
    let (programs, _, _) = server::programs().await;
    let server = Server::new(programs, &database.url().await).unwrap();
    let starter = Starter {
        program: env!("CARGO_BIN_EXE_bench").into(),
        logs: logs.path().to_owned(),
        url: server.url(Network::Local),
    };
    let mut ground = Ground::new(&database.options(), None).await.unwrap();
    let extent = Extent::Requests(TRANSACTIONS);
    for way in Way::PARTS {
        for rows in [Rows::Spread, Rows::Hot, Rows::Refusing] {
            let load = Load {
                clients: 2,
                rows,
                extent,
                respond_async: false,
            };
            let idle = Idle::default();
            let ran = cell::run(&mut ground, &starter, way, load, extent, &idle).await;
            let figures = ran.unwrap_or_else(|error| panic!("{}, {rows:?}: {error:#}", way.name()));
            assert_eq!(figures.len(), cell::COLUMNS.len());
        }
    }
    for ran in [
        afterlife::live(&mut ground, &starter, TRANSACTIONS).await,
        afterlife::recovery(&mut ground, &starter, TRANSACTIONS).await,
    ] {
        let figures = ran.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(figures[0] >= TRANSACTIONS as f64, "{figures:?}");
    }
    database.assert_books_balance().await;
    // Copies, of which no feed tells.
    ground.fill(500).await.unwrap();
    let sagas = database.number("SELECT count(*) FROM saga").await;
    assert_eq!(sagas, 500);
}
