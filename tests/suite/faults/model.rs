//! What a program means, without a database.

use std::collections::BTreeMap;

use super::program::{Node, Op, Unit};

/// The least and the greatest value of an item.
pub const VALUES: std::ops::RangeInclusive<i64> = 0..=10;

/// What is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Items by id, with their values.
    pub items: BTreeMap<i64, i64>,
    /// Rows that a deferred constraint will refuse.
    orphans: usize,
}

/// How a unit ends when nothing goes wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed,
    /// The step of this index, counted over all that ran, fails, with this SQLSTATE.
    Failed(usize, &'static str),
    /// Every step runs, and the commit is refused.
    AtCommit,
    /// The body gives up.
    Aborted,
}

/// A state to work on, and how many steps have run.
struct Machine {
    state: State,
    steps: usize,
}

/// Why a body ends before its end.
enum Stop {
    Failed(usize, &'static str),
    Aborted,
}

/// Runs a unit: how it ends, and what is in the database then.
pub fn run(unit: &Unit, before: &State) -> (Ending, State) {
    let mut machine = Machine {
        state: before.clone(),
        steps: 0,
    };
    let result = match unit {
        Unit::Batch { ops, .. } => ops.iter().try_for_each(|op| machine.op(*op)),
        Unit::Transaction { body, abort, .. } => match machine.body(body) {
            Ok(()) if *abort => Err(Stop::Aborted),
            result => result,
        },
    };
    let ending = match result {
        Ok(()) if machine.state.orphans > 0 => Ending::AtCommit,
        Ok(()) => return (Ending::Committed, machine.state),
        Err(Stop::Failed(step, sqlstate)) => Ending::Failed(step, sqlstate),
        Err(Stop::Aborted) => Ending::Aborted,
    };
    (ending, before.clone())
}

impl Machine {
    fn body(&mut self, nodes: &[Node]) -> Result<(), Stop> {
        nodes.iter().try_for_each(|node| match node {
            Node::Op(op) => self.op(*op),
            Node::Section { body, abort } => {
                let saved = self.state.clone();
                if self.body(body).is_err() || *abort {
                    self.state = saved;
                }
                Ok(())
            }
        })
    }

    fn op(&mut self, op: Op) -> Result<(), Stop> {
        let step = self.steps;
        self.steps += 1;
        let items = &mut self.state.items;
        let failed = |sqlstate| Err(Stop::Failed(step, sqlstate));
        match op {
            Op::Insert(id) if items.contains_key(&id) => return failed("23505"),
            Op::Insert(id) => drop(items.insert(id, 0)),
            Op::Add(id, change) => match items.get_mut(&id) {
                Some(value) if VALUES.contains(&(*value + change)) => *value += change,
                _ => return failed("NX001"),
            },
            Op::Remove(id) if items.remove(&id).is_none() => return failed("NX001"),
            Op::Remove(_) => {}
            Op::Divide => return failed("22012"),
            Op::Orphan => self.state.orphans += 1,
        }
        Ok(())
    }
}
