//! Three replicas on one database of the test's own, each behind a network of its own.

use super::super::*;
use chrono::{DateTime, Utc};
use db_model::embedded::{self, Embedded, EmbeddedOptions};
use db_model::types::limits::EMBEDDED_CONNECTIONS_MAX;
use nexus_tests::eventually;
use nexus_tests::folder::{DataFolder, signal};
use nexus_tests::history::session;
use nexus_tests::load::Load;
use nexus_tests::process::{Process, Program};
use nexus_tests::proxy::Proxy;
use rustix::process::Signal;

pub const REPLICAS: usize = 3;

/// One of the three: a process, and the executor as which the others know it.
pub struct Replica {
    pub process: Process,
    pub executor: Uuid,
    /// Its network. A new process in the place of a dead one has the same.
    pub proxy: Proxy,
}

impl Replica {
    async fn start(proxy: Proxy, database: &Client) -> Self {
        let process = Program::server_on(proxy.url()).start().await;
        // The number of a process may be given to another; the newest is meant.
        let newest = "SELECT id FROM executor WHERE pid = $1 ORDER BY time_started DESC LIMIT 1";
        let pid = i64::from(process.pid());
        let row = database.query_one(newest, &[&pid]).await.unwrap();
        Self {
            executor: row.get(0),
            process,
            proxy,
        }
    }
}

/// All three, and their database, which none of them may start or stop.
pub struct Fleet {
    pub replicas: Vec<Replica>,
    /// A session for looking.
    pub database: Client,
    folder: DataFolder,
    server: Embedded,
}

impl Fleet {
    pub async fn start() -> Self {
        let folder = DataFolder::new().await;
        let options = EmbeddedOptions {
            max_connections: EMBEDDED_CONNECTIONS_MAX,
            ..folder.options()
        };
        let server = embedded::start(options).await.unwrap();
        let database = session(&server.url()).await;
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            let proxy = Proxy::start(&server.url()).await.unwrap();
            replicas.push(Replica::start(proxy, &database).await);
        }
        Self {
            replicas,
            database,
            folder,
            server,
        }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where the replicas are, but for some.
    pub fn targets(&self, without: &[usize]) -> Vec<String> {
        let with = |place: &usize| !without.contains(place);
        let places = (0..REPLICAS).filter(with);
        places.map(|place| self.api(place)).collect()
    }

    pub fn api(&self, place: usize) -> String {
        self.replicas[place].process.api()
    }

    pub fn executors(&self, places: &[usize]) -> Vec<Uuid> {
        let executor = |place: &usize| self.replicas[*place].executor;
        places.iter().map(executor).collect()
    }

    /// Starts new processes in the place of some that have ended, and sends the clients to all.
    pub async fn replace(&mut self, places: &[usize], load: &Load) {
        for &place in places {
            assert!(self.replicas[place].process.has_exited());
            let dead = self.replicas.remove(place);
            let replica = Replica::start(dead.proxy, &self.database).await;
            self.replicas.insert(place, replica);
        }
        load.aim(self.targets(&[]));
    }

    /// Ends the database at once, as a crash of it does, and starts it again. Gives how long it was away.
    pub async fn restart_database(&mut self) -> Duration {
        let begun = Instant::now();
        signal(self.folder.server().unwrap(), Signal::QUIT);
        eventually("the database has gone", async || {
            self.folder.server().is_none()
        })
        .await;
        self.server.revive().await.unwrap();
        let away = begun.elapsed();
        self.database = session(&self.url()).await;
        away
    }

    /// Sees that every process lives, is ready, and is alive to the others too.
    pub async fn assert_alive(&mut self) {
        for replica in &mut self.replicas {
            assert!(
                !replica.process.has_exited(),
                "{}",
                replica.process.stderr()
            );
            replica.process.ready().await;
        }
        let live = "SELECT count(*) FROM executor WHERE id = ANY($1) AND time_ended IS NULL";
        let executors = self.executors(&[0, 1, 2]);
        let row = self.database.query_one(live, &[&executors]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 3, "a live replica was declared dead");
    }

    /// Waits until every executor has renewed its lease at a time that is so much later than now, all by the
    /// database's clock. Fails when one is declared dead meanwhile.
    pub async fn all_renew_their_leases(&mut self, later: Duration) {
        self.assert_alive().await;
        let then = "SELECT clock_timestamp() + make_interval(secs => $1)";
        let row = self.database.query_one(then, &[&later.as_secs_f64()]).await;
        let then: DateTime<Utc> = row.unwrap().get(0);
        let executors = self.executors(&[0, 1, 2]);
        let decided = "SELECT count(*) FROM executor WHERE id = ANY($1) \
                       AND (time_ended IS NOT NULL OR time_heartbeat > $2)";
        eventually("every replica renews its lease", async || {
            let row = self.database.query_one(decided, &[&executors, &then]).await;
            row.unwrap().get::<_, i64>(0) == 3
        })
        .await;
        self.assert_alive().await;
    }

    pub async fn stop(self) {
        for mut replica in self.replicas {
            replica.process.terminate().await;
        }
        self.server.stop().await.unwrap();
    }
}
