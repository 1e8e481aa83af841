//! What happens to three replicas, and in which order.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::fleet::REPLICAS;

/// What happens in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of one.
    KillOne,
    /// SIGKILL of two at once.
    KillTwo,
    /// SIGSTOP of one until long after its lease, then SIGCONT.
    FreezeBeyondLease,
    /// SIGSTOP of one, and SIGCONT while its lease runs.
    FreezeWithinLease,
    /// SIGTERM of one.
    Terminate,
    /// The database ends at once and comes back.
    RestartDatabase,
    /// One loses its connections, and may connect again within a heartbeat.
    CutConnections,
    /// One loses its connections, and reaches the database only after it has lost its lease.
    Sever,
}

/// Each fault once.
const ALL: [Fault; 8] = [
    Fault::KillOne,
    Fault::KillTwo,
    Fault::FreezeBeyondLease,
    Fault::FreezeWithinLease,
    Fault::Terminate,
    Fault::RestartDatabase,
    Fault::CutConnections,
    Fault::Sever,
];

impl Fault {
    /// Which of the replicas meet it.
    pub fn victims(self, random: &mut StdRng) -> Vec<usize> {
        let mut places: Vec<usize> = (0..REPLICAS).collect();
        places.shuffle(random);
        places.truncate(if self == Self::KillTwo { 2 } else { 1 });
        places
    }
}

/// Faults for so many rounds: every one comes before one comes again.
pub fn draw(rounds: usize, random: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    while faults.len() < rounds {
        let mut all = ALL;
        all.shuffle(random);
        faults.extend(all);
    }
    faults.truncate(rounds);
    faults
}

/// A moment of the round's own choice.
pub async fn a_moment(random: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    let pause = std::time::Duration::from_millis(random.random_range(milliseconds));
    tokio::time::sleep(pause).await;
}

#[test]
fn every_fault_comes_before_one_comes_again() {
    use rand::SeedableRng;
    let faults = draw(20, &mut StdRng::seed_from_u64(1));
    assert_eq!(faults.len(), 20);
    for turn in faults[..16].chunks(ALL.len()) {
        assert!(ALL.iter().all(|fault| turn.contains(fault)), "{turn:?}");
    }
    assert_eq!(draw(20, &mut StdRng::seed_from_u64(1)), faults);
    assert_ne!(draw(20, &mut StdRng::seed_from_u64(2)), faults);
}
