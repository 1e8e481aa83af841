//! Sagas whose caller waits: until their first batch has committed there is nothing of them.

use std::sync::Arc;

use db_model::batch::{Batch, BatchError};
use db_model::query::saga::{self, NewSaga};
use db_model::types::{Name, time};
use nexus_tests::fixture::WIDE;
use nexus_tests::outside::Fault;
use nexus_tests::proxy::{Proxy, Trouble};
use nexus_tests::trial::{
    self, Deed, Ground, Item, definition, effect, ended, quick, stages_of, subject, submit,
};
use sagas::definition::Definition;
use sagas::probe::NoProbe;
use sagas::saga::{ProjectCreate, project_create};
use sagas::{Cause, Executor, Outcome, Start, SubmitError, Submitted};
use uuid::Uuid;

/// The statement that writes a saga's row.
const ROW: &str = "INSERT INTO saga (";

fn trial(first: Item) -> Definition {
    definition(
        "trial",
        &stages_of([first, Item::Db(1), Item::Last(2)]),
        quick,
    )
    .unwrap()
}

async fn through(ground: &Ground, proxy: &Proxy) -> Executor {
    let pools = ground.database.pools_through(proxy);
    trial::start(pools, vec![trial(Item::Db(0))], Arc::new(NoProbe)).await
}

