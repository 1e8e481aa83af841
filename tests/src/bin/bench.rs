//! The bench: measures this machine and prints tables. What it measures is in the harness.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nexus_tests::bench::{self, BatchArgs};

/// Measures Nexus on this machine, on a PostgreSQL of its own.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Batch(BatchArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Batch(args) => bench::batch(args).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
