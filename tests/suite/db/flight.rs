//! Flights on a real server: what is on the wire, and what an error leaves.

use super::{fly, int, options, query, with_ints, with_text};
use db_model::batch::flight::{Flight, FlightError, Lost, NotSent, Standing};
use db_model::types::limits;
use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use diesel::sql_types::{Array, Integer, Nullable, Text};
use nexus_tests::proxy::{Proxy, Traffic, Trouble};
use nexus_tests::{SOON, TestDatabase};
use std::time::Duration;

const INSERT: &str = "insert into item values ($1)";

/// A flight to a new database with one table.
async fn prepared() -> (Flight, TestDatabase) {
    let database = TestDatabase::new().await;
    let table = "create table item (id int constraint item_pkey primary key)";
    database.client().await.batch_execute(table).await.unwrap();
    (connected(&database).await, database)
}

async fn connected(database: &TestDatabase) -> Flight {
    Flight::connect(&database.options()).await.unwrap()
}

async fn proxied(database: &TestDatabase) -> (Flight, Proxy) {
    let proxy = database.proxy().await;
    let flight = Flight::connect(&options(proxy.url())).await.unwrap();
    proxy.take_traffic();
    (flight, proxy)
}

fn traffic(proxy: &Proxy) -> Traffic {
    proxy.take_traffic().remove(0)
}

