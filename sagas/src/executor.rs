//! The executor: what one process needs to run sagas. The only type that those who use sagas need.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db_model::Database;
use db_model::batch::{Batch, BatchError, Persistence};
use db_model::metrics::SAGAS;
use db_model::query::saga::{self, Fence, NewSaga};
use db_model::types::limits::{
    HEARTBEAT_INTERVAL, LEASE, LEASE_END_WAIT, SAGAS_RECOVERING_MAX, SAGAS_RUNNING_MAX,
};
use db_model::types::time;
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tracing::Instrument;
use uuid::Uuid;

use crate::definition::{Definition, Saga, Subject};
use crate::engine::drive::{Ended, drive};
use crate::engine::lease::{self, Health};
use crate::engine::quiet;
use crate::engine::recover::{self, Recovered};
use crate::engine::run::Run;
use crate::probe::{NoProbe, Probe};
use crate::registry;
use crate::submit::{Insertion, SubmitError, Submitted, SubmittedAny, insertion_of};

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// Sagas that may run at once, those taken over not counted.
    pub sagas_running_max: usize,
    /// How often the lease is renewed.
    pub heartbeat_interval: Duration,
    /// How long the process counts as alive after a heartbeat.
    pub lease: Duration,
    /// Whether it takes over what nobody runs. Always, but in tests of those who do not.
    pub takes_over: bool,
    /// What watches the sagas' commits.
    pub probe: Arc<dyn Probe>,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            sagas_running_max: SAGAS_RUNNING_MAX,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            lease: LEASE,
            takes_over: true,
            probe: Arc::new(NoProbe),
        }
    }
}

