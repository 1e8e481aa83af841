//! Tables of nodes from shapes.

use std::time::Duration;

use db_model::types::ResourceKind;
use db_model::types::limits::SAGA_STALLED_AFTER;
use sagas::Subject;
use sagas::definition::{
    Db, DbUndo, Definition, DefinitionError, External, NodeKey, Nodes, Policy, Pure,
};
use sagas::testing::Fixture;
use serde_json::Value;
use uuid::Uuid;

use super::node::{Made, Params, call, call_undo, change, change_undo, compute, inner, name};

/// How many slots there are.
pub const SLOTS: usize = 24;

/// A node of a table, or a subsaga, by its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Computes.
    Pure(usize),
    /// Has its effect in the database.
    Db(usize),
    /// The same without an undo, and the saga's end with it.
    Last(usize),
    /// Calls the service outside.
    External(usize),
    /// A saga in a saga.
    Sub(usize, Vec<Vec<Item>>),
}

macro_rules! of_every_slot {
    ($function:ident) => {
        [
            $function::<0>,
            $function::<1>,
            $function::<2>,
            $function::<3>,
            $function::<4>,
            $function::<5>,
            $function::<6>,
            $function::<7>,
            $function::<8>,
            $function::<9>,
            $function::<10>,
            $function::<11>,
            $function::<12>,
            $function::<13>,
            $function::<14>,
            $function::<15>,
            $function::<16>,
            $function::<17>,
            $function::<18>,
            $function::<19>,
            $function::<20>,
            $function::<21>,
            $function::<22>,
            $function::<23>,
        ]
    };
}

const PURE: [Pure<Params, Made>; SLOTS] = of_every_slot!(compute);
const DB: [Db<Params, Made>; SLOTS] = of_every_slot!(change);
const DB_UNDO: [DbUndo<Params>; SLOTS] = of_every_slot!(change_undo);
const EXTERNAL: [External<Params, Made>; SLOTS] = of_every_slot!(call);

/// The table of a shape: of each stage what runs side by side. `tried` says how each node is.
pub fn table(stages: &[Vec<Item>], tried: fn(&mut Policy)) -> Nodes<Params> {
    let mut nodes = Nodes::new();
    for stage in stages {
        nodes = match &stage[..] {
            [item] => add(nodes, item, tried),
            items => {
                let side_by_side = items
                    .iter()
                    .fold(Nodes::new(), |nodes, item| add(nodes, item, tried));
                nodes.parallel(side_by_side)
            }
        };
    }
    nodes
}

fn add(nodes: Nodes<Params>, item: &Item, tried: fn(&mut Policy)) -> Nodes<Params> {
    let key = |slot: usize| NodeKey::<Made>::new(name(slot));
    match item {
        Item::Pure(slot) => nodes.pure(key(*slot), PURE[*slot]).tried(tried),
        Item::Db(slot) => nodes.db(key(*slot), DB[*slot], DB_UNDO[*slot]).tried(tried),
        Item::Last(slot) => nodes.last(key(*slot), DB[*slot]).tried(tried),
        Item::External(slot) => nodes
            .external(key(*slot), EXTERNAL[*slot], call_undo)
            .tried(tried),
        Item::Sub(slot, stages) => nodes.subsaga(key(*slot), inner, table(stages, tried)),
    }
}

/// One node a stage, one after another.
pub fn stages_of(items: impl IntoIterator<Item = Item>) -> Vec<Vec<Item>> {
    items.into_iter().map(|item| vec![item]).collect()
}

/// Tries soon again, and not often.
pub fn quick(policy: &mut Policy) {
    policy.attempts_max = 4;
    policy.undo_attempts_max = 4;
    policy.pause = Duration::from_millis(5);
    policy.pause_max = Duration::from_millis(20);
}

/// A definition of a shape.
///
/// # Errors
/// [`DefinitionError`].
pub fn definition(
    name: &'static str,
    stages: &[Vec<Item>],
    tried: fn(&mut Policy),
) -> Result<Definition, DefinitionError> {
    Definition::new(name, table(stages, tried), SAGA_STALLED_AFTER, example)
}

/// A trial works on nothing that the product knows.
pub fn subject() -> Subject {
    Subject {
        project_id: None,
        kind: ResourceKind::Project,
        id: Uuid::now_v7(),
        name: "trial".to_owned(),
    }
}

fn example(_: &Fixture) -> Result<(Value, Subject), serde_json::Error> {
    Ok((serde_json::to_value(Params::default())?, subject()))
}
