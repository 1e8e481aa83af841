//! A hook after a failure.

use db_model::batch::{Failure, Hook, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>, hook: Hook) -> Result<Transaction, Failure> {
    if let Err(failure) = tx.run(step).await {
        println!("caught: {failure}");
    }
    tx.after_commit(hook)
}

fn main() {}
