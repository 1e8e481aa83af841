//! The log of one saga as steno's store.

use std::sync::Arc;

use async_trait::async_trait;
use steno::{SagaCachedState, SagaCreateParams, SagaId, SagaNodeEvent, SecStore};

use super::run::{Run, Stopped};

/// The store of the one saga that a steno executor runs.
#[derive(Debug)]
pub struct Store(pub Arc<Run>);

#[async_trait]
impl SecStore for Store {
    /// Never called: a saga is resumed, also when it is new.
    async fn saga_create(&self, _params: SagaCreateParams) -> Result<(), anyhow::Error> {
        Err(anyhow::anyhow!("sagas are resumed, not created"))
    }

    /// Nothing is written here: what has to be recorded of a node is recorded with its effect, by the run.
    ///
    /// steno offers no way to end an executor from outside: waiting never ends, and dropping it spins.
    /// Unwinding out of here ends this saga's executor and nothing else, without a panic message.
    async fn record_event(&self, _event: SagaNodeEvent) {
        if self.0.is_stopped() {
            std::panic::resume_unwind(Box::new(Stopped));
        }
    }

    /// The saga's row tells more than steno's three states, and is written by the run.
    async fn saga_update(&self, _id: SagaId, _state: SagaCachedState) {}
}
