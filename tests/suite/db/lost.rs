//! Sessions that are lost while a batch is under way, at each message that matters.

use super::{fly, options, query, with_text};
use db_model::batch::flight::{Flight, FlightError, Lost, NotSent};
use nexus_tests::TestDatabase;
use nexus_tests::proxy::{Proxy, Trouble};
use std::time::Duration;

const BATCH: [&str; 2] = ["insert into item values (1)", "select 'second'"];

struct Scene {
    database: TestDatabase,
    proxy: Proxy,
    flight: Flight,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let table = "create table item (id int constraint item_pkey primary key)";
        database.client().await.batch_execute(table).await.unwrap();
        let proxy = database.proxy().await;
        let flight = Flight::connect(&options(proxy.url())).await.unwrap();
        Self {
            database,
            proxy,
            flight,
        }
    }

    /// The same again: an empty table and a new session.
    async fn again(&mut self) {
        self.ended().await;
        let client = self.database.client().await;
        client.batch_execute("truncate item").await.unwrap();
        let options = options(self.proxy.url());
        self.flight = Flight::connect(&options).await.unwrap();
    }

    async fn rows(&self) -> i64 {
        self.database.number("select count(*) from item").await
    }

    /// Waits until the server has ended the session, and with it the transaction.
    async fn ended(&self) {
        let pid = self.flight.backend_pid();
        let sql = format!("select count(*) from pg_stat_activity where pid = {pid}");
        nexus_tests::eventually("the session has ended", async || {
            self.database.number(&sql).await == 0
        })
        .await;
    }

    async fn end(self) {
        self.database.assert_books_balance().await;
    }
}

#[tokio::test]
async fn nothing_is_committed_without_the_sync() {
    let mut scene = Scene::new().await;
    scene.proxy.on(Trouble::CutBeforeSync);
    let lost = fly(&mut scene.flight, &BATCH).await;
    // The proxy's socket took the Sync, so we cannot know that the server never got it.
    assert!(matches!(lost, Err(FlightError::Ambiguous(_))), "{lost:?}");
    assert!(!scene.flight.is_clean());
    scene.ended().await;
    assert_eq!(scene.rows().await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_lost_reply_is_ambiguous_though_the_batch_is_committed() {
    let mut scene = Scene::new().await;
    scene.proxy.on(Trouble::LoseReply.to("into item"));
    fly(&mut scene.flight, &["select 1"]).await.unwrap();
    let lost = fly(&mut scene.flight, &BATCH).await;
    assert!(matches!(lost, Err(FlightError::Ambiguous(_))), "{lost:?}");
    assert_eq!(scene.rows().await, 1);
    assert!(matches!(
        fly(&mut scene.flight, &BATCH).await,
        Err(FlightError::NotSent(NotSent::Poisoned))
    ));
    scene.end().await;
}

#[tokio::test]
async fn a_reply_cut_anywhere_before_its_end_is_ambiguous() {
    // Cold, the answer has 12 messages; the last is the ReadyForQuery.
    let mut scene = Scene::new().await;
    for messages in 0..12 {
        scene.proxy.on(Trouble::CutReplyAfter(messages));
        let lost = fly(&mut scene.flight, &BATCH).await;
        assert!(
            matches!(lost, Err(FlightError::Ambiguous(_))),
            "{messages}: {lost:?}"
        );
        scene.again().await;
    }
    scene.proxy.on(Trouble::CutReplyAfter(12));
    fly(&mut scene.flight, &BATCH).await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn a_batch_cut_at_its_sync_is_committed_whole_or_not_at_all() {
    let mut scene = Scene::new().await;
    for _ in 0..10 {
        scene.proxy.on(Trouble::CutAtSync);
        let lost = fly(
            &mut scene.flight,
            &["insert into item values (1)", "insert into item values (2)"],
        )
        .await;
        assert!(matches!(lost, Err(FlightError::Ambiguous(_))), "{lost:?}");
        scene.ended().await;
        assert!([0, 2].contains(&scene.rows().await));
        scene.again().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_deadline_before_the_end_has_left_means_not_sent() {
    let mut scene = Scene::new().await;
    scene.proxy.on(Trouble::FreezeAfter(4));
    // More than the buffers of the sockets on the way take.
    let large = with_text("select length($1::text)", &"x".repeat(30_000_000));
    let batch = [query(BATCH[0]), large];
    let lost = scene.flight.fly(&batch, Duration::from_millis(500)).await;
    assert!(
        matches!(
            lost,
            Err(FlightError::NotSent(NotSent::Lost(Lost::Deadline)))
        ),
        "{lost:?}"
    );
    assert!(!scene.flight.is_clean());
    scene.proxy.cut();
    scene.ended().await;
    assert_eq!(scene.rows().await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_deadline_after_the_end_has_left_is_ambiguous() {
    let mut scene = Scene::new().await;
    scene.proxy.on(Trouble::FreezeAfter(4));
    let queries = BATCH.map(query);
    let lost = scene.flight.fly(&queries, Duration::from_millis(300)).await;
    assert!(
        matches!(lost, Err(FlightError::Ambiguous(Lost::Deadline))),
        "{lost:?}"
    );
    scene.proxy.cut();
    scene.ended().await;
    assert_eq!(scene.rows().await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_terminated_session_is_known_not_to_have_committed() {
    let mut scene = Scene::new().await;
    let kill = "select pg_terminate_backend(pg_backend_pid()), pg_sleep(20)";
    let killed = fly(&mut scene.flight, &["insert into item values (1)", kill]).await;
    let Err(FlightError::Refused { index: 1, error }) = killed else {
        panic!("{killed:?}")
    };
    assert!(error.is_fatal() && error.sqlstate == "57P01");
    assert!(!scene.flight.is_clean());
    assert_eq!(scene.rows().await, 0);
    // A session that was ended while nobody used it is found out before anything is written.
    let mut flight = Flight::connect(&scene.database.options()).await.unwrap();
    let kill = format!(
        "select pg_terminate_backend({}, 5000)",
        flight.backend_pid()
    );
    scene
        .database
        .client()
        .await
        .batch_execute(&kill)
        .await
        .unwrap();
    tokio::task::yield_now().await;
    let killed = fly(&mut flight, &BATCH).await;
    let Err(FlightError::NotSent(NotSent::Lost(Lost::Fatal(error)))) = killed else {
        panic!("{killed:?}")
    };
    assert_eq!(error.sqlstate, "57P01");
    assert!(!flight.is_clean());
    scene.end().await;
}

#[tokio::test]
async fn a_delayed_batch_waits_for_one_round_trip() {
    let mut scene = Scene::new().await;
    let delay = Duration::from_millis(100);
    scene.proxy.delay(delay);
    let began = std::time::Instant::now();
    fly(&mut scene.flight, &BATCH).await.unwrap();
    let took = began.elapsed();
    assert!(took >= 2 * delay && took < 4 * delay, "{took:?}");
    scene.end().await;
}
