//! Processes that were declared dead and go on, and processes that take sagas from each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use nexus_tests::outside::Fault;
use nexus_tests::script::Script;
use nexus_tests::trial::{
    self, Deed, Ground, Hold, Item, Params, definition, ended, key_outside, quick, stages_of,
    submit,
};
use sagas::definition::Definition;
use sagas::probe::Point;
use sagas::{Outcome, Start};
use uuid::Uuid;

/// Cases that run at once.
const AT_ONCE: usize = 4;

/// Takes every other saga that has not ended from whoever holds it.
const STEAL: &str = "UPDATE saga SET generation = generation + 1, \
                     executor_id = '00000000-0000-0000-0000-000000000000' WHERE time_finished IS NULL AND random() < 0.5";

/// Two rows with a call between them, and a row with which the saga ends.
fn own() -> (&'static str, impl Fn() -> Definition) {
    let items = [Item::Db(0), Item::External(1), Item::Db(2), Item::Last(3)];
    let name: &str = format!("trial-{}", Uuid::now_v7()).leak();
    (name, move || {
        definition(name, &stages_of(items.clone()), quick).unwrap()
    })
}

async fn points_of(ground: &Ground, params: &Params) -> Vec<Point> {
    let (name, definition) = own();
    let script = Arc::new(Script::default());
    let executor = trial::start(ground.database.pools(), vec![definition()], script.clone()).await;
    let mut submitted = submit(&executor, name, params, Start::Durable).await;
    let outcome = ended(&mut submitted).await;
    assert!(!matches!(outcome, Outcome::Lost), "{outcome:?}");
    executor.stop();
    script.passed()
}

/// Holds a saga at a point, lets another process take it over and end it, and then lets the first go on.
async fn go_on_after_take_over(ground: &Ground, params: &Params, point: Point) {
    let (name, definition) = own();
    let hold = Arc::new(Hold::at(&point));
    let zombie = trial::start(ground.database.pools(), vec![definition()], hold.clone()).await;
    let mut submitted = submit(&zombie, name, params, Start::Durable).await;
    let id = submitted.id();
    hold.reached().await;
    ground.declare_dead(&zombie).await;
    let had_ended = ground.is_over(id).await;
    let second = ground.executor(vec![definition()]).await;
    let state = ground.ends(id).await;
    hold.open();
    let outcome = ended(&mut submitted).await;
    // It is told the end if it wrote that itself, and otherwise nothing but that it lost the saga.
    let told_right = match outcome {
        Outcome::Lost => !had_ended,
        Outcome::Succeeded(_) => had_ended && state == "succeeded",
        Outcome::Failed(_) => had_ended && state == "failed",
        _ => false,
    };
    assert!(told_right, "{point:?}: {outcome:?}, {state}");
    let fails = !params.deeds.is_empty();
    assert_eq!(state == "failed", fails, "{point:?}");
    let (undone, last) = if fails {
        (1, vec![])
    } else {
        (0, vec![(3, (1, 0))])
    };
    let rows = [(0, (1, undone)), (2, (1, undone))].into_iter().chain(last);
    assert_eq!(ground.effects(id).await, rows.collect(), "{point:?}");
    ground.outside.idle().await;
    let key = key_outside(id, "n01");
    assert!(ground.outside.made(&key) <= 1, "{point:?}");
    assert_eq!(ground.outside_of(id).is_empty(), fails, "{point:?}");
    ground.assert_log_is_whole(id).await;
    second.stop();
}

