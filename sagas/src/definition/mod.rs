//! What a saga is: parameters, a table of nodes, and what it works on.

mod graph;
mod node;
mod nodes;

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use db_model::query::saga::DEFINITION_HASH_CHARACTERS;
use db_model::types::ResourceKind;
use db_model::types::limits::SAGA_STALLED_AFTER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::engine::dag::Plan;
use crate::testing::Fixture;

pub use node::{
    Call, CallError, Context, Db, DbUndo, ErrorClass, External, ExternalUndo, Kind, NodeError,
    NodeKey, Policy, Pure,
};
pub(crate) use node::{ErasedContext, Node, Outputs, Work};
pub(crate) use nodes::Item;
pub use nodes::Nodes;

/// A saga: one file under `saga/` implements it on a type without values.
pub trait Saga: Send + Sync + 'static {
    /// The name, as `<resource>-<verb>`. It is the file, the operation's kind and the log's word.
    const NAME: &'static str;
    /// What it is told. Stored, so a change of shape is a new variant or an optional field.
    type Params: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// What it gives: the output of its last node. Stored and versioned like the parameters.
    type Output: Serialize + DeserializeOwned + Debug + Send + 'static;
    /// How long nothing may be recorded of it before it counts as stalled.
    const STALLED_AFTER: Duration = SAGA_STALLED_AFTER;

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

/// A saga as the engine and the registry see it.
pub struct Definition {
    /// [`Saga::NAME`].
    pub name: &'static str,
    /// Over the name and the node table: an executor runs only sagas whose hash it has.
    pub hash: String,
    /// [`Saga::STALLED_AFTER`].
    pub stalled_after: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) stages: Vec<Vec<Item>>,
    example: Example,
    plan: OnceLock<Result<Arc<Plan>, String>>,
}

/// [`Saga::example`] and [`Saga::subject`], without their types.
pub type Example = fn(&Fixture) -> Result<(Value, Subject), serde_json::Error>;

/// A table of nodes that is no saga.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("saga {saga}: {what}")]
pub struct DefinitionError {
    saga: &'static str,
    what: String,
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
    ///
    /// # Errors
    /// [`DefinitionError`], when its table breaks a rule of tables.
    pub fn of<S: Saga>() -> Result<Self, DefinitionError> {
        let example = |fixture: &Fixture| {
            let params = S::example(fixture);
            Ok((serde_json::to_value(&params)?, S::subject(&params)))
        };
        Self::new(S::NAME, S::nodes(), S::STALLED_AFTER, example)
    }

    /// A definition for whose table there is no type, such as one that was drawn.
    ///
    /// # Errors
    /// Those of [`Definition::of`].
    pub fn new<P>(
        name: &'static str,
        nodes: Nodes<P>,
        stalled_after: Duration,
        example: Example,
    ) -> Result<Self, DefinitionError> {
        let Nodes { nodes, stages, .. } = nodes;
        check(&nodes, &stages).map_err(|what| DefinitionError { saga: name, what })?;
        Ok(Self {
            name,
            hash: hash(name, &nodes, &stages),
            stalled_after,
            nodes,
            stages,
            example,
            plan: OnceLock::new(),
        })
    }

    /// The names of the nodes, in order; a node's place here is its id in the log.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }

    /// What each node may do, in the same order.
    pub fn node_kinds(&self) -> impl Iterator<Item = Kind> {
        self.nodes.iter().map(Node::kind)
    }

    /// Whether a node has an undo that does something.
    pub fn is_undoable(&self, node: &str) -> bool {
        self.nodes
            .iter()
            .any(|n| n.name == node && n.is_undoable() && n.kind() != Kind::Pure)
    }

    /// Which node runs behind which, as pairs of places, transitive ones left out.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        graph::edges(&self.stages)
    }

    /// The last node, if the saga's end is part of its batch.
    pub(crate) fn ending(&self) -> Option<usize> {
        let last = self.nodes.len().checked_sub(1)?;
        matches!(self.nodes[last].work, Work::Db(..)).then_some(last)
    }

    /// How steno runs it.
    pub(crate) fn plan(&self) -> Result<Arc<Plan>, String> {
        self.plan
            .get_or_init(|| Plan::of(self).map(Arc::new))
            .clone()
    }

    /// [`Saga::example`], without its types.
    ///
    /// # Errors
    /// When the parameters are no JSON: a bug in the saga.
    pub fn example(&self, fixture: &Fixture) -> Result<(Value, Subject), serde_json::Error> {
        (self.example)(fixture)
    }
}

/// The rules of tables.
fn check(nodes: &[Node], stages: &[Vec<Item>]) -> Result<(), String> {
    let last = nodes.len().checked_sub(1).ok_or("it has no nodes")?;
    let mut names = BTreeSet::new();
    for name in nodes.iter().flat_map(|n| n.also.iter().chain([&n.name])) {
        if !names.insert(name) {
            return Err(format!("two nodes are named {name}"));
        }
    }
    for (place, node) in nodes.iter().enumerate() {
        if place != last && !node.is_undoable() {
            let name = &node.name;
            return Err(format!(
                "node {name} has no undo, and another one can fail behind it"
            ));
        }
    }
    if has_one_output(stages) {
        return Ok(());
    }
    Err("a last stage is more than one node, and a saga has one output".to_owned())
}

/// Whether one item stands at the end, in each subsaga too.
fn has_one_output(stages: &[Vec<Item>]) -> bool {
    let of_subsaga = |item: &Item| match item {
        Item::Node(_) => true,
        Item::Subsaga { stages, .. } => has_one_output(stages),
    };
    matches!(stages.last().map(Vec::as_slice), Some([_])) && stages.iter().flatten().all(of_subsaga)
}

/// Over all that a log relies on: which nodes there are, of which kind, and how they depend on each other.
fn hash(name: &str, nodes: &[Node], stages: &[Vec<Item>]) -> String {
    fn add(hash: &mut Sha256, nodes: &[Node], stages: &[Vec<Item>]) {
        for stage in stages {
            if stage.len() > 1 {
                hash.update("\n[");
            }
            for item in stage {
                match item {
                    Item::Node(node) => {
                        hash.update(match &nodes[*node].work {
                            Work::Db(_, Some(_)) => "\n~",
                            Work::Db(_, None) => "\n=",
                            Work::Pure(_) => "\n.",
                            Work::External(..) => "\n!",
                        });
                        hash.update(&nodes[*node].name);
                    }
                    Item::Subsaga { name, stages, .. } => {
                        hash.update("\n(");
                        hash.update(name);
                        add(hash, nodes, stages);
                        hash.update("\n)");
                    }
                }
            }
            if stage.len() > 1 {
                hash.update("\n]");
            }
        }
    }
    let mut sum = Sha256::new();
    sum.update(name);
    add(&mut sum, nodes, stages);
    let mut text: String = sum
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text.truncate(DEFINITION_HASH_CHARACTERS);
    text
}
