//! One cell: a service is started, warmed up, measured between two moments at which nothing is left to do, ended, and
//! its work is looked at.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::child::{Service, Starter, Way};
use super::client::{self, Extent, Load, Rows};
use super::ground::Ground;
use super::look::Reading;

/// What a cell is told in, in this order.
pub const COLUMNS: [(&str, usize); 10] = [
    ("per second", 0),
    ("p50, ms", 1),
    ("p99, ms", 1),
    ("CPU, ms", 2),
    ("of it service", 2),
    ("of it database", 2),
    ("writing transactions", 2),
    ("commits", 2),
    ("WAL, bytes", 0),
    ("of it page images", 0),
];

/// What a service costs that has nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// Of each second.
    per_second: Cost,
    /// Commits of a start, a short life and an end.
    commits: f64,
}

/// What is counted by the difference of two readings.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    service_ms: f64,
    database_ms: f64,
    writing: f64,
    wal: f64,
}

/// A moment at which nothing is left to do.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    service: Duration,
    database: Reading,
}

impl Moment {
    async fn take(ground: &mut Ground, service: &Service) -> Result<Self> {
        Ok(Self {
            database: ground.look.read().await?,
            service: service.processor_time()?,
            at: Instant::now(),
        })
    }

    fn cost_until(&self, later: &Self) -> Cost {
        let ms = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e3;
        let database = (&self.database, &later.database);
        Cost {
            service_ms: ms(self.service, later.service),
            database_ms: ms(database.0.processor_time, database.1.processor_time),
            writing: (database.1.writing - database.0.writing) as f64,
            wal: (database.1.wal - database.0.wal) as f64,
        }
    }
}

/// What a service costs that has nothing to do for a while.
///
/// # Errors
/// When it does not live that long.
pub async fn idle(
    ground: &mut Ground,
    starter: &Starter,
    way: Way,
    time: Duration,
) -> Result<Idle> {
    let others = ground.look.sessions().await?;
    let commits = ground.look.commits().await?;
    let service = starter.start(way, &[]).await?;
    let warm_up = Load {
        clients: 1,
        rows: Rows::Refusing,
        extent: Extent::Requests(1),
        respond_async: false,
    };
    client::run(service.api(), warm_up).await?;
    ground.come_to_rest().await?;
    let before = Moment::take(ground, &service).await?;
    sleep(time).await;
    let after = Moment::take(ground, &service).await?;
    service.terminate().await?;
    ground.be_alone(others).await?;
    let seconds = (after.at - before.at).as_secs_f64();
    let cost = before.cost_until(&after);
    Ok(Idle {
        per_second: Cost {
            service_ms: cost.service_ms / seconds,
            database_ms: cost.database_ms / seconds,
            writing: cost.writing / seconds,
            wal: cost.wal / seconds,
        },
        commits: (ground.look.commits().await? - commits) as f64,
    })
}

impl Idle {
    /// For a table: writing transactions, bytes of log and processor time of each second, and commits of a life.
    pub fn figures(&self) -> Vec<f64> {
        let cost = self.per_second;
        vec![
            cost.writing,
            cost.wal,
            cost.service_ms,
            cost.database_ms,
            self.commits,
        ]
    }
}

/// Measures a way under a load; the figures are those of [`COLUMNS`], each of one request. What a service costs that
/// has nothing to do is not in them.
///
/// # Errors
/// When a request is not answered as it must be, or what is in the database afterwards is not what was acknowledged.
pub async fn run(
    ground: &mut Ground,
    starter: &Starter,
    way: Way,
    load: Load,
    warm_up: Extent,
    idle: &Idle,
) -> Result<Vec<f64>> {
    let others = ground.look.sessions().await?;
    let commits = ground.look.commits().await?;
    let service = starter.start(way, &[]).await?;
    let warm_up = Load {
        extent: warm_up,
        ..load
    };
    let warmed = client::run(service.api(), warm_up)
        .await
        .context("warming up")?;
    ground.come_to_rest().await?;
    let before = Moment::take(ground, &service).await?;
    let done = client::run(service.api(), load).await?;
    ground.come_to_rest().await?;
    let after = Moment::take(ground, &service).await?;
    service.terminate().await?;
    ground.be_alone(others).await?;
    let commits = (ground.look.commits().await? - commits) as f64;
    let all = warmed.answered + done.answered;
    let made = if load.rows == Rows::Refusing { 0 } else { all };
    ground.check(made).await?;
    let (from, to) = (before.database.wal, after.database.wal);
    let images = ground.look.page_images(from, to).await?;

    let cost = before.cost_until(&after);
    let seconds = (after.at - before.at).as_secs_f64();
    let each = |cost: f64, idle: f64| (cost - idle * seconds) / done.answered as f64;
    let alone = idle.per_second;
    let service_ms = each(cost.service_ms, alone.service_ms);
    let database_ms = each(cost.database_ms, alone.database_ms);
    Ok(vec![
        done.per_second,
        done.latency_ms(50),
        done.latency_ms(99),
        service_ms + database_ms,
        service_ms,
        database_ms,
        each(cost.writing, alone.writing),
        (commits - idle.commits) / all as f64,
        each(cost.wal, alone.wal),
        images.map_or(f64::NAN, |images| each(images as f64, 0.0)),
    ])
}
