//! The change feed without a service: publishers beside each other, cut at every place, and readers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_model::feed;
use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, fleet_quota};
use db_model::read::event::{self, EventFilter};
use db_model::types::EventKind;
use db_model::types::limits::EVENTS_PUBLISHED_AT_ONCE_MAX;
use nexus_tests::TestDatabase;
use nexus_tests::fixture::{self, GIB, WIDE};
use nexus_tests::proxy::Trouble;
use sagas::saga::{InstanceCreate, InstanceDelete, instance_create, instance_delete};
use sagas::{Executor, ExecutorOptions, Outcome, Submitted};

const UNPUBLISHED: &str = "SELECT count(*) FROM event WHERE sequence IS NULL";

/// Writers at once, and rounds of each.
const WRITERS: usize = 6;
const ROUNDS: usize = 12;

/// Makes an instance and deletes it, again and again under one name. Gives how many changes were made.
async fn write(executor: Executor, project_id: uuid::Uuid, name: String) -> usize {
    let mut changes = 0;
    for _ in 0..ROUNDS {
        let wanted = db_model::types::Name::new(name.clone()).unwrap();
        let params = instance_create::Params::new(project_id, wanted, String::new(), 1, GIB);
        let mut create: Submitted<InstanceCreate> = executor.submit(params, "test").await.unwrap();
        // Refused at times, for there is not room for all.
        let Outcome::Succeeded(instance_create::Output::V1(made)) = create.outcome().await else {
            continue;
        };
        let params = instance_delete::Params::new(&made, None);
        let mut delete: Submitted<InstanceDelete> = executor.submit(params, "test").await.unwrap();
        assert!(matches!(delete.outcome().await, Outcome::Succeeded(_)));
        changes += 2;
    }
    changes
}

