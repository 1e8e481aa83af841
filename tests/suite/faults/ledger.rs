//! Two clients at once on the same items, held against a ledger that each unit keeps of its own.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_model::Database;
use db_model::batch::{Batch, BatchError, Failure, Isolation, Options, Outcome, Step, Transaction};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use futures::future::join;
use nexus_tests::proxy::Proxy;
use nexus_tests::{TestDatabase, quiet};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio_postgres::Client;

use super::program::{Fault, fault, isolation};
use super::run::{Failed, noted, of_cause, of_database};

const TABLES: &str = "\
CREATE TABLE item (id bigint PRIMARY KEY, value bigint NOT NULL);
INSERT INTO item SELECT id, 0 FROM generate_series(0, 2) id;
CREATE TABLE ledger (unit bigint, line bigint, item_id bigint NOT NULL, change bigint NOT NULL,
    PRIMARY KEY (unit, line))";

/// Values are kept within so much of zero by the guard.
const VALUE_MAX: i64 = 12;

/// Where the items are not what the ledger says.
const WRONG: &str = "\
SELECT format('item %s is %s, the ledger says %s', i.id, i.value, coalesce(sum(l.change), 0))
FROM item i LEFT JOIN ledger l ON l.item_id = i.id GROUP BY i.id, i.value
HAVING i.value <> coalesce(sum(l.change), 0)";

/// Something added to an item and written into the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    item: i64,
    change: i64,
    /// The entry is in a section of its own, whose failure the unit survives.
    section: bool,
}

/// What one client commits or not as one.
#[derive(Clone, Debug)]
pub struct Unit {
    entries: Vec<Entry>,
    isolation: Isolation,
    batch: bool,
    /// The body gives up at its end.
    abort: bool,
}

/// What two clients do at once, and what the network does meanwhile.
#[derive(Clone, Debug)]
pub struct Round {
    clients: [Vec<Unit>; 2],
    fault: Option<Fault>,
    delay_ms: u64,
}

/// Any round.
pub fn round() -> impl Strategy<Value = Round> {
    let clients = [vec(unit(), 2..7), vec(unit(), 2..7)];
    (clients, option::weighted(0.3, fault()), 1..3u64).prop_map(|(clients, fault, delay_ms)| {
        Round {
            clients,
            fault,
            delay_ms,
        }
    })
}

fn unit() -> impl Strategy<Value = Unit> {
    let entry =
        (0..3i64, -4..6i64, proptest::bool::weighted(0.2)).prop_map(|(item, change, section)| {
            Entry {
                item,
                change,
                section,
            }
        });
    let (batch, abort) = (proptest::bool::weighted(0.3), proptest::bool::weighted(0.1));
    (vec(entry, 2..6), isolation(), batch, abort).prop_map(|(entries, isolation, batch, abort)| {
        Unit {
            entries,
            isolation,
            batch,
            abort,
        }
    })
}

/// A unit's end, as its client was told, and which of its lines are in the ledger if it committed.
#[derive(Debug)]
struct Told {
    unit: i64,
    committed: Option<bool>,
    lines: Vec<i64>,
    /// How often its hook ran.
    hooks: usize,
}

/// A database behind a proxy, and a client beside it that looks.
pub struct Bench {
    proxy: Proxy,
    pools: Database,
    client: Client,
    units: AtomicI64,
    /// Steps that met a conflict with the other client's.
    pub serializations: AtomicUsize,
    /// Steps that the server ended because of a deadlock.
    pub deadlocks: AtomicUsize,
    /// Transactions that committed after their first run.
    pub repeated: AtomicUsize,
}

impl Bench {
    pub async fn new(database: &TestDatabase) -> Self {
        let client = database.client().await;
        client.batch_execute(TABLES).await.unwrap();
        // A deadlock is looked for soon: here it is what is wanted.
        let soon = format!(
            "ALTER DATABASE {} SET deadlock_timeout = '20ms'",
            database.name()
        );
        client.batch_execute(&soon).await.unwrap();
        let proxy = database.proxy().await;
        let pools = database.pools_through(&proxy);
        Self {
            proxy,
            pools,
            client,
            units: AtomicI64::new(0),
            serializations: AtomicUsize::new(0),
            deadlocks: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
        }
    }

