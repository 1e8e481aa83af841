//! What came of a run: medians, ratios, and the machine on which they were taken.

use anyhow::Result;
use serde_json::{Value, json};

use super::place::Place;
use super::scenario::Scenario;
use super::trips::Trips;
use super::variant::{Extra, Variant};
use super::{BatchArgs, machine};

/// One variant in one scenario.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The variant.
    pub variant: Variant,
    rates: Vec<f64>,
    failure: Option<String>,
}

impl Cell {
    /// No rounds yet.
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            rates: Vec::new(),
            failure: None,
        }
    }

    /// Adds a round. After one that failed the variant has no figure any more.
    pub fn add(&mut self, rate: Result<f64>) {
        match rate {
            Ok(rate) => self.rates.push(rate),
            Err(error) => {
                self.failure.get_or_insert(format!("{error:#}"));
            }
        }
    }

    /// Transactions per second, the median of the rounds.
    pub fn median(&self) -> Option<f64> {
        if self.failure.is_some() {
            return None;
        }
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        let middle = rates.len() / 2;
        match rates.len() % 2 {
            1 => rates.get(middle).copied(),
            _ => Some((rates.get(middle)? + rates.get(middle.checked_sub(1)?)?) / 2.0),
        }
    }
}

/// All that a run has found.
pub struct Report {
    machine: Vec<(String, String)>,
    /// Round trips.
    pub trips: Vec<Trips>,
    /// The cells of each scenario.
    pub scenarios: Vec<(Scenario, Vec<Cell>)>,
}

impl Report {
    /// Nothing found yet, on this machine.
    ///
    /// # Errors
    /// When the server does not tell its settings.
    pub async fn new(place: &Place, args: &BatchArgs) -> Result<Self> {
        let mut machine = machine::notes(place).await?;
        let cells = format!("{} s; medians of rounds: {}", args.seconds, args.rounds);
        machine.push(("cells".to_owned(), cells));
        Ok(Self {
            machine,
            trips: Vec::new(),
            scenarios: Vec::new(),
        })
    }

    /// Adds what has to be known of the machine.
    pub fn note(&mut self, name: &str, value: String) {
        self.machine.push((name.to_owned(), value));
    }

    /// Tables to read; they are Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            text += &format!("{name}: {value}\n");
        }
        if !self.trips.is_empty() {
            text += "\nround trips of one transaction\n\n| | cold | warm |\n|---|---:|---:|\n";
        }
        for Trips {
            variant,
            cold,
            warm,
        } in &self.trips
        {
            text += &format!("| {} | {cold} | {warm} |\n", variant.name());
        }
        for (scenario, cells) in &self.scenarios {
            text += &table(scenario, cells);
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let trips = self.trips.iter().map(|trips| {
            json!({"variant": trips.variant.name(), "cold": trips.cold, "warm": trips.warm})
        });
        let scenarios = self.scenarios.iter().map(|(scenario, cells)| {
            let variants = cells.iter().map(|cell| {
                json!({
                    "variant": cell.variant.name(),
                    "transactions_per_second": cell.median(),
                    "rounds": cell.rates,
                    "failure": cell.failure,
                    "ratios": ratios(scenario, cells, cell).map(|(_, ratio)| ratio),
                })
            });
            json!({
                "scenario": scenario.name(),
                "clients": scenario.clients,
                "sessions": scenario.sessions,
                "compared_with": columns(scenario).map(Variant::name),
                "variants": variants.collect::<Vec<_>>(),
            })
        });
        let machine: serde_json::Map<_, _> = self
            .machine
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        json!({
            "machine": machine,
            "round_trips": trips.collect::<Vec<_>>(),
            "scenarios": scenarios.collect::<Vec<_>>(),
        })
    }
}

/// With what the variants of a scenario are compared.
fn columns(scenario: &Scenario) -> [Variant; 2] {
    if scenario.parts {
        [
            Variant::Transaction(Extra::None),
            Variant::Batch(Extra::None),
        ]
    } else {
        [Variant::Awaited, Variant::OneMessage]
    }
}

fn ratios(scenario: &Scenario, cells: &[Cell], cell: &Cell) -> [(Variant, Option<f64>); 2] {
    columns(scenario).map(|column| {
        let other = cells.iter().find(|cell| cell.variant == column);
        let ratio = cell.median().zip(other.and_then(Cell::median));
        (column, ratio.map(|(this, other)| this / other))
    })
}

fn table(scenario: &Scenario, cells: &[Cell]) -> String {
    let [first, second] = columns(scenario).map(Variant::name);
    let mut text = format!(
        "\n{}\n\n| | per second | to {first} | to {second} |\n|---|---:|---:|---:|\n",
        scenario.name()
    );
    let mut failures = String::new();
    for cell in cells {
        let rate = cell
            .median()
            .map_or("-".to_owned(), |rate| format!("{rate:.0}"));
        let ratios = ratios(scenario, cells, cell)
            .map(|(_, ratio)| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        text += &format!(
            "| {} | {rate} | {} |\n",
            cell.variant.name(),
            ratios.join(" | ")
        );
        if let Some(failure) = &cell.failure {
            failures += &format!("{}: {failure}\n", cell.variant.name());
        }
    }
    text + &failures
}
