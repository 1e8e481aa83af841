//! A commit whose outcome nobody looks at.
//@ unused `Result` that must be used

use db_model::batch::{Batch, BatchError};
use db_model::pool::WritePool;

pub async fn commit(pool: &WritePool) -> Result<(), BatchError> {
    #[cfg(mistake)]
    Batch::new().commit(pool).await;
    Batch::new().commit(pool).await
}
