//! The table of a saga's nodes: one after another, side by side, and sagas inside of sagas.

use std::marker::PhantomData;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::ready;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::{
    Call, CallError, Db, DbUndo, DbUndoWork, ErasedContext, External, ExternalUndo, Node,
    NodeError, NodeKey, Policy, Pure, Work, typed_call,
};

/// What runs in one place of a stage.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The node at a place of the table.
    Node(usize),
    /// A subsaga.
    Subsaga {
        name: String,
        /// The node whose output are its parameters.
        params: usize,
        stages: Vec<Vec<Item>>,
    },
}

/// The table of a saga's nodes, in order.
#[derive(Clone)]
pub struct Nodes<P> {
    pub(crate) nodes: Vec<Node>,
    pub(crate) stages: Vec<Vec<Item>>,
    params: PhantomData<fn(P)>,
}

impl<P: DeserializeOwned + 'static> Nodes<P> {
    /// No nodes yet.
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            stages: Vec::new(),
            params: PhantomData,
        }
    }

    /// Adds a node that computes.
    pub fn pure<T: Serialize + 'static>(self, key: NodeKey<T>, function: Pure<P, T>) -> Self {
        let work = move |context: &ErasedContext| {
            let params = context.params::<P>()?;
            json(function(&context.typed(&params))?)
        };
        self.push(key.name, Work::Pure(Arc::new(work)))
    }

    /// Adds a db node that is undone by `undo` when a later one fails.
    pub fn db<T: Serialize + 'static>(
        self,
        key: NodeKey<T>,
        action: Db<P, T>,
        undo: DbUndo<P>,
    ) -> Self {
        let undo: DbUndoWork = Arc::new(move |context: &ErasedContext| {
            let params = context.params::<P>()?;
            undo(&context.typed(&params))
        });
        self.push_db(key, action, Some(undo))
    }

    /// Adds the last node: a db node without undo, for nothing can fail after it. The end of the saga
    /// is part of its batch.
    pub fn last<T: Serialize + 'static>(self, key: NodeKey<T>, action: Db<P, T>) -> Self {
        self.push_db(key, action, None)
    }

    fn push_db<T: Serialize + 'static>(
        self,
        key: NodeKey<T>,
        action: Db<P, T>,
        undo: Option<DbUndoWork>,
    ) -> Self {
        let action = move |context: &ErasedContext| {
            let params = context.params::<P>()?;
            let (batch, output) = action(&context.typed(&params))?;
            Ok((batch, json(output)?))
        };
        self.push(key.name, Work::Db(Arc::new(action), undo))
    }

    /// Adds a node that calls out. Its undo runs when a later node fails, and when it fails itself after
    /// it may have had an effect.
    pub fn external<T: Serialize + 'static>(
        self,
        key: NodeKey<T>,
        call: External<P, T>,
        undo: ExternalUndo<P>,
    ) -> Self {
        let call = move |erased: Call<ErasedContext>| match typed_call(erased) {
            Err(error) => ready(Err(CallError::from(error))).boxed(),
            Ok(typed) => call(typed)
                .map(|given| given.and_then(|output| Ok(json(output)?)))
                .boxed(),
        };
        let undo = move |erased: Call<ErasedContext>| match typed_call(erased) {
            Err(error) => ready(Err(CallError::from(error))).boxed(),
            Ok(typed) => undo(typed),
        };
        self.push(key.name, Work::External(Arc::new(call), Arc::new(undo)))
    }

    /// Adds a whole saga in this one's place. `params` computes what it is told; its output, that of its
    /// last node, stands under `key`. Its nodes can all be undone, for something may fail behind it.
    pub fn subsaga<S, T>(mut self, key: NodeKey<T>, params: Pure<P, S>, nodes: Nodes<S>) -> Self
    where
        S: Serialize + DeserializeOwned + 'static,
        T: 'static,
    {
        let name = key.name;
        let work = move |context: &ErasedContext| {
            let own = context.params::<P>()?;
            json(params(&context.typed(&own))?)
        };
        self = self.push(&format!("{name}.params"), Work::Pure(Arc::new(work)));
        // The parameters are computed in front of the subsaga, and are no stage of their own: the place
        // where the subsaga stands computes them.
        self.stages.pop();
        let params = self.nodes.len() - 1;
        let base = self.nodes.len();
        let mut inner = nodes.nodes;
        if let Some(last) = inner.last_mut() {
            last.also.push(String::new());
        }
        for mut node in inner {
            node.name = format!("{name}.{}", node.name);
            node.scope = format!("{name}.{}", node.scope).into();
            node.params = Some(node.params.map_or(params, |inner| inner + base));
            for also in &mut node.also {
                *also = match also.as_str() {
                    "" => name.to_owned(),
                    inner => format!("{name}.{inner}"),
                };
            }
            self.nodes.push(node);
        }
        self.stages.push(vec![Item::Subsaga {
            name: name.to_owned(),
            params,
            stages: shifted(nodes.stages, base),
        }]);
        self
    }

    /// Adds a stage: whatever `nodes` has runs side by side. What shall run one after another inside of
    /// it is a subsaga. A node sees nothing of its neighbours' outputs.
    pub fn parallel(mut self, nodes: Self) -> Self {
        let base = self.nodes.len();
        for mut node in nodes.nodes {
            node.params = node.params.map(|inner| inner + base);
            self.nodes.push(node);
        }
        let stage = shifted(nodes.stages, base).into_iter().flatten().collect();
        self.stages.push(stage);
        self
    }

    /// Changes how the node that was added last is tried.
    pub fn tried(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            change(&mut node.policy);
        }
        self
    }

    fn push(mut self, name: &str, work: Work) -> Self {
        let mut node = Node {
            name: name.to_owned(),
            work,
            policy: Policy::of(super::Kind::Pure),
            scope: "".into(),
            params: None,
            also: Vec::new(),
        };
        node.policy = Policy::of(node.kind());
        self.stages.push(vec![Item::Node(self.nodes.len())]);
        self.nodes.push(node);
        self
    }
}