/// Why an executor did not start.
#[derive(Debug, thiserror::Error)]
#[error("registering this process in the database: {0}")]
pub struct StartError(#[from] BatchError);

/// Runs sagas, and takes over what dead processes have left. Clones are the same executor.
#[derive(Clone, Debug)]
pub struct Executor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    options: ExecutorOptions,
    health: Arc<watch::Sender<Health>>,
    draining: watch::Sender<bool>,
    intake: Arc<Semaphore>,
    recovering: Arc<Semaphore>,
    running: watch::Sender<BTreeSet<Uuid>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Executor {
    /// Registers the process, and starts its heartbeat and its take-over.
    ///
    /// # Errors
    /// [`StartError`], when the database gives no answer.
    pub async fn start(database: Database, options: ExecutorOptions) -> Result<Self, StartError> {
        quiet::install();
        lease::register(&database, options.lease).await?;
        let executor = Self(Arc::new(Inner {
            intake: Arc::new(Semaphore::new(options.sagas_running_max)),
            recovering: Arc::new(Semaphore::new(SAGAS_RECOVERING_MAX)),
            health: Arc::new(watch::Sender::new(Health::Alive(Instant::now()))),
            draining: watch::Sender::new(false),
            running: watch::Sender::new(BTreeSet::new()),
            tasks: Mutex::new(Vec::new()),
            database,
            options,
        }));
        let inner = &executor.0;
        let keep = lease::keep(
            inner.database.clone(),
            inner.options.heartbeat_interval,
            inner.options.lease,
            Arc::clone(&inner.health),
        );
        let mut tasks = vec![inner.watched(keep)];
        if inner.options.takes_over {
            tasks.push(inner.watched(executor.clone().take_over()));
        }
        *inner.tasks() = tasks;
        Ok(executor)
    }

    /// The executor's id.
    pub fn id(&self) -> Uuid {
        self.0.database.executor_id()
    }

    /// Submits a saga: its row is durable when this returns, and it runs on whatever becomes of the
    /// caller. Call it from a task of its own: a caller that is dropped half way does not know
    /// whether the saga was submitted.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then, but see [`SubmitError::Lost`].
    pub async fn submit<S: Saga>(
        &self,
        params: S::Params,
        request_id: &str,
    ) -> Result<Submitted<S>, SubmitError> {
        let definition = registry::find(S::NAME).ok_or_else(|| {
            SubmitError::Unexpected(format!("saga {} is not registered", S::NAME).into())
        })?;
        let value =
            serde_json::to_value(&params).map_err(|error| SubmitError::Unexpected(error.into()))?;
        let (id, ended) = self
            .submit_definition(definition, value, S::subject(&params), request_id)
            .await?;
        Ok(Submitted::new(id, ended))
    }

    /// Like [`Executor::submit`], for a definition whose types are not known, as in the replay suite.
    ///
    /// # Errors
    /// Those of [`Executor::submit`].
    pub async fn submit_any(
        &self,
        definition: &Arc<Definition>,
        params: Value,
        subject: Subject,
        request_id: &str,
    ) -> Result<SubmittedAny, SubmitError> {
        let (id, ended) = self
            .submit_definition(definition, params, subject, request_id)
            .await?;
        Ok(SubmittedAny { id, ended })
    }

    async fn submit_definition(
        &self,
        definition: &Arc<Definition>,
        params: Value,
        subject: Subject,
        request_id: &str,
    ) -> Result<(Uuid, watch::Receiver<Option<Ended>>), SubmitError> {
        let inner = &self.0;
        if *inner.draining.borrow() {
            return Err(SubmitError::Draining);
        }
        if *inner.health.borrow() == Health::Ended {
            return Err(SubmitError::Lost);
        }
        let permit =
            Arc::clone(&inner.intake)
                .try_acquire_owned()
                .map_err(|_| SubmitError::Busy {
                    limit: inner.options.sagas_running_max,
                })?;
        let id = Uuid::now_v7();
        let row = NewSaga {
            id,
            name: definition.name,
            definition_hash: definition.hash.clone(),
            params: params.clone(),
            executor_id: self.id(),
            request_id: request_id.to_owned(),
            project_id: subject.project_id,
            resource_kind: subject.kind,
            resource_id: subject.id,
            resource_name: subject.name,
            time: time::now(),
        };
        // Among the running ones before its row can be seen, so that the take-over leaves it alone.
        let running = Running::new(Arc::clone(inner), id);
        let insert = Batch::new().step(saga::insert(row));
        let inserted = insert
            .commit_as(&inner.database.writes, Persistence::Keyed)
            .await;
        match inserted.map_err(insertion_of) {
            Ok(_) | Err(Insertion::Done) => {}
            Err(Insertion::Failed(error)) => return Err(error),
        }
        let fence = Fence {
            saga_id: id,
            executor_id: self.id(),
            generation: 1,
        };
        let ended = self.run(
            definition,
            fence,
            params,
            Vec::new(),
            permit,
            running,
            request_id,
        );
        Ok((id, ended))
    }

    /// Runs a saga in a task of its own.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a saga needs to run, used in two places"
    )]
    fn run(
        &self,
        definition: &Arc<Definition>,
        fence: Fence,
        params: Value,
        events: Vec<db_model::model::SagaEvent>,
        permit: OwnedSemaphorePermit,
        running: Running,
        request_id: &str,
    ) -> watch::Receiver<Option<Ended>> {
        let inner = &self.0;
        let run = Arc::new(Run::new(
            Arc::clone(definition),
            fence,
            params,
            inner.database.writes.clone(),
            Arc::clone(&inner.options.probe),
            &events,
        ));
        let (sender, receiver) = watch::channel(None);
        let span = tracing::info_span!(
            "saga", saga = definition.name, saga_id = %fence.saga_id, request_id
        );
        let name = definition.name;
        let task = async move {
            let started = Instant::now();
            let ended = drive(run, events).await;
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            match &ended {
                Ended::Succeeded(_) => tracing::info!(duration_ms, "succeeded"),
                // Its caller may not wait for it: what nobody foresaw is an error of the log here.
                Ended::Failed(failure) if failure.is_unexpected() => {
                    tracing::error!(duration_ms, %failure, "failed and undone");
                }
                Ended::Failed(failure) => {
                    tracing::info!(duration_ms, node = failure.node, "failed and undone");
                }
                // The error was logged where it was met.
                Ended::Stuck(failure) => tracing::info!(duration_ms, %failure, "stuck"),
                Ended::Lost => tracing::info!(duration_ms, "goes on elsewhere"),
            }
            metrics::counter!(SAGAS, "saga" => name, "outcome" => ended.outcome()).increment(1);
            sender.send_replace(Some(ended));
            drop((permit, running));
        };
        tokio::spawn(task.instrument(span));
        receiver
    }

    /// Looks again and again for sagas that nobody runs.
    async fn take_over(self) {
        let inner = &self.0;
        // Twice a heartbeat, so that a shortened lease is found over soon after it is.
        let pause = inner.options.heartbeat_interval / 2;
        while !*inner.draining.borrow() && *inner.health.borrow() != Health::Ended {
            if let Err(error) = self.take_over_once().await {
                tracing::warn!(%error, "looking for operations to take over failed; trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn take_over_once(&self) -> Result<(), BatchError> {
        let inner = &self.0;
        recover::end_dead(&inner.database, inner.options.heartbeat_interval).await?;
        loop {
            let mut permits = Vec::new();
            while let Ok(permit) = Arc::clone(&inner.recovering).try_acquire_owned() {
                permits.push(permit);
            }
            let running = inner.running.borrow().iter().copied().collect();
            let page = recover::adopt(&inner.database, running, permits.len()).await?;
            if page.is_empty() {
                return Ok(());
            }
            for Recovered { saga, events } in page {
                let (Some(permit), Some(definition)) = (permits.pop(), registry::find(&saga.name))
                else {
                    continue;
                };
                tracing::info!(saga = saga.name, saga_id = %saga.id, "an operation is taken over");
                let fence = Fence {
                    saga_id: saga.id,
                    executor_id: self.id(),
                    generation: saga.generation,
                };
                let running = Running::new(Arc::clone(inner), saga.id);
                self.run(
                    definition,
                    fence,
                    saga.params,
                    events,
                    permit,
                    running,
                    &saga.request_id,
                );
            }
        }
    }

    /// How many sagas run here.
    pub fn running(&self) -> usize {
        self.0.running.borrow().len()
    }

    /// Resolves once the lease is lost: stop taking requests, then exit.
    pub async fn lost(&self) {
        // The sender lives in `self`, so waiting ends only with the value.
        self.0
            .health
            .subscribe()
            .wait_for(|health| *health == Health::Ended)
            .await
            .ok();
    }

    /// Whether sagas can be submitted now, or why not.
    ///
    /// # Errors
    /// One sentence for a person.
    pub fn ready(&self) -> Result<(), String> {
        if *self.0.draining.borrow() {
            return Err("this process is shutting down".to_owned());
        }
        match *self.0.health.borrow() {
            Health::Ended => Err("this process has lost its lease".to_owned()),
            Health::Alive(at) if at.elapsed() > self.0.options.heartbeat_interval * 3 => {
                Err(format!(
                    "the last heartbeat was answered {} s ago",
                    at.elapsed().as_secs()
                ))
            }
            Health::Alive(_) => Ok(()),
        }
    }

    /// Stops intake, waits at most `grace` for what runs, and ends the lease, so that others take the
    /// rest over at once. Gives how many are left to them.
    pub async fn drain(&self, grace: Duration) -> usize {
        let inner = &self.0;
        inner.draining.send_replace(true);
        let mut running = inner.running.subscribe();
        let empty = running.wait_for(BTreeSet::is_empty);
        let left = match tokio::time::timeout(grace, empty).await {
            Ok(_) => 0,
            Err(_) => inner.running.borrow().len(),
        };
        inner.health.send_replace(Health::Ended);
        self.stop();
        // Over the heartbeat's session, which nobody needs any more: the others may all be busy.
        let end = Batch::new().step(db_model::query::executor::end(self.id()));
        let end = end.commit_within(&inner.database.lease, LEASE_END_WAIT);
        match tokio::time::timeout(LEASE_END_WAIT, end).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be ended; it runs out by itself");
            }
            Err(_) => tracing::warn!("the lease could not be ended in time; it runs out by itself"),
        }
        left
    }

    /// Stops heartbeat and take-over without a word to the database, as death would.
    pub fn stop(&self) {
        for task in self.0.tasks().drain(..) {
            task.abort();
        }
    }
}

impl Inner {
    /// Spawns a task without which this process must not live: should it panic, the lease counts as
    /// lost, and the process goes instead of living on half.
    fn watched(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let health = Arc::clone(&self.health);
        let watched = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a task of the executor panicked; this process gives its lease up");
                health.send_replace(Health::Ended);
            }
        };
        tokio::spawn(watched).abort_handle()
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A saga's place among the running ones, for as long as this lives.
#[derive(Debug)]
struct Running {
    inner: Arc<Inner>,
    id: Uuid,
}

impl Running {
    fn new(inner: Arc<Inner>, id: Uuid) -> Self {
        inner.running.send_modify(|running| {
            running.insert(id);
        });
        Self { inner, id }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.running.send_modify(|running| {
            running.remove(&self.id);
        });
    }
}
