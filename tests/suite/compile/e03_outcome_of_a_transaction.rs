//! A transaction and a saga whose outcomes nobody looks at.
//@ a transaction that was rolled back looks like one that was committed to whoever does not look
//@ a saga that failed looks like one that succeeded to whoever does not look

use db_model::Database;
use db_model::batch::{Options, Outcome};
use sagas::Submitted;
use sagas::saga::InstanceCreate;

pub async fn nothing(database: &mut Database) -> Outcome<()> {
    let options = Options::new("nobody");
    #[cfg(mistake)]
    database.transact(options, async |transaction| Ok((transaction, ()))).await;
    database.transact(options, async |transaction| Ok((transaction, ()))).await
}

pub async fn wait(submitted: &mut Submitted<InstanceCreate>) {
    #[cfg(mistake)]
    submitted.outcome().await;
    drop(submitted.outcome().await);
}
