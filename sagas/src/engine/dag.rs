//! A definition as steno's graph and actions.

use std::sync::Arc;

use serde_json::Value;
use steno::{ActionName, ActionRegistry, DagBuilder, Node, SagaDag, SagaName};

use super::action::{Engine, NodeAction};
use crate::definition::Definition;

/// The graph as steno reads it, the actions that its nodes name, and the id of the node that steno puts
/// before them.
///
/// The parameters are not put into the graph: the run has them, and steno would log and copy them.
///
/// # Errors
/// When the definition is no graph, as with two nodes of one name: a bug in the saga.
pub fn build(definition: &Definition) -> Result<(Value, Arc<ActionRegistry<Engine>>, u32), String> {
    let mut registry = ActionRegistry::new();
    let mut builder = DagBuilder::new(SagaName::new(definition.name));
    for (node, name) in definition.node_names().enumerate() {
        let action = Arc::new(NodeAction {
            node,
            name: ActionName::new(name),
        });
        builder.append(Node::action(name, name, action.as_ref()));
        registry.register(action);
    }
    let dag = builder.build().map_err(|error| error.to_string())?;
    let dag = SagaDag::new(dag, Value::Null);
    let value = serde_json::to_value(&dag).map_err(|error| error.to_string())?;
    // The nodes are numbered as they are appended, then steno's own two.
    let start = u32::try_from(definition.nodes.len()).map_err(|error| error.to_string())?;
    Ok((value, Arc::new(registry), start))
}
