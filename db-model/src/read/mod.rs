//! What the service reads: async functions over the read pool, one file per noun.
//!
//! Every query goes through `rows!`, which reads to the end (`first` and `get_result` drop the stream
//! after one row, and an error behind it with it) and keeps the SQLSTATE and the query's name.

pub mod event;
pub mod executor;
pub mod instance;
pub mod page;
pub mod project;
pub mod quota;
pub mod saga;

use crate::batch::flight::ServerError;
use crate::batch::sqlstate::Answer;
use crate::pool::{PoolError, PooledReader};

pub use page::{Cursor, Direction, PageRequest, SortKey};

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No connection was to be had in time.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The server refused the query.
    #[error("{query} failed: {error}")]
    Refused {
        /// The query's name.
        query: &'static str,
        /// What the server said.
        error: Box<ServerError>,
    },
    /// The query failed without a word of the server: the session broke, or rows do not read as they should.
    #[error("{query} failed: {error}")]
    Query {
        /// The query's name.
        query: &'static str,
        /// What Diesel says.
        error: diesel::result::Error,
    },
}

impl ReadError {
    /// Whether asking again later may help. What cannot be read or rendered stays so: a bug.
    pub fn is_busy(&self) -> bool {
        use diesel::result::Error;
        match self {
            Self::Pool(error) => !matches!(error, PoolError::InTransaction(_)),
            Self::Refused { error, .. } => error.rule().answer == Answer::Busy,
            Self::Query { error, .. } => matches!(
                error,
                Error::DatabaseError(..) | Error::BrokenTransactionManager
            ),
        }
    }

    /// What the server said, if it said something.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            Self::Pool(_) | Self::Query { .. } => None,
        }
    }
}

/// All rows of a query, over a session of the pool; the text is how errors call the query.
///
/// A macro and no function: the futures of `load` are `Send` for known queries only.
macro_rules! rows {
    ($pool:expr, $name:literal, $query:expr) => {{
        let mut session = $pool.get().await?;
        let loaded = diesel_async::RunQueryDsl::load($query, &mut session).await;
        $crate::read::told($name, &session, loaded)
    }};
}
use rows;

/// Gives an error the query's name and what the server said.
fn told<T>(
    query: &'static str,
    session: &PooledReader,
    loaded: diesel::QueryResult<T>,
) -> Result<T, ReadError> {
    loaded.map_err(|error| match (session.take_error(), &error) {
        (Some(said), diesel::result::Error::DatabaseError(..)) => ReadError::Refused {
            query,
            error: Box::new(said),
        },
        _ => ReadError::Query { query, error },
    })
}
