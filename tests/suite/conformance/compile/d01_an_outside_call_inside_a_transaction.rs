//! A transaction borrows what outside calls, sessions and batches need.

use db_model::Database;
use db_model::batch::{Batch, Options, TransactionError};

pub async fn call(database: &mut Database) -> Result<(), TransactionError> {
    let outcome = database.transact(Options::new("a test"), async |transaction| {
        let called = database.effects.call("an HTTP call", async {}).await;
        assert!(called.is_ok());
        Ok((transaction, ()))
    });
    outcome.await.into_result()
}

pub async fn commit(database: &mut Database) -> Result<(), TransactionError> {
    let outcome = database.transact(Options::new("a test"), async |transaction| {
        let committed = Batch::new().commit(&database.writes).await;
        assert!(committed.is_ok());
        Ok((transaction, ()))
    });
    outcome.await.into_result()
}

fn main() {}
