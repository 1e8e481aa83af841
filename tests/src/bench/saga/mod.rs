//! The bench of sagas: what instance-create costs over HTTP beside small services that do the same transactions
//! without any log, on a PostgreSQL of its own.
//!
//! Each service is a process of its own, and the only one at work while it is measured.

pub mod afterlife;
pub mod cell;
pub mod child;
pub mod client;
pub mod ground;
mod look;
pub mod no_log;
mod proc;
mod report;
mod work;

pub use look::Wal;
pub use no_log::NoLogArgs;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use db_model::connect::ConnectOptions;
use db_model::embedded::Embedded;
use db_model::migrate;
use serde_json::json;
use tempfile::TempDir;

use self::cell::{COLUMNS, Idle};
use self::child::{Starter, Way};
use self::client::{Extent, Load, Rows};
use self::ground::Ground;
use self::report::Table;
use super::machine;
use super::place::{PROJECTS, Place};
use super::target::{Network, Server};
use crate::server;

/// Connections that the server takes: the pools of a service, and some to look.
const CONNECTIONS_MAX: u32 = 100;
/// Clients where their number is not what is looked at.
const CLIENTS: u64 = 16;

const AFTER_HELP: &str = "\
A cell is one service under one load. In each round every service of a scenario is started, warmed up, measured and \
ended in turn, so that all meet the same machine; a full run takes about fifteen minutes. After each cell the rows, \
the counters, the feed and the acknowledgements must agree, or the service is not reported.\n\n\
PostgreSQL is started for the run under target/, with fsync, and removed with its data afterwards. Nothing else \
should run on the machine meanwhile.";

/// instance-create over HTTP, beside services that do the same without a log.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct SagaArgs {
    /// How long each cell counts, in seconds; warming up, a third of it, comes on top.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Rounds; the result is their median.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=30))]
    pub rounds: u64,
    /// Clients at once, such as 1,16,64.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64",
        value_parser = value_parser!(u64).range(1..=1_000))]
    pub clients: Vec<u64>,
    /// Rows of sagas that are there before a cell, such as 1000,1000000.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000",
        value_parser = value_parser!(u64).range(10..=10_000_000))]
    pub rows: Vec<u64>,
    /// Sagas that live at once, for their memory.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=20_000))]
    pub live: u64,
    /// Sagas that end, for the memory that they leave.
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u64).range(1..))]
    pub finished: u64,
    /// Sagas that a killed process leaves.
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u64).range(1..=100_000))]
    pub recovered: u64,
    /// Only scenarios whose name contains this, such as "spread", "64 clients", "refused", "rows", "memory" or
    /// "recovery".
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// One round of one second with 16 clients, and fewer sagas: about two minutes, to see that it runs.
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "clients", "rows", "live", "finished", "recovered"])]
    pub quick: bool,
}

impl SagaArgs {
    fn settled(self) -> Self {
        if !self.quick {
            return self;
        }
        Self {
            seconds: 1,
            rounds: 1,
            clients: vec![CLIENTS],
            rows: vec![1_000, 100_000],
            live: 500,
            finished: 2_000,
            recovered: 1_000,
            ..self
        }
    }
}

/// One table of the report.
#[derive(Clone, Debug)]
enum Scenario {
    /// The ways under one load, beside a table of sagas that is filled so far.
    Load {
        name: String,
        ways: Vec<Way>,
        load: Load,
        rows: Option<u64>,
    },
    Memory,
    Recovery,
}

impl Scenario {
    fn name(&self) -> &str {
        match self {
            Self::Load { name, .. } => name,
            Self::Memory => "memory of the product",
            Self::Recovery => "recovery after a SIGKILL",
        }
    }

    fn all(args: &SagaArgs) -> Vec<Self> {
        let load = |clients, rows| Load {
            clients,
            rows,
            extent: Extent::Time(Duration::from_secs(args.seconds)),
            respond_async: false,
        };
        let mut all = Vec::new();
        for (rows, name) in [(Rows::Spread, "spread"), (Rows::Hot, "one project")] {
            for &clients in &args.clients {
                let plural = if clients == 1 { "" } else { "s" };
                let parts = rows == Rows::Spread && clients == CLIENTS;
                let ways = if parts {
                    &Way::PARTS[..]
                } else {
                    &Way::ALL[..]
                };
                all.push(Self::Load {
                    name: format!("instance-create, {name}, {clients} client{plural}"),
                    ways: ways.to_vec(),
                    load: load(clients, rows),
                    rows: None,
                });
            }
        }
        all.push(Self::Load {
            name: format!("refused by a quota, {CLIENTS} clients"),
            ways: Way::ALL.to_vec(),
            load: load(CLIENTS, Rows::Refusing),
            rows: None,
        });
        for &rows in &args.rows {
            all.push(Self::Load {
                name: format!("beside {rows} rows of sagas, spread, {CLIENTS} clients"),
                ways: Way::ALL[..2].to_vec(),
                load: load(CLIENTS, Rows::Spread),
                rows: Some(rows),
            });
        }
        all.extend([Self::Memory, Self::Recovery]);
        all
    }
}