#[tokio::test]
async fn a_failed_step_is_named_and_nothing_is_left_cold_and_warm() {
    let (mut warm, database) = prepared().await;
    for round in 0..300 {
        let batch = [
            with_ints(INSERT, &[1]),
            with_ints(INSERT, &[2]),
            with_ints(INSERT, &[1]),
            query("select 1"),
        ];
        let mut cold = None;
        if round % 10 == 0 {
            cold = Some(connected(&database).await);
        }
        let flight = cold.as_mut().unwrap_or(&mut warm);
        let Err(FlightError::Refused { index: 2, error }) = flight.fly(&batch, SOON).await else {
            panic!()
        };
        assert_eq!(
            (error.sqlstate.as_str(), error.constraint.as_deref()),
            ("23505", Some("item_pkey"))
        );
        assert_eq!(error.table.as_deref(), Some("item"));
        assert!(!error.is_fatal() && flight.is_clean());
        let answers = fly(flight, &["select count(*) from item"]).await.unwrap();
        assert_eq!(int(&answers[0]), 0);
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn the_engine_passes_the_self_test() {
    let (mut flight, database) = prepared().await;
    flight.self_test(SOON).await.unwrap();
    flight.self_test(SOON).await.unwrap();
    let version = database
        .number("select current_setting('server_version_num')::bigint")
        .await;
    let major = flight.server_version().split('.').next();
    assert_eq!(major, Some((version / 10_000).to_string().as_str()));
    let pid = fly(&mut flight, &["select pg_backend_pid()"])
        .await
        .unwrap();
    assert_eq!(int(&pid[0]), i64::from(flight.backend_pid()));
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_batch_is_one_round_trip_cold_and_warm() {
    let (_, database) = prepared().await;
    let (mut flight, proxy) = proxied(&database).await;
    let batch = |from| {
        [
            with_ints(INSERT, &[from]),
            query("update item set id = id where id = 0"),
            with_ints(INSERT, &[from + 1]),
        ]
    };
    let answers = flight.fly(&batch(1), SOON).await.unwrap();
    assert_eq!(
        answers
            .iter()
            .map(|answer| answer.affected)
            .collect::<Vec<_>>(),
        [1, 0, 1]
    );
    let cold = traffic(&proxy);
    assert_eq!(
        (cold.sent.as_str(), cold.received.as_str()),
        ("PDBEPDBEBES", "1tn2C1tn2C2CZ")
    );
    flight.fly(&batch(3), SOON).await.unwrap();
    let warm = traffic(&proxy);
    assert_eq!(
        (warm.sent.as_str(), warm.received.as_str()),
        ("BEBEBES", "2C2C2CZ")
    );
    flight.fly(&[], SOON).await.unwrap();
    assert_eq!(traffic(&proxy), Traffic::default());
    assert_eq!(database.number("select count(*) from item").await, 4);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn an_error_at_the_commit_has_the_index_after_the_last_step() {
    let (mut flight, database) = prepared().await;
    database.client().await.batch_execute("create table part (item int constraint part_item_fkey references item deferrable initially deferred)").await.unwrap();
    let batch = ["insert into part values (9)", "select 1"];
    let Err(FlightError::Refused { index: 2, error }) = fly(&mut flight, &batch).await else {
        panic!()
    };
    assert_eq!(
        (error.sqlstate.as_str(), error.constraint.as_deref()),
        ("23503", Some("part_item_fkey"))
    );
    assert!(flight.is_clean());
    assert_eq!(database.number("select count(*) from part").await, 0);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn an_error_after_rows_is_the_error() {
    let (mut flight, database) = prepared().await;
    // Enough rows that the server has sent some before it fails.
    let late = "select 1 / (50000 - n) from generate_series(1, 50000) n";
    let batch = [
        "insert into item values (1)",
        late,
        "insert into item values (2)",
    ];
    let Err(FlightError::Refused { index: 1, error }) = fly(&mut flight, &batch).await else {
        panic!()
    };
    assert_eq!(error.sqlstate, "22012");
    assert!(flight.is_clean());
    assert_eq!(database.number("select count(*) from item").await, 0);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn diesel_reads_the_rows() {
    let (mut flight, database) = prepared().await;
    let sql = "select 7 as id, null::text as note, 'web' as name, '{1,2}'::int[] as parts";
    let answers = fly(&mut flight, &[sql]).await.unwrap();
    let row = &answers[0].rows[0];
    let read = <(i32, Option<String>, String, Vec<i32>) as FromSqlRow<
        (Integer, Nullable<Text>, Text, Array<Integer>),
        Pg,
    >>::build_from_row(row);
    assert_eq!(read.unwrap(), (7, None, "web".to_owned(), vec![1, 2]));
    assert_eq!(row.columns()[2].name, "name");
    let failed = <(i32, String) as FromSqlRow<(Integer, Text), Pg>>::build_from_row(row);
    assert!(failed.is_err(), "NULL is not a string");
    database.assert_books_balance().await;
}

#[tokio::test]
async fn much_up_and_much_down_at_once_does_not_deadlock() {
    let (mut flight, database) = prepared().await;
    let text = "x".repeat(1000);
    let batch = vec![with_text("select $1::text || $1::text", &text); 20_000];
    let answers = flight.fly(&batch, SOON).await.unwrap();
    assert_eq!(answers.len(), 20_000);
    assert!(
        answers
            .iter()
            .all(|answer| answer.rows[0].value(0).map(<[u8]>::len) == Some(2000))
    );
    assert!(flight.is_clean());
    database.assert_books_balance().await;
}

#[tokio::test]
async fn the_statement_cache_is_bounded_on_both_sides() {
    let (_, database) = prepared().await;
    let (mut flight, proxy) = proxied(&database).await;
    let many: Vec<_> = (0..limits::STATEMENTS_CACHED_MAX)
        .map(|n| query(format!("select {n}")))
        .collect();
    flight.fly(&many, SOON).await.unwrap();
    fly(&mut flight, &["select 0", "select 'one', 'more'"])
        .await
        .unwrap();
    traffic(&proxy);
    let count = "select count(*) from pg_prepared_statements";
    let answers = fly(&mut flight, &["select 0", count]).await.unwrap();
    assert_eq!(traffic(&proxy).sent, "CBEPDBES");
    // The one for counting displaced another, which the next flight closes.
    assert_eq!(
        int(&answers[1]),
        i64::try_from(limits::STATEMENTS_CACHED_MAX).unwrap() + 1
    );
    fly(&mut flight, &["select 1"]).await.unwrap();
    assert_eq!(traffic(&proxy).sent, "CPDBES");
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_statement_that_failed_after_its_parse_is_not_prepared_twice() {
    let (_, database) = prepared().await;
    let (mut flight, proxy) = proxied(&database).await;
    let wrong = flight
        .fly(&[with_text(INSERT, "not four bytes")], SOON)
        .await;
    assert!(
        matches!(wrong, Err(FlightError::Refused { index: 0, error }) if error.sqlstate == "22P03")
    );
    flight.fly(&[with_ints(INSERT, &[1])], SOON).await.unwrap();
    assert_eq!(traffic(&proxy).sent, "PDBESBES");
    database.assert_books_balance().await;
}

#[tokio::test]
async fn stale_statements_are_prepared_again_and_the_batch_runs_once() {
    let (_, database) = prepared().await;
    let (mut flight, proxy) = proxied(&database).await;
    let batch = |id| {
        [
            with_ints(INSERT, &[id]),
            query("select * from item"),
            query("select max(id) from item"),
        ]
    };
    flight.fly(&batch(1), SOON).await.unwrap();
    database
        .client()
        .await
        .batch_execute("alter table item add column note text")
        .await
        .unwrap();
    traffic(&proxy);
    let answers = flight.fly(&batch(2), SOON).await.unwrap();
    assert_eq!(answers[1].columns.len(), 2);
    let again = traffic(&proxy);
    assert_eq!(
        (again.sent.as_str(), again.round_trips()),
        ("BEBEBESCCCPDBEPDBEPDBES", 2)
    );
    fly(&mut flight, &["deallocate all"]).await.unwrap();
    flight.fly(&batch(3), SOON).await.unwrap();
    assert_eq!(database.number("select sum(id) from item").await, 6);
    // The same code from a statement that was never warm is an answer, not a reason to try again.
    traffic(&proxy);
    let refused = fly(&mut flight, &["do $$begin raise sqlstate '0A000'; end$$"]).await;
    assert!(
        matches!(refused, Err(FlightError::Refused { index: 0, error }) if error.sqlstate == "0A000")
    );
    assert_eq!(traffic(&proxy).round_trips(), 1);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_dropped_flight_is_poisoned() {
    let (_, database) = prepared().await;
    let (mut flight, proxy) = proxied(&database).await;
    proxy.on(Trouble::FreezeAfter(1));
    let batch = [query("insert into item values (1)")];
    tokio::select! {
        _ = flight.fly(&batch, SOON) => panic!("it is frozen"),
        () = proxy.frozen() => {}
    }
    assert!(!flight.is_clean());
    assert!(matches!(
        flight.fly(&batch, SOON).await,
        Err(FlightError::NotSent(NotSent::Poisoned))
    ));
    database.assert_books_balance().await;
}

#[tokio::test]
async fn caps_hold_on_both_ways_and_say_what_was_committed() {
    let (mut flight, database) = prepared().await;
    let half = "x".repeat(limits::FLIGHT_BYTES_MAX / 2);
    let batch = [
        with_text("select $1::text", &half),
        with_text("select $1::text", &half),
    ];
    let refused = flight.fly(&batch, SOON).await;
    assert!(matches!(
        refused,
        Err(FlightError::NotSent(NotSent::TooLarge { .. }))
    ));
    assert!(flight.is_clean());
    let rows = format!(
        "select n from generate_series(1, {}) n",
        limits::ANSWER_ROWS_MAX + 1
    );
    let too_large = fly(&mut flight, &["insert into item values (1)", &rows]).await;
    assert!(matches!(too_large, Err(FlightError::AnswerTooLarge { .. })));
    assert!(flight.is_clean());
    assert_eq!(database.number("select count(*) from item").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_batch_that_leaves_a_transaction_open_ends_the_session() {
    let (mut flight, database) = prepared().await;
    let open = fly(&mut flight, &["begin", "insert into item values (1)"]).await;
    assert!(matches!(
        open,
        Err(FlightError::Ambiguous(Lost::NotIdle(Standing::Open)))
    ));
    assert!(!flight.is_clean());
    assert_eq!(database.number("select count(*) from item").await, 0);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_copy_and_a_passed_deadline_end_the_session() {
    let (mut flight, database) = prepared().await;
    let copy = fly(&mut flight, &["copy item to stdout"]).await;
    assert!(matches!(
        copy,
        Err(FlightError::Ambiguous(Lost::Protocol(_)))
    ));
    assert!(!flight.is_clean());
    let mut flight = connected(&database).await;
    let slow = flight
        .fly(&[query("select pg_sleep(20)")], Duration::from_millis(100))
        .await;
    assert!(matches!(slow, Err(FlightError::Ambiguous(Lost::Deadline))));
    assert!(!flight.is_clean());
    database.assert_books_balance().await;
}
