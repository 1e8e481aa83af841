//! One saga from its log to its end, on a steno executor of its own.

use std::sync::Arc;

use db_model::model::SagaEvent;
use db_model::query::saga::Progress;
use newtype_uuid::GenericUuid;
use serde_json::Value;
use steno::{SagaId, SagaResult, SagaResultErr, UndoActionError};

use super::history;
use super::run::{Birth, Run, lock};
use super::store::Store;
use crate::failure::Failure;
use crate::submit::SubmitError;

/// How a saga ended for this process.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Every node is done.
    Succeeded(Value),
    /// A node failed, and everything is undone.
    Failed(Failure),
    /// A node failed before anything was written: there never was such a saga.
    Refused(Failure),
    /// An undo was given up.
    Stuck(Failure),
    /// Another process has it.
    Lost,
    /// The database did not take it in time, and this process tries no more.
    Never(SubmitError),
}

impl Ended {
    /// In one word for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Stuck(_) => "stuck",
            Self::Lost => "lost",
            Self::Never(_) => "not_taken",
        }
    }
}

/// Runs the saga on from its log, and records how it ended.
pub async fn drive(run: Arc<Run>, events: Vec<SagaEvent>) -> Ended {
    let result = tokio::select! {
        biased;
        // First: once the saga is stopped, steno's own future panics.
        () = run.stopped() => return stopped(&run),
        result = execute(&run, &events) => result,
    };
    let (ended, progress) = match result {
        Ok(SagaResult { kind: Ok(_), .. }) => {
            let output = run.output();
            let progress = Progress::Succeeded {
                output: output.clone(),
                attempts: None,
                duration_us: None,
            };
            (Ended::Succeeded(output), progress)
        }
        Ok(SagaResult {
            kind: Err(error), ..
        }) => {
            // Of several nodes that failed steno names the one that it numbers lowest.
            let first = lock(&run.log).failure();
            let failure = first.unwrap_or_else(|| failure_of(&error));
            if let Some((node, UndoActionError::PermanentFailure { source_error })) =
                &error.undo_failure
            {
                tracing::error!(
                    saga_id = %run.fence.saga_id, saga = run.definition.name,
                    node = node.as_ref(), error = %source_error, %failure,
                    "an undo was given up: the saga is stuck and waits for a person"
                );
                let progress = Progress::Stuck(json(&failure));
                (Ended::Stuck(failure), progress)
            } else if run.is_unborn() {
                return Ended::Refused(failure);
            } else {
                let progress = Progress::Failed(json(&failure));
                (Ended::Failed(failure), progress)
            }
        }
        Err(message) => {
            tracing::error!(
                saga_id = %run.fence.saga_id, saga = run.definition.name, %message,
                "the saga cannot be run: it is stuck and waits for a person"
            );
            let failure = Failure::unexpected("", message);
            let progress = Progress::Stuck(json(&failure));
            (Ended::Stuck(failure), progress)
        }
    };
    match run.finish(progress).await {
        Ok(()) => ended,
        Err(_) => stopped(&run),
    }
}

fn stopped(run: &Run) -> Ended {
    match &*run.birth.borrow() {
        Birth::Never(error) => Ended::Never(error.clone()),
        Birth::Born | Birth::Unborn(_) => Ended::Lost,
    }
}

/// Lets steno run the saga to its end.
async fn execute(run: &Arc<Run>, events: &[SagaEvent]) -> Result<SagaResult, String> {
    let saga_id = SagaId::from_untyped_uuid(run.fence.saga_id);
    let plan = run.definition.plan()?;
    let events = history::from_rows(saga_id, events, &run.definition, &plan)?;
    // steno logs graphs and parameters at info; what is worth saying is said here.
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let client = steno::sec(logger, Arc::new(Store(Arc::clone(run))));
    let result = match client
        .saga_resume(
            saga_id,
            Arc::clone(run),
            plan.dag.clone(),
            Arc::clone(&plan.actions),
            events,
        )
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

fn json(failure: &Failure) -> Option<Value> {
    serde_json::to_value(failure).ok()
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
