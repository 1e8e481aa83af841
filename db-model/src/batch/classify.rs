//! What the server's no means: by SQLSTATE, and by the name of the constraint or guard.

use super::error::{BatchError, Busy, StepName, StepOrCommit};
use super::flight::ServerError;
use super::step::Refusals;

/// Tells apart what the server said about a step; `None` is the commit. `attempts` is how often the
/// whole was sent.
pub(super) fn classify(
    step: Option<(StepName, Refusals)>,
    error: Box<ServerError>,
    attempts: u32,
) -> BatchError {
    let place = step.map_or(StepOrCommit::Commit, |(name, _)| StepOrCommit::Step(name));
    match (error.sqlstate.as_str(), step) {
        ("40001" | "40P01", _) => BatchError::Busy(Busy::Conflict {
            step: place,
            attempts,
            error,
        }),
        ("55P03" | "57014", _) => BatchError::Busy(Busy::Timeout { step: place, error }),
        // The server is in trouble: it ends sessions, lacks something, is a stand-by now, or is broken.
        // Nothing was committed, and the statement is not to blame.
        (state, _)
            if ["08", "25006", "53", "57", "58", "XX"]
                .iter()
                .any(|c| state.starts_with(c)) =>
        {
            BatchError::Busy(Busy::Server { step: place, error })
        }
        (_, None) => BatchError::AtCommit(error),
        (_, Some((step, refusals))) => {
            match error
                .constraint
                .as_deref()
                .and_then(|name| refusals(name, &error))
            {
                Some(refusal) => BatchError::Refused {
                    step,
                    refusal,
                    error,
                },
                None => BatchError::Unexpected { step, error },
            }
        }
    }
}
