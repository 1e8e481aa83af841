//! `nexus db url`

use std::process::ExitCode;

use super::CommandResult;
use super::args::DatabaseArgs;
use crate::database;

/// Prints a psql line.
pub async fn run(args: DatabaseArgs) -> CommandResult {
    let data = database::join(&args.config()).await?;
    let line = data.psql();
    data.close().await?;
    super::print(&format!("{line}\n"))?;
    Ok(ExitCode::SUCCESS)
}
