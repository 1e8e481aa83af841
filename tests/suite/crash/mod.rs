//! Death at any instant: of a process, of one of two or two of three, of the database, and of those who only seem dead;
//! and a network that fails at random.

mod chaos;
mod database;
mod frozen;
mod process;
mod replicas;
mod rounds;

use std::time::{Duration, Instant};

use db_model::types::limits::DATABASE_RESTART_GRACE;
use nexus_tests::history::unfinished;
use nexus_tests::load::seed;
use tokio_postgres::Client;
use uuid::Uuid;

/// Within which all sagas have ended once a process is ready again.
const RECOVERY_MAX: Duration = Duration::from_secs(3);

/// Waits until none of these sagas is unfinished, and gives the time since `begun`.
async fn ended(database: &Client, sagas: &[Uuid], begun: Instant) -> Duration {
    nexus_tests::eventually("the sagas have ended", async || {
        let open = unfinished(database).await;
        !sagas.iter().any(|saga| open.contains(saga))
    })
    .await;
    begun.elapsed()
}

/// Waits until the database has been up for a while: right after its start nothing follows from a
/// session that is gone.
async fn settled(database: &Client) {
    let sql = format!(
        "SELECT clock_timestamp() > pg_postmaster_start_time() + interval '{} s'",
        DATABASE_RESTART_GRACE.as_secs()
    );
    nexus_tests::eventually("the database has been up for a while", async || {
        let row = database.query_one(&sql, &[]).await.unwrap();
        row.get::<_, bool>(0)
    })
    .await;
}
