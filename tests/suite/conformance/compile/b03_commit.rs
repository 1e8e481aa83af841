//! A body that commits: only the owner does.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>) -> Result<Transaction, Failure> {
    let (tx, ()) = tx.run(step).await?;
    tx.commit().await?;
    Ok(tx)
}

fn main() {}
