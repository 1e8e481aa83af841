//! A transaction and a saga whose outcomes nobody looks at.
#![deny(unused_must_use)]

use db_model::Database;
use db_model::batch::Options;
use sagas::Submitted;
use sagas::saga::InstanceCreate;

pub async fn swallow(database: &mut Database, submitted: &mut Submitted<InstanceCreate>) {
    let options = Options::new("nobody");
    database.transact(options, async |tx| Ok((tx, ()))).await;
    submitted.outcome().await;
}

fn main() {}
