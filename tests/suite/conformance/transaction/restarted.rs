//! A COMMIT whose answer is lost along with the server: a restart, a crash, another timeline.

use std::process::Stdio;
use std::time::Duration;

use db_model::Database;
use db_model::batch::{Outcome, Step};
use db_model::connect::ConnectOptions;
use db_model::pool::PoolOptions;
use nexus_tests::proxy::{Proxy, Trouble};
use uuid::Uuid;

use super::{Said, add, committed, options};
use crate::conformance::SOON;
use crate::db::private::PrivateServer;

/// A server of its own, which writes its log to disk only when something commits, behind a proxy. The
/// sessions are those of a user with no rights but on the table.
struct Scene {
    server: PrivateServer,
    proxy: Proxy,
    pools: Database,
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    InGoodOrder,
    Crashed,
    OnAnotherTimeline,
}

impl Scene {
    async fn new() -> Self {
        let settings = "wal_writer_delay = '10s'\nautovacuum = off\n";
        let server = PrivateServer::start("host all all all trust", settings).await;
        server
            .sql("CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY)")
            .await;
        server.sql("CREATE ROLE plain LOGIN").await;
        server.sql("GRANT ALL ON item TO plain").await;
        let url = format!("postgres://plain@127.0.0.1:{}/postgres", server.port);
        let proxy = Proxy::start(&url).await.unwrap();
        let sizes = PoolOptions {
            write_size: 2,
            read_size: 1,
            wait: Duration::from_secs(5),
            audit: false,
        };
        let options = ConnectOptions::parse(proxy.url()).unwrap();
        Self {
            server,
            pools: Database::new(options, &sizes, Uuid::now_v7()),
            proxy,
            said: Said::default(),
        }
    }

    /// Commits item 1; the server ends at that moment and comes back, and only then can be asked. Gives how the
    /// transaction is told to have ended, and its number.
    async fn commit(
        &mut self,
        arrives: bool,
        ends: Ends,
        meanwhile: impl AsyncFn(&PrivateServer, i64),
    ) -> (Outcome<()>, i64) {
        let Self {
            server,
            proxy,
            pools,
            said,
        } = self;
        // The probe arrives, COMMIT does not.
        let trouble = match arrives {
            true => Trouble::LoseReply,
            false => Trouble::FreezeAfter(2),
        };
        let xid = std::sync::atomic::AtomicI64::new(0);
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let transact = pools.transact(options(), |tx| {
            let (xid, proxy, said, tell) = (&xid, &*proxy, &*said, tell.take());
            async move {
                let tx = said.at_the_end(add(tx, 1).await?)?;
                let number =
                    diesel::sql_query("SELECT pg_current_xact_id()::text::bigint AS number");
                let (tx, rows) = tx
                    .run(Step::<Vec<super::Number>>::rows("xid", number))
                    .await?;
                xid.store(rows[0].number, std::sync::atomic::Ordering::Relaxed);
                proxy.on(trouble);
                proxy.refuse(true);
                tell.unwrap().send(()).unwrap();
                Ok((tx, ()))
            }
        });
        let restart = async {
            told.await.unwrap();
            match arrives {
                true => {
                    nexus_tests::eventually("the reply is lost", async || proxy.troubles() == 1)
                        .await;
                    nexus_tests::eventually("it has committed", async || {
                        server.sql("SELECT count(*) FROM item").await == "1"
                    })
                    .await;
                }
                false => proxy.frozen().await,
            }
            match ends {
                Ends::InGoodOrder => server.stop(),
                Ends::Crashed => server.crash(),
                Ends::OnAnotherTimeline => {
                    server.stop();
                    let log = "000000020000000000000090";
                    let mut reset = server.command("pg_resetwal");
                    let reset = reset.args(["-f", "-l", log, "-D"]).arg(server.data());
                    assert!(reset.stdout(Stdio::null()).status().unwrap().success());
                }
            }
            proxy.cut();
            proxy.thaw();
            server.run().await;
            meanwhile(server, xid.load(std::sync::atomic::Ordering::Relaxed)).await;
            proxy.refuse(false);
        };
        let both = async { tokio::join!(transact, restart).0 };
        let outcome = tokio::time::timeout(2 * SOON, both).await.unwrap();
        (outcome, xid.load(std::sync::atomic::Ordering::Relaxed))
    }

    async fn stands(&self) -> bool {
        self.server
            .sql("SELECT count(*) FROM item WHERE id = 1")
            .await
            == "1"
    }
}

async fn nothing(_: &PrivateServer, _: i64) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_commit_before_a_restart_in_good_order_is_found_out_after_it() {
    let mut scene = Scene::new().await;
    let (outcome, _) = scene.commit(true, Ends::InGoodOrder, nothing).await;
    committed(outcome);
    assert_eq!(scene.said.take(), ["committed"]);
    assert!(scene.stands().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_commit_that_never_arrived_before_a_restart_or_a_crash_is_rolled_back() {
    for ends in [Ends::InGoodOrder, Ends::Crashed] {
        let mut scene = Scene::new().await;
        let (outcome, _) = scene.commit(false, ends, nothing).await;
        assert!(
            matches!(outcome, Outcome::RolledBack { .. }),
            "{ends:?}: {outcome:?}"
        );
        assert_eq!(scene.said.take(), ["rolled back"]);
        assert!(!scene.stands().await);
    }
}

/// After a crash, "committed" may be said of another transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_commit_before_a_crash_or_on_another_timeline_is_unknown() {
    for ends in [Ends::Crashed, Ends::OnAnotherTimeline] {
        let mut scene = Scene::new().await;
        let (outcome, _) = scene.commit(true, ends, nothing).await;
        let Outcome::Unknown { cause } = outcome else {
            panic!("{ends:?}: {outcome:?}")
        };
        let why = match ends {
            Ends::Crashed => "the server has crashed since",
            _ => "on another server or timeline",
        };
        assert!(cause.contains(why), "{cause}");
        assert_eq!(scene.said.take(), [""; 0]);
    }
}

/// The number of a transaction of which nothing had reached the disk is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_another_transaction_with_the_same_number_is_not_taken_for_the_first() {
    let mut scene = Scene::new().await;
    // What is on disk is a checkpoint; the transaction's own writes are not.
    scene.server.sql("CHECKPOINT").await;
    let commits = async |server: &PrivateServer, xid: i64| {
        let ask = format!("SELECT pg_xact_status('{xid}'::xid8)");
        nexus_tests::eventually("the number is given again", async || {
            let next = server.sql("SELECT pg_current_xact_id()::text").await;
            next.parse::<i64>().unwrap() > xid
        })
        .await;
        assert_eq!(server.sql(&ask).await, "committed", "it must be the other");
    };
    let (outcome, _) = scene.commit(false, Ends::Crashed, commits).await;
    assert!(!scene.stands().await);
    assert!(!matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    assert_eq!(
        scene.said.take().len(),
        usize::from(matches!(outcome, Outcome::RolledBack { .. }))
    );
}
