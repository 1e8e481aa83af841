//! A rollback by somebody who does not own the transaction.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>) -> Result<Transaction, Failure> {
    let (tx, ()) = tx.run(step).await?;
    tx.roll_back().await;
    Ok(tx)
}

fn main() {}