    /// Has both clients do their part at once, and looks at what is left.
    pub async fn run(&self, round: &Round) {
        let troubles = self.proxy.troubles();
        self.proxy.delay(Duration::from_millis(round.delay_ms));
        if let Some(Fault { trouble, flight }) = round.fault {
            self.proxy.on(trouble.at(self.proxy.flights() + flight));
        }
        let [one, other] = &round.clients;
        let (mut told, others) = join(self.client(one), self.client(other)).await;
        told.extend(others);
        self.proxy.clear();
        let disturbed = self.proxy.troubles() > troubles;
        quiet::settles_behind(&self.proxy, &self.client).await;
        for told in told {
            self.check(&told, disturbed).await;
        }
        let rows = self.client.query(WRONG, &[]).await.unwrap();
        let wrong: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Whether the clients have met each kind of conflict by now.
    pub fn met_every_conflict(&self) -> bool {
        [&self.serializations, &self.deadlocks, &self.repeated]
            .iter()
            .all(|count| count.load(Ordering::Relaxed) > 0)
    }

    async fn check(&self, told: &Told, disturbed: bool) {
        let lines = "SELECT line FROM ledger WHERE unit = $1 ORDER BY line";
        let rows = self.client.query(lines, &[&told.unit]).await.unwrap();
        let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        match told.committed {
            Some(true) => assert_eq!(found, told.lines, "committed: {told:?}"),
            Some(false) => assert!(found.is_empty(), "failed, and {found:?} is there: {told:?}"),
            None => {
                assert!(disturbed, "unknown, and nothing happened: {told:?}");
                let whole = found.is_empty() || found == told.lines;
                assert!(whole, "half done, {found:?} is there: {told:?}");
            }
        }
        let hooks = usize::from(told.committed == Some(true));
        assert_eq!(told.hooks, hooks, "hooks: {told:?}");
    }

    async fn client(&self, units: &[Unit]) -> Vec<Told> {
        let mut told = Vec::new();
        for unit in units {
            let id = self.units.fetch_add(1, Ordering::Relaxed);
            let log = Arc::default();
            let (committed, lines) = if unit.batch {
                self.batch(id, unit, &log).await
            } else {
                self.transaction(id, unit, &log).await
            };
            let hooks = log.lock().unwrap().hooks.len();
            told.push(Told {
                unit: id,
                committed,
                lines,
                hooks,
            });
        }
        told
    }

    async fn batch(&self, id: i64, unit: &Unit, log: &super::run::Log) -> (Option<bool>, Vec<i64>) {
        let lines = (0_i64..).zip(&unit.entries);
        let steps = lines
            .clone()
            .flat_map(|(line, entry)| [add(*entry), write(id, line, *entry)]);
        let batch = Batch::all(steps.collect())
            .isolation(unit.isolation)
            .after_commit(noted(log, 0));
        let lines = lines.map(|(line, _)| line).collect();
        match batch.commit(&self.pools.writes).await {
            Ok(_) => (Some(true), lines),
            Err(BatchError::Ambiguous(_)) => (None, lines),
            Err(error) => {
                expected(&of_database(&error));
                (Some(false), lines)
            }
        }
    }

    async fn transaction(
        &self,
        id: i64,
        unit: &Unit,
        log: &super::run::Log,
    ) -> (Option<bool>, Vec<i64>) {
        let kept = Mutex::new(Vec::new());
        let options = Options::new("ledger").isolation(unit.isolation);
        let mut pools = self.pools.clone();
        let outcome = pools.transact(options, |tx| async {
            kept.lock().unwrap().clear();
            let tx = self
                .body(tx.after_commit(noted(log, 0))?, id, unit, &kept)
                .await;
            let tx = tx.inspect_err(|failure| self.count(failure))?;
            if unit.abort {
                return Err(tx.abort("planned"));
            }
            Ok((tx, ()))
        });
        let committed = match outcome.await {
            Outcome::Committed { attempts, .. } => {
                self.repeated
                    .fetch_add(usize::from(attempts > 1), Ordering::Relaxed);
                Some(true)
            }
            Outcome::Unknown { .. } => None,
            Outcome::RolledBack { cause, .. } => {
                expected(&of_cause(&cause));
                Some(false)
            }
        };
        (committed, kept.into_inner().unwrap())
    }

    async fn body(
        &self,
        mut tx: Transaction,
        id: i64,
        unit: &Unit,
        kept: &Mutex<Vec<i64>>,
    ) -> Result<Transaction, Failure> {
        for (line, entry) in (0_i64..).zip(&unit.entries) {
            let body = async |tx| Ok((record(tx, unit.isolation, id, line, *entry).await?, ()));
            let done = if entry.section {
                let (after, result) = tx.section("ledger", body).await?;
                tx = after;
                result.is_ok()
            } else {
                (tx, ()) = body(tx).await?;
                true
            };
            if done {
                kept.lock().unwrap().push(line);
            }
        }
        Ok(tx)
    }

    /// Counts the conflicts of the clients by their kinds.
    fn count(&self, failure: &Failure) {
        if let db_model::batch::Cause::Database(error) = failure.cause() {
            match error.server().map(|said| said.sqlstate.as_str()) {
                Some("40001") => drop(self.serializations.fetch_add(1, Ordering::Relaxed)),
                Some("40P01") => drop(self.deadlocks.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
    }

    /// What faults must not leave behind.
    pub async fn assert_quiet(&self, database: &TestDatabase) {
        database.assert_database_quiet(&[&self.pools]).await;
    }
}

/// Of all reasons to fail only these can come of such a unit.
fn expected(failed: &Failed) {
    let known = match failed {
        Failed::Step(_, sqlstate) => sqlstate == "NX001",
        Failed::Aborted | Failed::Lost => true,
        Failed::AtCommit | Failed::Never => false,
    };
    assert!(known, "{failed:?}");
}

#[derive(Debug, QueryableByName)]
struct Value {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// Adds to an item and writes the ledger. On a snapshot the new value is what was read and the change:
/// a level that is not the one asked for would lose the other client's.
async fn record(
    tx: Transaction,
    isolation: Isolation,
    id: i64,
    line: i64,
    entry: Entry,
) -> Result<Transaction, Failure> {
    let tx = if isolation == Isolation::ReadCommitted {
        let (tx, ()) = tx.run(add(entry)).await?;
        tx
    } else {
        let read = format!("SELECT value FROM item WHERE id = {}", entry.item);
        let read = Step::<Vec<Value>>::rows("read", diesel::sql_query(read));
        let (tx, rows) = tx.run(read).await?;
        let value = rows[0].value + entry.change;
        let (tx, ()) = tx.run(set(entry.item, value.to_string())).await?;
        tx
    };
    let (tx, ()) = tx.run(write(id, line, entry)).await?;
    Ok(tx)
}

fn add(entry: Entry) -> Step<()> {
    set(entry.item, format!("value + {}", entry.change))
}

/// Sets an item's value, if it is one that is allowed.
fn set(item: i64, value: String) -> Step<()> {
    let update = format!(
        "UPDATE item SET value = {value} WHERE id = {item} AND abs({value}) <= {VALUE_MAX}"
    );
    Step::exactly_one("set", diesel::sql_query(update))
}

fn write(id: i64, line: i64, entry: Entry) -> Step<()> {
    let Entry { item, change, .. } = entry;
    let insert = format!("INSERT INTO ledger VALUES ({id}, {line}, {item}, {change})");
    Step::exactly_one("write", diesel::sql_query(insert))
}
