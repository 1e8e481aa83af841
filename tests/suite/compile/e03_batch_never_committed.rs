//! A batch that nobody commits, and a commit that nobody awaits.
//@ a batch does nothing until it is committed
//@ futures do nothing unless you `.await` or poll them

use db_model::batch::{Batch, BatchError};
use db_model::pool::WritePool;

pub async fn commit(pool: &WritePool) -> Result<(), BatchError> {
    #[cfg(mistake)]
    Batch::new();
    #[cfg(mistake)]
    Batch::new().commit(pool);
    Batch::new().commit(pool).await
}
