//! A body that leaves a section open.

use db_model::batch::{Failure, Transaction};

async fn body(tx: Transaction) -> Result<Transaction, Failure> {
    let mut kept = None;
    let section = tx.section("open", async |inner| {
        kept = Some(inner);
        Ok(((), ()))
    });
    section.await?;
    Ok(kept.unwrap())
}

fn main() {}
