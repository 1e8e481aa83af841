//! What the service reads: async functions over the read pool, one file per noun.
//!
//! Every query is read with `load`: `first` and `get_result` drop the stream after one row, and an
//! error behind it with it.

pub mod event;
pub mod instance;
pub mod page;
pub mod project;
pub mod quota;
pub mod saga;

use crate::pool::PoolError;

pub use page::{Cursor, Direction, PageRequest, SortKey};

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No connection was to be had in time.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The query failed.
    #[error("reading the database: {0}")]
    Query(#[from] diesel::result::Error),
}

impl ReadError {
    /// Whether asking again later may help. What cannot be read or rendered stays so: a bug.
    pub fn is_busy(&self) -> bool {
        use diesel::result::Error;
        match self {
            Self::Pool(error) => !matches!(error, PoolError::InTransaction(_)),
            Self::Query(error) => {
                matches!(
                    error,
                    Error::DatabaseError(..) | Error::BrokenTransactionManager
                )
            }
        }
    }
}
