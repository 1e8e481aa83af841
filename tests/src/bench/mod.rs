//! The bench: what a batch costs beside other ways of doing the same transaction, on a PostgreSQL of its own.
//!
//! It measures the database layer; sagas and the API are measured by [`saga`].

pub mod line;
pub mod load;
mod machine;
pub mod model;
pub mod pgbench;
pub mod place;
mod report;
pub mod saga;
mod scenario;
mod target;
mod trips;
pub mod variant;

pub use target::{Network, Server, Target};

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use db_model::connect::ConnectOptions;
use db_model::embedded::Embedded;
use db_model::migrate;

use self::line::Line;
use self::load::Done;
use self::pgbench::{CLIENTS_MAX, Pgbench};
use self::place::Place;
use self::report::{Cell, Report};
use self::scenario::Scenario;
use self::variant::{Sessions, Variant};
use crate::server;

/// What the delayed line adds, each way.
const DELAY: Duration = Duration::from_millis(1);
/// Connections that the server takes: two pools of sessions, one pgbench, and some to look.
const CONNECTIONS_MAX: u32 = 300;

const AFTER_HELP: &str = "\
A cell is one variant in one scenario. In each round every variant of a scenario runs for a short time, in another \
order, so that all meet the same machine; a full run takes about eight minutes. After each cell the rows, the \
counters and the acknowledgements must agree, or the variant is not reported.\n\n\
PostgreSQL is started for the run under target/, with fsync, and removed with its data afterwards. pgbench is \
taken from the same installation. Nothing else should run on the machine meanwhile.";

/// The same transaction by six ways: charge a quota row, insert an instance, insert an event.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct BatchArgs {
    /// How long each cell counts, in seconds; warming up comes on top.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Rounds; the result is their median.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=30))]
    pub rounds: u64,
    /// Clients at once, such as 1,16,64. More than 16 are run twice: over as many sessions, and over the product's 16.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clients)]
    pub clients: Vec<usize>,
    /// Only scenarios whose name contains this, such as "hot", "1 ms", "64 clients", "round trips" or "parts".
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// One round of one second with 16 clients: about a minute, to see that it runs.
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "clients"])]
    pub quick: bool,
}

fn clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=100).contains(&number) => Ok(number),
        _ => Err("a number of clients is 1 to 100".to_owned()),
    }
}

const _: () = assert!(CLIENTS_MAX > 100 && CONNECTIONS_MAX > 3 * 100 - 1);

/// Runs the bench and prints what came of it.
///
/// # Errors
/// When the server cannot be started or pgbench is missing; a variant that fails is reported as such.
pub async fn batch(args: BatchArgs) -> Result<()> {
    let args = if args.quick {
        BatchArgs {
            seconds: 1,
            rounds: 1,
            clients: vec![16],
            ..args
        }
    } else {
        args
    };
    let scenarios = scenario::all(&args.clients, &args.filter);
    let with_trips = "round trips".contains(args.filter.as_str());
    ensure!(
        with_trips || !scenarios.is_empty(),
        "no scenario's name contains {:?}; the names are: round trips, {}",
        args.filter,
        scenario::names(&scenario::all(&args.clients, ""))
    );
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say nothing. Use cargo run --release.");
    }
    let data = machine::folder().context("a folder for the server")?;
    let embedded = server::durable(data.path(), CONNECTIONS_MAX).await?;
    let report = tokio::select! {
        report = measure(&embedded, &args, &scenarios, with_trips) => report,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    embedded.stop().await.context("stopping the server")?;
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

async fn measure(
    embedded: &Embedded,
    args: &BatchArgs,
    scenarios: &[Scenario],
    with_trips: bool,
) -> Result<Report> {
    let options = ConnectOptions::parse(&embedded.url())?;
    migrate::run(&options, 2_000).await?;
    let mut place = Place::prepare(&options).await?;
    place.set_sessions().await?;
    let (programs, _, _) = server::programs_of(embedded);
    let server = Server::new(programs, &embedded.url())?;
    let one = Sessions::new(&server.url(Network::Local), 1).await?;
    let mut pgbench = Pgbench::new(&server, one.database()).await?;
    let line = Line::start(server.socket(), DELAY)?;
    let mut report = Report::new(&place, args).await?;
    for (name, network) in [
        ("round trip, local", Network::Local),
        ("round trip, 1 ms each way", Network::Line(line.port())),
    ] {
        let sessions = Sessions::new(&server.url(network), 1).await?;
        report.note(name, format!("{:.2} ms", sessions.round_trip_ms().await?));
    }
    if with_trips {
        report.trips = trips::count(&server, &mut place).await?;
    }
    for scenario in scenarios {
        eprintln!("{}", scenario.name());
        let network = if scenario.delayed {
            Network::Line(line.port())
        } else {
            Network::Local
        };
        place.sweep().await?;
        let sessions = u32::try_from(scenario.sessions)?;
        let sessions = Sessions::new(&server.url(network), sessions).await?;
        let mut field = Field {
            place: &mut place,
            pgbench: &mut pgbench,
            target: server.target(network),
            sessions,
        };
        let cells = field.rounds(scenario, args).await;
        report.scenarios.push((scenario.clone(), cells));
    }
    Ok(report)
}

/// What runs the cells of one scenario.
struct Field<'a> {
    place: &'a mut Place,
    pgbench: &'a mut Pgbench,
    target: Target,
    sessions: Sessions,
}

impl Field<'_> {
    async fn rounds(&mut self, scenario: &Scenario, args: &BatchArgs) -> Vec<Cell> {
        let mut cells: Vec<_> = scenario.variants.iter().map(|v| Cell::new(*v)).collect();
        for round in 0..usize::try_from(args.rounds).unwrap_or(usize::MAX) {
            for index in 0..cells.len() {
                let count = cells.len();
                let cell = &mut cells[(index + round) % count];
                let done = self.cell(cell.variant, scenario, args.seconds).await;
                cell.add(done.map(|done| done.per_second));
            }
        }
        cells
    }

    async fn cell(&mut self, variant: Variant, scenario: &Scenario, seconds: u64) -> Result<Done> {
        let load = scenario.load(seconds);
        let ran = if variant.is_own() {
            load::run(&self.sessions, variant, load).await
        } else {
            self.pgbench.run(variant, &self.target, load).await
        };
        // Also after a failure: what it left must not be counted as the next one's.
        let acknowledged = ran.as_ref().map_or(0, |done| done.acknowledged);
        let checked = self.place.check(acknowledged, variant.events()).await;
        let done = ran?;
        checked?;
        let hooks = self.sessions.take_hooks();
        ensure!(
            hooks == acknowledged * variant.hooks(),
            "not correct: {hooks} hooks ran for {acknowledged} transactions"
        );
        Ok(done)
    }
}
