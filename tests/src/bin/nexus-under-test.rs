//! The program itself, built beside the suites so that they can start it, kill it and start it again.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexus::cli::main()
}
