//! The executor: what one process needs to run sagas. The only type that those who use sagas need.

mod take_over;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db_model::Database;
use db_model::batch::{Batch, BatchError, Persistence};
use db_model::metrics::SAGAS;
use db_model::model::SagaEvent;
use db_model::pool::WritePool;
use db_model::query::saga::{self, Fence, NewSaga};
use db_model::types::limits::{
    HEARTBEAT_INTERVAL, LEASE, LEASE_END_WAIT, SAGAS_ADOPTED_MAX, SAGAS_RECOVERING_MAX,
    SAGAS_RUNNING_MAX, SAGAS_RUNNING_PER_PROJECT_MAX, WATCHDOG_INTERVAL,
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
use crate::engine::run::{Birth, Means, Run};
use crate::engine::{quiet, watchdog};
use crate::intake::{Intake, Place};
use crate::probe::{NoProbe, Probe};
use crate::registry::{self, Registry};
use crate::submit::{SubmitError, Submitted, SubmittedAny};

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// The sagas that it can run.
    pub registry: Arc<Registry>,
    /// Sagas that may run at once, those taken over not counted.
    pub sagas_running_max: usize,
    /// Of these the sagas of one project.
    pub sagas_running_per_project_max: usize,
    /// How often the lease is renewed.
    pub heartbeat_interval: Duration,
    /// How long the process counts as alive after a heartbeat.
    pub lease: Duration,
    /// How often it looks for sagas that do not get on.
    pub watchdog_interval: Duration,
    /// Whether it takes over what nobody runs. Always, but in tests of those who do not.
    pub takes_over: bool,
    /// What watches the sagas' commits.
    pub probe: Arc<dyn Probe>,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            registry: Arc::clone(registry::builtin()),
            sagas_running_max: SAGAS_RUNNING_MAX,
            sagas_running_per_project_max: SAGAS_RUNNING_PER_PROJECT_MAX,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            lease: LEASE,
            watchdog_interval: WATCHDOG_INTERVAL,
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
    intake: Arc<Intake>,
    /// Room for sagas that were taken over and have not ended.
    adopted: Arc<Semaphore>,
    /// Room for those of them that run.
    recovering: Arc<Semaphore>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// When a saga's row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before anything else: once it is submitted it ends, whatever becomes of the caller.
    Durable,
    /// With its first batch, for a caller who waits: a refusal then leaves nothing behind.
    Riding,
}

