//! The bench: measures this machine and prints tables. What it measures is in the harness.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nexus_tests::bench::saga::{self, NoLogArgs, SagaArgs};
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
    Saga(SagaArgs),
    #[command(hide = true)]
    NoLog(NoLogArgs),
}

fn main() -> ExitCode {
    // The product as a process of its own, with its own command line.
    if std::env::args().nth(1).as_deref() == Some("server") {
        return nexus::cli::main();
    }
    run(Cli::parse().command)
}

#[tokio::main]
async fn run(command: Command) -> ExitCode {
    let ran = match command {
        Command::Batch(args) => bench::batch(args).await,
        Command::Saga(args) => saga::saga(args).await,
        Command::NoLog(args) => saga::no_log::serve(args).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
