//! What the server's no means: by SQLSTATE, and by the name of the constraint or guard.

use super::error::{BatchError, Busy, StepName, StepOrCommit};
use super::flight::ServerError;
use super::sqlstate::{Again, Answer, Blast};
use super::step::Refusals;

const UNIQUE_VIOLATION: &str = "23505";

/// Tells apart what the server said about a step; `None` is the commit. `attempts` is how often the
/// whole was sent.
pub(super) fn classify(
    step: Option<(StepName, Refusals)>,
    error: Box<ServerError>,
    attempts: u32,
) -> BatchError {
    let rule = error.rule();
    if rule.kills == Blast::CommitUnknown {
        return BatchError::Ambiguous(error.to_string());
    }
    if rule.answer == Answer::Busy {
        let step = step.map_or(StepOrCommit::Commit, |(name, _)| StepOrCommit::Step(name));
        return BatchError::Busy(match (rule.again, rule.kills) {
            (Again::Whole, _) => Busy::Conflict {
                step,
                attempts,
                error,
            },
            (_, Blast::Statement) => Busy::Timeout {
                step,
                attempts,
                error,
            },
            _ => Busy::Server {
                step,
                attempts,
                error,
            },
        });
    }
    let Some((step, refusals)) = step else {
        return BatchError::AtCommit { attempts, error };
    };
    let refusal = match (rule.answer, error.constraint.as_deref()) {
        (Answer::ByConstraint, Some(name)) => refusals(name, &error),
        _ => None,
    };
    match refusal {
        Some(refusal) => BatchError::Refused {
            step,
            refusal,
            error,
        },
        None => BatchError::Unexpected {
            step,
            attempts,
            error,
        },
    }
}

/// Whether the server says that a step's key, by its constraint, is there already.
pub(super) fn is_recorded(key: Option<&str>, error: &ServerError) -> bool {
    key.is_some() && error.sqlstate == UNIQUE_VIOLATION && error.constraint.as_deref() == key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::sqlstate::RULES;
    use crate::constraint::Refusal;
    use crate::types::ResourceKind;

    const STEP: StepName = StepName {
        label: "a.step",
        index: 0,
    };

    fn refusals(name: &str, _error: &ServerError) -> Option<Refusal> {
        let kind = ResourceKind::Project;
        let id = uuid::Uuid::nil();
        (name == "known").then_some(Refusal::NotFound { kind, id })
    }

    fn said(sqlstate: &str, constraint: &str) -> Box<ServerError> {
        Box::new(ServerError {
            sqlstate: sqlstate.to_owned(),
            constraint: Some(constraint.to_owned()),
            ..ServerError::default()
        })
    }

    #[test]
    fn every_row_of_the_table_has_its_error() {
        for rule in RULES {
            for code in rule.codes {
                // A class stands for codes that nobody has given.
                let code = format!("{code:Z<5}");
                let error = classify(Some((STEP, refusals)), said(&code, "known"), 3);
                let fits = match (rule.kills, rule.answer) {
                    (Blast::CommitUnknown, _) => matches!(error, BatchError::Ambiguous(_)),
                    (_, Answer::Busy) => matches!(error, BatchError::Busy(_)),
                    (_, Answer::Bug) => matches!(error, BatchError::Unexpected { .. }),
                    (_, Answer::ByConstraint) => matches!(error, BatchError::Refused { .. }),
                };
                assert!(fits, "{code}: {error:?}");
                let conflict = matches!(error, BatchError::Busy(Busy::Conflict { .. }));
                assert_eq!(conflict, rule.again == Again::Whole, "{code}");
                let counts =
                    !matches!(error, BatchError::Ambiguous(_) | BatchError::Refused { .. });
                assert_eq!(error.attempts(), counts.then_some(3), "{code}");
            }
        }
    }

    #[test]
    fn only_a_constraint_that_the_step_knows_is_a_refusal() {
        let unknown = classify(Some((STEP, refusals)), said("23505", "other_key"), 1);
        assert!(matches!(unknown, BatchError::Unexpected { .. }));
        assert_eq!(unknown.constraint(), Some("other_key"));
        let at_commit = classify(None, said("23505", "known"), 1);
        assert!(matches!(at_commit, BatchError::AtCommit { .. }));
        // A name is not enough: the code must be one that speaks of constraints.
        let other = classify(Some((STEP, refusals)), said("ZZ999", "known"), 1);
        assert!(matches!(other, BatchError::Unexpected { .. }));
    }

    #[test]
    fn only_the_constraint_of_the_key_says_that_the_batch_is_recorded() {
        let key = Some("a_pkey");
        assert!(is_recorded(key, &said("23505", "a_pkey")));
        assert!(!is_recorded(key, &said("23505", "b_pkey")));
        assert!(!is_recorded(key, &said("23503", "a_pkey")));
        assert!(!is_recorded(None, &said("23505", "a_pkey")));
        let nameless = ServerError {
            sqlstate: "23505".to_owned(),
            ..ServerError::default()
        };
        assert!(!is_recorded(key, &nameless) && !is_recorded(None, &nameless));
    }
}
