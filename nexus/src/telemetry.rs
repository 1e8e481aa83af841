//! Logs: for a person on a terminal, JSON otherwise. Filtered by `NEXUS_LOG`, else `RUST_LOG`.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Where logs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A server: logs are what it writes.
    Stdout,
    /// A command: standard output is for its answer.
    Stderr,
}

/// Sets up logs for the process, and panics as a part of them.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(output: Output) -> Result<(), ParseError> {
    let filter = ["NEXUS_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| env::var(name).ok());
    let default = match output {
        Output::Stdout => "info",
        Output::Stderr => "warn",
    };
    let filter = filter.filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::try_new(filter.as_deref().unwrap_or(default))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A second call, as in tests, leaves the first one's set-up.
    let set = match (output, terminal(output)) {
        (Output::Stdout, true) => builder.try_init(),
        (Output::Stdout, false) => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        (Output::Stderr, true) => builder.with_writer(io::stderr).try_init(),
        (Output::Stderr, false) => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(io::stderr)
            .try_init(),
    };
    if set.is_ok() {
        log_panics();
    }
    Ok(())
}

/// Whether a person reads the output.
pub fn terminal(output: Output) -> bool {
    match output {
        Output::Stdout => io::stdout().is_terminal(),
        Output::Stderr => io::stderr().is_terminal(),
    }
}

/// A panic is a line of the log, with its place; the edge answers the caller.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panic: {}", message.unwrap_or("no message"));
    }));
}
