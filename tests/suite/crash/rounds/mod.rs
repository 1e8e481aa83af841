//! Three replicas on one database under load, and round after round something happens to them. A few
//! rounds are an ordinary test; `.ci/slow` runs many. `NEXUS_TEST_SEED` draws the same faults, victims and
//! pauses again.

mod fault;
mod fleet;
mod held;

use super::*;
use db_model::types::limits::{HEARTBEAT_INTERVAL, LEASE};
use fault::{Fault, a_moment, draw};
use fleet::Fleet;
use held::Held;
use nexus_tests::eventually;
use nexus_tests::load::Load;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

const CLIENTS: usize = 6;

/// Rounds when `NEXUS_TEST_ROUNDS` does not say.
const ROUNDS: usize = 3;

/// Within which the sagas of a replica have another owner when its session is gone.
const ADOPTION_MAX: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);

/// What is added to it, for three replicas, their database and their clients share two processors with
/// another test: so long a process may have to wait for its turn.
const SCHEDULING_MAX: Duration = Duration::from_secs(1);

/// What a replica says that finds itself declared dead.
const LOST: &str =
    "nexus: this process has lost its lease and ends: others go on with its operations\n";

/// Three replicas, their clients, and what was measured.
struct Rounds {
    fleet: Fleet,
    load: Load,
    random: StdRng,
    adoptions: Vec<(Fault, Duration)>,
}

impl Rounds {
    async fn round(&mut self, number: usize, fault: Fault) {
        settled(&self.fleet.database).await;
        self.load.goes_on(30).await;
        a_moment(&mut self.random, 0..300).await;
        let victims = fault.victims(&mut self.random);
        println!("round {number}: {fault:?} of {victims:?}");
        let mut held = Held::begin(&self.fleet, &victims).await;
        match fault {
            Fault::KillOne | Fault::KillTwo => self.kill(fault, &victims, &mut held).await,
            Fault::FreezeBeyondLease => self.freeze_beyond_lease(victims[0], &mut held).await,
            Fault::FreezeWithinLease => self.freeze_within_lease(victims[0], &mut held).await,
            Fault::Terminate => self.terminate(victims[0], &mut held).await,
            Fault::RestartDatabase => self.restart_database(&mut held).await,
            Fault::CutConnections => self.cut_connections(victims[0], &mut held).await,
            Fault::Sever => self.sever(victims[0], &mut held).await,
        }
        self.load.goes_on(30).await;
        self.fleet.assert_alive().await;
        let place = self.random.random_range(0..fleet::REPLICAS);
        held.assert_done(&self.fleet.database, &self.fleet.api(place))
            .await;
    }

    async fn kill(&mut self, fault: Fault, victims: &[usize], held: &mut Held) {
        let begun = Instant::now();
        for &victim in victims {
            self.fleet.replicas[victim].process.signal(Signal::KILL);
        }
        for &victim in victims {
            self.fleet.replicas[victim].process.exited().await;
        }
        self.adopted(fault, victims, held, begun, ADOPTION_MAX)
            .await;
        self.fleet.replace(victims, &self.load).await;
    }

    /// Its sessions are there, so only the lease says that it is dead.
    async fn freeze_beyond_lease(&mut self, victim: usize, held: &mut Held) {
        let begun = Instant::now();
        self.fleet.replicas[victim].process.freeze().await;
        let most = LEASE + ADOPTION_MAX;
        self.adopted(Fault::FreezeBeyondLease, &[victim], held, begun, most)
            .await;
        a_moment(&mut self.random, 0..2_000).await;
        self.fleet.replicas[victim].process.signal(Signal::CONT);
        self.loses_its_lease(victim).await;
    }

    async fn freeze_within_lease(&mut self, victim: usize, held: &mut Held) {
        let process = &self.fleet.replicas[victim].process;
        process.freeze().await;
        // A lease is at most one heartbeat old; half of it is left to a busy machine.
        a_moment(&mut self.random, 500..4_000).await;
        process.signal(Signal::CONT);
        self.nobody_takes_over(held).await;
    }

    async fn terminate(&mut self, victim: usize, held: &mut Held) {
        self.load.aim(self.fleet.targets(&[victim]));
        self.fleet.replicas[victim].process.signal(Signal::TERM);
        held.let_go();
        let ended = self.fleet.replicas[victim].process.exited().await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        let dead = self.fleet.executors(&[victim]);
        let left = unfinished_of(&self.fleet.database, &dead).await.len();
        assert_eq!(left, 0, "sagas that could have ended were left to others");
        self.fleet.replace(&[victim], &self.load).await;
    }

    async fn restart_database(&mut self, held: &mut Held) {
        let away = self.fleet.restart_database().await;
        println!("  the database was away for {away:?}");
        self.nobody_takes_over(held).await;
    }

    async fn cut_connections(&mut self, victim: usize, held: &mut Held) {
        let proxy = &self.fleet.replicas[victim].proxy;
        proxy.refuse(true);
        proxy.cut();
        // The others leave it one heartbeat from when they notice; more than half of it is left to come back.
        a_moment(&mut self.random, 0..400).await;
        proxy.refuse(false);
        self.nobody_takes_over(held).await;
    }

