//! The binary `nexus`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexus::cli::main()
}
