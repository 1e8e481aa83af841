//! A body that gives a failed transaction back as a sound one.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>) -> Result<Transaction, Failure> {
    match tx.run(step).await {
        Ok((tx, ())) => Ok(tx),
        Err(failure) => Ok(failure),
    }
}

fn main() {}
