//! A node: what it is told, what it may do, and for how long.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use db_model::batch::Batch;
use db_model::constraint::Refusal;
use db_model::query::Change;
use db_model::types::limits::{
    BATCH_DEADLINE, NODE_ATTEMPTS_MAX, NODE_CALL_TIMEOUT, NODE_COMPUTE_TIMEOUT, NODE_RETRY_PAUSE,
    NODE_RETRY_PAUSE_MAX, UNDO_ATTEMPTS_MAX,
};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What a node may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Computes, and has no effect at all.
    Pure,
    /// Gives one batch, which is its effect: that happens exactly once.
    Db,
    /// Calls out. Its effect happens at least once, under a key that tells the repeats.
    External,
}

impl Kind {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Db => "db",
            Self::External => "external",
        }
    }
}

/// The name of a node together with the type of its output.
pub struct NodeKey<T> {
    pub(super) name: &'static str,
    output: PhantomData<fn() -> T>,
}

impl<T> NodeKey<T> {
    /// A key; names are unique in a saga.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            output: PhantomData,
        }
    }
}

impl<T> Clone for NodeKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for NodeKey<T> {}

/// What the nodes that ran before have given, by name.
#[derive(Clone, Default)]
pub(crate) struct Outputs {
    pub all: Arc<BTreeMap<String, Value>>,
    /// The subsaga that the reader is in, as the prefix of its nodes' names.
    pub scope: Arc<str>,
}

impl Outputs {
    fn get<T: DeserializeOwned>(&self, key: NodeKey<T>) -> Result<T, NodeError> {
        let name = format!("{}{}", self.scope, key.name);
        let value = self
            .all
            .get(&name)
            .ok_or_else(|| NodeError::Corrupt(format!("node {name} has given nothing")))?;
        T::deserialize(value)
            .map_err(|error| NodeError::Corrupt(format!("the output of node {name}: {error}")))
    }
}

impl fmt::Debug for Outputs {
    /// Names only: outputs may hold what nobody but the saga should read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.all.keys()).finish()
    }
}

/// What a pure or db node's function sees: the parameters, who writes and when, and what earlier nodes
/// gave.
#[derive(Debug)]
pub struct Context<'a, P> {
    /// The parameters.
    pub params: &'a P,
    /// The saga as the author of changes, at the time drawn for this node.
    pub change: Change,
    pub(super) outputs: &'a Outputs,
}

impl<P> Context<'_, P> {
    /// What an earlier node gave.
    ///
    /// # Errors
    /// [`NodeError::Corrupt`], when the node has not run or its record does not read as its type.
    pub fn output<T: DeserializeOwned>(&self, key: NodeKey<T>) -> Result<T, NodeError> {
        self.outputs.get(key)
    }
}

/// What an external node's function sees. The same node of the same saga always has the same key; each
/// take-over raises the token. Whoever is called does what a key asks for once, and nothing for a token
/// below the highest that it has seen: then a call of a process that was declared dead does no harm.
#[derive(Clone, Debug)]
pub struct Call<P> {
    /// The parameters.
    pub params: P,
    /// The saga.
    pub saga_id: Uuid,
    /// The idempotency key: of the saga and the node.
    pub key: String,
    /// The fencing token.
    pub token: i64,
    /// Which try of this process it is, from 1.
    pub attempt: u32,
    pub(crate) outputs: Outputs,
}

impl<P> Call<P> {
    /// What an earlier node gave; in an undo also what the node itself gave, if it got to give something.
    ///
    /// # Errors
    /// Those of [`Context::output`].
    pub fn output<T: DeserializeOwned>(&self, key: NodeKey<T>) -> Result<T, NodeError> {
        self.outputs.get(key)
    }
}

/// Why a node's function gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It refuses, as the database would.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is recorded does not read as what this program writes.
    #[error("{0}")]
    Corrupt(String),
}

/// The classes of errors that policies tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Whoever was called will not do it, today or tomorrow.
    Refused,
    /// It could not be done now, or nobody knows whether it was.
    Unavailable,
    /// It took longer than the node may.
    TimedOut,
    /// The node's function panicked.
    Panicked,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed out",
            Self::Panicked => "panicked",
        })
    }
}

/// Why a call did not do what it was for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What kind of error it is.
    pub class: ErrorClass,
    /// What happened, for a person, without secrets: it is stored and shown.
    pub message: String,
}

impl CallError {
    /// Nothing was done, and nothing will be.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::Refused,
            message: message.into(),
        }
    }

    /// It may have been done or not; another try is worth while.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::Unavailable,
            message: message.into(),
        }
    }
}

impl From<NodeError> for CallError {
    fn from(error: NodeError) -> Self {
        Self::refused(error.to_string())
    }
}

/// For how long and how often a node is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long one try may take: the function of a pure node, the answer to a db node's batch, the call
    /// of an external node.
    pub timeout: Duration,
    /// How often an external or pure node is tried. A db node's batch is sent until the database has
    /// decided.
    pub attempts_max: u32,
    /// How often an undo is tried before it waits for a person.
    pub undo_attempts_max: u32,
    /// The longest pause before the second try. The pause doubles with each, and is drawn anew between
    /// nothing and that: full jitter.
    pub pause: Duration,
    /// The longest pause at all.
    pub pause_max: Duration,
    /// After which errors an external or pure node is tried again. An undo is after all.
    pub retried: &'static [ErrorClass],
}

