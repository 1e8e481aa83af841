//! `nexus openapi`

use std::process::ExitCode;

use super::CommandResult;

/// Prints the document.
pub fn run() -> CommandResult {
    super::print(&crate::openapi::document())?;
    Ok(ExitCode::SUCCESS)
}
