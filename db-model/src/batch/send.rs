//! Sending a batch, and sending it again.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::classify::{classify, is_recorded};
use super::compose::Sendable;
use super::error::{BatchError, Busy};
use super::flight::{Answer, FlightError, NotSent};
use crate::metrics::{BATCH_RETRIES, BATCH_UNKNOWN_OUTCOMES, BATCHES};
use crate::pool::WritePool;
use crate::types::limits::{
    BATCH_ATTEMPTS_MAX, BATCH_ATTEMPTS_QUIET, BATCH_KEYED_WAIT_MAX, BATCH_RETRY_PAUSE,
    BATCH_RETRY_PAUSE_MAX,
};

/// For which reasons a batch is sent again, always exactly as it was rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// When the server asks for it (40001, 40P01), a limited number of times.
    Conflicts,
    /// Also once its outcome is unknown, until it is known: the batch has a key, which stands before its
    /// guards and is never written over, and a second run fails on it with [`BatchError::Recorded`]
    /// ([`super::Step::key`]). While nothing of it can have committed, it is as limited as the first.
    /// The outcome stays unknown when the second run fails for a reason that may pass, and after
    /// [`BATCH_KEYED_WAIT_MAX`].
    Keyed,
    /// For every reason but a refusal, without end: the batch has a key and must be done.
    Endless,
}

/// A batch that gave no answers.
pub(super) struct Failed {
    pub error: BatchError,
    /// Whether the batch has committed all the same, by one of these tries.
    pub committed: bool,
}

/// What a fence fails with (not_null_violation).
const FENCED: &str = "23502";

/// Sends the batch as often as `persistence` says. Each answer may take `deadline`.
pub(super) async fn send(
    sendable: Sendable,
    pool: WritePool,
    persistence: Persistence,
    deadline: Duration,
) -> Result<Vec<Answer>, Failed> {
    let sent = send_until_decided(sendable, pool, persistence, deadline).await;
    let outcome = sent
        .as_ref()
        .map_or_else(|failed| failed.error.outcome(), |_| "committed");
    metrics::counter!(BATCHES, "outcome" => outcome).increment(1);
    sent
}

