//! What sagas take beside time: memory while they live and once they have ended, and what it takes to go on with them
//! after a SIGKILL.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::child::{Service, Starter, Way};
use super::client::{self, Extent, Load, Rows};
use super::ground::{ANY_UNFINISHED, Ground, UNFINISHED};

/// Clients that start sagas which shall live at once: each waits for its turn behind all that live already.
const STARTING_CLIENTS: u64 = 200;
/// Clients that make sagas which end.
const CLIENTS: u64 = 16;
/// For all sagas to be gone on with to their end.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

const MIB: f64 = (1 << 20) as f64;

/// In what memory is told.
pub const MEMORY_COLUMNS: [(&str, usize); 4] = [
    ("sagas", 0),
    ("before, MiB", 1),
    ("with them, MiB", 1),
    ("bytes of each", 0),
];

/// In what a recovery is told.
pub const RECOVERY_COLUMNS: [(&str, usize); 4] = [
    ("sagas", 0),
    ("seconds from the start", 1),
    ("from ready", 1),
    ("memory at most, MiB", 1),
];

fn load(clients: u64, requests: u64, respond_async: bool) -> Load {
    Load {
        clients,
        rows: Rows::Spread,
        extent: Extent::Requests(requests),
        respond_async,
    }
}

/// The memory of a service before and after so many sagas have ended in it; as many have ended before.
///
/// # Errors
/// When one does not end well.
pub async fn finished(ground: &mut Ground, starter: &Starter, sagas: u64) -> Result<Vec<f64>> {
    let service = starter.start(Way::Product, &[]).await?;
    client::run(service.api(), load(CLIENTS, sagas, false)).await?;
    ground.come_to_rest().await?;
    let before = service.memory()?.resident;
    client::run(service.api(), load(CLIENTS, sagas, false)).await?;
    ground.come_to_rest().await?;
    let after = service.memory()?.resident;
    service.terminate().await?;
    ground.check(2 * sagas).await?;
    Ok(grown(sagas, before, after))
}

/// The memory of a service before and while so many sagas live in it, and do not get on.
///
/// # Errors
/// When one does not end well, once it may.
pub async fn live(ground: &mut Ground, starter: &Starter, sagas: u64) -> Result<Vec<f64>> {
    let service = starter.start(Way::Product, &running_max(sagas)).await?;
    // What a service under load needs anyway is there before.
    client::run(service.api(), load(STARTING_CLIENTS, sagas, false)).await?;
    ground.come_to_rest().await?;
    let before = service.memory()?.resident;
    ground.close_gate().await?;
    let begun = begin(ground, &service, sagas).await;
    let after = service.memory()?.resident;
    ground.open_gate().await?;
    let begun = begun?;
    ground.come_to_rest().await?;
    service.terminate().await?;
    ground.check(sagas + begun).await?;
    Ok(grown(begun, before, after))
}

/// How long a new process takes for so many sagas that a killed one has left.
///
/// # Errors
/// When one of them does not end well.
pub async fn recovery(ground: &mut Ground, starter: &Starter, sagas: u64) -> Result<Vec<f64>> {
    let service = starter.start(Way::Product, &running_max(sagas)).await?;
    ground.close_gate().await?;
    let begun = begin(ground, &service, sagas).await;
    let killed = service.kill();
    ground.open_gate().await?;
    killed?;
    let begun = begun?;
    let service = starter.start(Way::Product, &[]).await?;
    service.ready().await?;
    let ready = service.started.elapsed();
    ground.wait_for(ANY_UNFINISHED, 0, RECOVERY_MAX).await?;
    let ended = service.started.elapsed();
    let peak = service.memory()?.peak;
    ground.come_to_rest().await?;
    service.terminate().await?;
    ground.check(begun).await?;
    Ok(vec![
        begun as f64,
        ended.as_secs_f64(),
        ended.saturating_sub(ready).as_secs_f64(),
        peak as f64 / MIB,
    ])
}

/// Lets sagas begin behind the closed gate, and gives how many did.
async fn begin(ground: &mut Ground, service: &Service, sagas: u64) -> Result<u64> {
    let clients = STARTING_CLIENTS.min(sagas);
    client::run(service.api(), load(clients, sagas, true)).await?;
    // One that was answered with 503 may have begun all the same.
    let unfinished = ground.look.number(UNFINISHED).await?;
    ground.at_the_gate(unfinished).await?;
    let begun = u64::try_from(unfinished)?;
    ensure!(
        begun >= sagas,
        "not correct: {begun} live, {sagas} were acknowledged"
    );
    Ok(begun)
}

fn running_max(sagas: u64) -> [String; 2] {
    ["--sagas-running-max".to_owned(), (2 * sagas).to_string()]
}

fn grown(sagas: u64, before: u64, after: u64) -> Vec<f64> {
    let (before, after) = (before as f64, after as f64);
    vec![
        sagas as f64,
        before / MIB,
        after / MIB,
        (after - before) / sagas as f64,
    ]
}
