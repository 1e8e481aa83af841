//! A definition as steno's graph and actions, and what its numbers mean.
//!
//! An external node is two of steno's: a guard that does nothing, and behind it the call. steno does not
//! undo a node that failed, but what stands before it; so the guard's undo is the node's, and runs also
//! when the call failed after it may have had an effect. A subsaga's parameters are computed in front of
//! it, in the same place. Where such helpers stand in one stage, they go into a stage before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use steno::{ActionName, ActionRegistry, DagBuilder, Node, SagaDag, SagaName};

use super::action::{Engine, NodeAction, Part};
use crate::definition::{Definition, Item, Work};

/// How steno runs a definition.
#[derive(Debug)]
pub struct Plan {
    /// The graph as steno reads it.
    ///
    /// The parameters are not in it: the run has them, and steno would log and copy them.
    pub dag: Value,
    /// The actions that its nodes name.
    pub actions: Arc<ActionRegistry<Engine>>,
    /// Of each of steno's nodes, by its number: what it is to us, and which stand directly before it.
    pub nodes: Vec<Place>,
}

/// One of steno's nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Our node, and which part of it; `None` for what steno puts around graphs.
    pub part: Option<(usize, Part)>,
    /// The numbers of those directly before it.
    pub before: Vec<usize>,
}

/// The part of steno's stored form of a graph that is read here: it is what steno recovers from.
#[derive(Deserialize)]
struct Stored {
    graph: Graph,
}

#[derive(Deserialize)]
struct Graph {
    nodes: Vec<Value>,
    edges: Vec<(usize, usize, Value)>,
}

impl Plan {
    /// Plans a definition.
    ///
    /// # Errors
    /// What steno has against it: a bug in the saga.
    pub fn of(definition: &Definition) -> Result<Self, String> {
        let mut planner = Planner {
            definition,
            actions: ActionRegistry::new(),
        };
        let name = SagaName::new(definition.name);
        let dag = planner.build(name, &definition.stages)?;
        let dag = serde_json::to_value(SagaDag::new(dag, Value::Null)).map_err(text)?;
        let stored = Stored::deserialize(&dag).map_err(text)?;
        let parts = parts(definition);
        let mut nodes: Vec<Place> = stored
            .graph
            .nodes
            .iter()
            .map(|node| Place {
                // The name of an action is given to it alone.
                part: node["Action"]["action_name"]
                    .as_str()
                    .and_then(|name| parts.get(name).copied()),
                before: Vec::new(),
            })
            .collect();
        for (from, to, _) in stored.graph.edges {
            nodes
                .get_mut(to)
                .ok_or("an edge to nowhere")?
                .before
                .push(from);
        }
        let found = nodes.iter().filter(|place| place.part.is_some()).count();
        if found != parts.len() {
            return Err(format!(
                "{found} of {} nodes are in steno's graph",
                parts.len()
            ));
        }
        Ok(Self {
            dag,
            actions: Arc::new(planner.actions),
            nodes,
        })
    }
}

struct Planner<'a> {
    definition: &'a Definition,
    actions: ActionRegistry<Engine>,
}

impl Planner<'_> {
    fn build(&mut self, name: SagaName, stages: &[Vec<Item>]) -> Result<steno::Dag, String> {
        let mut builder = DagBuilder::new(name);
        for stage in stages {
            let (mut helpers, mut nodes) = (Vec::new(), Vec::new());
            for item in stage {
                match item {
                    Item::Node(node) => {
                        if matches!(self.definition.nodes[*node].work, Work::External(..)) {
                            helpers.push(self.node(*node, Part::Guard));
                        }
                        nodes.push(self.node(*node, Part::Whole));
                    }
                    Item::Subsaga {
                        name,
                        params,
                        stages,
                    } => {
                        helpers.push(self.node(*params, Part::Whole));
                        let inner = self.build(SagaName::new(name), stages)?;
                        let params = &self.definition.nodes[*params].name;
                        nodes.push(Node::subsaga(name, inner, params));
                    }
                }
            }
            if !helpers.is_empty() {
                builder.append_parallel(helpers);
            }
            builder.append_parallel(nodes);
        }
        builder.build().map_err(text)
    }

    fn node(&mut self, node: usize, part: Part) -> Node {
        let name = action_name(&self.definition.nodes[node].name, part);
        let action = Arc::new(NodeAction {
            node,
            part,
            name: ActionName::new(&name),
        });
        // A subsaga's parameters are looked up by the node's name, which is the whole one's.
        let built = Node::action(&name, &name, action.as_ref());
        self.actions.register(action);
        built
    }
}

fn action_name(node: &str, part: Part) -> String {
    match part {
        Part::Whole => node.to_owned(),
        // No node is named so: names are words and dots.
        Part::Guard => format!("{node} (guard)"),
    }
}

fn parts(definition: &Definition) -> BTreeMap<String, (usize, Part)> {
    let mut parts = BTreeMap::new();
    for (place, node) in definition.nodes.iter().enumerate() {
        parts.insert(action_name(&node.name, Part::Whole), (place, Part::Whole));
        if matches!(node.work, Work::External(..)) {
            parts.insert(action_name(&node.name, Part::Guard), (place, Part::Guard));
        }
    }
    parts
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