async fn send_until_decided(
    sendable: Sendable,
    pool: WritePool,
    persistence: Persistence,
    deadline: Duration,
) -> Result<Vec<Answer>, Failed> {
    let mut attempt = 1;
    let mut ambiguous = false;
    let begun = Instant::now();
    loop {
        let error = match send_once(&sendable, &pool, attempt, deadline).await {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        if matches!(error, BatchError::Ambiguous(_)) {
            ambiguous = true;
            metrics::counter!(BATCH_UNKNOWN_OUTCOMES).increment(1);
        }
        let again = match (&error, persistence) {
            (BatchError::Busy(_) | BatchError::Ambiguous(_), Persistence::Endless) => true,
            (BatchError::Busy(_) | BatchError::Ambiguous(_), Persistence::Keyed) if ambiguous => {
                begun.elapsed() < BATCH_KEYED_WAIT_MAX
            }
            (BatchError::Busy(Busy::Conflict { .. }), _) => attempt < BATCH_ATTEMPTS_MAX,
            _ => false,
        };
        if !again {
            tracing::debug!(attempt, %error, steps = ?sendable.labels, "a batch is not sent again");
            let unknown = persistence == Persistence::Keyed && ambiguous;
            return Err(Failed {
                committed: has_committed(&error, unknown),
                error: told(error, unknown),
            });
        }
        let steps = &sendable.labels;
        let sqlstate = error.server().map_or("none", |server| &server.sqlstate);
        metrics::counter!(BATCH_RETRIES, "sqlstate" => sqlstate.to_owned()).increment(1);
        if attempt >= BATCH_ATTEMPTS_QUIET && attempt.is_power_of_two() {
            tracing::warn!(attempt, %error, ?steps, "a batch does not get through; it is sent again");
        } else {
            tracing::debug!(attempt, %error, ?steps, "a batch is sent again");
        }
        tokio::time::sleep(pause(attempt)).await;
        attempt = attempt.saturating_add(1);
    }
}

/// Whether one of the tries has committed, when the last of them gave `error`. A key that is met
/// without an unknown try was written by an earlier call, whose hooks are none of this one's; and of
/// the events that a saga sends along, one may have come with another batch.
fn has_committed(error: &BatchError, unknown: bool) -> bool {
    match error {
        BatchError::TooLarge(_) => true,
        BatchError::Recorded { .. } => unknown,
        _ => false,
    }
}

/// An error after a try whose outcome nobody learned says that the try has not committed, for its key
/// was not met. The try may still be on its way, though, and arrive when the reason has passed: unless
/// the reason lasts, the outcome is unknown. In a saga nothing can come of it, for the log takes no
/// success of a node that is recorded as failed.
fn told(error: BatchError, unknown: bool) -> BatchError {
    match error {
        BatchError::Invalid(_)
        | BatchError::Refused { .. }
        | BatchError::Unexpected { .. }
        | BatchError::AtCommit { .. }
        | BatchError::Busy(_)
            if unknown && !lasts(&error) =>
        {
            BatchError::Ambiguous(format!("a reply was lost, and then {error}"))
        }
        error => error,
    }
}

/// Whether no later try can come to another end. A fence finds no owner and writes NULL, which is 23502:
/// who has lost its place never has it again, and its caller knows what that says of earlier tries.
fn lasts(error: &BatchError) -> bool {
    match error {
        BatchError::Refused { refusal, .. } => refusal.is_lasting(),
        BatchError::Unexpected { error, .. } => error.sqlstate == FENCED,
        _ => false,
    }
}

/// Twice as long each time, up to a bound, with half of it left to chance.
pub(super) fn pause(attempt: u32) -> Duration {
    let longest = BATCH_RETRY_PAUSE
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(BATCH_RETRY_PAUSE_MAX);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

async fn send_once(
    sendable: &Sendable,
    pool: &WritePool,
    attempt: u32,
    deadline: Duration,
) -> Result<Vec<Answer>, BatchError> {
    let mut flight = pool.get().await?;
    let mut answers =
        flight
            .fly(&sendable.queries, deadline)
            .await
            .map_err(|error| match error {
                FlightError::Refused { index, error } => {
                    // What fails before the first step, a session that ends, fails that step.
                    let index = index.saturating_sub(sendable.prelude);
                    let step = sendable.step(index);
                    let key = sendable.keys.get(index).copied().flatten();
                    match step {
                        Some((step, _)) if is_recorded(key, &error) => {
                            BatchError::Recorded { step, error }
                        }
                        step => classify(step, error, attempt),
                    }
                }
                FlightError::NotSent(
                    cause @ (NotSent::TooLarge { .. } | NotSent::Invalid { .. }),
                ) => BatchError::Invalid(cause.to_string()),
                FlightError::NotSent(cause) => BatchError::Busy(Busy::NotSent(cause.to_string())),
                FlightError::Ambiguous(cause) => BatchError::Ambiguous(cause.to_string()),
                FlightError::AnswerTooLarge { .. } => BatchError::TooLarge(error.to_string()),
            })?;
    answers.drain(..sendable.prelude);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::error::StepName;
    use crate::batch::flight::ServerError;
    use crate::constraint::Refusal;
    use crate::types::ResourceKind;

    #[test]
    fn after_a_lost_reply_only_what_lasts_is_told_as_not_committed() {
        let step = StepName {
            label: "a.step",
            index: 0,
        };
        let failed = |sqlstate: &str| BatchError::Unexpected {
            step,
            attempts: 2,
            error: Box::new(ServerError {
                sqlstate: sqlstate.to_owned(),
                ..ServerError::default()
            }),
        };
        let gone = || BatchError::Refused {
            step,
            refusal: Refusal::NotFound {
                kind: ResourceKind::Project,
                id: uuid::Uuid::nil(),
            },
            error: Box::default(),
        };
        let recorded = BatchError::Recorded {
            step,
            error: Box::default(),
        };
        let is_unknown = |error| matches!(told(error, true), BatchError::Ambiguous(_));
        assert!(is_unknown(failed("42P01")));
        assert!(!is_unknown(failed(FENCED)));
        assert!(is_unknown(BatchError::Busy(Busy::NotSent(String::new()))));
        assert!(!is_unknown(gone()));
        assert!(!is_unknown(recorded));
        assert!(matches!(
            told(failed("42P01"), false),
            BatchError::Unexpected { .. }
        ));
    }
}
