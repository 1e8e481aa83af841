//! What can become of a flight that did not arrive.

use super::open::Standing;
use postgres_protocol::message::backend::ErrorFields;
use std::fmt;
use std::io;
use tokio_postgres::fallible_iterator::FallibleIterator;

/// Why a batch has no answers. Each variant says what is known about the transaction.
#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    /// The server refused a statement, or the commit, and rolled everything back. The session stays usable, unless
    /// the error is fatal ([`ServerError::is_fatal`]) or the session was lost right after it
    /// ([`Flight::is_clean`](super::Flight::is_clean)).
    #[error("the server refused statement {index}")]
    Refused {
        /// How many statements had completed before: the index of the one that failed. The number of statements
        /// if it was the commit.
        index: usize,
        /// What the server said.
        #[source]
        error: Box<ServerError>,
    },
    /// The end of the pipeline never left: nothing was committed, for certain.
    #[error("the batch was not sent")]
    NotSent(#[from] NotSent),
    /// The whole pipeline went out, or may have, and no answer tells how it ended.
    #[error("nobody knows whether the batch was committed")]
    Ambiguous(#[from] Lost),
    /// The batch WAS committed, but its rows are more than a flight may carry; they were read and thrown away.
    #[error("the batch was committed, but its answers are too large ({rows} rows, {bytes} bytes)")]
    AnswerTooLarge {
        /// Rows of all answers together.
        rows: usize,
        /// Bytes of all rows together.
        bytes: usize,
    },
}

/// Why a pipeline did not leave in full.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// An earlier flight of this session did not end as it should; it carries no more.
    #[error("the session is poisoned")]
    Poisoned,
    /// The pipeline has more bytes than a flight may carry.
    #[error("the pipeline is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// A statement cannot be put into a message: a NUL in its text, or too many parameters.
    #[error("statement {index} cannot be encoded")]
    Invalid {
        /// The statement.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The session ended, or the deadline passed, before the end of the pipeline had left.
    #[error("the session was lost while sending")]
    Lost(#[source] Lost),
}

/// How the answer of a flight was lost. The session is closed.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The server closed the session.
    #[error("the server closed the session")]
    Closed,
    /// Reading or writing failed.
    #[error("the session broke")]
    Io(#[source] io::Error),
    /// The server ended the session: at the commit, or inside a transaction.
    #[error("the server ended the session")]
    Fatal(#[source] Box<ServerError>),
    /// The server's answer does not fit what was asked.
    #[error("the answer is not understood: {0}")]
    Protocol(String),
    /// The pipeline ended inside a transaction that a statement had begun, with this status.
    #[error("the batch left a transaction open ({0:?})")]
    NotIdle(Standing),
}

/// An error with all its sources, for where it goes on as a text.
pub(in crate::batch) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl Lost {
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

/// An error as the server reported it.
///
/// `Display` leaves out `detail`, which for a check constraint holds the whole row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, not localized where the server sends it so.
    pub severity: String,
    /// The five characters of the SQLSTATE.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// More about the problem; may hold values of the row.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The call stack inside functions.
    pub context: Option<String>,
    /// The schema of the object concerned.
    pub schema: Option<String>,
    /// The table concerned.
    pub table: Option<String>,
    /// The column concerned.
    pub column: Option<String>,
    /// The data type concerned.
    pub data_type: Option<String>,
    /// The constraint concerned.
    pub constraint: Option<String>,
}

impl ServerError {
    pub(crate) fn parse(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        let mut plain_severity = None;
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => error.severity = value,
                b'V' => plain_severity = Some(value),
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'W' => error.context = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'd' => error.data_type = Some(value),
                b'n' => error.constraint = Some(value),
                _ => {}
            }
        }
        if let Some(severity) = plain_severity {
            error.severity = severity;
        }
        Ok(error)
    }

    /// Whether the server closed the session with this error.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Whether a prepared statement has gone (26000) or no longer fits its tables (0A000).
    pub(in crate::batch) fn is_stale_statement(&self) -> bool {
        matches!(self.sqlstate.as_str(), "0A000" | "26000")
    }

    /// Whether the server is shutting down or was asked to end the session.
    pub(super) fn is_shutdown(&self) -> bool {
        matches!(self.sqlstate.as_str(), "57P01" | "57P02" | "57P03")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)?;
        match &self.constraint {
            Some(constraint) => write!(f, " (constraint {constraint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}
