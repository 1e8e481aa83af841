//! A step after one that failed.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, first: Step<()>, second: Step<()>) -> Result<Transaction, Failure> {
    if let Err(failure) = tx.run(first).await {
        println!("caught: {failure}");
    }
    let (tx, ()) = tx.run(second).await?;
    Ok(tx)
}

fn main() {}
