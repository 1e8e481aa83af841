//! Running a program against a real server, and holding what it says and leaves against the model.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use db_model::Database;
use db_model::batch::{
    Batch, BatchError, Cause, Failure, Hook, Options, Outcome, Step, Transaction,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_tests::proxy::Proxy;
use nexus_tests::{TestDatabase, quiet};
use proptest::prelude::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use tokio_postgres::Client;

use super::model::{self, Ending, State, VALUES};
use super::program::{Call, Fault, Node, Op, Program, Unit};

const TABLES: &str = "\
CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE orphan (parent_id bigint CONSTRAINT orphan_parent_id_fkey
    REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)";

/// No item has this id.
const NOBODY: i64 = -1;

/// A unit's end, as its caller was told.
#[derive(Debug)]
enum Told {
    Committed,
    /// Nothing of it stands, and this is why.
    Failed(Failed),
    /// Nobody knows.
    Unknown,
}

#[derive(Debug)]
enum Failed {
    Step(usize, String),
    AtCommit,
    Aborted,
    /// The network or the server.
    Lost,
    /// What comes of no program.
    Never,
}

/// A database behind a proxy, and a client beside it that looks.
pub struct Bench {
    proxy: Proxy,
    pools: Database,
    client: Client,
}

impl Bench {
    pub async fn new(database: &TestDatabase) -> Self {
        let client = database.client().await;
        client.batch_execute(TABLES).await.unwrap();
        let proxy = database.proxy().await;
        let pools = database.pools_through(&proxy);
        Self {
            proxy,
            pools,
            client,
        }
    }

    /// Runs a program from an empty database on.
    pub async fn run(&self, program: &Program) -> Result<(), TestCaseError> {
        self.client
            .batch_execute("TRUNCATE item, orphan")
            .await
            .unwrap();
        self.proxy.pieces(program.piece_bytes);
        let mut before = State::default();
        for call in &program.calls {
            before = self.call(call, before).await?;
        }
        Ok(())
    }

    async fn call(&self, call: &Call, before: State) -> Result<State, TestCaseError> {
        let (ending, after) = model::run(&call.unit, &before);
        let troubles = self.proxy.troubles();
        if let Some(Fault { trouble, flight }) = call.fault {
            self.proxy.on(trouble.at(self.proxy.flights() + flight));
        }
        let hooked = Arc::new(AtomicUsize::new(0));
        let told = self.tell(&call.unit, &hooked).await;
        self.proxy.clear();
        let disturbed = self.proxy.troubles() > troubles;
        // The server may still have to notice what was cut off.
        quiet::settles(&self.client).await;
        let found = self.items().await;

        let hooked = hooked.load(Ordering::Relaxed);
        prop_assert_eq!(
            hooked,
            usize::from(matches!(told, Told::Committed)),
            "hooks"
        );
        match &told {
            Told::Committed => {
                prop_assert_eq!(&ending, &Ending::Committed, "committed, and should not be");
                prop_assert_eq!(&found, &after.items, "committed, and is not there");
            }
            Told::Failed(failed) => {
                prop_assert_eq!(&found, &before.items, "failed, and something is there");
                let lost = disturbed && matches!(failed, Failed::Lost);
                let fits = match (failed, &ending) {
                    (Failed::Step(step, state), Ending::Failed(wanted, sqlstate)) => {
                        step == wanted && state == sqlstate
                    }
                    (Failed::AtCommit, Ending::AtCommit) => true,
                    (Failed::Aborted, Ending::Aborted) => true,
                    _ => false,
                };
                prop_assert!(fits || lost, "told {:?}, model says {:?}", failed, ending);
            }
            Told::Unknown => {
                prop_assert!(disturbed, "unknown, and nothing happened");
                let either = found == before.items || found == after.items;
                prop_assert!(either, "half done: {:?}", found);
            }
        }
        Ok(if found == after.items { after } else { before })
    }

