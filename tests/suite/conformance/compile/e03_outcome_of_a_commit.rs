//! A commit whose outcome nobody looks at.
#![deny(unused_must_use)]

use db_model::batch::Batch;
use db_model::pool::WritePool;

pub async fn swallow(pool: &WritePool) {
    Batch::new().commit(pool).await;
}

fn main() {}
