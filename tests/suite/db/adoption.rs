//! Pages of a take-over, where the server's statistics say that next to nothing is unfinished: as they do in
//! every database that has been at work for long, until thousands of sagas lose their process.

use std::collections::BTreeSet;

use db_model::batch::{Batch, Step};
use db_model::query::executor::{self, NewExecutor};
use db_model::query::saga::{self, Adopted};
use db_model::types::limits::LEASE;
use db_model::types::time;
use nexus_tests::TestDatabase;
use uuid::Uuid;

const SAGAS: usize = 600;
const PAGE: i64 = 200;
const DEFINITION: &str = "project-delete:h";

/// Sagas of `owner`, unfinished since the server last looked.
async fn unfinished(database: &TestDatabase, owner: Uuid) {
    let sql = format!(
        "ALTER TABLE saga SET (autovacuum_enabled = false);
         INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, request_id, resource_kind,
             resource_id, resource_name, time_created, time_finished)
         SELECT gen_random_uuid(), 'project-delete', 'h', '{{}}', 'failed', '{owner}', 1, 'r', 'project',
             gen_random_uuid(), 'old', now(), now() FROM generate_series(1, {SAGAS});
         ANALYZE saga;
         UPDATE saga SET state = 'running', time_finished = NULL"
    );
    database.client().await.batch_execute(&sql).await.unwrap();
}

async fn registered(database: &TestDatabase) -> Uuid {
    let id = Uuid::now_v7();
    let alive = NewExecutor {
        id,
        host: "here".to_owned(),
        pid: 1,
        version: "0.0.0",
    };
    let register = Batch::new().step(executor::register(alive, LEASE));
    register.commit(&database.pools().writes).await.unwrap();
    id
}

async fn page(database: &TestDatabase, adopt: Step<Vec<Adopted>>) -> BTreeSet<Uuid> {
    let batch = Batch::new().step(adopt);
    let (page,) = batch.commit(&database.pools().writes).await.unwrap();
    assert!(page.iter().all(|saga| saga.generation == 2), "{page:?}");
    page.iter().map(|saga| saga.id).collect()
}

#[tokio::test]
async fn a_page_of_orphans_is_no_longer_than_asked_for() {
    let database = TestDatabase::new().await;
    let (dead, alive) = (Uuid::now_v7(), registered(&database).await);
    unfinished(&database, dead).await;
    let mut adopted = BTreeSet::new();
    for expected in [200, 200, 200, 0] {
        let adopt = saga::adopt_orphans(alive, vec![DEFINITION.to_owned()], PAGE);
        let page = page(&database, adopt).await;
        assert_eq!(page.len(), expected);
        adopted.extend(page);
    }
    assert_eq!(adopted.len(), SAGAS);
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_page_of_forgotten_sagas_is_no_longer_than_asked_for_and_has_none_that_runs() {
    let database = TestDatabase::new().await;
    let alive = registered(&database).await;
    let before = time::now();
    unfinished(&database, alive).await;
    let adopt = |running, settled| {
        saga::adopt_forgotten(alive, running, settled, vec![DEFINITION.to_owned()], PAGE)
    };
    let young = page(&database, adopt(Vec::new(), before)).await;
    assert_eq!(young, BTreeSet::new());
    let mut running = BTreeSet::new();
    for expected in [200, 200, 200, 0] {
        let adopt = adopt(running.iter().copied().collect(), time::now());
        let page = page(&database, adopt).await;
        assert_eq!(page.len(), expected);
        running.extend(page);
    }
    assert_eq!(running.len(), SAGAS);
    database.assert_books_balance().await;
}
