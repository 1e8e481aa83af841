//! What clients were told, held against what is in the database.

use std::collections::BTreeMap;
use std::time::Duration;

use db_model::books;
use db_model::connect::ConnectOptions;
use db_model::pool::{PoolOptions, WritePool};
use db_model::types::limits::{READ_POOL_SIZE_DEFAULT, WRITE_POOL_SIZE_DEFAULT};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::feed::{self, Follower};
use crate::load::Worker;
use crate::{process, quiet};

/// Sessions of a process beside its two pools: one for the heartbeat.
const LEASE_SESSIONS: u32 = 1;

/// What a client knows of a thing from the answers it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is not there.
    Absent,
    /// It is there.
    Present,
    /// Its creation was asked for, and the answer was cut off.
    MaybeMade,
    /// Its deletion was asked for, and the answer was cut off.
    MaybeGone,
    /// Its creation was accepted as this operation.
    Creating(Uuid),
    /// Its deletion was accepted as this operation.
    Deleting(Uuid),
}

/// A project or an instance. Names are used once.
#[derive(Clone, Debug)]
pub struct Thing {
    /// The name of an instance's project.
    pub project: Option<String>,
    /// Its name.
    pub name: String,
    /// Its id, once an answer told it.
    pub id: Option<String>,
    /// What is known of it.
    pub known: Known,
    /// Whether an answer was ever cut off: what it had asked for may still happen, and may be why a
    /// later request fails.
    pub cut: bool,
}

impl Thing {
    /// The path of its kind.
    pub fn collection(&self) -> String {
        match &self.project {
            None => "/v1/projects".to_owned(),
            Some(project) => format!("/v1/projects/{project}/instances"),
        }
    }

    /// Notes how the operation on it has ended.
    pub fn ended(&mut self, succeeded: bool) {
        self.known = match (self.known, succeeded, self.cut) {
            (Known::Creating(_), true, _) | (Known::Deleting(_), false, false) => Known::Present,
            (Known::Deleting(_), true, _) | (Known::Creating(_), false, false) => Known::Absent,
            (Known::Creating(_), false, true) => Known::MaybeMade,
            (Known::Deleting(_), false, true) => Known::MaybeGone,
            (known, ..) => known,
        };
    }
}

/// What a client saw, beside the things it made.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Changes that were answered with success, the accepted ones too.
    pub acknowledged: usize,
    /// Changes that were refused.
    pub refused: usize,
    /// Connections that could not be made or ended, and answers from 500 on.
    pub failures: Vec<String>,
    /// Answers that contradict earlier ones, or that nobody may get.
    pub wrong: Vec<String>,
}

/// What clients did and were told.
#[derive(Debug)]
pub struct History {
    things: Vec<Thing>,
    /// What each client saw, by its number.
    pub seen: Vec<Seen>,
}

impl History {
    pub(crate) fn new(workers: Vec<Worker>) -> Self {
        let mut things = Vec::new();
        let mut seen = Vec::new();
        for worker in workers {
            things.extend(worker.things);
            seen.push(worker.seen);
        }
        Self { things, seen }
    }

    /// Changes that were acknowledged to all clients.
    pub fn acknowledged(&self) -> usize {
        self.seen.iter().map(|seen| seen.acknowledged).sum()
    }