impl<P: DeserializeOwned + 'static> Default for Nodes<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The same stages for a table whose nodes stand `base` places further on.
fn shifted(stages: Vec<Vec<Item>>, base: usize) -> Vec<Vec<Item>> {
    let shift = |item| match item {
        Item::Node(node) => Item::Node(node + base),
        Item::Subsaga {
            name,
            params,
            stages,
        } => Item::Subsaga {
            name,
            params: params + base,
            stages: shifted(stages, base),
        },
    };
    stages
        .into_iter()
        .map(|stage| stage.into_iter().map(shift).collect())
        .collect()
}

fn json(output: impl Serialize) -> Result<Value, NodeError> {
    serde_json::to_value(output)
        .map_err(|error| NodeError::Corrupt(format!("an output is no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::node::Context;
    use super::*;

    fn one(_: &Context<'_, ()>) -> Result<u8, NodeError> {
        Ok(1)
    }

    fn none(_: &Context<'_, ()>) -> Result<(), NodeError> {
        Ok(())
    }

    #[test]
    fn subsagas_and_stages_keep_their_places_wherever_they_are_put() {
        let inner = Nodes::<()>::new()
            .pure(NodeKey::new("a"), one)
            .pure(NodeKey::new("b"), one);
        let stage = Nodes::<()>::new().pure(NodeKey::new("left"), one).subsaga(
            NodeKey::<u8>::new("right"),
            none,
            inner,
        );
        let nodes = Nodes::<()>::new()
            .pure(NodeKey::new("first"), one)
            .parallel(stage);
        let names: Vec<_> = nodes.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(
            names,
            ["first", "left", "right.params", "right.a", "right.b"]
        );
        assert_eq!(nodes.nodes[3].params, Some(2));
        assert_eq!(&*nodes.nodes[4].scope, "right.");
        assert_eq!(nodes.nodes[4].also, ["right"]);
        let [first, stage] = &nodes.stages[..] else {
            panic!("two stages");
        };
        assert!(matches!(first[..], [Item::Node(0)]));
        let [
            Item::Node(1),
            Item::Subsaga {
                params: 2, stages, ..
            },
        ] = &stage[..]
        else {
            panic!("a node beside a subsaga: {stage:?}");
        };
        assert!(matches!(stages[0][..], [Item::Node(3)]));
        assert!(matches!(stages[1][..], [Item::Node(4)]));
    }
}
