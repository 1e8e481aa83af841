//! A section after a failure.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>) -> Result<Transaction, Failure> {
    if let Err(failure) = tx.run(step).await {
        println!("caught: {failure}");
    }
    let (tx, _) = tx.section("late", async |tx| Ok((tx, ()))).await?;
    Ok(tx)
}

fn main() {}
