//! A step on what is left of a transaction after a failure.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, first: Step<()>, second: Step<()>) -> Result<Transaction, Failure> {
    let failure = tx.run(first).await.unwrap_err();
    let (tx, ()) = failure.run(second).await?;
    Ok(tx)
}

fn main() {}
