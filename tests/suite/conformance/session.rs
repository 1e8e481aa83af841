//! Group L: what a session was used for never reaches its next user.

use std::collections::BTreeMap;
use std::time::Duration;

use db_model::Database;
use db_model::batch::flight::{Answer, Flight, FlightError, Query};
use db_model::batch::{Batch, BatchError, Busy};
use db_model::pool::{PoolError, PoolOptions};
use db_model::query::executor::session_name;
use db_model::types::limits::{
    CLIENT_CHECK_INTERVAL, IDLE_IN_TRANSACTION_TIMEOUT, LOCK_TIMEOUT, STATEMENT_TIMEOUT,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use nexus_tests::proxy::Proxy;
use nexus_tests::{TestDatabase, TestService};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{SOON, sql};

/// One session of each kind.
const ONE: PoolOptions = PoolOptions {
    write_size: 1,
    read_size: 1,
    wait: Duration::from_secs(2),
    audit: false,
};

fn one_session(database: &TestDatabase, audit: bool) -> Database {
    let options = PoolOptions { audit, ..ONE };
    Database::new(database.options(), &options, Uuid::now_v7())
}

async fn fly(flight: &mut Flight, text: &str) -> Result<Vec<Answer>, FlightError> {
    let query = Query {
        sql: text.into(),
        binds: Vec::new(),
    };
    flight.fly(&[query], SOON).await
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

async fn number(session: &mut AsyncPgConnection, text: &str) -> i64 {
    let select = diesel::sql_query(format!("SELECT ({text})::bigint AS number"));
    let rows: Vec<Number> = select.load(session).await.unwrap();
    rows[0].number
}

/// The server process of the one session that writes.
async fn writer(pools: &Database) -> i64 {
    pools.writes.get().await.unwrap().backend_pid().into()
}

/// The server process of the one session that reads.
async fn reader(pools: &Database) -> i64 {
    let mut session = pools.reads.get().await.unwrap();
    number(&mut session, "pg_backend_pid()").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l01_a_transaction_that_was_left_open_does_not_reach_the_next_user() {
    let database = TestDatabase::new().await;
    let pools = one_session(&database, false);
    let (first_writer, first_reader) = (writer(&pools).await, reader(&pools).await);
    let mut flight = pools.writes.get().await.unwrap();
    assert!(fly(&mut flight, "BEGIN").await.is_err());
    drop(flight);
    let mut session = pools.reads.get().await.unwrap();
    session.batch_execute("BEGIN").await.unwrap();
    drop(session);
    assert_ne!(writer(&pools).await, first_writer);
    assert_ne!(reader(&pools).await, first_reader);
    database.assert_database_quiet(&[&pools]).await;
    database.assert_books_balance().await;
}

/// What a user may leave behind in a session.
const LEFT: [&str; 6] = [
    "SET lock_timeout = 1",
    "SELECT set_config('lock_timeout', '1', false)",
    "CREATE TEMP TABLE left_behind (id int)",
    "LISTEN left_behind",
    "SELECT pg_advisory_lock(7)",
    "PREPARE left_behind AS SELECT 1",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l02_a_setting_temporary_table_listen_or_lock_does_not_reach_the_next_user() {
    let database = TestDatabase::new().await;
    let pools = one_session(&database, false);
    for text in LEFT {
        // A batch does not send it; a flight does, which then ends with its user.
        let refused = Batch::new()
            .step(sql("left", text))
            .commit(&pools.writes)
            .await;
        assert!(matches!(refused, Err(BatchError::Invalid(_))), "{text}");
        let mut flight = pools.writes.get().await.unwrap();
        let first = i64::from(flight.backend_pid());
        fly(&mut flight, text).await.unwrap();
        drop(flight);
        assert_ne!(writer(&pools).await, first, "{text}");

        // A reader says no to a table; whether it was made or not, the session has gone.
        let is_refused = text.starts_with("CREATE");
        let first = reader(&pools).await;
        let mut session = pools.reads.get().await.unwrap();
        let done = session.batch_execute(&format!("SELECT 1; {text}")).await;
        assert_eq!(done.is_err(), is_refused, "{text}: {done:?}");
        drop(session);
        assert_ne!(reader(&pools).await, first, "{text}");
        // As a prepared statement too, though its text is not all that the message says.
        let first = reader(&pools).await;
        let mut session = pools.reads.get().await.unwrap();
        let done = diesel::sql_query(text).execute(&mut session).await;
        assert_eq!(done.is_err(), is_refused, "{text}: {done:?}");
        drop(session);
        assert_ne!(reader(&pools).await, first, "{text}");
    }
    // What ends with the transaction costs nobody a session.
    let before = (writer(&pools).await, reader(&pools).await);
    let local = "SET LOCAL lock_timeout = 1";
    fly(&mut pools.writes.get().await.unwrap(), local)
        .await
        .unwrap();
    let mut session = pools.reads.get().await.unwrap();
    let whole = format!("BEGIN; {local}; COMMIT");
    session.batch_execute(&whole).await.unwrap();
    drop(session);
    assert_eq!((writer(&pools).await, reader(&pools).await), before);
    database.assert_database_quiet(&[&pools]).await;
    database.assert_books_balance().await;
}

/// Functions whose text says nothing about what they leave behind.
const HIDDEN: &str = "\
CREATE FUNCTION hide_lock() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(7)';
CREATE FUNCTION hide_setting() RETURNS void LANGUAGE sql AS
    $$SELECT set_config('work_mem', '1MB', false)$$;
CREATE FUNCTION hide_table() RETURNS void LANGUAGE plpgsql AS
    'BEGIN CREATE TEMP TABLE hidden (); DROP TABLE hidden; END'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l03_an_audit_finds_what_no_text_tells_and_is_one_flight() {
    let database = TestDatabase::new().await;
    database.client().await.batch_execute(HIDDEN).await.unwrap();
    let pools = one_session(&database, true);
    for hidden in ["hide_lock()", "hide_setting()", "hide_table()"] {
        let text = format!("SELECT {hidden}");
        let first = writer(&pools).await;
        let batch = Batch::new().step(sql("hidden", text.as_str()));
        batch.commit(&pools.writes).await.unwrap();
        let soiled = pools.writes.state().soiled;
        assert_ne!(writer(&pools).await, first, "{hidden}");
        assert_eq!(pools.writes.state().soiled, soiled + 1);
        if hidden == "hide_table()" {
            continue; // A reader may not.
        }
        let first = reader(&pools).await;
        let mut session = pools.reads.get().await.unwrap();
        session.batch_execute(&text).await.unwrap();
        drop(session);
        assert_ne!(reader(&pools).await, first, "{hidden}");
    }
    assert_eq!(
        (pools.writes.state().soiled, pools.reads.state().soiled),
        (3, 2)
    );
    let kept = (writer(&pools).await, reader(&pools).await);
    assert_eq!((writer(&pools).await, reader(&pools).await), kept);

    let proxy = database.proxy().await;
    let options = db_model::connect::ConnectOptions::parse(proxy.url()).unwrap();
    let options_of_pool = PoolOptions { audit: true, ..ONE };
    let watched = Database::new(options, &options_of_pool, Uuid::now_v7());
    drop(watched.writes.get().await.unwrap());
    for temperature in ["cold", "warm"] {
        proxy.take_traffic();
        drop(watched.writes.get().await.unwrap());
        assert_eq!(round_trips(&proxy), 1, "{temperature}");
    }
    database.assert_books_balance().await;
}

fn round_trips(proxy: &Proxy) -> usize {
    let traffic = proxy.take_traffic();
    traffic.iter().map(|traffic| traffic.round_trips()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l04_many_tasks_share_one_session_and_whoever_waits_in_vain_is_told() {
    let database = TestDatabase::new().await;
    let pools = one_session(&database, false);
    let table = "CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY)";
    database.client().await.batch_execute(table).await.unwrap();
    // Every other one fails, and gives the session back all the same.
    let tasks: Vec<_> = (0..100)
        .map(|task: i64| {
            let pools = pools.clone();
            tokio::spawn(async move {
                let insert = format!("INSERT INTO item VALUES ({})", task / 2);
                let batch = Batch::new()
                    .step(sql("insert", insert))
                    .step(sql("more", "SELECT 1"));
                let inserted = batch.commit(&pools.writes).await;
                pools.ping().await.unwrap();
                inserted.is_ok()
            })
        })
        .collect();
    let mut inserted = 0;
    for task in tasks {
        let done = tokio::time::timeout(SOON, task).await.expect("it hangs");
        inserted += i64::from(done.unwrap());
    }
    assert_eq!(inserted, 50);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 50);

    let held = pools.writes.get().await.unwrap();
    let waiting = tokio::time::timeout(SOON, pools.ping())
        .await
        .expect("it hangs");
    let exhausted = matches!(
        waiting,
        Err(BatchError::Busy(Busy::Pool(PoolError::Exhausted)))
    );
    assert!(exhausted, "{waiting:?}");
    drop(held);
    pools.ping().await.unwrap();
    database.assert_database_quiet(&[&pools]).await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b18_l05_a_session_that_the_server_closed_is_noticed_at_checkout_and_replaced_once() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let options = db_model::connect::ConnectOptions::parse(proxy.url()).unwrap();
    let pools = Database::new(options, &ONE, Uuid::now_v7());
    for round in 1..=5 {
        let (first_writer, first_reader) = (writer(&pools).await, reader(&pools).await);
        assert_eq!(proxy.connections(), 2 * round);
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
             WHERE application_name = '{}'",
            session_name(pools.executor_id())
        );
        assert_eq!(database.number(&end).await, 2);
        // The server is done with them; the ends of the sockets on this side hear of it in their time.
        database
            .eventually("the proxy has closed both", async || proxy.open() == 0)
            .await;
        pools.ping().await.unwrap();
        assert_ne!(writer(&pools).await, first_writer);
        assert_ne!(reader(&pools).await, first_reader);
    }
    database.assert_database_quiet(&[&pools]).await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l06_every_session_carries_the_name_of_its_executor() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    drop(pools.writes.get().await.unwrap());
    drop(pools.reads.get().await.unwrap());
    drop(pools.lease.get().await.unwrap());
    let name = format!("nexus/{}", pools.executor_id());
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = '{name}'"
    );
    assert_eq!(database.number(&count).await, 3);
    // Inside a batch too: by this name a take-over finds what a frozen process has left.
    let inside = diesel::sql_query(
        "SELECT (current_setting('application_name') = $1)::int::bigint AS number",
    );
    let inside = inside.bind::<diesel::sql_types::Text, _>(name);
    let step = db_model::batch::Step::<Vec<Number>>::rows("name", inside);
    let (rows,) = Batch::new().step(step).commit(&pools.writes).await.unwrap();
    assert_eq!(rows[0].number, 1);
    database.assert_books_balance().await;
}

/// The settings of a session that are not the server's.
const SETTINGS: &str = "SELECT name || '=' || setting FROM pg_settings \
                        WHERE source = 'session' AND name NOT LIKE 'transaction%' ORDER BY name";

#[derive(diesel::QueryableByName)]
struct Setting {
    #[diesel(sql_type = diesel::sql_types::Text, column_name = "?column?")]
    text: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_the_time_outs_are_set_on_the_sessions_of_all_pools() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let mut reader = pools.reads.get().await.unwrap();
    let select = diesel::sql_query(SETTINGS);
    let of_reader: Vec<Setting> = select.load(&mut *reader).await.unwrap();
    let mut found = vec![of_reader.into_iter().map(|row| row.text).collect()];
    for pool in [&pools.writes, &pools.lease] {
        let mut flight = pool.get().await.unwrap();
        let answers = fly(&mut flight, SETTINGS).await.unwrap();
        let text = |row: &db_model::batch::flight::Row| {
            String::from_utf8(row.value(0).unwrap().to_vec()).unwrap()
        };
        found.push(answers[0].rows.iter().map(text).collect::<Vec<String>>());
    }
    for settings in found {
        let settings: BTreeMap<&str, &str> = settings
            .iter()
            .map(|setting| setting.split_once('=').unwrap())
            .collect();
        for (name, value) in [
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_TIMEOUT,
            ),
            ("client_connection_check_interval", CLIENT_CHECK_INTERVAL),
        ] {
            assert_eq!(settings[name], value.as_millis().to_string(), "{name}");
        }
    }
    drop(reader);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l08_a_request_that_waits_for_a_session_in_vain_is_told_to_come_again() {
    let service = TestService::start_with(|config| {
        config.database.write_pool_size = 1;
        config.database.read_pool_size = 1;
    })
    .await;
    let body = json!({ "name": "web" });
    let writer = service.pools().writes.get().await.unwrap();
    let reader = service.pools().reads.get().await.unwrap();
    let create = service.request(Method::POST, "/v1/projects").json(&body);
    let list = service.request(Method::GET, "/v1/projects");
    let (create, list) = tokio::join!(service.send(create), service.send(list));
    for answer in [create, list] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.body["error_code"], "unavailable");
    }
    drop((writer, reader));
    assert_eq!(service.post("/v1/projects", &body).await.status, 201);
    service.end().await;
}
