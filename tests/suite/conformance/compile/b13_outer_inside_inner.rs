//! The outer transaction used while a section of it is open.

use db_model::batch::{Failure, Step, Transaction};

async fn body(tx: Transaction, step: Step<()>) -> Result<Transaction, Failure> {
    let (tx, _) = tx
        .section("inner", async |inner| {
            let (outer, ()) = tx.run(step).await?;
            drop(outer);
            Ok((inner, ()))
        })
        .await?;
    Ok(tx)
}

fn main() {}
