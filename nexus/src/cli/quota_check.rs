//! `nexus quota check`

use std::fmt::Write;
use std::process::ExitCode;

use db_model::Database;
use db_model::books::{self, Report};
use db_model::pool::PoolOptions;
use uuid::Uuid;

use super::CommandResult;
use super::args::DatabaseArgs;
use crate::database::{self, Data};
use db_model::types::limits::POOL_WAIT;

/// What to check, and whether to mend.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Set the counters to what the rows say; safe beside a running server.
    #[arg(long, env = "NEXUS_REPAIR")]
    repair: bool,
}

/// One connection for each pool is enough for one reader.
const POOL_SIZE: u32 = 1;

/// Compares, mends when asked to, and compares again.
pub async fn run(args: Args) -> CommandResult {
    let data = database::join(&args.database.config()).await?;
    let result = check(&data, args.repair).await;
    data.close().await?;
    result
}

async fn check(data: &Data, repair: bool) -> CommandResult {
    let pools = PoolOptions {
        write_size: POOL_SIZE,
        read_size: POOL_SIZE,
        wait: POOL_WAIT,
        audit: false,
    };
    let mut database = Database::new(data.connect.clone(), &pools, Uuid::now_v7());
    let mut text = String::new();
    if repair {
        let mut mended = Vec::new();
        let repaired = books::repair(&mut database, &mut mended).await;
        for drift in mended {
            writeln!(text, "mended: {drift}")?;
        }
        // What is mended stays so, whatever came after it.
        super::print(&std::mem::take(&mut text))?;
        repaired?;
    }
    let report = books::check(&database.writes).await?;
    let balanced = report.balanced();
    tell(&report, &mut text)?;
    super::print(&text)?;
    Ok(if balanced {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(report: &Report, text: &mut String) -> std::fmt::Result {
    for drift in &report.drifts {
        writeln!(text, "drift: {drift}")?;
    }
    for orphan in &report.orphans {
        writeln!(text, "orphan: {orphan}")?;
    }
    if report.balanced() {
        writeln!(text, "The books balance.")
    } else {
        writeln!(text, "The books do not balance.")
    }
}