async fn zombies_over_every_commit(deed: Option<Deed>) {
    let ground = Ground::new().await;
    let mut params = ground.params();
    if let Some(deed) = deed {
        params = params.with(3, deed);
    }
    let mut seen = BTreeSet::new();
    let points = points_of(&ground, &params).await;
    let points: Vec<_> = points
        .into_iter()
        .filter(|point| {
            seen.insert(format!(
                "{:?} {} {:?}",
                point.commit, point.what, point.side
            ))
        })
        .collect();
    println!("{} points", points.len());
    assert!(points.len() >= 10, "{points:?}");
    let cases = points
        .into_iter()
        .map(|point| go_on_after_take_over(&ground, &params, point));
    stream::iter(cases)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    ground.assert_count_holds().await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_zombie_that_goes_on_after_its_saga_was_taken_over_changes_nothing() {
    zombies_over_every_commit(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_zombie_that_goes_on_unwinding_after_its_saga_was_taken_over_changes_nothing() {
    zombies_over_every_commit(Some(Deed::Break)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_take_one_saga_from_each_other_again_and_again_do_it_once() {
    let ground = Ground::new().await;
    let (name, definition) = own();
    // Each process that has the saga gets to its call, which hangs until the saga is taken away.
    let first = ground.executor(vec![definition()]).await;
    let second = ground.executor(vec![definition()]).await;
    const ROUNDS: usize = 6;
    ground
        .outside
        .script("n01:", [Fault::HangBeforeEffect; ROUNDS]);
    let mut submitted = submit(&first, name, &ground.params(), Start::Durable).await;
    let (id, key) = (submitted.id(), key_outside(submitted.id(), "n01"));
    for round in 1..=ROUNDS {
        ground.outside.hang(round).await;
        ground.retry(id).await;
    }
    assert_eq!(ground.ends(id).await, "succeeded");
    ground.outside.release();
    ground.outside.idle().await;
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    assert_eq!(ground.outside.made(&key), 1);
    let tokens = ground.outside.tokens(&key);
    assert!(tokens.len() > ROUNDS && tokens.is_sorted(), "{tokens:?}");
    let once = [0, 2, 3].map(|slot| (slot, (1, 0)));
    assert_eq!(ground.effects(id).await, once.into());
    assert_eq!(ground.count().await, 3);
    let log = ground.assert_log_is_whole(id).await;
    assert!(log.iter().all(|event| event.kind != "failed"), "{log:?}");
    for executor in [first, second] {
        ground
            .database
            .eventually("nothing runs", async || executor.running() == 0)
            .await;
        executor.stop();
    }
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_300_sagas_that_two_processes_take_from_each_other_each_step_is_done_once() {
    const SAGAS: usize = 300;
    let ground = Ground::new().await;
    let items = [Item::Db(0), Item::Db(1), Item::Db(2), Item::Last(3)];
    let trial = || definition("trial", &stages_of(items.clone()), quick).unwrap();
    let executors = [
        ground.executor(vec![trial()]).await,
        ground.executor(vec![trial()]).await,
    ];
    let thief = ground.database.client().await;
    let stealing = tokio::spawn(async move {
        loop {
            thief.execute(STEAL, &[]).await.unwrap();
            // Not so often that none gets on.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut running = Vec::new();
    for number in 0..SAGAS {
        let executor = &executors[number % 2];
        running.push(submit(executor, "trial", &ground.params(), Start::Durable).await);
    }
    let open = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
    ground
        .database
        .eventually("all have ended", async || {
            ground.database.number(open).await == 0
        })
        .await;
    stealing.abort();
    let mut stolen = 0;
    for submitted in &mut running {
        stolen += usize::from(matches!(ended(submitted).await, Outcome::Lost));
    }
    println!("{stolen} of {SAGAS} ended elsewhere");
    assert!(stolen > 0);
    assert_eq!(
        ground.count().await,
        i64::try_from(SAGAS * items.len()).unwrap()
    );
    let twice = "SELECT count(*) FROM (SELECT FROM trial GROUP BY saga_id, slot HAVING count(*) > 1) AS twice";
    assert_eq!(ground.database.number(twice).await, 0);
    for submitted in &running {
        ground.assert_log_is_whole(submitted.id()).await;
    }
    for executor in &executors {
        assert_eq!(executor.drain(Duration::from_secs(10)).await, 0);
    }
    ground.database.assert_books_balance().await;
}
