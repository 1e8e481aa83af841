//! The pools: what they hand out, what they throw away, and what they say when the database is away.

use super::private::PrivateServer;
use super::{fly, options, query};
use db_model::connect::ConnectOptions;
use db_model::pool::{PoolError, PoolOptions, ReadPool, WritePool};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use nexus_tests::proxy::Trouble;
use nexus_tests::{SOON, TestDatabase};
use std::time::{Duration, Instant};

const ONE: PoolOptions = PoolOptions {
    write_size: 1,
    read_size: 1,
    wait: Duration::from_secs(2),
    audit: false,
};

fn pools(options: ConnectOptions) -> (WritePool, ReadPool) {
    (
        WritePool::new(options.clone(), &ONE),
        ReadPool::new(options, &ONE),
    )
}

#[derive(diesel::QueryableByName)]
struct Pid {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pid: i32,
}

async fn pid(session: &mut diesel_async::AsyncPgConnection) -> i32 {
    let rows: Vec<Pid> = diesel::sql_query("select pg_backend_pid() as pid")
        .load(session)
        .await
        .unwrap();
    rows[0].pid
}

#[tokio::test]
async fn a_clean_session_is_used_again_and_an_exhausted_pool_says_so() {
    let database = TestDatabase::new().await;
    let (writes, reads) = pools(database.options());
    let held = writes.get().await.unwrap();
    let began = Instant::now();
    assert!(matches!(writes.get().await, Err(PoolError::Exhausted)));
    assert!(began.elapsed() < Duration::from_secs(4));
    let first = held.backend_pid();
    drop(held);
    assert_eq!(writes.get().await.unwrap().backend_pid(), first);
    let first = pid(&mut reads.get().await.unwrap()).await;
    for _ in 0..3 {
        assert_eq!(pid(&mut reads.get().await.unwrap()).await, first);
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_session_that_the_server_ended_is_replaced_at_checkout() {
    let mut server = PrivateServer::start("", "").await;
    let (writes, reads) = pools(options(&server.url()));
    let before = (
        writes.get().await.unwrap().backend_pid(),
        pid(&mut reads.get().await.unwrap()).await,
    );
    server.stop();
    server.run().await;
    let mut flight = writes.get().await.unwrap();
    fly(&mut flight, &["select 1"]).await.unwrap();
    let mut reader = reads.get().await.unwrap();
    assert_ne!((flight.backend_pid(), pid(&mut reader).await), before);
}

#[tokio::test]
async fn a_pool_fails_in_time_while_the_database_is_away_and_recovers() {
    let mut server = PrivateServer::start("", "").await;
    let (writes, reads) = pools(options(&server.url()));
    drop(writes.get().await.unwrap());
    server.stop();
    for _ in 0..2 {
        let began = Instant::now();
        assert!(matches!(writes.get().await, Err(PoolError::Unavailable(_))));
        assert!(matches!(reads.get().await, Err(PoolError::Unavailable(_))));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    server.run().await;
    fly(&mut writes.get().await.unwrap(), &["select 1"])
        .await
        .unwrap();
    pid(&mut reads.get().await.unwrap()).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once() {
    let server = PrivateServer::start("host all all all scram-sha-256", "").await;
    server.sql("create role ann login password 'right'").await;
    let url = format!("postgres://ann:wrong@127.0.0.1:{}/postgres", server.port);
    let patient = PoolOptions { wait: SOON, ..ONE };
    let began = Instant::now();
    let refused = WritePool::new(options(&url), &patient).get().await;
    assert!(
        matches!(refused, Err(PoolError::Unavailable(error)) if error.sqlstate() == Some("28P01"))
    );
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_database_that_says_nothing_does_not_hold_a_caller() {
    // It accepts connections and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (writes, _) = pools(options(&format!(
        "postgres://a@127.0.0.1:{port}/a?sslmode=disable"
    )));
    let began = Instant::now();
    assert!(matches!(writes.get().await, Err(PoolError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_dropped_flight_never_goes_back() {
    let database = TestDatabase::new().await;
    database
        .client()
        .await
        .batch_execute("create table item (id int)")
        .await
        .unwrap();
    let proxy = database.proxy().await;
    let (writes, _) = pools(options(proxy.url()));
    let mut flight = writes.get().await.unwrap();
    let first = flight.backend_pid();
    proxy.on(Trouble::FreezeAfter(4));
    let batch = [query("insert into item values (1)"), query("select 1")];
    tokio::select! {
        _ = flight.fly(&batch, SOON) => panic!("it is frozen"),
        () = proxy.frozen() => {}
    }
    drop(flight);
    let mut flight = writes.get().await.unwrap();
    assert_ne!(flight.backend_pid(), first);
    fly(&mut flight, &["select 1"]).await.unwrap();
    assert_eq!(database.number("select count(*) from item").await, 0);
    drop(proxy);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_reader_with_an_open_transaction_never_goes_back() {
    let database = TestDatabase::new().await;
    let (_, reads) = pools(database.options());
    let mut reader = reads.get().await.unwrap();
    let first = pid(&mut reader).await;
    reader.batch_execute("begin").await.unwrap();
    drop(reader);
    let mut reader = reads.get().await.unwrap();
    let second = pid(&mut reader).await;
    assert_ne!(second, first);
    // A BEGIN that was sent but whose answer nobody awaited.
    let mut begin = Box::pin(reader.batch_execute("begin; select pg_sleep(0.3)"));
    tokio::select! {
        biased;
        _ = &mut begin => panic!("it sleeps"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(begin);
    drop(reader);
    let mut reader = reads.get().await.unwrap();
    assert_ne!(pid(&mut reader).await, second);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_reader_whose_query_nobody_awaited_is_kept() {
    let database = TestDatabase::new().await;
    let (_, reads) = pools(database.options());
    let mut reader = reads.get().await.unwrap();
    let first = pid(&mut reader).await;
    tokio::select! {
        biased;
        _ = reader.batch_execute("select pg_sleep(0.3)") => panic!("it sleeps"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(reader);
    assert_eq!(pid(&mut reads.get().await.unwrap()).await, first);
    database.assert_books_balance().await;
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "what is forbidden elsewhere must be refused here"
)]
async fn a_reader_refuses_to_write() {
    let database = TestDatabase::new().await;
    let (_, reads) = pools(database.options());
    let mut reader = reads.get().await.unwrap();
    let refused = reader
        .batch_execute("create table item (id int)")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    let inside = reader
        .transaction(async |session| session.batch_execute("create table item (id int)").await)
        .await;
    assert!(inside.unwrap_err().to_string().contains("read-only"));
    drop(reader);
    pid(&mut reads.get().await.unwrap()).await;
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_commit_in_a_task_of_its_own_can_take_the_session_along() {
    let database = TestDatabase::new().await;
    let (writes, _) = pools(database.options());
    let mut flight = writes.get().await.unwrap();
    let task = tokio::spawn(async move {
        flight
            .fly(&[query("select 1")], SOON)
            .await
            .map(|answers| answers.len())
    });
    assert_eq!(task.await.unwrap().unwrap(), 1);
    database.assert_books_balance().await;
}
