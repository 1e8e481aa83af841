//! Groups B, C and D: what a transaction is, what is left of it after an error, what happens after it, and
//! what must not happen in it.

mod dropped;
mod effects;
mod failed;
mod hooks;
mod isolation;
mod lost;
mod restarted;
mod section;
mod timeout;
mod unresolved;
mod wire;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use db_model::Database;
use db_model::batch::{BatchError, Cause, Failure, Hook, Options, Outcome, Step, Transaction};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use nexus_tests::TestDatabase;

use super::sql;

const ITEMS: &str = "\
CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
INSERT INTO item VALUES (0);
CREATE SEQUENCE attempt;
CREATE FUNCTION fail(times bigint, state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempt') <= times THEN
        RAISE EXCEPTION 'on purpose' USING ERRCODE = state;
    END IF;
END $$";

/// A database with a table of items, of which there is one, 0, and a function `fail` that raises as often
/// as it is told; a sequence counts across rollbacks.
async fn with_items() -> TestDatabase {
    let database = TestDatabase::new().await;
    database.client().await.batch_execute(ITEMS).await.unwrap();
    database
}

fn options() -> Options {
    Options::new("conformance")
}

fn insert(id: i64) -> Step<()> {
    sql("item.insert", format!("INSERT INTO item VALUES ({id})"))
}

/// Inserts an item; with an id that is taken, it fails.
async fn add(tx: Transaction, id: i64) -> Result<Transaction, Failure> {
    let (tx, ()) = tx.run(insert(id)).await?;
    Ok(tx)
}

/// Fails with an SQLSTATE as often as it is told, in all tries of all transactions together.
async fn fail(tx: Transaction, times: i64, state: &str) -> Result<Transaction, Failure> {
    let step = sql("fail", format!("SELECT fail({times}, '{state}')"));
    let (tx, ()) = tx.run(step).await?;
    Ok(tx)
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The numbers of a query, in its column `number`.
fn numbers(text: &str) -> Step<Vec<Number>> {
    Step::rows("numbers", diesel::sql_query(text))
}

/// The one number of a query.
async fn number(tx: Transaction, text: &str) -> Result<(Transaction, i64), Failure> {
    let (tx, rows) = tx.run(numbers(text)).await?;
    Ok((tx, rows[0].number))
}

async fn ids(database: &TestDatabase) -> Vec<i64> {
    let client = database.client().await;
    let rows = client.query("SELECT id FROM item ORDER BY id", &[]).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

fn committed<T>(outcome: Outcome<T>) -> (T, u32) {
    match outcome {
        Outcome::Committed {
            value, attempts, ..
        } => (value, attempts),
        Outcome::RolledBack { cause, .. } => panic!("rolled back: {cause}"),
        Outcome::Unknown { cause } => panic!("unknown: {cause}"),
    }
}

fn rolled_back<T>(outcome: Outcome<T>) -> (Cause, u32) {
    match outcome {
        Outcome::RolledBack {
            cause, attempts, ..
        } => (cause, attempts),
        Outcome::Committed { .. } => panic!("committed"),
        Outcome::Unknown { cause } => panic!("unknown: {cause}"),
    }
}

/// What the database said, as the cause of a rollback.
fn refused<T>(outcome: Outcome<T>) -> BatchError {
    match rolled_back(outcome).0 {
        Cause::Database(error) => error,
        cause => panic!("not the database's word: {cause:?}"),
    }
}

fn sqlstate(error: &BatchError) -> &str {
    &error.server().unwrap().sqlstate
}

/// What hooks have said, in order.
#[derive(Clone, Debug, Default)]
struct Said(Arc<Mutex<Vec<&'static str>>>);

impl Said {
    fn hook(&self, name: &'static str) -> Hook {
        let said = self.clone();
        Hook::new(name, async move |_| {
            said.say(name);
            Ok::<_, Infallible>(())
        })
    }

    fn say(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    /// Registers one hook for either end.
    fn at_the_end(&self, tx: Transaction) -> Result<Transaction, Failure> {
        tx.after_commit(self.hook("committed"))?
            .after_rollback(self.hook("rolled back"))
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Waits until nobody holds a session of the write pool, and no session of it has a transaction open.
async fn comes_to_rest(database: &TestDatabase, pools: &Database) {
    database
        .eventually("every session is back in the pool or ended", async || {
            let state = pools.writes.state();
            state.slots == state.idle
        })
        .await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND (xact_start IS NOT NULL OR state LIKE 'idle in%')";
    database
        .eventually("no transaction is open", async || {
            database.number(open).await == 0
        })
        .await;
}

async fn kill(database: &TestDatabase, pid: i32) {
    let kill = format!("SELECT pg_terminate_backend({pid}, 5000)");
    let client = database.client().await;
    client.batch_execute(&kill).await.unwrap();
}
