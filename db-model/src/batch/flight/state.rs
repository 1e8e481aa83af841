//! The state machine over the server's answer to one pipeline. It does no input or output: bytes go in, and out comes
//! how far the pipeline is. Whatever bytes arrive, it ends in an answer or an error and never panics.

use super::Query;
use super::answer::{self, Answer, Row};
use super::cache::{Cache, Plan, Step};
use super::error::{FlightError, Lost, NotSent, ServerError};
use super::open::{Landing, Standing};
use crate::types::limits;
use bytes::BytesMut;
use postgres_protocol::message::backend::{DataRowBody, Header, Message, NoticeResponseBody};
use std::sync::Arc;

/// How far a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes are needed.
    More,
    /// The server is ready.
    Ready(Standing),
}

/// What the server must say next, asynchronous messages aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// CloseComplete, this many times.
    Close(usize),
    ParseComplete,
    ParameterDescription,
    RowDescription,
    BindComplete,
    /// Rows or the end of the statement.
    Rows,
    ReadyForQuery,
}

/// The answers of a pipeline as far as they have arrived.
pub(super) struct State<'plan> {
    plan: &'plan Plan,
    awaiting: Awaiting,
    answers: Vec<Answer>,
    /// The rows of the statement whose end has not come yet.
    pending: Vec<Row>,
    error: Option<Box<ServerError>>,
    rows: usize,
    bytes: usize,
}

impl<'plan> State<'plan> {
    pub fn new(plan: &'plan Plan, closing: usize) -> Self {
        let mut state = Self {
            plan,
            awaiting: Awaiting::Close(closing),
            answers: Vec::with_capacity(plan.steps.len()),
            pending: Vec::new(),
            error: None,
            rows: 0,
            bytes: 0,
        };
        if closing == 0 {
            state.awaiting = state.next_step();
        }
        state
    }

    /// Takes whole messages off `received` until it has none or the server is ready.
    pub fn advance(
        &mut self,
        received: &mut BytesMut,
        cache: &mut Cache,
        queries: &[Query],
    ) -> Result<Progress, Lost> {
        while let Some(message) = next_message(received)? {
            if let Message::ReadyForQuery(body) = message {
                return self.ready(body.status());
            }
            self.on(message, cache, queries)?;
        }
        Ok(Progress::More)
    }

    /// The step whose answer is arriving.
    fn step(&self) -> Option<&'plan Step> {
        self.plan.steps.get(self.answers.len())
    }

    fn next_step(&self) -> Awaiting {
        match self.step() {
            None => Awaiting::ReadyForQuery,
            Some(step) if step.parse => Awaiting::ParseComplete,
            Some(step) if step.describe => Awaiting::ParameterDescription,
            Some(_) => Awaiting::BindComplete,
        }
    }

    fn on(&mut self, message: Message, cache: &mut Cache, queries: &[Query]) -> Result<(), Lost> {
        let step = self.step();
        self.awaiting = match (self.awaiting, message, step) {
            (_, Message::NoticeResponse(body), _) => return notice(&body),
            (_, Message::ParameterStatus(_) | Message::NotificationResponse(_), _) => return Ok(()),
            (_, Message::ErrorResponse(body), _) => {
                let error = ServerError::parse(body.fields())
                    .map_err(|error| Lost::protocol(error.to_string()))?;
                // The first error is the cause; another one can only be the server leaving.
                self.error.get_or_insert_with(|| Box::new(error));
                Awaiting::ReadyForQuery
            }
            (Awaiting::Close(left @ 2..), Message::CloseComplete, _) => Awaiting::Close(left - 1),
            (Awaiting::Close(1), Message::CloseComplete, _) => self.next_step(),
            (Awaiting::ParseComplete, Message::ParseComplete, Some(step)) => {
                if let Some(query) = queries.get(self.answers.len()) {
                    cache.parsed(&query.sql, &step.statement);
                }
                Awaiting::ParameterDescription
            }
            (Awaiting::ParameterDescription, Message::ParameterDescription(_), _) => {
                Awaiting::RowDescription
            }
            (Awaiting::RowDescription, Message::RowDescription(body), Some(step)) => {
                step.statement.describe(answer::columns(&body)?);
                Awaiting::BindComplete
            }
            (Awaiting::RowDescription, Message::NoData, Some(step)) => {
                step.statement.describe(Arc::from([]));
                Awaiting::BindComplete
            }
            (Awaiting::BindComplete, Message::BindComplete, _) => Awaiting::Rows,
            (Awaiting::Rows, Message::DataRow(body), Some(step)) => {
                self.row(&body, step)?;
                Awaiting::Rows
            }
            (Awaiting::Rows, Message::CommandComplete(body), Some(step)) => {
                let tag = body
                    .tag()
                    .map_err(|error| Lost::protocol(error.to_string()))?;
                self.complete(step, answer::affected(tag))?
            }
            (Awaiting::Rows, Message::EmptyQueryResponse, Some(step)) => self.complete(step, 0)?,
            (awaiting, message, _) => {
                return Err(Lost::protocol(format!(
                    "{} instead of {awaiting:?}",
                    name(&message)
                )));
            }
        };
        Ok(())
    }

    fn row(&mut self, body: &DataRowBody, step: &Step) -> Result<(), Lost> {
        self.rows += 1;
        self.bytes += body.buffer().len();
        if self.is_too_large() {
            // Read on without keeping anything: how the transaction ended still has to be learned.
            self.pending = Vec::new();
            return Ok(());
        }
        let columns = step
            .statement
            .columns
            .get()
            .ok_or_else(|| Lost::protocol("a row before its columns"))?;
        self.pending.push(Row::new(Arc::clone(columns), body)?);
        Ok(())
    }

    fn complete(&mut self, step: &Step, affected: u64) -> Result<Awaiting, Lost> {
        let columns = step
            .statement
            .columns
            .get()
            .ok_or_else(|| Lost::protocol("an end before the columns"))?;
        let rows = std::mem::take(&mut self.pending);
        self.answers.push(Answer {
            columns: Arc::clone(columns),
            rows,
            affected,
        });
        Ok(self.next_step())
    }

    fn is_too_large(&self) -> bool {
        self.rows > limits::ANSWER_ROWS_MAX || self.bytes > limits::ANSWER_BYTES_MAX
    }

    fn ready(&mut self, status: u8) -> Result<Progress, Lost> {
        match (self.awaiting, status) {
            (Awaiting::ReadyForQuery, status) => Standing::of(status)
                .map(Progress::Ready)
                .ok_or_else(|| Lost::protocol(format!("ReadyForQuery with status {status}"))),
            (awaiting, _) => Err(Lost::protocol(format!(
                "ReadyForQuery instead of {awaiting:?}"
            ))),
        }
    }

    /// The result, once the server is idle.
    pub fn into_result(self) -> Result<Vec<Answer>, FlightError> {
        match self.error {
            Some(error) => Err(FlightError::Refused {
                index: self.answers.len(),
                error,
            }),
            None if self.is_too_large() => Err(FlightError::AnswerTooLarge {
                rows: self.rows,
                bytes: self.bytes,
            }),
            None => Ok(self.answers),
        }
    }

    /// What became of the statements, once the server is ready, inside a transaction or not.
    pub fn into_landing(self, standing: Standing) -> Landing {
        Landing {
            completed: self.answers.len(),
            stale: false,
            too_large: self.is_too_large(),
            answers: self.answers,
            error: self.error,
            standing,
        }
    }

    /// How a session was lost inside a transaction: with what the server said last, if it did. An error that came
    /// after everything had completed undoes nothing of it.
    pub fn into_lost(self, lost: Lost, sync_left: bool) -> FlightError {
        let all = self.answers.len() == self.plan.steps.len();
        let lost = match self.error {
            Some(error) if error.is_fatal() || !all => Lost::Fatal(error),
            _ => lost,
        };
        if sync_left {
            lost.into()
        } else {
            NotSent::Lost(lost).into()
        }
    }

    /// The result, when the server never became idle. `sync_left` tells whether the whole pipeline may have left.
    pub fn into_failure(self, lost: Lost, sync_left: bool) -> FlightError {
        let index = self.answers.len();
        match self.error {
            // A fatal error after the last statement may have come while the commit was already done.
            Some(error) if error.is_fatal() && index == self.plan.steps.len() && sync_left => {
                Lost::Fatal(error).into()
            }
            // An error, once raised, rolls back: it does not matter what happened to the session afterwards.
            Some(error) => FlightError::Refused { index, error },
            None if sync_left => lost.into(),
            None => NotSent::Lost(lost).into(),
        }
    }
}

