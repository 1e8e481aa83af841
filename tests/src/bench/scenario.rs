//! The scenarios: how many clients, on which rows, over which way.

use db_model::types::limits::WRITE_POOL_SIZE_DEFAULT;

use super::load::{Load, Rows};
use super::variant::Variant;

/// One situation in which variants are compared.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is compared in it.
    pub variants: Vec<Variant>,
    /// Clients at once.
    pub clients: usize,
    /// Sessions that they share.
    pub sessions: usize,
    /// Whose quota they charge.
    pub rows: Rows,
    /// Whether the way to the server takes its time.
    pub delayed: bool,
    /// Whether it shows what the parts cost.
    pub parts: bool,
}

impl Scenario {
    /// Its name, by which it is filtered.
    pub fn name(&self) -> String {
        let rows = match self.rows {
            Rows::Hot => "one hot row",
            Rows::Spread => "spread over projects",
        };
        let way = if self.delayed {
            "1 ms each way"
        } else {
            "local"
        };
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            clients => format!("{clients} clients"),
        };
        let sessions = match self.sessions {
            1 => "1 session".to_owned(),
            sessions => format!("{sessions} sessions"),
        };
        let parts = if self.parts { "parts: " } else { "" };
        format!("{parts}{rows}, {way}, {clients}, {sessions}")
    }

    /// What is asked of each of its variants. pgbench has no pool: its clients are the sessions.
    pub fn load(&self, seconds: u64) -> Load {
        Load {
            clients: self.clients,
            sessions: self.sessions,
            rows: self.rows,
            seconds,
        }
    }
}

/// All scenarios for these numbers of clients whose name contains `filter`.
pub fn all(clients: &[usize], filter: &str) -> Vec<Scenario> {
    let default = usize::try_from(WRITE_POOL_SIZE_DEFAULT).unwrap_or(usize::MAX);
    let mut scenarios = Vec::new();
    for delayed in [false, true] {
        for rows in [Rows::Spread, Rows::Hot] {
            for &clients in clients {
                let alone = clients == 1 && (delayed || rows == Rows::Hot);
                let sessions = [Some(clients), (clients > default).then_some(default)];
                // Nobody waits for a client that is alone, wherever its rows are.
                for sessions in sessions.into_iter().flatten().filter(|_| !alone) {
                    scenarios.push(Scenario {
                        variants: Variant::ALL.into(),
                        clients,
                        sessions,
                        rows,
                        delayed,
                        parts: false,
                    });
                }
            }
        }
    }
    for delayed in [false, true] {
        scenarios.push(Scenario {
            variants: Variant::PARTS.into(),
            clients: default,
            sessions: default,
            rows: Rows::Spread,
            delayed,
            parts: true,
        });
    }
    scenarios.retain(|scenario| scenario.name().contains(filter));
    scenarios
}

/// The names of scenarios, for whoever has mistyped one.
pub fn names(scenarios: &[Scenario]) -> String {
    let names: Vec<_> = scenarios.iter().map(Scenario::name).collect();
    names.join("; ")
}
