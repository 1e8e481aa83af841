//! Clients that do the model transaction without pause, for a time.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::place::{PROJECTS, project_id};
use super::variant::{Sessions, Variant};

/// How long the clients work before it counts.
const WARM_UP: Duration = Duration::from_millis(200);

/// Whose quota the transactions charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// That of one project.
    Hot,
    /// That of any.
    Spread,
}

/// What is asked of a variant.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients at once.
    pub clients: usize,
    /// Sessions that they share.
    pub sessions: usize,
    /// Whose quota.
    pub rows: Rows,
    /// How long, in seconds.
    pub seconds: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Transactions that were acknowledged, before, in and after the time that counts.
    pub acknowledged: u64,
    /// Those within it, per second.
    pub per_second: f64,
}

/// Runs a variant of this process. Whoever is on the way when the time is over comes to its end.
///
/// # Errors
/// When a transaction did not commit.
pub async fn run(sessions: &Sessions, variant: Variant, load: Load) -> Result<Done> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(load.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let mut sessions = sessions.clone();
        clients.spawn(async move {
            let (mut acknowledged, mut counted) = (0_u64, 0_u64);
            while Instant::now() < until {
                let number = match load.rows {
                    Rows::Hot => 1,
                    Rows::Spread => rand::rng().random_range(1..=PROJECTS),
                };
                sessions.run(variant, project_id(number)).await?;
                acknowledged += 1;
                counted += u64::from((from..until).contains(&Instant::now()));
            }
            anyhow::Ok((acknowledged, counted))
        });
    }
    let (mut acknowledged, mut counted) = (0, 0);
    for ended in clients.join_all().await {
        let (all, within) = ended?;
        acknowledged += all;
        counted += within;
    }
    Ok(Done {
        acknowledged,
        per_second: counted as f64 / load.seconds as f64,
    })
}