/// Runs the bench and prints what came of it.
///
/// # Errors
/// When the server cannot be started; a service that fails is reported as such.
pub async fn saga(args: SagaArgs) -> Result<()> {
    let args = args.settled();
    let all = Scenario::all(&args);
    let names: Vec<_> = all.iter().map(|one| one.name().to_owned()).collect();
    let mut scenarios = all;
    scenarios.retain(|scenario| scenario.name().contains(&args.filter));
    ensure!(
        !scenarios.is_empty(),
        "no scenario's name contains {:?}; the names are: {}",
        args.filter,
        names.join("; ")
    );
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say nothing. Use cargo run --release.");
    }
    let data = machine::folder().context("a folder for the server")?;
    let embedded = server::durable(data.path(), CONNECTIONS_MAX).await?;
    let ran = tokio::select! {
        ran = measure(&embedded, &data, &args, &scenarios) => ran,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    embedded.stop().await.context("stopping the server")?;
    let (notes, tables) = ran?;
    if args.json {
        let notes: serde_json::Map<_, _> = notes
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        let whole = json!({"machine": notes, "tables": tables});
        println!("{}", serde_json::to_string_pretty(&whole)?);
    } else {
        for (name, value) in notes {
            println!("{name}: {value}");
        }
        for table in tables {
            print!("{}", table.text());
        }
    }
    Ok(())
}

type Notes = Vec<(String, String)>;

async fn measure(
    embedded: &Embedded,
    data: &TempDir,
    args: &SagaArgs,
    scenarios: &[Scenario],
) -> Result<(Notes, Vec<Table>)> {
    let (programs, _, _) = server::programs_of(embedded);
    let wal = Wal {
        program: programs.join("pg_waldump"),
        folder: embedded.cluster_dir().join("pg_wal"),
    };
    let server = Server::new(programs, &embedded.url())?;
    let url = server.url(Network::Local);
    let options = ConnectOptions::parse(&url)?;
    migrate::run(&options, i64::try_from(2 * PROJECTS)?).await?;
    let place = Place::prepare(&options).await?;
    place.set_sessions().await?;
    let mut notes = machine::notes(&place).await?;
    let mut ground = Ground::new(&options, Some(wal)).await?;
    ground.calm().await?;
    let cells = format!("{} s; medians of rounds: {}", args.seconds, args.rounds);
    notes.push(("cells".to_owned(), cells));
    let starter = Starter {
        program: std::env::current_exe()?,
        logs: data.path().to_owned(),
        url,
    };
    let mut field = Field {
        ground,
        starter,
        args,
        idle: Vec::new(),
    };
    let mut tables = vec![field.idle().await?];
    for scenario in scenarios {
        eprintln!("{}", scenario.name());
        let table = field.table(scenario).await?;
        for failure in table.failures() {
            eprintln!("failed: {failure}");
        }
        tables.push(table);
    }
    Ok((notes, tables))
}

/// What runs the scenarios.
struct Field<'a> {
    ground: Ground,
    starter: Starter,
    args: &'a SagaArgs,
    idle: Vec<(Way, Idle)>,
}

impl Field<'_> {
    /// What each service costs that has nothing to do. It is taken off from all that is measured later.
    async fn idle(&mut self) -> Result<Table> {
        let columns = [
            ("writing transactions", 2),
            ("WAL, bytes", 0),
            ("service CPU, ms", 2),
            ("database CPU, ms", 2),
            ("commits of a start and an end", 0),
        ];
        let mut table = Table::new("nothing to do, each second", &columns);
        for way in Way::PARTS {
            self.ground.sweep().await?;
            let time = Duration::from_secs(2 * self.args.seconds);
            let idle = cell::idle(&mut self.ground, &self.starter, way, time).await;
            let idle = idle.with_context(|| way.name())?;
            table.add(way.name(), Ok(idle.figures()));
            self.idle.push((way, idle));
        }
        Ok(table)
    }

    async fn table(&mut self, scenario: &Scenario) -> Result<Table> {
        self.ground.sweep().await?;
        let (ground, starter, args) = (&mut self.ground, &self.starter, self.args);
        Ok(match scenario {
            Scenario::Memory => {
                let mut table = Table::new(scenario.name(), &afterlife::MEMORY_COLUMNS);
                let live = afterlife::live(ground, starter, args.live).await;
                table.add("live", live);
                ground.sweep().await?;
                let finished = afterlife::finished(ground, starter, args.finished).await;
                table.add("finished", finished);
                table
            }
            Scenario::Recovery => {
                let mut table = Table::new(scenario.name(), &afterlife::RECOVERY_COLUMNS);
                let recovery = afterlife::recovery(ground, starter, args.recovered).await;
                table.add("product", recovery);
                table
            }
            Scenario::Load {
                name,
                ways,
                load,
                rows,
            } => {
                if let Some(rows) = rows {
                    self.fill(*rows).await?;
                }
                self.rounds(name, ways, *load).await
            }
        })
    }

    /// Fills the table of sagas with copies of one that has just ended.
    async fn fill(&mut self, rows: u64) -> Result<()> {
        let service = self.starter.start(Way::Product, &[]).await?;
        let load = Load {
            clients: 1,
            rows: Rows::Spread,
            extent: Extent::Requests(1),
            respond_async: false,
        };
        client::run(service.api(), load).await?;
        self.ground.come_to_rest().await?;
        service.terminate().await?;
        self.ground.fill(rows).await
    }

    async fn rounds(&mut self, name: &str, ways: &[Way], load: Load) -> Table {
        let mut table = Table::new(name, &COLUMNS).compared();
        let warm_up = Extent::Time(Duration::from_secs(self.args.seconds).div_f64(3.0));
        for round in 0..self.args.rounds {
            let mut ways = ways.to_vec();
            // The order changes from round to round; the first one is that of the table.
            if round % 2 == 1 {
                ways.reverse();
            }
            for way in ways {
                let idle = self.idle.iter().find(|(idle, _)| *idle == way);
                let idle = idle.map(|(_, idle)| *idle).unwrap_or_default();
                let (ground, starter) = (&mut self.ground, &self.starter);
                let ran = cell::run(ground, starter, way, load, warm_up, &idle).await;
                table.add(way.name(), ran);
            }
        }
        table
    }
}