impl Policy {
    /// What a node of this kind has unless told.
    pub const fn of(kind: Kind) -> Self {
        let (timeout, attempts_max, retried): (_, _, &[ErrorClass]) = match kind {
            Kind::Pure => (NODE_COMPUTE_TIMEOUT, 1, &[]),
            Kind::Db => (BATCH_DEADLINE, 1, &[]),
            Kind::External => (
                NODE_CALL_TIMEOUT,
                NODE_ATTEMPTS_MAX,
                &[ErrorClass::Unavailable, ErrorClass::TimedOut],
            ),
        };
        Self {
            timeout,
            attempts_max,
            undo_attempts_max: UNDO_ATTEMPTS_MAX,
            pause: NODE_RETRY_PAUSE,
            pause_max: NODE_RETRY_PAUSE_MAX,
            retried,
        }
    }

    /// Whether a try that failed so is followed by another.
    pub(crate) fn tries_again(&self, class: ErrorClass, attempt: u32) -> bool {
        attempt < self.attempts_max && self.retried.contains(&class)
    }

    /// The longest pause behind a try.
    pub(crate) fn longest_pause(&self, attempt: u32) -> Duration {
        self.pause
            .saturating_mul(1 << attempt.saturating_sub(1).min(16))
            .min(self.pause_max)
    }
}

/// The function of a pure node.
pub type Pure<P, T> = fn(&Context<'_, P>) -> Result<T, NodeError>;

/// The function of a db node: it computes the one batch that is the node's effect, and the node's
/// output, which must be known before the commit. It has nothing with which to do anything else.
pub type Db<P, T> = fn(&Context<'_, P>) -> Result<(Batch<()>, T), NodeError>;

/// The function of a db node's undo.
pub type DbUndo<P> = fn(&Context<'_, P>) -> Result<Batch<()>, NodeError>;

/// The function of an external node. It may run any number of times, and be cut off anywhere.
pub type External<P, T> = fn(Call<P>) -> BoxFuture<'static, Result<T, CallError>>;

/// The function of an external node's undo. It runs whenever the action may have had an effect, also when
/// that failed, and must leave behind that a late call of the action has none.
pub type ExternalUndo<P> = fn(Call<P>) -> BoxFuture<'static, Result<(), CallError>>;

/// A context before the parameters are read as their type.
#[derive(Clone, Debug)]
pub(crate) struct ErasedContext {
    pub params: Arc<Value>,
    pub change: Change,
    pub outputs: Outputs,
}

impl ErasedContext {
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, NodeError> {
        P::deserialize(&*self.params)
            .map_err(|error| NodeError::Corrupt(format!("the parameters: {error}")))
    }

    pub fn typed<'b, P>(&'b self, params: &'b P) -> Context<'b, P> {
        Context {
            params,
            change: self.change,
            outputs: &self.outputs,
        }
    }
}

pub(crate) type PureWork = Arc<dyn Fn(&ErasedContext) -> Result<Value, NodeError> + Send + Sync>;
pub(crate) type DbWork =
    Arc<dyn Fn(&ErasedContext) -> Result<(Batch<()>, Value), NodeError> + Send + Sync>;
pub(crate) type DbUndoWork =
    Arc<dyn Fn(&ErasedContext) -> Result<Batch<()>, NodeError> + Send + Sync>;
pub(crate) type CallWork =
    Arc<dyn Fn(Call<ErasedContext>) -> BoxFuture<'static, Result<Value, CallError>> + Send + Sync>;
pub(crate) type CallUndoWork =
    Arc<dyn Fn(Call<ErasedContext>) -> BoxFuture<'static, Result<(), CallError>> + Send + Sync>;

/// What a node does.
#[derive(Clone)]
pub(crate) enum Work {
    Pure(PureWork),
    Db(DbWork, Option<DbUndoWork>),
    External(CallWork, CallUndoWork),
}

/// A node as the engine sees it.
#[derive(Clone)]
pub(crate) struct Node {
    /// Unique in the definition: a subsaga's nodes have its name before theirs.
    pub name: String,
    pub work: Work,
    pub policy: Policy,
    /// The prefix of the subsaga that it belongs to; empty outside of one.
    pub scope: Arc<str>,
    /// The node whose output are its parameters; `None` for the saga's own.
    pub params: Option<usize>,
    /// Names of subsagas whose output is this node's.
    pub also: Vec<String>,
}

impl Node {
    pub fn kind(&self) -> Kind {
        match self.work {
            Work::Pure(_) => Kind::Pure,
            Work::Db(..) => Kind::Db,
            Work::External(..) => Kind::External,
        }
    }

    /// Whether a later failure leaves nothing of it.
    pub fn is_undoable(&self) -> bool {
        match self.work {
            Work::Pure(_) | Work::External(..) => true,
            Work::Db(_, ref undo) => undo.is_some(),
        }
    }
}

/// The typed call of an erased one.
pub(super) fn typed_call<P: DeserializeOwned>(
    call: Call<ErasedContext>,
) -> Result<Call<P>, NodeError> {
    Ok(Call {
        params: call.params.params()?,
        saga_id: call.saga_id,
        key: call.key,
        token: call.token,
        attempt: call.attempt,
        outputs: call.params.outputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let policy = Policy {
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
            ..Policy::of(Kind::External)
        };
        let pauses = [1, 2, 3, 4, 5, 40].map(|attempt| policy.longest_pause(attempt).as_millis());
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn only_named_classes_are_tried_again_and_not_for_ever() {
        let policy = Policy::of(Kind::External);
        assert!(policy.tries_again(ErrorClass::TimedOut, 1));
        assert!(policy.tries_again(ErrorClass::Unavailable, NODE_ATTEMPTS_MAX - 1));
        assert!(!policy.tries_again(ErrorClass::Unavailable, NODE_ATTEMPTS_MAX));
        assert!(!policy.tries_again(ErrorClass::Refused, 1));
        assert!(!policy.tries_again(ErrorClass::Panicked, 1));
        assert!(!Policy::of(Kind::Pure).tries_again(ErrorClass::TimedOut, 1));
    }
}
