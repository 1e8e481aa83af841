//! A batch that nobody commits, and a commit that nobody awaits.
#![deny(unused_must_use)]

use db_model::batch::Batch;
use db_model::pool::WritePool;

pub fn forget(pool: &WritePool) {
    Batch::new();
    Batch::new().commit(pool);
}

fn main() {}
