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

/// A part of a transaction.
#[derive(Clone, Debug)]
pub enum Node {
    Op(Op),
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

/// Units one after another, over a network that delivers in pieces of so many bytes.
#[derive(Clone, Debug)]
pub struct Program {
    pub calls: Vec<Call>,
    pub piece_bytes: usize,
}

/// Any program.
pub fn program() -> impl Strategy<Value = Program> {
    let pieces = prop_oneof![6 => Just(0), 1 => Just(5), 1 => Just(64)];
    (vec(call(), 1..8), pieces).prop_map(|(calls, piece_bytes)| Program { calls, piece_bytes })
}

fn call() -> impl Strategy<Value = Call> {
    (unit(), option::weighted(0.4, fault())).prop_map(|(unit, fault)| Call { unit, fault })
}

fn fault() -> impl Strategy<Value = Fault> {
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
        (vec(op(), 0..6), isolation()).prop_map(|(ops, isolation)| Unit::Batch { ops, isolation });
    let transaction = (
        vec(node(), 0..6),
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

fn isolation() -> impl Strategy<Value = Isolation> {
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

fn node() -> impl Strategy<Value = Node> {
    op().prop_map(Node::Op).prop_recursive(3, 16, 4, |node| {
        (vec(node, 0..4), proptest::bool::weighted(0.2))
            .prop_map(|(body, abort)| Node::Section { body, abort })
    })
}