    async fn sever(&mut self, victim: usize, held: &mut Held) {
        let begun = Instant::now();
        let proxy = &self.fleet.replicas[victim].proxy;
        proxy.refuse(true);
        proxy.cut();
        self.adopted(Fault::Sever, &[victim], held, begun, ADOPTION_MAX)
            .await;
        a_moment(&mut self.random, 0..2_000).await;
        self.fleet.replicas[victim].proxy.refuse(false);
        self.loses_its_lease(victim).await;
    }

    /// Sees that the sagas of dead replicas get live owners in time. The row that holds some of them is let
    /// go before that or after it.
    async fn adopted(
        &mut self,
        fault: Fault,
        dead: &[usize],
        held: &mut Held,
        begun: Instant,
        most: Duration,
    ) {
        self.load.aim(self.fleet.targets(dead));
        let executors = self.fleet.executors(dead);
        let database = &self.fleet.database;
        let theirs = unfinished_of(database, &executors).await;
        for operation in &held.operations {
            assert!(theirs.contains(operation), "{operation} was not held");
        }
        let early = self.random.random_bool(0.5);
        if early {
            held.let_go();
        }
        eventually("the sagas of the dead have live owners", async || {
            without_live_owner(database, &executors).await == 0
        })
        .await;
        let took = begun.elapsed();
        held.let_go();
        println!(
            "  {} sagas were theirs, with live owners after {took:?}; let go {}",
            theirs.len(),
            if early { "before" } else { "after" }
        );
        assert!(took < most + SCHEDULING_MAX, "{took:?}, not {most:?}");
        self.adoptions.push((fault, took));
        declared_dead(database, &executors).await;
        ended(database, &theirs, begun).await;
    }

    /// Sees that a replica that was declared dead finds that out and ends, and starts another.
    async fn loses_its_lease(&mut self, victim: usize) {
        let ended = self.fleet.replicas[victim].process.exited().await;
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), LOST));
        self.fleet.replace(&[victim], &self.load).await;
    }

    /// Sees that every replica outlives what has happened, for as long as it may take the others to declare
    /// one dead, and ends its sagas itself.
    async fn nobody_takes_over(&mut self, held: &mut Held) {
        self.fleet.all_renew_their_leases(ADOPTION_MAX).await;
        held.let_go();
        let database = &self.fleet.database;
        ended(database, &held.operations, Instant::now()).await;
        assert_eq!(held.taken_over(database).await, 0, "taken over");
    }
}

/// The sagas of some executors that have not ended.
async fn unfinished_of(database: &Client, executors: &[Uuid]) -> Vec<Uuid> {
    let sql = "SELECT id FROM saga WHERE executor_id = ANY($1) AND time_finished IS NULL";
    let rows = database.query(sql, &[&executors]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// How many sagas have not ended and belong to nobody who lives; these executors do not.
async fn without_live_owner(database: &Client, dead: &[Uuid]) -> i64 {
    let sql = "SELECT count(*) FROM saga s WHERE s.time_finished IS NULL AND NOT EXISTS (\
               SELECT 1 FROM executor e WHERE e.id = s.executor_id AND e.time_ended IS NULL \
               AND e.id <> ALL($1))";
    let row = database.query_one(sql, &[&dead]).await.unwrap();
    row.get(0)
}

/// Waits until these executors are declared dead, and sees that their leases had run out then. Their sagas
/// may be taken over a moment before, when a lease runs out just then.
async fn declared_dead(database: &Client, executors: &[Uuid]) {
    let count = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM executor WHERE id = ANY($1) AND {condition}");
        let row = database.query_one(&sql, &[&executors]).await.unwrap();
        row.get::<_, i64>(0)
    };
    eventually("the dead are declared dead", async || {
        count("time_ended IS NULL").await == 0
    })
    .await;
    let early = count("time_ended < time_lease_expires").await;
    assert_eq!(early, 0, "declared dead before the lease ran out");
}

/// How many rounds there are to be.
fn rounds() -> usize {
    let rounds = match std::env::var("NEXUS_TEST_ROUNDS") {
        Ok(text) => text.parse().expect("NEXUS_TEST_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    assert!(rounds > 0, "no round shows nothing");
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_lose_nothing_and_each_goes_on_in_time_for_a_dead_one() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let faults = draw(rounds(), &mut random);
    let fleet = Fleet::start().await;
    held::prepare(&fleet.api(0)).await;
    let load = Load::start(seed, CLIENTS, fleet.targets(&[]));
    let mut rounds = Rounds {
        fleet,
        load,
        random,
        adoptions: Vec::new(),
    };
    for (number, fault) in faults.into_iter().enumerate() {
        rounds.round(number + 1, fault).await;
    }
    let Rounds {
        fleet,
        load,
        adoptions,
        ..
    } = rounds;
    for (fault, took) in &adoptions {
        println!("{fault:?}: {took:?}");
    }
    let history = load.stop().await;
    held::clear(&fleet.api(0)).await;
    history.verify(&fleet.api(1), &fleet.url()).await;
    fleet.stop().await;
}
