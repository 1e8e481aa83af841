//! One saga from its log to its end, on a steno executor of its own.

use std::sync::Arc;

use db_model::model::SagaEvent;
use db_model::query::saga::Progress;
use db_model::types::SagaState;
use newtype_uuid::GenericUuid;
use serde_json::Value;
use steno::{SagaId, SagaResult, SagaResultErr, UndoActionError};

use super::run::Run;
use super::store::Store;
use super::{dag, log};
use crate::failure::Failure;

/// How a saga ended for this process.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Every node is done.
    Succeeded(Value),
    /// A node failed, and everything is undone.
    Failed(Failure),
    /// An undo was refused.
    Stuck(Failure),
    /// Another process has it.
    Lost,
}

impl Ended {
    /// In one word for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Stuck(_) => "stuck",
            Self::Lost => "lost",
        }
    }
}

/// Runs the saga on from its log, and records how it ended.
pub async fn drive(run: Arc<Run>, events: Vec<SagaEvent>) -> Ended {
    let result = tokio::select! {
        biased;
        // First: once the saga is lost, steno's own future panics.
        () = run.lost() => return Ended::Lost,
        result = execute(&run, &events) => result,
    };
    let (ended, progress) = match result {
        Ok(SagaResult { kind: Ok(_), .. }) => {
            let output = run.output();
            let progress = ending(SagaState::Succeeded, Some(output.clone()), None);
            (Ended::Succeeded(output), progress)
        }
        Ok(SagaResult {
            kind: Err(error), ..
        }) => {
            let failure = failure_of(&error);
            if let Some((node, UndoActionError::PermanentFailure { source_error })) =
                &error.undo_failure
            {
                tracing::error!(
                    saga_id = %run.fence.saga_id, saga = run.definition.name,
                    node = node.as_ref(), error = %source_error, %failure,
                    "an undo was refused: the saga is stuck and waits for a person"
                );
                (
                    Ended::Stuck(failure.clone()),
                    ending(SagaState::Stuck, None, Some(&failure)),
                )
            } else {
                (
                    Ended::Failed(failure.clone()),
                    ending(SagaState::Failed, None, Some(&failure)),
                )
            }
        }
        Err(message) => {
            tracing::error!(
                saga_id = %run.fence.saga_id, saga = run.definition.name, %message,
                "the saga cannot be run: it is stuck and waits for a person"
            );
            let failure = Failure::unexpected("", message);
            (
                Ended::Stuck(failure.clone()),
                ending(SagaState::Stuck, None, Some(&failure)),
            )
        }
    };
    match run.finish(progress).await {
        Ok(()) => ended,
        Err(_) => Ended::Lost,
    }
}

/// Lets steno run the saga to its end.
async fn execute(run: &Arc<Run>, events: &[SagaEvent]) -> Result<SagaResult, String> {
    let saga_id = SagaId::from_untyped_uuid(run.fence.saga_id);
    let (dag, actions, start) = dag::build(&run.definition)?;
    let events = log::from_rows(saga_id, events, start)?;
    // steno logs graphs and parameters at info; what is worth saying is said here.
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let client = steno::sec(logger, Arc::new(Store(Arc::clone(run))));
    let result = match client
        .saga_resume(saga_id, Arc::clone(run), dag, actions, events)
        .await
    {
        Ok(result) => result,
        Err(error) => {
            client.shutdown().await;
            return Err(format!("{error:#}"));
        }
    };
    client
        .saga_start(saga_id)
        .await
        .map_err(|error| format!("{error:#}"))?;
    let result = result.await;
    client.shutdown().await;
    Ok(result)
}

fn ending(state: SagaState, output: Option<Value>, failure: Option<&Failure>) -> Progress {
    let error = failure.and_then(|failure| serde_json::to_value(failure).ok());
    Progress {
        state,
        output,
        error,
        is_over: true,
    }
}

/// The failure that the node recorded, also when it did so before a crash.
fn failure_of(error: &SagaResultErr) -> Failure {
    let node = error.error_node_name.as_ref();
    let unreadable = |error: steno::ActionError| Failure::unexpected(node, error.to_string());
    error
        .error_source
        .clone()
        .convert::<Failure>()
        .unwrap_or_else(unreadable)
}