impl Executor {
    /// Registers the process, and starts its heartbeat, its take-over and its watchdog.
    ///
    /// # Errors
    /// [`StartError`], when the database gives no answer.
    pub async fn start(database: Database, options: ExecutorOptions) -> Result<Self, StartError> {
        quiet::install();
        lease::register(&database, options.lease).await?;
        let executor = Self(Arc::new(Inner {
            intake: Arc::new(Intake::new(
                options.sagas_running_max,
                options.sagas_running_per_project_max,
            )),
            adopted: Arc::new(Semaphore::new(SAGAS_ADOPTED_MAX)),
            recovering: Arc::new(Semaphore::new(SAGAS_RECOVERING_MAX)),
            health: Arc::new(watch::Sender::new(Health::Alive(Instant::now()))),
            draining: watch::Sender::new(false),
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
        let watch = watchdog::watch(
            inner.database.clone(),
            Arc::clone(&inner.options.registry),
            inner.options.watchdog_interval,
        );
        let mut tasks = vec![inner.watched(keep), inner.watched(watch)];
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

    /// The sagas that it can run.
    pub fn registry(&self) -> &Registry {
        &self.0.options.registry
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
        self.submit_typed(params, request_id, Start::Durable).await
    }

    /// Begins a saga for a caller who waits: its row is written with its first batch. Until
    /// [`Submitted::is_born`] there may be no such saga, and a refusal of that batch leaves none.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub async fn begin<S: Saga>(
        &self,
        params: S::Params,
        request_id: &str,
    ) -> Result<Submitted<S>, SubmitError> {
        self.submit_typed(params, request_id, Start::Riding).await
    }

    async fn submit_typed<S: Saga>(
        &self,
        params: S::Params,
        request_id: &str,
        start: Start,
    ) -> Result<Submitted<S>, SubmitError> {
        let value = serde_json::to_value(&params).map_err(SubmitError::unexpected)?;
        let subject = S::subject(&params);
        let any = self
            .submit_any(S::NAME, value, subject, request_id, start)
            .await?;
        Ok(Submitted::new(any))
    }

    /// Like [`Executor::submit`] and [`Executor::begin`], for a saga whose types are not known, as in the
    /// replay suite.
    ///
    /// # Errors
    /// Those of [`Executor::submit`].
    pub async fn submit_any(
        &self,
        name: &str,
        params: Value,
        subject: Subject,
        request_id: &str,
        start: Start,
    ) -> Result<SubmittedAny, SubmitError> {
        let inner = &self.0;
        if *inner.draining.borrow() {
            return Err(SubmitError::Draining);
        }
        if *inner.health.borrow() == Health::Ended {
            return Err(SubmitError::Lost);
        }
        let definition = inner.options.registry.find(name).ok_or_else(|| {
            let message = format!("saga {name} is not registered");
            SubmitError::unexpected(std::io::Error::other(message))
        })?;
        let fence = Fence {
            saga_id: Uuid::now_v7(),
            executor_id: self.id(),
            generation: 1,
        };
        // Among the running ones before its row can be seen, so that the take-over leaves it alone.
        let place = inner
            .intake
            .submit((fence.saga_id, fence.generation), subject.project_id)?;
        let row = NewSaga {
            id: fence.saga_id,
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
        let birth = match start {
            Start::Riding => Birth::Unborn(Box::new(row)),
            Start::Durable => {
                let insert = Batch::new().step(saga::insert(row));
                let inserted = insert
                    .commit_as(&inner.database.writes, Persistence::Keyed)
                    .await;
                match inserted {
                    Ok(_) | Err(BatchError::Recorded { .. }) => Birth::Born,
                    Err(error) => return Err(SubmitError::of_insert(error)),
                }
            }
        };
        let run = Arc::new(Run::new(
            Arc::clone(definition),
            fence,
            params,
            inner.means(&inner.database.writes),
            birth,
            &[],
        ));
        let ended = self.run(Arc::clone(&run), Vec::new(), request_id, None, place);
        Ok(SubmittedAny::new(run, ended))
    }

    /// Runs a saga in a task of its own. One that was taken over waits for its turn there.
    fn run(
        &self,
        run: Arc<Run>,
        events: Vec<SagaEvent>,
        request_id: &str,
        adopted: Option<OwnedSemaphorePermit>,
        place: Place,
    ) -> watch::Receiver<Option<Ended>> {
        let (sender, receiver) = watch::channel(None);
        let definition: Arc<Definition> = Arc::clone(&run.definition);
        let span = tracing::info_span!(
            "saga", saga = definition.name, saga_id = %run.fence.saga_id, request_id
        );
        let recovering = adopted.as_ref().map(|_| Arc::clone(&self.0.recovering));
        let task = async move {
            let turn = match recovering {
                // The semaphore is never closed.
                Some(recovering) => recovering.acquire_owned().await.ok(),
                None => None,
            };
            let started = Instant::now();
            let ended = drive(run, events).await;
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tell(&ended, duration_ms);
            metrics::counter!(SAGAS, "saga" => definition.name, "outcome" => ended.outcome())
                .increment(1);
            sender.send_replace(Some(ended));
            drop((turn, adopted, place));
        };
        tokio::spawn(task.instrument(span));
        receiver
    }

    /// How many sagas run here.
    pub fn running(&self) -> usize {
        self.0.intake.running()
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
        let left = match tokio::time::timeout(grace, inner.intake.empty()).await {
            Ok(()) => 0,
            Err(_) => inner.intake.running(),
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

    fn means(&self, writes: &WritePool) -> Means {
        Means {
            writes: writes.clone(),
            effects: self.database.effects.clone(),
            probe: Arc::clone(&self.options.probe),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the log how a saga ended. Its caller may not wait for it: what nobody foresaw is an error of the
/// log here.
fn tell(ended: &Ended, duration_ms: u64) {
    match ended {
        Ended::Succeeded(_) => tracing::info!(duration_ms, "succeeded"),
        Ended::Failed(failure) | Ended::Refused(failure) if failure.is_unexpected() => {
            tracing::error!(duration_ms, %failure, "failed and undone");
        }
        Ended::Failed(failure) => {
            tracing::info!(duration_ms, node = failure.node, "failed and undone");
        }
        Ended::Refused(failure) => {
            tracing::info!(
                duration_ms,
                node = failure.node,
                "refused; nothing was written"
            );
        }
        // The error was logged where it was met.
        Ended::Stuck(failure) => tracing::info!(duration_ms, %failure, "stuck"),
        Ended::Lost => tracing::info!(duration_ms, "goes on elsewhere"),
        Ended::Never(error) => tracing::info!(duration_ms, %error, "the database did not take it"),
    }
}