/// Why the session cannot carry another flight, if what arrived since the last one means that.
pub(super) fn ends_session(received: &mut BytesMut) -> Option<Lost> {
    loop {
        match next_message(received) {
            Ok(None) => return None,
            Ok(Some(
                Message::NoticeResponse(_)
                | Message::ParameterStatus(_)
                | Message::NotificationResponse(_),
            )) => {}
            Ok(Some(Message::ErrorResponse(body))) => {
                return Some(match ServerError::parse(body.fields()) {
                    Ok(error) => Lost::Fatal(Box::new(error)),
                    Err(error) => Lost::protocol(error.to_string()),
                });
            }
            Ok(Some(message)) => {
                let message = name(&message);
                return Some(Lost::protocol(format!("{message} that nobody asked for")));
            }
            Err(lost) => return Some(lost),
        }
    }
}

fn next_message(received: &mut BytesMut) -> Result<Option<Message>, Lost> {
    let understood = |error: std::io::Error| Lost::protocol(error.to_string());
    // Parsing reserves room for what the header announces, so the header is looked at first.
    if let Some(header) = Header::parse(received).map_err(understood)?
        && usize::try_from(header.len()).map_or(true, |length| length > limits::ANSWER_BYTES_MAX)
    {
        return Err(Lost::protocol(format!(
            "a message of {} bytes",
            header.len()
        )));
    }
    Message::parse(received).map_err(understood)
}

fn notice(body: &NoticeResponseBody) -> Result<(), Lost> {
    let notice =
        ServerError::parse(body.fields()).map_err(|error| Lost::protocol(error.to_string()))?;
    if notice.is_shutdown() {
        // How a server says that a commit is local only, or that a neighbour crashed.
        tracing::warn!(%notice, "the database warns");
    } else {
        tracing::debug!(%notice, "the database says");
    }
    Ok(())
}

/// The name of a message that came where another was awaited.
fn name(message: &Message) -> &'static str {
    match message {
        Message::ParseComplete => "ParseComplete",
        Message::BindComplete => "BindComplete",
        Message::CloseComplete => "CloseComplete",
        Message::ParameterDescription(_) => "ParameterDescription",
        Message::RowDescription(_) => "RowDescription",
        Message::NoData => "NoData",
        Message::DataRow(_) => "DataRow",
        Message::CommandComplete(_) => "CommandComplete",
        Message::EmptyQueryResponse => "EmptyQueryResponse",
        Message::PortalSuspended => "PortalSuspended",
        Message::CopyInResponse(_)
        | Message::CopyOutResponse(_)
        | Message::CopyData(_)
        | Message::CopyDone => "COPY",
        Message::BackendKeyData(_) => "BackendKeyData",
        _ => "a message of another phase",
    }
}
