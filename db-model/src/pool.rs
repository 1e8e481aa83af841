//! The pools.
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;

/// Reads.
#[derive(Clone, Debug)]
pub struct ReadPool(bb8::Pool<AsyncDieselConnectionManager<AsyncPgConnection>>);

/// Why no connection was to be had.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// All are in use.
    #[error("no database connection became free in time")]
    Exhausted,
    /// The database does not answer.
    #[error("the database is not reachable: {0}")]
    Unavailable(String),
}

impl ReadPool {
    /// A connection.
    pub async fn get(
        &self,
    ) -> Result<
        bb8::PooledConnection<'static, AsyncDieselConnectionManager<AsyncPgConnection>>,
        PoolError,
    > {
        self.0
            .get_owned()
            .await
            .map_err(|error| PoolError::Unavailable(error.to_string()))
    }
}