    /// Sees that what was acknowledged is there and nothing else is, that each accepted operation
    /// has ended, that nothing is stuck or doubled, that each change is told once,
    /// that no session, transaction or lock is left behind, and that the books balance.
    pub async fn verify(mut self, api: &str, database_url: &str) {
        let refused: usize = self.seen.iter().map(|seen| seen.refused).sum();
        let failures: usize = self.seen.iter().map(|seen| seen.failures.len()).sum();
        println!(
            "{} changes acknowledged, {refused} refused, {failures} requests failed",
            self.acknowledged()
        );
        let wrong: Vec<_> = self.seen.iter().flat_map(|seen| &seen.wrong).collect();
        assert!(wrong.is_empty(), "contradicting answers: {wrong:#?}");

        let database = session(database_url).await;
        crate::eventually("all sagas have ended", async || {
            unfinished(&database).await.is_empty()
        })
        .await;
        self.settle(api).await;
        let mut there = live(&database).await;
        for thing in &self.things {
            let found = there.remove(&(thing.project.clone(), thing.name.clone()));
            match (thing.known, found) {
                (Known::Present, Some((id, settled))) => {
                    assert!(settled, "not settled: {thing:?}");
                    assert!(
                        thing.id.as_ref().is_none_or(|known| *known == id),
                        "{thing:?} is {id}"
                    );
                }
                (Known::Present, None) => panic!("lost: {thing:?}"),
                (Known::Absent, Some((id, _))) => assert!(
                    thing.cut && thing.id.as_ref() != Some(&id),
                    "there as {id}, and should not be: {thing:?}"
                ),
                _ => {}
            }
        }
        assert!(there.is_empty(), "nobody has made these: {there:?}");
        feed::published(&database).await;
        let mut follower = Follower::default();
        while follower.page(api, 100).await {}
        let extent = "SELECT purged_sequence FROM event_feed";
        let purged: i64 = database.query_one(extent, &[]).await.unwrap().get(0);
        follower.assert_whole(usize::try_from(purged).unwrap());
        quiet::settles(&database).await;
        let most = i64::from(WRITE_POOL_SIZE_DEFAULT + READ_POOL_SIZE_DEFAULT + LEASE_SESSIONS);
        for (process, sessions) in quiet::sessions(&database).await {
            assert!(sessions <= most, "{process} has {sessions} sessions");
        }
        assert_balanced(database_url).await;
    }

    /// Asks how accepted operations ended.
    async fn settle(&mut self, api: &str) {
        let client = process::client();
        for thing in &mut self.things {
            let (Known::Creating(operation) | Known::Deleting(operation)) = thing.known else {
                continue;
            };
            let request = client.get(format!("{api}/v1/operations/{operation}"));
            let answer = crate::Answer::read(request.send().await.unwrap()).await;
            let succeeded = match answer.body["state"].as_str() {
                Some("succeeded") => true,
                Some("failed") => false,
                _ => panic!("{thing:?} has not ended: {answer:?}"),
            };
            thing.ended(succeeded);
        }
    }
}

/// What there is, by project and name: the id, and whether nothing is under way with it. Fails on a
/// name that is there twice.
async fn live(database: &Client) -> BTreeMap<(Option<String>, String), (String, bool)> {
    let sql = "SELECT NULL AS project, name, id, state = 'active' FROM project WHERE time_deleted IS NULL \
        UNION ALL SELECT p.name, i.name, i.id, i.state = 'stopped' \
        FROM instance i JOIN project p ON p.id = i.project_id WHERE i.time_deleted IS NULL";
    let mut there = BTreeMap::new();
    for row in database.query(sql, &[]).await.unwrap() {
        let key: (Option<String>, String) = (row.get(0), row.get(1));
        let id: Uuid = row.get(2);
        let before = there.insert(key.clone(), (id.to_string(), row.get(3)));
        assert_eq!(before, None, "twice: {key:?}");
    }
    there
}

/// A plain session for looking and meddling, without the service's time limits.
pub async fn session(database_url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await.unwrap();
    // Cut by some of the tests.
    tokio::spawn(async move { connection.await.ok() });
    client
}

/// The sagas that have not ended.
pub async fn unfinished(database: &Client) -> Vec<Uuid> {
    let sql = "SELECT id FROM saga WHERE time_finished IS NULL";
    let rows = database.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Counters equal rows, there is no orphan, no saga is stuck.
pub async fn assert_balanced(database_url: &str) {
    let options = ConnectOptions::parse(database_url).unwrap();
    let one = PoolOptions {
        write_size: 1,
        read_size: 1,
        wait: Duration::from_secs(10),
        audit: false,
    };
    let report = books::check(&WritePool::new(options, &one)).await.unwrap();
    assert!(report.balanced(), "the books do not balance: {report:#?}");
    let stuck = "SELECT count(*) FROM saga WHERE state = 'stuck'";
    let stuck: i64 = session(database_url)
        .await
        .query_one(stuck, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(stuck, 0, "sagas are stuck");
    feed::assert_true(&session(database_url).await).await;
}
