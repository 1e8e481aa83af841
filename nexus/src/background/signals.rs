//! Signals: the first asks the process to end well, the second ends it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a process ends with that was interrupted twice: 128 and SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// A token that SIGTERM or Ctrl-C cancels. From now on neither ends the process by itself.
///
/// # Errors
/// When the handlers cannot be set.
pub fn listen() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
        // A supervisor may repeat SIGTERM; only a person's second Ctrl-C means at once.
        interrupt.recv().await;
        tracing::warn!("interrupted again: ending at once");
        std::process::exit(EXIT_INTERRUPTED.into());
    });
    Ok(token)
}
