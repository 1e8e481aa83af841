//! A network that delays, cuts, loses and splits at random, between a process and its database.

use std::sync::Arc;

use db_model::Database;
use db_model::batch::{BatchError, Persistence};
use db_model::model::Instance;
use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, event};
use db_model::types::Name;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, GIB, WIDE};
use nexus_tests::load::seed;
use nexus_tests::proxy::{Chaos, Proxy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sagas::saga::{InstanceCreate, InstanceDelete, instance_create, instance_delete};
use sagas::{Executor, ExecutorOptions, Outcome, Saga, SubmitError};
use uuid::Uuid;

const CLIENTS: usize = 6;
const DEEDS: usize = 25;

/// One client of a project of its own, and what it was told.
struct Client {
    executor: Executor,
    pools: Database,
    project_id: Uuid,
    chance: StdRng,
    instances: Vec<Instance>,
    /// Limits that were set, the last one last, each with whether that was acknowledged.
    limits: Vec<(i64, bool)>,
    acknowledged: usize,
}

impl Client {
    async fn run(mut self) -> Self {
        for deed in 0..DEEDS {
            match self.chance.random_range(0..10) {
                0..2 => self.set_limit().await,
                2..5 if !self.instances.is_empty() => self.delete().await,
                _ => self.create(deed).await,
            }
        }
        self
    }

    /// The output of a saga that was submitted, if it was.
    async fn done<S: Saga>(&mut self, params: S::Params) -> Option<S::Output> {
        match self.executor.submit::<S>(params, "chaos").await {
            Ok(mut submitted) => match submitted.outcome().await {
                Outcome::Succeeded(output) => {
                    self.acknowledged += 1;
                    Some(output)
                }
                _ => panic!("saga {} did not succeed", submitted.id()),
            },
            // Nothing was started.
            Err(SubmitError::Unavailable(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn create(&mut self, deed: usize) {
        let name = Name::new(format!("i{deed}")).unwrap();
        let params = instance_create::Params::new(self.project_id, name, String::new(), 1, GIB);
        if let Some(instance_create::Output::V1(made)) = self.done::<InstanceCreate>(params).await {
            self.instances.push(made);
        }
    }

    async fn delete(&mut self) {
        let place = self.chance.random_range(0..self.instances.len());
        let params = instance_delete::Params::new(&self.instances[place], None);
        if self.done::<InstanceDelete>(params).await.is_some() {
            self.instances.remove(place);
        }
    }

    /// A keyed change of one batch.
    async fn set_limit(&mut self) {
        let limit = 1_000 + i64::try_from(self.limits.len()).unwrap();
        let limits = LimitsUpdate {
            instances: Some(limit),
            ..LimitsUpdate::default()
        };
        let update = project_quota::update(Change::new(), self.project_id, limits, None);
        let ended = update
            .commit_as(&self.pools.writes, Persistence::Keyed)
            .await;
        match ended {
            Ok(_) => self.limits.push((limit, true)),
            // It had committed before, and its reply was lost.
            Err(error) if event::is_recorded(&error) => self.limits.push((limit, true)),
            Err(BatchError::Busy(_) | BatchError::Ambiguous(_)) => self.limits.push((limit, false)),
            Err(error) => panic!("{error}"),
        }
        self.acknowledged += usize::from(self.limits.last().is_some_and(|(_, told)| *told));
    }

    /// What was acknowledged is there, and nothing else.
    async fn assert_kept(&self, database: &TestDatabase) {
        let client = database.client().await;
        let select = "SELECT id FROM instance WHERE project_id = $1 AND time_deleted IS NULL \
                      AND state = 'stopped' ORDER BY id";
        let rows = client.query(select, &[&self.project_id]).await.unwrap();
        let there: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let mut known: Vec<Uuid> = self.instances.iter().map(|instance| instance.id).collect();
        known.sort();
        assert_eq!(there, known);
        let select = "SELECT instances_limit FROM project_quota WHERE project_id = $1";
        let row = client.query_one(select, &[&self.project_id]).await.unwrap();
        let limit: i64 = row.get(0);
        // The last that was acknowledged, or one after it that may have come.
        let last_told = self.limits.iter().rposition(|(_, told)| *told);
        let possible = &self.limits[last_told.unwrap_or(0)..];
        let is_first = last_told.is_none() && limit == WIDE.instances;
        assert!(
            is_first || possible.iter().any(|(set, _)| *set == limit),
            "{limit}: {possible:?}"
        );
    }
}

async fn clients(database: &TestDatabase, proxy: &Proxy, seed: u64) -> (Database, Vec<Client>) {
    let pools = database.pools_through(proxy);
    let executor = Executor::start(pools.clone(), ExecutorOptions::default())
        .await
        .unwrap();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let project = fixture::project(&executor, &format!("p{number}"), WIDE).await;
        clients.push(Client {
            executor: executor.clone(),
            pools: pools.clone(),
            project_id: project.id,
            chance: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
            instances: Vec::new(),
            limits: Vec::new(),
            acknowledged: 0,
        });
    }
    (pools, clients)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_chaos_every_acknowledged_change_is_there_once_and_nothing_is_half_done() {
    let seed = seed();
    let database = TestDatabase::new().await;
    let proxy = Arc::new(database.proxy().await);
    let (pools, clients) = clients(&database, &proxy, seed).await;
    let executor = clients[0].executor.clone();
    proxy.chaos(
        seed,
        Chaos {
            simple: true,
            ..Chaos::of_everything(0.2)
        },
    );
    let running: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(client.run()))
        .collect();
    let mut clients = Vec::new();
    for client in running {
        clients.push(client.await.unwrap());
    }
    proxy.calm();
    let acknowledged: usize = clients.iter().map(|client| client.acknowledged).sum();
    println!(
        "{acknowledged} of {} changes acknowledged, {} flights met trouble, {} connections",
        CLIENTS * DEEDS,
        proxy.troubles(),
        proxy.connections()
    );
    assert!(proxy.troubles() > CLIENTS * DEEDS / 4, "there was no chaos");
    assert!(acknowledged > CLIENTS * DEEDS / 2);

    assert_eq!(executor.drain(nexus_tests::SOON).await, 0);
    let open = "SELECT count(*) FROM saga WHERE time_finished IS NULL OR state <> 'succeeded'";
    assert_eq!(database.number(open).await, 0);
    for client in &clients {
        client.assert_kept(&database).await;
    }
    database.assert_database_quiet(&[&pools]).await;
    database.assert_books_balance().await;
}
