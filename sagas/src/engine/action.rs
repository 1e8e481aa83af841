//! A node of a definition as steno's action.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use steno::{Action, ActionContext, ActionError, ActionName, ActionResult, SagaType, UndoResult};

use super::run::{Run, Stopped};

/// The types under which steno runs our sagas.
#[derive(Debug)]
pub struct Engine;

impl SagaType for Engine {
    type ExecContextType = Run;
}

/// Which part of a node one of steno's is: see [`super::dag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The node; of an external one only the call.
    Whole,
    /// What stands before an external node and is undone for it.
    Guard,
}

/// The node at a place of whatever definition the run has.
#[derive(Debug)]
pub struct NodeAction {
    pub node: usize,
    pub part: Part,
    pub name: ActionName,
}

impl Action<Engine> for NodeAction {
    /// When the saga is stopped it gives nothing and no error, which would make steno unwind: the next
    /// event is what ends the executor then.
    #[expect(
        clippy::disallowed_methods,
        reason = "here the failure is durable under the fence, or the saga was never born"
    )]
    fn do_it(&self, context: ActionContext<Engine>) -> BoxFuture<'_, ActionResult> {
        async move {
            if self.part == Part::Guard {
                return Ok(Arc::new(Value::Null));
            }
            match context.user_data().act(self.node).await {
                Ok(Ok(output)) => Ok(Arc::new(output)),
                Ok(Err(failure)) => Err(ActionError::action_failed(failure)),
                Err(Stopped) => Ok(Arc::new(Value::Null)),
            }
        }
        .boxed()
    }

    fn undo_it(&self, context: ActionContext<Engine>) -> BoxFuture<'_, UndoResult> {
        async move {
            match context.user_data().undo(self.node, self.part).await {
                Ok(Ok(())) | Err(Stopped) => Ok(()),
                Ok(Err(failure)) => Err(failure.into()),
            }
        }
        .boxed()
    }

    fn name(&self) -> ActionName {
        self.name.clone()
    }
}
