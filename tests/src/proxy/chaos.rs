//! Trouble at random: what the next flight of a connection meets, drawn from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How likely a flight is to meet each kind of trouble, from 0 to 1. Delays and pieces come beside the
/// others; of the others, of which each cuts the connection, a flight meets one at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Chaos {
    /// Some of its messages reach the server, perhaps all, then both sides are cut.
    pub cut_flight: f64,
    /// The client gets some messages of the answer, perhaps none, then both sides are cut.
    pub cut_reply: f64,
    /// The server runs it to its end, the client gets nothing of the answer, and both sides are cut.
    pub lose_reply: f64,
    /// It waits, and so does its answer.
    pub delay: f64,
    /// How long, each way.
    pub delay_time: RangeInclusive<Duration>,
    /// It and its answer are sent in pieces, as a network may.
    pub pieces: f64,
    /// Of how many bytes each piece is.
    pub piece_bytes: RangeInclusive<usize>,
    /// Whether simple queries, as those that set a session up, meet trouble too: each is a flight of one
    /// message.
    pub simple: bool,
}

impl Chaos {
    /// No trouble: to be filled in with some, by `..Chaos::none()`.
    #[must_use]
    pub fn none() -> Self {
        Self {
            cut_flight: 0.0,
            cut_reply: 0.0,
            lose_reply: 0.0,
            delay: 0.0,
            delay_time: Duration::ZERO..=Duration::from_millis(10),
            pieces: 0.0,
            piece_bytes: 1..=64,
            simple: false,
        }
    }

    /// Some of everything: of `share` of the flights the connection is cut, as often each way as
    /// another, and as many are late, and as many come in pieces.
    #[must_use]
    pub fn of_everything(share: f64) -> Self {
        Self {
            cut_flight: share / 3.0,
            cut_reply: share / 3.0,
            lose_reply: share / 3.0,
            delay: share,
            pieces: share,
            ..Self::none()
        }
    }
}

/// The chance of one connection. Each has its own, so that what one connection meets does not hang on
/// when the others fly.
pub(super) struct Dice {
    chance: StdRng,
    plan: Chaos,
    /// Messages of the longest flight and of the longest answer so far: a cut falls on any of them.
    longest: [usize; 2],
}

/// How a flight's connection is cut. Each number is of messages that pass before; should there be
/// fewer, it is cut at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Flight(usize),
    Reply(usize),
    LoseReply,
}

/// What one flight meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub cut: Option<Cut>,
    pub delay: Option<Duration>,
    pub piece: Option<usize>,
}

impl Dice {
    /// The dice of a connection by its number.
    pub fn new(seed: u64, number: usize, plan: Chaos) -> Self {
        // Far apart, so that neighbours of one seed are not the connections of another.
        let seed = seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            chance: StdRng::seed_from_u64(seed),
            plan,
            longest: [1, 1],
        }
    }

    /// Whether a simple query meets trouble.
    pub fn simple(&self) -> bool {
        self.plan.simple
    }

    /// Notes how many messages a flight had, up to now.
    pub fn flight_had(&mut self, messages: usize) {
        self.longest[0] = self.longest[0].max(messages);
    }

    /// Notes how many messages an answer had, up to now.
    pub fn reply_had(&mut self, messages: usize) {
        self.longest[1] = self.longest[1].max(messages);
    }

    /// What the next flight meets.
    pub fn draw(&mut self) -> Fate {
        let Chaos {
            cut_flight,
            cut_reply,
            lose_reply,
            ..
        } = self.plan;
        let [flight, reply] = self
            .longest
            .map(|longest| self.chance.random_range(0..=longest));
        let cuts = [
            (cut_flight, Cut::Flight(flight)),
            (cut_reply, Cut::Reply(reply)),
            (lose_reply, Cut::LoseReply),
        ];
        let mut dice: f64 = self.chance.random_range(0.0..1.0);
        let cut = cuts.into_iter().find_map(|(probability, cut)| {
            dice -= probability;
            (dice < 0.0).then_some(cut)
        });
        // Drawn in any case: whether one trouble comes does not change the others.
        let delay = self.chance.random_range(self.plan.delay_time.clone());
        let piece = self.chance.random_range(self.plan.piece_bytes.clone());
        Fate {
            cut,
            delay: self.happens(self.plan.delay).then_some(delay),
            piece: self.happens(self.plan.pieces).then_some(piece.max(1)),
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.chance.random_range(0.0..1.0) < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, number: usize) -> Vec<Fate> {
        let mut dice = Dice::new(seed, number, Chaos::of_everything(0.3));
        dice.flight_had(17);
        (0..1_000).map(|_| dice.draw()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_again_and_each_connection_its_own() {
        assert_eq!(fates(1, 0), fates(1, 0));
        assert_ne!(fates(1, 0), fates(1, 1));
        assert_ne!(fates(1, 0), fates(2, 0));
    }

    #[test]
    fn every_trouble_comes_about_as_often_as_it_should_and_a_cut_anywhere() {
        let fates = fates(7, 0);
        let count = |met: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| met(fate)).count();
        for (often, expected) in [
            (count(&|fate| matches!(fate.cut, Some(Cut::Flight(_)))), 100),
            (count(&|fate| matches!(fate.cut, Some(Cut::Reply(_)))), 100),
            (count(&|fate| fate.cut == Some(Cut::LoseReply)), 100),
            (count(&|fate| fate.delay.is_some()), 300),
            (count(&|fate| fate.piece.is_some()), 300),
        ] {
            assert!(often.abs_diff(expected) < 70, "{often}, not {expected}");
        }
        for place in [0, 17] {
            assert!(
                count(&|fate| fate.cut == Some(Cut::Flight(place))) > 0,
                "{place}"
            );
        }
    }

    #[test]
    fn no_chaos_is_no_trouble() {
        let mut dice = Dice::new(1, 0, Chaos::none());
        assert!((0..100).all(|_| dice.draw() == Fate::default()));
    }
}