/// Nothing of any saga stands anywhere.
async fn assert_nothing(ground: &Ground) {
    for table in ["saga", "saga_event", "trial"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(ground.database.number(&count).await, 0, "{table}");
    }
    assert_eq!(ground.count().await, 0);
    assert!(ground.outside.effects().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_first_node_leaves_nothing_and_gives_no_operation() {
    let ground = Ground::new().await;
    let pure = [Item::Pure(0), Item::Db(1), Item::Last(2)];
    let pure = definition("pure-first", &stages_of(pure), quick).unwrap();
    let executor = ground.executor(vec![trial(Item::Db(0)), pure]).await;
    // By the function; by the database; and behind a node that computes, whose event is dropped too.
    let refused = [
        ("trial", 0, Deed::Refuse),
        ("trial", 0, Deed::Break),
        ("trial", 0, Deed::Panic),
    ];
    let behind = [
        ("pure-first", 0, Deed::Refuse),
        ("pure-first", 1, Deed::Break),
    ];
    for (name, slot, deed) in refused.into_iter().chain(behind) {
        let params = ground.params().with(slot, deed);
        let mut submitted = submit(&executor, name, &params, Start::Riding).await;
        let outcome = ended(&mut submitted).await;
        assert!(
            matches!(outcome, Outcome::Refused(_)),
            "{name} {deed:?}: {outcome:?}"
        );
        assert!(!submitted.is_born());
    }
    assert_nothing(&ground).await;
    assert_eq!(executor.running(), 0);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_the_domain_knows_leaves_no_saga_behind() {
    let ground = Ground::new().await;
    let executor = Executor::start(ground.database.pools(), sagas::ExecutorOptions::default())
        .await
        .unwrap();
    let begin = || async {
        let name = Name::new("web").unwrap();
        let params = project_create::Params::new(name, String::new(), WIDE);
        let mut submitted: Submitted<ProjectCreate> =
            executor.begin(params, "trial").await.unwrap();
        (submitted.outcome().await, submitted.is_born())
    };
    let (outcome, born) = begin().await;
    assert!(
        matches!(outcome, Outcome::Succeeded(_)) && born,
        "{outcome:?}"
    );
    let (outcome, born) = begin().await;
    let Outcome::Refused(failure) = outcome else {
        panic!("not refused: {outcome:?}");
    };
    assert!(
        matches!(failure.cause, Cause::Refused(_)) && !born,
        "{failure}"
    );
    assert_eq!(ground.database.number("SELECT count(*) FROM saga").await, 1);
    assert_eq!(
        ground
            .database
            .number("SELECT count(DISTINCT saga_id) FROM saga_event")
            .await,
        1
    );
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_reply_to_the_first_batch_is_lost_the_row_says_whether_it_was_done() {
    let ground = Ground::new().await;
    let proxy = ground.database.proxy().await;
    let executor = through(&ground, &proxy).await;
    let troubles = [
        Trouble::LoseReply,
        Trouble::CutAtSync,
        Trouble::CutBeforeSync,
        Trouble::CutReplyAfter(2),
    ];
    for trouble in troubles {
        proxy.on(trouble.to(ROW));
        let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
        let outcome = ended(&mut submitted).await;
        assert!(
            matches!(outcome, Outcome::Succeeded(_)),
            "{trouble:?}: {outcome:?}"
        );
        assert!(submitted.is_born());
        let once = [0, 1, 2].map(|slot| (slot, (1, 0)));
        assert_eq!(
            ground.effects(submitted.id()).await,
            once.into(),
            "{trouble:?}"
        );
        ground.assert_log_is_whole(submitted.id()).await;
    }
    assert_eq!(proxy.troubles(), troubles.len());
    assert_eq!(ground.count().await, 12);
    ground.database.assert_books_balance().await;
}

/// The batch that an unborn saga's first node sends, as a network would deliver it late.
fn late(executor: &Executor, id: Uuid) -> Batch<()> {
    let definition = trial(Item::Db(0));
    let subject = subject();
    let row = NewSaga {
        id,
        name: definition.name,
        definition_hash: definition.hash,
        params: serde_json::json!({}),
        executor_id: executor.id(),
        request_id: "trial".to_owned(),
        project_id: None,
        resource_kind: subject.kind,
        resource_id: subject.id,
        resource_name: subject.name,
        time: time::now(),
    };
    Batch::new().after(
        [vec![saga::insert(row)], effect(id, 0, "do", 1)]
            .into_iter()
            .flatten()
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_try_that_arrives_after_the_saga_was_refused_does_nothing() {
    let ground = Ground::new().await;
    let proxy = ground.database.proxy().await;
    let executor = through(&ground, &proxy).await;
    let refuse = "ALTER TABLE trial ADD CONSTRAINT trial_none CHECK (kind <> 'do')";
    ground.sql(refuse).await;
    // Of the first try nobody learns what became of it. The next one is refused.
    proxy.on(Trouble::CutBeforeSync.to(ROW));
    let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(proxy.troubles(), 1);
    // Nothing stands in its way now but the row.
    ground
        .sql("ALTER TABLE trial DROP CONSTRAINT trial_none")
        .await;
    let pools = ground.database.pools();
    let arrived = late(&executor, submitted.id()).commit(&pools.writes).await;
    assert!(
        matches!(arrived, Err(BatchError::Recorded { .. })),
        "{arrived:?}"
    );
    assert_eq!(ground.saga(submitted.id()).await.unwrap().0, "failed");
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(submitted.id()).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_is_given_up_before_it_is_born_never_appears() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial(Item::Db(0))]).await;
    let client = ground.database.client().await;
    client
        .batch_execute("BEGIN; SELECT value FROM trial_count FOR UPDATE")
        .await
        .unwrap();
    let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    ground
        .database
        .eventually("it waits for the lock", async || {
            ground.database.number(waiting).await == 1
        })
        .await;
    assert!(!submitted.is_born());
    submitted.give_up();
    let outcome = ended(&mut submitted).await;
    let busy = matches!(outcome, Outcome::NotTaken(SubmitError::Unavailable(_)));
    assert!(busy, "{outcome:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(!submitted.is_born());
    assert_nothing(&ground).await;
    // What comes after it finds nothing in its way.
    let mut next = submit(&executor, "trial", &ground.params(), Start::Riding).await;
    let outcome = ended(&mut next).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(ground.database.number("SELECT count(*) FROM saga").await, 1);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_lease_is_over_gives_birth_to_no_saga() {
    let ground = Ground::new().await;
    for first in [Item::Db(0), Item::External(0), Item::Pure(0)] {
        let executor = ground.executor(vec![trial(first)]).await;
        ground.declare_dead(&executor).await;
        let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
        let outcome = ended(&mut submitted).await;
        let lost = matches!(outcome, Outcome::NotTaken(SubmitError::Lost));
        assert!(lost, "{outcome:?}");
        assert!(!submitted.is_born());
    }
    assert_nothing(&ground).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_begins_with_a_call_is_born_before_it() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial(Item::External(0))]).await;
    ground.outside.script("n00:", [Fault::HangBeforeEffect]);
    let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
    ground.outside.hang(1).await;
    assert!(submitted.is_born());
    let log = ground.log(submitted.id()).await;
    let kinds: Vec<_> = log
        .iter()
        .map(|event| (event.node_id, event.kind.as_str()))
        .collect();
    assert_eq!(kinds, [(0, "started")]);
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    ground.database.assert_books_balance().await;
}
