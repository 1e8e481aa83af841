//! What this thread logs, for a test to read.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::fmt::MakeWriter;

/// The log of one thread. A test that reads it runs on one thread, so that the log is its own.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    /// With two of them a place in the code that first logs on another thread is asked for this one as well;
    /// with one it would be found not to be of interest, for all threads.
    _other: Dispatch,
}

impl Log {
    /// Has the log of this thread until the guard goes.
    pub fn listen() -> (Self, DefaultGuard) {
        let log = Self {
            lines: Arc::default(),
            _other: Dispatch::new(NoSubscriber::default()),
        };
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }

    /// How many warnings name an owner.
    pub fn warnings(&self, owner: &str) -> usize {
        let owner = format!("owner=\"{owner}\"");
        let of_owner = |line: &&str| line.contains("WARN") && line.contains(&owner);
        self.text().lines().filter(of_owner).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lines.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
