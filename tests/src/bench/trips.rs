//! How often a client waits for the server in one transaction, counted on the wire.

use std::time::Duration;

use anyhow::Result;

use super::line::Line;
use super::place::{Place, project_id};
use super::target::{Network, Server};
use super::variant::{Sessions, Variant};

/// Longer than a client takes between two messages of which neither waits for the other's answer.
const DELAY: Duration = Duration::from_millis(20);

/// Round trips of one variant.
#[derive(Clone, Copy, Debug)]
pub struct Trips {
    /// The variant.
    pub variant: Variant,
    /// Of the first transaction of a session.
    pub cold: u64,
    /// Of a later one.
    pub warm: u64,
}

/// Counts them for every variant that runs in this process.
///
/// # Errors
/// When a transaction did not commit, or the books are wrong.
pub async fn count(server: &Server, place: &mut Place) -> Result<Vec<Trips>> {
    let mut all = Vec::new();
    for variant in Variant::ALL {
        if variant.is_own() {
            all.push(count_one(server, variant).await?);
            place.check(3, variant.events()).await?;
        }
    }
    Ok(all)
}

async fn count_one(server: &Server, variant: Variant) -> Result<Trips> {
    let line = Line::start(server.socket(), DELAY)?;
    let mut sessions = Sessions::new(&server.url(Network::Line(line.port())), 1).await?;
    sessions.connect().await?;
    let mut counts = [0; 3];
    for (number, count) in (1..).zip(&mut counts) {
        line.take_waits();
        sessions.run(variant, project_id(number)).await?;
        *count = line.take_waits();
    }
    // The second one may still be finding out what the session has to know.
    let [cold, _, warm] = counts;
    Ok(Trips {
        variant,
        cold,
        warm,
    })
}
