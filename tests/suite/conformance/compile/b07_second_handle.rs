//! A second handle on a transaction.

use db_model::batch::{Failure, Transaction};

async fn body(tx: Transaction) -> Result<Transaction, Failure> {
    let second = tx.clone();
    drop(second);
    Ok(tx)
}

fn main() {}
