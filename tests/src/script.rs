//! A probe that follows a script: it notes every point that a saga passes, and interferes at some.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use sagas::probe::{Commit, Point, Probe, Side, Verdict};

/// What is done at one point, the first time it is passed, or each time.
#[derive(Clone, Debug)]
pub struct Cue {
    /// What is committed.
    pub commit: Commit,
    /// The node or event, as [`Point::what`] has it.
    pub what: String,
    /// On which side.
    pub side: Side,
    /// What is done.
    pub verdict: Verdict,
    /// Only the first time.
    pub once: bool,
}

impl Cue {
    /// Fails a node each time it is about to run.
    pub fn fail(node: &str) -> Self {
        let (commit, side) = (Commit::Action, Side::Before);
        Self {
            commit,
            what: node.to_owned(),
            side,
            verdict: Verdict::Fail,
            once: false,
        }
    }

    /// Tells a node that it failed, once, after its effect has committed.
    pub fn fail_after(node: &str) -> Self {
        Self {
            side: Side::After,
            once: true,
            ..Self::fail(node)
        }
    }

    /// Runs a node's action, or its undo, once more after it has committed.
    pub fn repeat(commit: Commit, node: &str) -> Self {
        let side = Side::After;
        Self {
            commit,
            what: node.to_owned(),
            side,
            verdict: Verdict::Repeat,
            once: true,
        }
    }

    /// Halts the saga at a point that another run passed.
    pub fn halt(point: &Point) -> Self {
        Self {
            commit: point.commit,
            what: point.what.clone(),
            side: point.side,
            verdict: Verdict::Halt,
            once: true,
        }
    }

    fn is_at(&self, point: &Point) -> bool {
        (self.commit, self.side) == (point.commit, point.side) && self.what == point.what
    }
}

/// Cues that are still to come, and the points that were passed.
#[derive(Debug, Default)]
pub struct Script {
    cues: Mutex<Vec<Cue>>,
    passed: Mutex<Vec<Point>>,
    halted: AtomicBool,
}

impl Script {
    /// Replaces the cues, and forgets what was passed.
    pub fn set(&self, cues: Vec<Cue>) {
        *self.cues.lock().unwrap() = cues;
        self.passed.lock().unwrap().clear();
        self.halted.store(false, Ordering::Relaxed);
    }

    /// Whether a saga was halted since the cues were set.
    pub fn halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// The points that were passed since the cues were set, in order.
    pub fn passed(&self) -> Vec<Point> {
        self.passed.lock().unwrap().clone()
    }
}

impl Probe for Script {
    fn at(&self, point: &Point) -> Verdict {
        self.passed.lock().unwrap().push(point.clone());
        let mut cues = self.cues.lock().unwrap();
        let Some(place) = cues.iter().position(|cue| cue.is_at(point)) else {
            return Verdict::Continue;
        };
        let verdict = cues[place].verdict;
        if cues[place].once {
            cues.remove(place);
        }
        if verdict == Verdict::Halt {
            self.halted.store(true, Ordering::Relaxed);
        }
        verdict
    }
}
