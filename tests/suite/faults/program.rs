//! What a random program is made of.

use db_model::batch::Isolation;
use nexus_tests::proxy::Trouble;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Items that programs work on.
const ITEMS: i64 = 4;

/// One statement.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Adds an item, which must not be there: a unique violation.
    Insert(i64),
    /// Adds to an item's value, within its limits: a guard.
    Add(i64, i64),
    /// Removes an item, which must be there: a guard.
    Remove(i64),
    /// Divides by zero: an error that nobody maps.
    Divide,
    /// Adds what a deferred constraint refuses at the commit.
    Orphan,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Inside the transaction, as its last part, with a statement of its own.
    BeforeCommit(Op),
    AfterCommit,
    /// Before those that run after the commit and are there already.
    AfterCommitFirst,
    AfterRollback,
}

/// A hook that is registered, with the number by which it is known again.
#[derive(Clone, Copy, Debug)]
pub struct Hooked {
    pub when: When,
    pub number: u32,
}

/// A part of a transaction.
#[derive(Clone, Debug)]
pub enum Node {
    Op(Op),
    Hook(Hooked),
    /// A section, which its own body may give up at its end.
    Section {
        body: Vec<Node>,
        abort: bool,
    },
}

/// What commits or not as one.
#[derive(Clone, Debug)]
pub enum Unit {
    Batch {
        ops: Vec<Op>,
        /// The numbers of its hooks.
        hooks: Vec<u32>,
        isolation: Isolation,
    },
    Transaction {
        body: Vec<Node>,
        abort: bool,
        isolation: Isolation,
    },
}

/// A trouble for one flight of a unit, if it has as many.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub trouble: Trouble,
    pub flight: usize,
}

/// A unit and what happens to it.
#[derive(Clone, Debug)]
pub struct Call {
    pub unit: Unit,
    pub fault: Option<Fault>,
}

/// Units one after another, over a network that delivers late and in pieces of so many bytes.
#[derive(Clone, Debug)]
pub struct Program {
    pub calls: Vec<Call>,
    pub piece_bytes: usize,
    /// How long everything is on its way, each way.
    pub delay_ms: u64,
}

/// Any program.
pub fn program() -> impl Strategy<Value = Program> {
    let pieces = prop_oneof![6 => Just(0), 1 => Just(5), 1 => Just(64)];
    let delays = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2)];
    (vec(call(), 1..8), pieces, delays).prop_map(|(calls, piece_bytes, delay_ms)| Program {
        calls,
        piece_bytes,
        delay_ms,
    })
}

fn call() -> impl Strategy<Value = Call> {
    (unit(), option::weighted(0.4, fault())).prop_map(|(unit, fault)| Call { unit, fault })
}

/// A trouble for a flight of a unit.
pub fn fault() -> impl Strategy<Value = Fault> {
    let trouble = prop_oneof![
        Just(Trouble::CutBeforeSync),
        Just(Trouble::CutAtSync),
        Just(Trouble::LoseReply),
        (0..16usize).prop_map(Trouble::CutAfter),
        (0..12usize).prop_map(Trouble::CutReplyAfter),
    ];
    (trouble, 0..6usize).prop_map(|(trouble, flight)| Fault { trouble, flight })
}

fn unit() -> impl Strategy<Value = Unit> {
    let batch =
        (vec(op(), 0..6), vec(number(), 0..3), isolation()).prop_map(|(ops, hooks, isolation)| {
            Unit::Batch {
                ops,
                hooks,
                isolation,
            }
        });
    let transaction = (
        vec(node(), 0..8),
        proptest::bool::weighted(0.1),
        isolation(),
    )
        .prop_map(|(body, abort, isolation)| Unit::Transaction {
            body,
            abort,
            isolation,
        });
    prop_oneof![1 => batch, 2 => transaction]
}

/// Any isolation level.
pub fn isolation() -> impl Strategy<Value = Isolation> {
    prop_oneof![
        3 => Just(Isolation::ReadCommitted),
        1 => Just(Isolation::RepeatableRead),
        1 => Just(Isolation::Serializable),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..ITEMS).prop_map(Op::Insert),
        6 => (0..ITEMS, -4..8i64).prop_map(|(id, value)| Op::Add(id, value)),
        3 => (0..ITEMS).prop_map(Op::Remove),
        1 => Just(Op::Divide),
        1 => Just(Op::Orphan),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    0..1_000u32
}

fn hooked() -> impl Strategy<Value = Hooked> {
    let when = prop_oneof![
        1 => op().prop_map(When::BeforeCommit),
        2 => Just(When::AfterCommit),
        1 => Just(When::AfterCommitFirst),
        2 => Just(When::AfterRollback),
    ];
    (when, number()).prop_map(|(when, number)| Hooked { when, number })
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        2 => op().prop_map(Node::Op),
        1 => hooked().prop_map(Node::Hook),
    ];
    leaf.prop_recursive(3, 16, 4, |node| {
        (vec(node, 0..5), proptest::bool::weighted(0.2))
            .prop_map(|(body, abort)| Node::Section { body, abort })
    })
}
