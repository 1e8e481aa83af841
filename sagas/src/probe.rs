//! Probes: how a test watches a saga's commits and interferes with them.
//!
//! The engine asks its probe before and after each commit. The probe of production says `Continue`
//! and costs a virtual call; the suites repeat, fail and halt sagas at every point of their way.

use std::fmt::Debug;

use uuid::Uuid;

/// What is about to be committed, or just was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Commit {
    /// A node's action with its event.
    Action,
    /// A node's undo with its event.
    Undo,
    /// An event alone: a failure, or the begin or end of an undo that has no batch.
    Event,
    /// The end of the saga.
    Finish,
}

/// Before or after the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Nothing is sent yet.
    Before,
    /// It is durable, and nobody has heard of it yet.
    After,
}

/// A point on the way of a saga.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// The saga.
    pub saga_id: Uuid,
    /// What is committed.
    pub commit: Commit,
    /// The node, and for events the kind: `insert`, `insert/failed`. Empty for the end of the saga.
    pub what: String,
    /// On which side of the commit.
    pub side: Side,
}

/// What the engine is to do at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Stop this saga here, as if the process had died.
    Halt,
    /// Before an action: fail the node instead of running it. After it: the node is told that it failed
    /// though its effect is there, as when a reply is lost and a later try is refused.
    Fail,
    /// After an action or undo: run it once more.
    Repeat,
}

/// Watches and interferes.
pub trait Probe: Debug + Send + Sync {
    /// Decides at a point.
    fn at(&self, point: &Point) -> Verdict;
}

/// The probe of production.
#[derive(Debug)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn at(&self, _point: &Point) -> Verdict {
        Verdict::Continue
    }
}
