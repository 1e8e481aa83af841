//! Drawing sagas, and what must become of each of their nodes.

use nexus_tests::outside::Fault;
use nexus_tests::trial::{Deed, Item, SLOTS, name};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use reqwest::Method;

/// A saga, and what happens to it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its table.
    pub stages: Vec<Vec<Item>>,
    /// The node that fails, and how.
    pub failing: Option<(usize, Deed)>,
    /// What the calls of nodes meet: nothing that lasts.
    pub faults: Vec<(String, Fault, Method)>,
    /// After how many points its processes crash.
    pub halts: Vec<usize>,
    /// Whether its row is written with its first batch.
    pub riding: bool,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pure,
    Db,
    External,
}

/// A node, with the way to it: of each saga the stage and the place.
#[derive(Clone, Debug)]
pub struct Node {
    pub slot: usize,
    pub name: String,
    pub kind: Kind,
    path: Vec<(usize, usize)>,
}

/// What must have become of a node's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Done,
    /// It was there, and is undone.
    Undone,
    /// It never was.
    Never,
    /// One of the last two.
    Gone,
}

impl Fate {
    /// Whether a row's effect was made and taken back so often.
    pub fn allows(self, times: (i64, i64)) -> bool {
        match self {
            Self::Done => times == (1, 0),
            Self::Undone => times == (1, 1),
            Self::Never => times == (0, 0),
            Self::Gone => times == (1, 1) || times == (0, 0),
        }
    }
}

/// A shape, before its nodes have slots.
#[derive(Clone, Debug)]
enum Shape {
    Leaf(Kind),
    Sub(Vec<Vec<Shape>>),
}

impl Trial {
    /// All nodes, in the order of the table.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        collect(&self.stages, "", &[], &mut nodes);
        nodes
    }

    /// What must have become of a node when the saga has ended.
    pub fn fate(&self, node: &Node) -> Fate {
        let Some((failing, _)) = self.failing else {
            return Fate::Done;
        };
        if node.slot == failing {
            // A db node's goes with its batch; a call's undo has run.
            return Fate::Never;
        }
        let nodes = self.nodes();
        let failing = nodes.iter().find(|other| other.slot == failing).unwrap();
        let parts = node.path.iter().zip(&failing.path);
        let (stage, of_failing) = parts
            .map(|(own, other)| (*own, *other))
            .find(|(own, other)| own != other)
            .expect("no node stands in another");
        match stage.0.cmp(&of_failing.0) {
            std::cmp::Ordering::Less => Fate::Undone,
            std::cmp::Ordering::Greater => Fate::Never,
            std::cmp::Ordering::Equal => Fate::Gone,
        }
    }
}

fn collect(stages: &[Vec<Item>], scope: &str, way: &[(usize, usize)], nodes: &mut Vec<Node>) {
    for (stage, items) in stages.iter().enumerate() {
        for (place, item) in items.iter().enumerate() {
            let path = [way, &[(stage, place)]].concat();
            let (slot, kind) = match item {
                Item::Pure(slot) => (*slot, Kind::Pure),
                Item::Db(slot) | Item::Last(slot) => (*slot, Kind::Db),
                Item::External(slot) => (*slot, Kind::External),
                Item::Sub(slot, stages) => {
                    collect(stages, &format!("{scope}{}.", name(*slot)), &path, nodes);
                    continue;
                }
            };
            let name = format!("{scope}{}", name(slot));
            nodes.push(Node {
                slot,
                name,
                kind,
                path,
            });
        }
    }
}

/// Gives the nodes of a shape slots, as far as there are some, and leaves one for the saga's last node.
fn number(stages: &[Vec<Shape>], next: &mut usize) -> Vec<Vec<Item>> {
    let mut numbered = Vec::new();
    for stage in stages {
        let mut items = Vec::new();
        for shape in stage {
            // A subsaga needs one for itself and one for a node.
            if *next + 2 >= SLOTS {
                continue;
            }
            let slot = *next;
            *next += 1;
            items.push(match shape {
                Shape::Leaf(Kind::Pure) => Item::Pure(slot),
                Shape::Leaf(Kind::Db) => Item::Db(slot),
                Shape::Leaf(Kind::External) => Item::External(slot),
                Shape::Sub(stages) => match number(stages, next) {
                    inner if inner.is_empty() => Item::Db(slot),
                    inner => Item::Sub(slot, inner),
                },
            });
        }
        if !items.is_empty() {
            numbered.push(items);
        }
    }
    numbered
}

fn leaf() -> impl Strategy<Value = Shape> {
    prop_oneof![
        2 => Just(Kind::Db),
        2 => Just(Kind::External),
        1 => Just(Kind::Pure),
    ]
    .prop_map(Shape::Leaf)
}

/// A subsaga of such items; a saga of whatever kind has one output, and so one node at its end.
fn sub(item: impl Strategy<Value = Shape> + Clone + 'static) -> impl Strategy<Value = Shape> {
    let stages = vec(vec(item, 1..=2), 0..=1);
    (stages, leaf()).prop_map(|(mut stages, last)| {
        stages.push(vec![last]);
        Shape::Sub(stages)
    })
}

fn stages() -> impl Strategy<Value = Vec<Vec<Shape>>> {
    let leaf = leaf().boxed();
    let inner = prop_oneof![4 => leaf.clone(), 1 => sub(leaf.clone())].boxed();
    let item = prop_oneof![4 => leaf, 1 => sub(inner)].boxed();
    let stage = prop_oneof![2 => vec(item.clone(), 1..=1), 3 => vec(item, 2..=4)];
    vec(stage, 0..=3)
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![Just(Deed::Refuse), Just(Deed::Break), Just(Deed::Panic)]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::FailBeforeEffect),
        Just(Fault::FailAfterEffect),
        Just(Fault::CutInAnswer),
        Just(Fault::AnswerTwice),
        Just(Fault::Delay(std::time::Duration::from_millis(20))),
    ]
}

/// A saga, and what happens to it. Simpler ones come from shrinking.
pub fn trial() -> impl Strategy<Value = Trial> {
    let last = prop_oneof![2 => Just(None), 1 => leaf().prop_map(Some)];
    let failing = option::of((any::<Index>(), deed()));
    let faults = vec((any::<Index>(), fault(), any::<bool>()), 0..=3);
    let halts = vec(0..24_usize, 0..=3);
    (stages(), last, failing, faults, halts, any::<bool>()).prop_map(
        |(stages, last, failing, faults, halts, riding)| {
            let mut next = 0;
            let mut stages = number(&stages, &mut next);
            stages.push(vec![match last {
                None => Item::Last(next),
                Some(Shape::Leaf(Kind::Pure)) => Item::Pure(next),
                Some(Shape::Leaf(Kind::External)) => Item::External(next),
                Some(_) => Item::Db(next),
            }]);
            let mut trial = Trial {
                stages,
                failing: None,
                faults: Vec::new(),
                halts,
                riding,
            };
            let nodes = trial.nodes();
            trial.failing = failing.map(|(index, deed)| (index.get(&nodes).slot, deed));
            // A call is tried four times and its undo too, so two faults do not use it up.
            trial.faults = faults
                .into_iter()
                .map(|(index, fault, posts)| {
                    let method = if posts { Method::POST } else { Method::DELETE };
                    (index.get(&nodes).name.clone(), fault, method)
                })
                .collect();
            trial
        },
    )
}