    async fn tell(&self, unit: &Unit, hooked: &Arc<AtomicUsize>) -> Told {
        match unit {
            Unit::Batch { ops, isolation } => {
                let steps = ops.iter().copied().map(step);
                let batch = Batch::all(steps.collect())
                    .isolation(*isolation)
                    .after_commit(counts(hooked));
                match batch.commit(&self.pools.writes).await {
                    Ok(_) => Told::Committed,
                    Err(BatchError::Ambiguous(_)) => Told::Unknown,
                    Err(error) => Told::Failed(of_database(&error)),
                }
            }
            Unit::Transaction {
                body,
                abort,
                isolation,
            } => {
                let options = Options::new("random").isolation(*isolation);
                let mut pools = self.pools.clone();
                let outcome = pools.transact(options, |tx| async {
                    let tx = nodes(tx.after_commit(counts(hooked))?, body).await?;
                    if *abort {
                        return Err(tx.abort("planned"));
                    }
                    Ok((tx, ()))
                });
                match outcome.await {
                    Outcome::Committed { .. } => Told::Committed,
                    Outcome::Unknown { .. } => Told::Unknown,
                    Outcome::RolledBack { cause, .. } => Told::Failed(match cause {
                        Cause::Database(error) => of_database(&error),
                        Cause::Aborted(_) => Failed::Aborted,
                        Cause::Lost(_) => Failed::Lost,
                        _ => Failed::Never,
                    }),
                }
            }
        }
    }

    async fn items(&self) -> BTreeMap<i64, i64> {
        let rows = self.client.query("SELECT id, value FROM item", &[]).await;
        let rows = rows.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// What faults must not leave behind.
    pub async fn assert_quiet(&self, database: &TestDatabase) {
        database.assert_database_quiet(&[&self.pools]).await;
    }
}

/// Runs the parts of a body.
fn nodes(mut tx: Transaction, body: &[Node]) -> BoxFuture<'_, Result<Transaction, Failure>> {
    async move {
        for node in body {
            match node {
                Node::Op(op) => {
                    (tx, ()) = tx.run(step(*op)).await?;
                }
                Node::Section { body, abort } => {
                    let section = tx.section("random", |tx| async move {
                        let tx = nodes(tx, body).await?;
                        if *abort {
                            return Err(tx.abort("planned"));
                        }
                        Ok((tx, ()))
                    });
                    (tx, _) = section.await?;
                }
            }
        }
        Ok(tx)
    }
    .boxed()
}

fn counts(hooked: &Arc<AtomicUsize>) -> Hook {
    let hooked = Arc::clone(hooked);
    Hook::new("counts", async move |_| {
        hooked.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(())
    })
}

fn of_database(error: &BatchError) -> Failed {
    match (error, error.step(), error.server()) {
        (BatchError::AtCommit { .. }, ..) => Failed::AtCommit,
        (BatchError::Unexpected { .. }, Some(step), Some(server)) => {
            Failed::Step(step.index, server.sqlstate.clone())
        }
        (BatchError::Busy(_), ..) => Failed::Lost,
        _ => Failed::Never,
    }
}

fn step(op: Op) -> Step<()> {
    let sql = |text: String| diesel::sql_query(text);
    match op {
        Op::Insert(id) => {
            Step::exactly_one("insert", sql(format!("INSERT INTO item VALUES ({id}, 0)")))
        }
        Op::Add(id, change) => {
            let (least, most) = (VALUES.start(), VALUES.end());
            let add = format!(
                "UPDATE item SET value = value + {change} WHERE id = {id} \
                 AND value + {change} BETWEEN {least} AND {most}"
            );
            Step::exactly_one("add", sql(add))
        }
        Op::Remove(id) => {
            Step::exactly_one("remove", sql(format!("DELETE FROM item WHERE id = {id}")))
        }
        Op::Divide => Step::statement("divide", sql("SELECT 1 / 0".to_owned())),
        Op::Orphan => Step::exactly_one(
            "orphan",
            sql(format!("INSERT INTO orphan VALUES ({NOBODY})")),
        ),
    }
}
