//! The bench compares ways that do the same: each leaves the same books.

use nexus_tests::TestDatabase;
use nexus_tests::bench::pgbench::Pgbench;
use nexus_tests::bench::place::{PROJECTS, Place, project_id};
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
