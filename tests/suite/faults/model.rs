//! What a program means, without a database.

use std::collections::BTreeMap;

use super::program::{Hooked, Node, Op, Unit, When};

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

/// How a unit ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed,
    /// The step of this index, counted over all that ran, fails, with this SQLSTATE.
    Failed(usize, &'static str),
    /// Every step runs, and the commit is refused.
    AtCommit,
    /// The body gives up.
    Aborted,
    /// The session is lost, as it was said.
    Lost,
}

/// What becomes of a unit.
#[derive(Debug)]
pub struct Fate {
    pub ending: Ending,
    /// What is in the database then.
    pub state: State,
    /// The hooks that ran inside, in their order.
    pub inside: Vec<u32>,
    /// The hooks that ran after the end, in their order.
    pub after: Vec<u32>,
}

/// A state to work on, what has run, and the hooks that are registered and hold.
struct Machine {
    state: State,
    /// How many steps the server answers before the session is lost, if it is.
    answers: Option<usize>,
    steps: usize,
    hooks: Vec<Hooked>,
    /// Those of sections that came to nothing.
    cancelled: Vec<u32>,
    inside: Vec<u32>,
}

/// Why a body ends before its end.
enum Stop {
    Failed(usize, &'static str),
    Aborted,
    Lost,
}

/// Runs a unit; its session is lost once the server has answered so many `answers`, or never.
pub fn run(unit: &Unit, before: &State, answers: Option<usize>) -> Fate {
    let mut machine = Machine {
        state: before.clone(),
        answers,
        steps: 0,
        hooks: Vec::new(),
        cancelled: Vec::new(),
        inside: Vec::new(),
    };
    let result = match unit {
        Unit::Batch { ops, .. } => ops.iter().try_for_each(|op| machine.op(*op)),
        Unit::Transaction { body, abort, .. } => match machine.body(body) {
            Ok(()) if *abort => Err(Stop::Aborted),
            Ok(()) => machine.before_commit(),
            result => result,
        },
    };
    let ending = match result {
        Ok(()) if answers.is_some() => Ending::Lost,
        Ok(()) if machine.state.orphans > 0 => Ending::AtCommit,
        Ok(()) => Ending::Committed,
        Err(Stop::Failed(step, sqlstate)) => Ending::Failed(step, sqlstate),
        Err(Stop::Aborted) => Ending::Aborted,
        Err(Stop::Lost) => Ending::Lost,
    };
    let committed = ending == Ending::Committed;
    let after = match unit {
        Unit::Batch { hooks, .. } if committed => hooks.clone(),
        Unit::Batch { .. } => Vec::new(),
        Unit::Transaction { .. } => machine.after(committed),
    };
    let state = if committed {
        machine.state
    } else {
        before.clone()
    };
    Fate {
        ending,
        state,
        inside: machine.inside,
        after,
    }
}

impl Machine {
    fn body(&mut self, nodes: &[Node]) -> Result<(), Stop> {
        nodes.iter().try_for_each(|node| match node {
            Node::Op(op) => self.op(*op),
            Node::Hook(hooked) if matches!(hooked.when, When::AfterCommitFirst) => {
                self.hooks.insert(0, *hooked);
                Ok(())
            }
            Node::Hook(hooked) => {
                self.hooks.push(*hooked);
                Ok(())
            }
            Node::Section { body, abort } => self.section(body, *abort),
        })
    }

    fn section(&mut self, body: &[Node], abort: bool) -> Result<(), Stop> {
        let state = self.state.clone();
        // What is registered from here on is the section's.
        let outer = std::mem::take(&mut self.hooks);
        let result = self.body(body);
        let inner = std::mem::take(&mut self.hooks);
        if matches!(result, Err(Stop::Lost)) || result.is_ok() && !abort {
            let (first, last): (Vec<_>, Vec<_>) = inner
                .into_iter()
                .partition(|hooked| matches!(hooked.when, When::AfterCommitFirst));
            self.hooks = [first, outer, last].concat();
            return result;
        }
        self.state = state;
        self.hooks = outer;
        let kept = inner
            .iter()
            .filter(|hooked| matches!(hooked.when, When::AfterRollback));
        self.cancelled.extend(kept.map(|hooked| hooked.number));
        Ok(())
    }

    fn before_commit(&mut self) -> Result<(), Stop> {
        for Hooked { when, number } in self.hooks.clone() {
            if let When::BeforeCommit(op) = when {
                self.inside.push(number);
                self.op(op)?;
            }
        }
        Ok(())
    }

    fn after(&mut self, committed: bool) -> Vec<u32> {
        let runs = |when| match when {
            When::BeforeCommit(_) => false,
            When::AfterCommit | When::AfterCommitFirst => committed,
            When::AfterRollback => !committed,
        };
        let hooks = self.hooks.iter().filter(|hooked| runs(hooked.when));
        let mut after = std::mem::take(&mut self.cancelled);
        after.extend(hooks.map(|hooked| hooked.number));
        after
    }

    fn op(&mut self, op: Op) -> Result<(), Stop> {
        let step = self.steps;
        if self.answers == Some(step) {
            return Err(Stop::Lost);
        }
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
