//! A duplicate that is caught without a section, after which the body goes on.

use db_model::batch::{Cause, Failure, Step, Transaction};

async fn get_or_create(
    tx: Transaction,
    insert: Step<()>,
    select: Step<Vec<(i64,)>>,
) -> Result<(Transaction, Vec<(i64,)>), Failure> {
    match tx.run(insert).await {
        Ok((tx, ())) => tx.run(select).await,
        Err(failure) if matches!(failure.cause(), Cause::Database(_)) => tx.run(select).await,
        Err(failure) => Err(failure),
    }
}

fn main() {}
