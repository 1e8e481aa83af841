//! `nexus server`

use std::process::ExitCode;

use super::CommandResult;
use super::args::ServerArgs;
use crate::background::signals;
use crate::server;

/// Runs the service until it is asked to end.
pub async fn run(args: ServerArgs) -> CommandResult {
    // Before anything is started: an interrupted start shall end well too.
    let asked = signals::listen()?;
    server::run(args.config(), asked.cancelled_owned()).await?;
    Ok(ExitCode::SUCCESS)
}
