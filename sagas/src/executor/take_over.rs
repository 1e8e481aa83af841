//! Taking over what nobody runs: page by page, as room comes free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::batch::BatchError;
use db_model::query::saga::Fence;
use db_model::types::limits::SAGAS_ADOPTED_PER_PAGE_MAX;

use super::Executor;
use crate::engine::lease::Health;
use crate::engine::recover::{self, Recovered, Search};
use crate::engine::run::{Birth, Run};

/// Whether a look has left something to take over.
enum More {
    No,
    Maybe,
}

impl Executor {
    /// Looks again and again for sagas that nobody runs.
    pub(super) async fn take_over(self) {
        let inner = &self.0;
        // Twice a heartbeat, so that a shortened lease is found over soon after it is.
        let pause = inner.options.heartbeat_interval / 2;
        while !*inner.draining.borrow() && *inner.health.borrow() != Health::Ended {
            match self.take_over_once(pause).await {
                Ok(More::Maybe) => continue,
                Ok(More::No) => {}
                Err(error) => {
                    tracing::warn!(%error, "looking for operations to take over failed; trying again");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn take_over_once(&self, patience: Duration) -> Result<More, BatchError> {
        let inner = &self.0;
        recover::end_dead(&inner.database, inner.options.heartbeat_interval).await?;
        self.adopt(Search::Forgotten(inner.intake.sagas())).await?;
        let begun = Instant::now();
        // Page by page as room comes free, but the dead are looked for again in time.
        while begun.elapsed() < patience {
            if self.adopt(Search::Orphans).await? == 0 {
                return Ok(More::No);
            }
            let page = u32::try_from(SAGAS_ADOPTED_PER_PAGE_MAX).unwrap_or(u32::MAX);
            let room = inner.adopted.acquire_many(page);
            tokio::time::timeout(patience, room).await.ok();
        }
        Ok(More::Maybe)
    }

    /// Takes one page over, as far as there is room; gives how many.
    async fn adopt(&self, search: Search) -> Result<usize, BatchError> {
        let inner = &self.0;
        let mut permits = Vec::new();
        while permits.len() < SAGAS_ADOPTED_PER_PAGE_MAX {
            let Ok(permit) = Arc::clone(&inner.adopted).try_acquire_owned() else {
                break;
            };
            permits.push(permit);
        }
        if permits.is_empty() {
            return Ok(0);
        }
        let registry = &inner.options.registry;
        let page = recover::adopt(&inner.database, registry, search, permits.len()).await?;
        let count = page.len();
        if count > 0 {
            tracing::info!(count, "operations are taken over");
        }
        for Recovered { saga, events } in page {
            let definition = registry.of_row(&saga.name, &saga.definition_hash);
            let (Some(permit), Some(definition)) = (permits.pop(), definition) else {
                continue;
            };
            tracing::debug!(saga = saga.name, saga_id = %saga.id, "an operation is taken over");
            let fence = Fence {
                saga_id: saga.id,
                executor_id: self.id(),
                generation: saga.generation,
            };
            let place = inner.intake.adopt((saga.id, saga.generation));
            let run = Arc::new(Run::new(
                Arc::clone(definition),
                fence,
                saga.params,
                inner.means(&inner.database.recovery),
                Birth::Born,
                &events,
            ));
            self.run(run, events, &saga.request_id, Some(permit), place);
        }
        Ok(count)
    }
}
