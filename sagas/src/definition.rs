//! What a saga is: parameters, a table of nodes, and what it works on.

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;

use db_model::batch::Batch;
use db_model::constraint::Refusal;
use db_model::query::Change;
use db_model::types::ResourceKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::testing::Fixture;

/// A saga: one file under `saga/` implements it on a type without values.
pub trait Saga: Send + Sync + 'static {
    /// The name, as `<resource>-<verb>`. It is the file, the operation's kind and the log's word.
    const NAME: &'static str;
    /// What it is told. Stored, so a change of shape is a new variant or an optional field.
    type Params: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// What it gives: the output of its last node. Stored and versioned like the parameters.
    type Output: Serialize + DeserializeOwned + Debug + Send + 'static;

    /// The nodes, in order.
    fn nodes() -> Nodes<Self::Params>;

    /// What it works on.
    fn subject(params: &Self::Params) -> Subject;

    /// Parameters that succeed on the replay suite's fixture. That it is required is what makes the
    /// suite cover every saga.
    fn example(fixture: &Fixture) -> Self::Params;
}

/// What a saga works on, as lists of operations show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The project that it works in or on.
    pub project_id: Option<Uuid>,
    /// The kind of resource.
    pub kind: ResourceKind,
    /// The resource's id.
    pub id: Uuid,
    /// The resource's name.
    pub name: String,
}

/// The name of a node together with the type of its output.
pub struct NodeKey<T> {
    name: &'static str,
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

/// What a node's function sees: the parameters, who writes and when, and what earlier nodes gave.
#[derive(Debug)]
pub struct Context<'a, P> {
    /// The parameters.
    pub params: &'a P,
    /// The saga as the author of changes, at the time drawn for this node.
    pub change: Change,
    outputs: &'a [(&'static str, Value)],
}

impl<P> Context<'_, P> {
    /// What an earlier node gave.
    ///
    /// # Errors
    /// [`NodeError::Corrupt`], when the node has not run or its record does not read as its type.
    pub fn output<T: DeserializeOwned>(&self, key: NodeKey<T>) -> Result<T, NodeError> {
        let record = self.outputs.iter().find(|(name, _)| *name == key.name);
        let (_, value) = record
            .ok_or_else(|| NodeError::Corrupt(format!("node {} has given nothing", key.name)))?;
        serde_json::from_value(value.clone()).map_err(|error| {
            NodeError::Corrupt(format!("the output of node {}: {error}", key.name))
        })
    }
}

/// Why a node's function gives no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It refuses, as the database would.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is recorded does not read as what this program writes.
    #[error("{0}")]
    Corrupt(String),
}

/// The function of a db node: it computes the one batch that is the node's effect, and the node's
/// output, which must be known before the commit. It has nothing with which to do anything else.
pub type Action<P, T> = fn(&Context<'_, P>) -> Result<(Batch<()>, T), NodeError>;

/// The function of a db node's undo.
pub type Undo<P> = fn(&Context<'_, P>) -> Result<Batch<()>, NodeError>;

type ErasedAction =
    Arc<dyn Fn(&ErasedContext<'_>) -> Result<(Batch<()>, Value), NodeError> + Send + Sync>;
type ErasedUndo = Arc<dyn Fn(&ErasedContext<'_>) -> Result<Batch<()>, NodeError> + Send + Sync>;

/// The table of a saga's nodes, in order.
pub struct Nodes<P> {
    nodes: Vec<Node>,
    params: PhantomData<fn(P)>,
}

impl<P: DeserializeOwned + 'static> Nodes<P> {
    /// No nodes yet.
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            params: PhantomData,
        }
    }

    /// Adds a node that is undone by `undo` when a later one fails.
    pub fn node<T: Serialize + 'static>(
        self,
        key: NodeKey<T>,
        action: Action<P, T>,
        undo: Undo<P>,
    ) -> Self {
        let undo: ErasedUndo = Arc::new(move |context: &ErasedContext<'_>| {
            let params = context.params::<P>()?;
            undo(&context.typed(&params))
        });
        self.push(key, action, Some(undo))
    }

    /// Adds the last node, which has no undo: nothing can fail after it.
    pub fn last<T: Serialize + 'static>(self, key: NodeKey<T>, action: Action<P, T>) -> Self {
        self.push(key, action, None)
    }

    fn push<T: Serialize + 'static>(
        mut self,
        key: NodeKey<T>,
        action: Action<P, T>,
        undo: Option<ErasedUndo>,
    ) -> Self {
        let action = Arc::new(move |context: &ErasedContext<'_>| {
            let params = context.params::<P>()?;
            let (batch, output) = action(&context.typed(&params))?;
            let output = serde_json::to_value(output)
                .map_err(|error| NodeError::Corrupt(format!("an output is no JSON: {error}")))?;
            Ok((batch, output))
        });
        self.nodes.push(Node {
            name: key.name,
            action,
            undo,
        });
        self
    }
}

impl<P: DeserializeOwned + 'static> Default for Nodes<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// A node as the engine sees it.
#[derive(Clone)]
pub(crate) struct Node {
    pub name: &'static str,
    pub action: ErasedAction,
    pub undo: Option<ErasedUndo>,
}

/// A context before the parameters are read as their type.
pub(crate) struct ErasedContext<'a> {
    pub params: &'a Value,
    pub change: Change,
    pub outputs: &'a [(&'static str, Value)],
}

impl ErasedContext<'_> {
    fn params<P: DeserializeOwned>(&self) -> Result<P, NodeError> {
        serde_json::from_value(self.params.clone())
            .map_err(|error| NodeError::Corrupt(format!("the parameters: {error}")))
    }

    fn typed<'b, P>(&'b self, params: &'b P) -> Context<'b, P> {
        Context {
            params,
            change: self.change,
            outputs: self.outputs,
        }
    }
}

/// A saga as the engine and the registry see it.
pub struct Definition {
    /// [`Saga::NAME`].
    pub name: &'static str,
    /// Over the name and the node table: an executor runs only sagas whose hash it has.
    pub hash: String,
    pub(crate) nodes: Vec<Node>,
    example: fn(&Fixture) -> Result<(Value, Subject), serde_json::Error>,
}

impl fmt::Debug for Definition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Definition")
            .field("name", &self.name)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl Definition {
    /// The definition of a saga.
    pub fn of<S: Saga>() -> Self {
        let nodes = S::nodes().nodes;
        let mut hash = Sha256::new();
        hash.update(S::NAME);
        for node in &nodes {
            hash.update(if node.undo.is_some() { "\n~" } else { "\n=" });
            hash.update(node.name);
        }
        let hash = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let example = |fixture: &Fixture| {
            let params = S::example(fixture);
            Ok((serde_json::to_value(&params)?, S::subject(&params)))
        };
        Self {
            name: S::NAME,
            hash,
            nodes,
            example,
        }
    }

    /// The names of the nodes, in order; a node's place here is its id in the log.
    pub fn node_names(&self) -> impl Iterator<Item = &'static str> {
        self.nodes.iter().map(|node| node.name)
    }

    /// Whether a node has an undo.
    pub fn is_undoable(&self, node: &str) -> bool {
        self.nodes
            .iter()
            .any(|n| n.name == node && n.undo.is_some())
    }

    /// [`Saga::example`], without its types.
    ///
    /// # Errors
    /// When the parameters are no JSON: a bug in the saga.
    pub fn example(&self, fixture: &Fixture) -> Result<(Value, Subject), serde_json::Error> {
        (self.example)(fixture)
    }
}
