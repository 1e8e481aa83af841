//! Running a program against a real server, and holding what it says and leaves against the model.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
use super::program::{Call, Fault, Hooked, Node, Op, Program, Unit, When};

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
pub enum Failed {
    Step(usize, String),
    AtCommit,
    Aborted,
    /// The network or the server.
    Lost,
    /// What comes of no program.
    Never,
}

/// What a unit did on its last run.
#[derive(Default)]
pub struct Seen {
    /// How many steps the server has answered; nothing when the body never ran.
    answers: Option<usize>,
    /// The hooks that ran, in their order.
    pub hooks: Vec<u32>,
}

/// The same, where hooks can write.
pub type Log = Arc<Mutex<Seen>>;

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
        self.proxy.delay(Duration::from_millis(program.delay_ms));
        let mut before = State::default();
        for call in &program.calls {
            before = self.call(call, before).await?;
        }
        Ok(())
    }

    async fn call(&self, call: &Call, before: State) -> Result<State, TestCaseError> {
        let planned = model::run(&call.unit, &before, None);
        let troubles = self.proxy.troubles();
        if let Some(Fault { trouble, flight }) = call.fault {
            self.proxy.on(trouble.at(self.proxy.flights() + flight));
        }
        let log = Log::default();
        let told = self.tell(&call.unit, &log).await;
        self.proxy.clear();
        let disturbed = self.proxy.troubles() > troubles;
        quiet::settles_behind(&self.proxy, &self.client).await;
        let found = self.items().await;

        let seen = std::mem::take(&mut *log.lock().unwrap());
        let mut hooks = planned.inside.clone();
        match &told {
            Told::Committed => {
                prop_assert_eq!(&planned.ending, &Ending::Committed, "committed wrongly");
                prop_assert_eq!(&found, &planned.state.items, "committed, and is not there");
                hooks.extend(planned.after);
            }
            Told::Failed(Failed::Lost) => {
                prop_assert!(disturbed, "lost, and nothing happened");
                prop_assert_eq!(&found, &before.items, "lost, and something is there");
                hooks.clear();
                if let Some(answers) = seen.answers {
                    let lost = model::run(&call.unit, &before, Some(answers));
                    prop_assert_eq!(lost.ending, Ending::Lost, "lost at another step");
                    hooks = [lost.inside, lost.after].concat();
                }
            }
            Told::Failed(failed) => {
                prop_assert_eq!(&found, &before.items, "failed, and something is there");
                let fits = match (failed, &planned.ending) {
                    (Failed::Step(step, state), Ending::Failed(wanted, sqlstate)) => {
                        step == wanted && state == sqlstate
                    }
                    (Failed::AtCommit, Ending::AtCommit) => true,
                    (Failed::Aborted, Ending::Aborted) => true,
                    _ => false,
                };
                prop_assert!(fits, "told {:?}, model says {:?}", failed, planned.ending);
                hooks.extend(planned.after);
            }
            Told::Unknown => {
                prop_assert!(disturbed, "unknown, and nothing happened");
                let either = found == before.items || found == planned.state.items;
                prop_assert!(either, "half done: {:?}", found);
            }
        }
        prop_assert_eq!(seen.hooks, hooks, "hooks, told {:?}", told);
        Ok(if found == planned.state.items {
            planned.state
        } else {
            before
        })
    }

    async fn tell(&self, unit: &Unit, log: &Log) -> Told {
        match unit {
            Unit::Batch {
                ops,
                hooks,
                isolation,
            } => {
                let steps = ops.iter().copied().map(step);
                let mut batch = Batch::all(steps.collect()).isolation(*isolation);
                for number in hooks {
                    batch = batch.after_commit(noted(log, *number));
                }
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
                    // A run that comes after a conflict begins anew.
                    *log.lock().unwrap() = Seen {
                        answers: Some(0),
                        ..Seen::default()
                    };
                    let tx = nodes(tx, body, log).await?;
                    if *abort {
                        return Err(tx.abort("planned"));
                    }
                    Ok((tx, ()))
                });
                match outcome.await {
                    Outcome::Committed { .. } => Told::Committed,
                    Outcome::Unknown { .. } => Told::Unknown,
                    Outcome::RolledBack { cause, .. } => Told::Failed(of_cause(&cause)),
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
fn nodes<'a>(
    mut tx: Transaction,
    body: &'a [Node],
    log: &'a Log,
) -> BoxFuture<'a, Result<Transaction, Failure>> {
    async move {
        for node in body {
            match node {
                Node::Op(op) => tx = run(tx, *op, log).await?,
                Node::Hook(hooked) => tx = hook(tx, *hooked, log)?,
                Node::Section { body, abort } => {
                    let section = tx.section("random", |tx| async move {
                        let tx = nodes(tx, body, log).await?;
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

/// Runs a statement, and notes whether the server has answered it.
async fn run(tx: Transaction, op: Op, log: &Log) -> Result<Transaction, Failure> {
    let result = tx.run(step(op)).await.map(|(tx, ())| tx);
    let lost = result
        .as_ref()
        .is_err_and(|failure| matches!(of_cause(failure.cause()), Failed::Lost));
    if !lost {
        *log.lock().unwrap().answers.get_or_insert_default() += 1;
    }
    result
}

fn hook(tx: Transaction, hooked: Hooked, log: &Log) -> Result<Transaction, Failure> {
    let Hooked { when, number } = hooked;
    match when {
        When::BeforeCommit(op) => {
            let log = Arc::clone(log);
            tx.before_commit("random", move |tx| async move {
                log.lock().unwrap().hooks.push(number);
                run(tx, op, &log).await
            })
        }
        When::AfterCommit => tx.after_commit(noted(log, number)),
        When::AfterCommitFirst => tx.after_commit_first(noted(log, number)),
        When::AfterRollback => tx.after_rollback(noted(log, number)),
    }
}

/// A hook that leaves its number.
pub fn noted(log: &Log, number: u32) -> Hook {
    let log = Arc::clone(log);
    Hook::new("noted", async move |_| {
        log.lock().unwrap().hooks.push(number);
        Ok::<_, Infallible>(())
    })
}

/// What a cause stands for.
pub fn of_cause(cause: &Cause) -> Failed {
    match cause {
        Cause::Database(error) => of_database(error),
        Cause::Aborted(_) => Failed::Aborted,
        Cause::Lost(_) => Failed::Lost,
        _ => Failed::Never,
    }
}

/// What an error of a batch stands for.
pub fn of_database(error: &BatchError) -> Failed {
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