/// Sets the fleet's limit again and again.
async fn set(pools: db_model::Database) -> usize {
    for _ in 0..ROUNDS {
        let update = fleet_quota::update(Change::new(), 9, None);
        update.commit(&pools.writes).await.unwrap();
    }
    ROUNDS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_meets_each_change_once_in_order_beside_writers_and_publishers() {
    let database = TestDatabase::new().await;
    let mut executors = Vec::new();
    for _ in 0..2 {
        let pools = database.pools();
        executors.push(
            Executor::start(pools, ExecutorOptions::default())
                .await
                .unwrap(),
        );
    }
    let limits = db_model::model::ProjectLimits {
        instances: 4,
        ..WIDE
    };
    let project = fixture::project(&executors[0], "web", limits).await;
    let done = AtomicBool::new(false);
    let publisher = async || {
        let pools = database.pools();
        while !done.load(Ordering::Relaxed) || feed::publish(&pools).await.unwrap() > 0 {
            feed::publish(&pools).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let writers = async {
        let mut tasks: Vec<_> = (0..WRITERS)
            .map(|number| {
                let executor = executors[number % 2].clone();
                tokio::spawn(write(executor, project.id, format!("i{number}")))
            })
            .collect();
        tasks.extend((0..3).map(|_| tokio::spawn(set(database.pools()))));
        let mut changes = 1;
        for task in tasks {
            changes += task.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        changes
    };
    let reader = async {
        let reads = database.pools().reads;
        let (mut numbers, mut ids, mut after, mut pages) = (Vec::new(), BTreeSet::new(), None, 0);
        loop {
            let is_over = done.load(Ordering::Relaxed) && database.number(UNPUBLISHED).await == 0;
            let filter = EventFilter::default();
            let page = event::list(&reads, &filter, after, 3).await.unwrap();
            after = Some(page.read_to_sequence);
            pages += usize::from(!page.events.is_empty());
            numbers.extend(page.events.iter().map(|event| event.sequence));
            ids.extend(page.events.iter().map(|event| event.id));
            if is_over && page.read_to_sequence == page.feed.last_sequence {
                return (numbers, ids, pages);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (changes, (), (), (numbers, ids, pages)) =
        tokio::join!(writers, publisher(), publisher(), reader);
    println!("{changes} changes on {pages} pages");
    let whole: Vec<_> = (1..).take(changes).collect();
    assert_eq!(numbers, whole);
    assert_eq!(ids.len(), changes);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_is_cut_anywhere_publishes_all_of_a_batch_or_nothing() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let (direct, pools) = (database.pools(), database.pools_through(&proxy));
    let mut changes = 0;
    for trouble in [
        Trouble::CutBeforeSync,
        Trouble::CutAtSync,
        Trouble::LoseReply,
        Trouble::CutReplyAfter(3),
    ] {
        for _ in 0..3 {
            for _ in 0..2 {
                let update = fleet_quota::update(Change::new(), 7, None);
                update.commit(&direct.writes).await.unwrap();
                changes += 1;
            }
            proxy.on(trouble.to("UPDATE event_feed"));
            feed::publish(&pools).await.unwrap_err();
            // What a cut session may still commit, it commits all the same.
            let left = database.number(UNPUBLISHED).await;
            assert!(left == 0 || left == 2, "{trouble:?}: {left}");
            feed::publish(&pools).await.unwrap();
            database
                .eventually("all are published", async || {
                    feed::publish(&direct).await.unwrap();
                    database.number(UNPUBLISHED).await == 0
                })
                .await;
        }
    }
    let last = "SELECT last_sequence FROM event_feed";
    assert_eq!(database.number(last).await, changes);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_published_in_batches_and_read_by_a_filter_in_bounded_pages() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let client = database.client().await;
    // As a service leaves it whose publishers were away.
    let backlog = "INSERT INTO event (id, kind, resource_id, resource_name, resource_generation) \
                   SELECT gen_random_uuid(), CASE WHEN n % 10000 = 0 THEN 'project.deleted' ELSE 'project.created' END, \
                   gen_random_uuid(), 'p', 2 FROM generate_series(1, 20500) AS n";
    client.execute(backlog, &[]).await.unwrap();
    let mut batches = Vec::new();
    loop {
        match feed::publish(&pools).await.unwrap() {
            0 => break,
            events => batches.push(events),
        }
    }
    assert_eq!(batches, [EVENTS_PUBLISHED_AT_ONCE_MAX; 41]);
    let filter = EventFilter {
        kind: Some(EventKind::ProjectDeleted),
        project_id: None,
    };
    let (mut after, mut found, mut pages) = (None, 0, 0);
    loop {
        let page = event::list(&pools.reads, &filter, after, 100)
            .await
            .unwrap();
        found += page.events.len();
        pages += 1;
        after = Some(page.read_to_sequence);
        if page.read_to_sequence == page.feed.last_sequence {
            break;
        }
    }
    assert_eq!((found, pages), (2, 3));
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_event_is_lost_is_noticed_also_once_others_are_purged() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let executor = Executor::start(pools.clone(), ExecutorOptions::default());
    let executor = executor.await.unwrap();
    let project = fixture::project(&executor, "web", WIDE).await;
    for instances in [7, 8] {
        let limits = LimitsUpdate {
            instances: Some(instances),
            ..LimitsUpdate::default()
        };
        let update = project_quota::update(Change::new(), project.id, limits, None);
        update.commit(&pools.writes).await.unwrap();
    }
    feed::publish(&pools).await.unwrap();
    let mut client = database.client().await;
    let purge = "\
WITH gone AS (DELETE FROM event WHERE sequence = 1) UPDATE event_feed SET purged_sequence = 1";
    for (purged, lost, complaint) in [
        ("", "project.created", "project-create"),
        ("", "project.quota_updated", "limits of a project_quota"),
        (purge, "project.quota_updated", "limits of a project_quota"),
    ] {
        let undone = client.transaction().await.unwrap();
        undone.batch_execute(purged).await.unwrap();
        let complaints = nexus_tests::feed::complaints(undone.client()).await;
        assert!(complaints.is_empty(), "{complaints:?}");
        // The first change of limits is as good as the last.
        let lose = "DELETE FROM event WHERE sequence = \
                    (SELECT min(sequence) FROM event WHERE kind = $1)";
        undone.execute(lose, &[&lost]).await.unwrap();
        let complaints = nexus_tests::feed::complaints(undone.client()).await;
        let found = complaints.iter().any(|said| said.contains(complaint));
        assert!(found, "{lost} is lost, and {complaints:?}");
        undone.rollback().await.unwrap();
    }
    database.assert_books_balance().await;
}
