//! The command line. `nexus` alone is `nexus server`.

mod args;
mod db_url;
mod openapi;
mod quota_check;
mod saga;
mod server;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use args::{DatabaseArgs, ServerArgs};

use crate::http::error::chain;
use crate::telemetry::{self, Output};

/// A control plane: projects and instances over HTTP, with limits that hold.
#[derive(Debug, Parser)]
#[command(
    name = "nexus",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service; this is also what `nexus` alone does.
    Server(Box<ServerArgs>),
    /// Print the OpenAPI document of the API.
    Openapi,
    /// Look at the database.
    Db {
        #[command(subcommand)]
        command: DbCommand,
    },
    /// Look after quotas.
    Quota {
        #[command(subcommand)]
        command: QuotaCommand,
    },
    /// Look after operations, whichever process runs them.
    Saga {
        #[command(subcommand)]
        command: saga::SagaCommand,
    },
}

#[derive(Debug, Subcommand)]
enum DbCommand {
    /// Print a psql line that opens the database.
    Url(DatabaseArgs),
}

#[derive(Debug, Subcommand)]
enum QuotaCommand {
    /// Compare the counters with the rows; ends with 0 only when the books balance.
    Check(quota_check::Args),
}

/// How a command ends.
type CommandResult = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(Output::Stdout, server::run(cli.server)),
        Some(Command::Server(args)) => run(Output::Stdout, server::run(*args)),
        Some(Command::Openapi) => openapi::run(),
        Some(Command::Db {
            command: DbCommand::Url(args),
        }) => run(Output::Stderr, db_url::run(args)),
        Some(Command::Quota {
            command: QuotaCommand::Check(args),
        }) => run(Output::Stderr, quota_check::run(args)),
        Some(Command::Saga { command }) => run(Output::Stderr, saga::run(command)),
    };
    result.unwrap_or_else(|error| {
        // One line, whatever the sources hold.
        let line = chain(error.as_ref())
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        eprintln!("nexus: {line}");
        ExitCode::FAILURE
    })
}

fn run(output: Output, command: impl Future<Output = CommandResult>) -> CommandResult {
    telemetry::init(output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    // What still runs is nothing that a caller was promised.
    runtime.shutdown_background();
    result
}

/// Prints. A reader that has gone, as `head` does, has read what it wanted.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("nexus").chain(line.iter().copied()))
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nexus_alone_is_the_server() {
        let bare = parse(&["--listen", "127.0.0.1:0"]).unwrap();
        assert!(bare.command.is_none());
        assert_eq!(bare.server.listen.port(), 0);
        let Some(Command::Server(args)) =
            parse(&["server", "--listen", "[::1]:1"]).unwrap().command
        else {
            panic!("no server command");
        };
        assert_eq!(args.listen.port(), 1);
        assert!(parse(&["--listen", "127.0.0.1:0", "openapi"]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &["--listen", "nowhere"][..],
            &["--default-projects", "-1"],
            &["--default-projects=-1"],
            &["--default-memory-bytes", "9007199254740993"],
            &["--write-pool-size", "0"],
            &["--drain-grace-seconds", "x"],
            &["quota"],
            &["db", "drop"],
            &["saga"],
            &["saga", "list", "--state", "unwinding"],
            &["saga", "list", "--limit", "0"],
            &["saga", "show"],
            &["saga", "show", "web"],
            &["saga", "graph"],
            &["saga", "graph", "--kind", "project-make"],
            &["saga", "retry", "1"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_bounds_and_errors_say_so() {
        for (line, parts) in [
            (
                ["--retain-deleted", "7"],
                [
                    "must be a number with a unit, such as 7days, 72h or 1h",
                    "--retain-deleted",
                ],
            ),
            (
                ["--retain-operations", "a week"],
                ["must be a number with a unit", "--retain-operations"],
            ),
            (
                ["--retain-operations", "59min"],
                ["must be from 1h to 10years, such as 7days", "59min"],
            ),
            (
                ["--retain-events", "0"],
                ["must be from 1h to 10years", "--retain-events"],
            ),
            (
                ["--retain-deleted", "11years"],
                ["must be from 1h to 10years", "11years"],
            ),
            (
                ["--purge-interval", "0s"],
                ["must be from 1s to 1day, such as 60s", "0s"],
            ),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in: {error}");
            }
        }
        let args = parse(&[
            "--retain-deleted",
            "72h",
            "--retain-operations",
            "2weeks 1day",
        ]);
        let retention = args.unwrap().server.config().retention;
        let hour = std::time::Duration::from_secs(60 * 60);
        assert_eq!(
            (retention.deleted, retention.operations),
            (hour * 72, hour * 24 * 15)
        );
    }

    /// Every flag can be given by the environment, under its own name.
    #[test]
    fn every_flag_has_its_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long() else {
                    continue;
                };
                if matches!(long, "help" | "version") {
                    continue;
                }
                let variable = format!("NEXUS_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().unwrap(), variable.as_str(), "--{long}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
