//! Nodes side by side, and sagas in sagas: typed, undone in order, and one for the log.

use db_model::batch::Batch;
use nexus_tests::outside::Fault;
use nexus_tests::trial::{
    Deed, Event, Ground, Item, definition, effect, ended, key_outside, quick, subject, submit,
};
use reqwest::Method;
use sagas::definition::{Context, Definition, NodeError, NodeKey, Nodes};
use sagas::testing::Fixture;
use sagas::{Outcome, Saga, Start, Subject, Submitted};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_calls_are_under_way_at_the_same_time() {
    let ground = Ground::new().await;
    let stages = [
        vec![Item::External(0), Item::External(1)],
        vec![Item::Last(2)],
    ];
    let executor = ground
        .executor(vec![definition("trial", &stages, quick).unwrap()])
        .await;
    for node in ["n00:", "n01:"] {
        ground.outside.script(node, [Fault::HangBeforeEffect]);
    }
    let mut submitted = submit(&executor, "trial", &ground.params(), Start::Riding).await;
    // Neither goes on before the other is there.
    ground.outside.hang(2).await;
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(ground.outside_of(submitted.id()).len(), 2);
    ground.assert_log_is_whole(submitted.id()).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_three_neighbours_fails_all_are_undone() {
    let ground = Ground::new().await;
    let neighbours = vec![Item::External(0), Item::External(1), Item::Db(2)];
    let stages = [neighbours, vec![Item::Last(3)]];
    let executor = ground
        .executor(vec![definition("trial", &stages, quick).unwrap()])
        .await;
    ground.outside.script("n00:", [Fault::HangBeforeEffect]);
    let params = ground.params().with(0, Deed::Break);
    let mut submitted = submit(&executor, "trial", &params, Start::Durable).await;
    let id = submitted.id();
    // It fails when its neighbours are done.
    ground
        .database
        .eventually("the neighbours are done", async || {
            let log = ground.log(id).await;
            log.iter().filter(|event| event.kind == "succeeded").count() == 2
        })
        .await;
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    let Outcome::Failed(failure) = outcome else {
        panic!("did not fail: {outcome:?}");
    };
    assert_eq!(failure.node, "n00");
    assert!(ground.outside.effects().is_empty());
    for node in ["n00", "n01"] {
        let key = key_outside(id, node);
        assert_eq!(
            (
                ground.outside.made(&key),
                ground.outside.count(&key, &Method::DELETE)
            ),
            (1, 1)
        );
    }
    assert_eq!(ground.effects(id).await, [(2, (1, 1))].into());
    ground.assert_log_is_whole(id).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_two_neighbours_fail_the_saga_fails_for_the_first_of_them() {
    let ground = Ground::new().await;
    let stages = [
        vec![Item::External(0), Item::Db(1), Item::Db(2)],
        vec![Item::Last(3)],
    ];
    let trial = || definition("trial", &stages, quick).unwrap();
    let first = ground.executor(vec![trial()]).await;
    ground.outside.script("n00:", [Fault::HangAfterEffect]);
    let params = ground.params().with(1, Deed::Refuse);
    let submitted = submit(&first, "trial", &params, Start::Durable).await;
    ground.outside.hang(1).await;
    ground.becomes(submitted.id(), "unwinding").await;
    ground.declare_dead(&first).await;
    // Who takes over does not begin the call again, whose failure then comes second.
    let _second = ground.executor(vec![trial()]).await;
    assert_eq!(ground.ends(submitted.id()).await, "failed");
    let select = "SELECT error->>'node' FROM saga";
    let client = ground.database.client().await;
    let node: String = client.query_one(select, &[]).await.unwrap().get(0);
    assert_eq!(node, "n01");
    assert_eq!(
        ground
            .outside
            .count(&key_outside(submitted.id(), "n00"), &Method::POST),
        1
    );
    assert!(ground.outside.effects().is_empty());
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(submitted.id()).await;
    ground.outside.release();
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_stage_in_which_one_is_refused_leaves_nothing_of_its_neighbour() {
    let ground = Ground::new().await;
    let stages = [vec![Item::Db(0), Item::External(1)], vec![Item::Last(2)]];
    let trial = || definition("trial", &stages, quick).unwrap();
    let first = ground.executor(vec![trial()]).await;
    ground.outside.script("n01:", [Fault::HangAfterEffect]);
    let delete = Fault::HangAfterEffect.to("n01:");
    ground.outside.on(delete.only(Method::DELETE));
    let params = ground.params().with(0, Deed::Refuse);
    let submitted = submit(&first, "trial", &params, Start::Riding).await;
    // The row is refused, and the saga's is written with the call, or neither is: the call may come first.
    ground.outside.hang(1).await;
    ground.outside.release();
    let key = key_outside(submitted.id(), "n01");
    ground
        .database
        .eventually("the call is undone", async || {
            ground.outside.count(&key, &Method::DELETE) == 1
        })
        .await;
    // While it unwinds its process dies. The refusal must be known to the next.
    ground.declare_dead(&first).await;
    let log = ground.log(submitted.id()).await;
    assert!(
        log.iter()
            .any(|event| (event.node_id, event.kind.as_str()) == (0, "failed")),
        "{log:?}"
    );
    let _second = ground.executor(vec![trial()]).await;
    assert_eq!(ground.ends(submitted.id()).await, "failed");
    assert!(ground.outside.effects().is_empty());
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(submitted.id()).await;
    ground.outside.release();
    ground.database.assert_books_balance().await;
}

/// Two subsagas of one kind side by side, and what joins their outputs.
struct Pair;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PairParams {
    left: usize,
    right: usize,
    fails: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SideParams {
    weight: usize,
}

/// A subsaga's output, typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    place: usize,
}

const LEFT: NodeKey<Stored> = NodeKey::new("left");
const RIGHT: NodeKey<Stored> = NodeKey::new("right");
const JOIN: NodeKey<usize> = NodeKey::new("join");
const WEIGH: NodeKey<usize> = NodeKey::new("weigh");
const FIRST: NodeKey<()> = NodeKey::new("first");
const STORE: NodeKey<Stored> = NodeKey::new("store");

impl Saga for Pair {
    const NAME: &'static str = "pair";
    type Params = PairParams;
    type Output = usize;

    fn nodes() -> Nodes<PairParams> {
        let sides = Nodes::new()
            .subsaga(LEFT, left, side())
            .subsaga(RIGHT, right, side());
        Nodes::new().parallel(sides).last(JOIN, join)
    }

    fn subject(_: &PairParams) -> Subject {
        subject()
    }

    fn example(_: &Fixture) -> PairParams {
        PairParams {
            left: 1,
            right: 2,
            fails: false,
        }
    }
}

fn side() -> Nodes<SideParams> {
    Nodes::new()
        .pure(WEIGH, weigh)
        .db(FIRST, first, first_undo)
        .db(STORE, store, store_undo)
}

fn left(context: &Context<'_, PairParams>) -> Result<SideParams, NodeError> {
    Ok(SideParams {
        weight: context.params.left,
    })
}

fn right(context: &Context<'_, PairParams>) -> Result<SideParams, NodeError> {
    Ok(SideParams {
        weight: context.params.right,
    })
}

fn weigh(context: &Context<'_, SideParams>) -> Result<usize, NodeError> {
    Ok(context.params.weight * 10)
}

fn rows(
    context: &Context<'_, SideParams>,
    more: usize,
    kind: &'static str,
    change: i64,
) -> Result<Batch<()>, NodeError> {
    let slot = context.output(WEIGH)? + more;
    Ok(Batch::new().after(effect(context.change.id, slot, kind, change)))
}

fn first(context: &Context<'_, SideParams>) -> Result<(Batch<()>, ()), NodeError> {
    Ok((rows(context, 0, "do", 1)?, ()))
}

fn first_undo(context: &Context<'_, SideParams>) -> Result<Batch<()>, NodeError> {
    rows(context, 0, "undo", -1)
}

fn store(context: &Context<'_, SideParams>) -> Result<(Batch<()>, Stored), NodeError> {
    let place = context.output(WEIGH)? + 1;
    Ok((rows(context, 1, "do", 1)?, Stored { place }))
}

fn store_undo(context: &Context<'_, SideParams>) -> Result<Batch<()>, NodeError> {
    let Stored { place } = context.output(STORE)?;
    let slot = context.output(WEIGH)? + 1;
    assert_eq!(place, slot, "an undo sees what its node gave");
    rows(context, 1, "undo", -1)
}

fn join(context: &Context<'_, PairParams>) -> Result<(Batch<()>, usize), NodeError> {
    if context.params.fails {
        return Err(NodeError::Corrupt("a trial".to_owned()));
    }
    let sum = context.output(LEFT)?.place + context.output(RIGHT)?.place;
    Ok((
        Batch::new().after(effect(context.change.id, 0, "do", 1)),
        sum,
    ))
}

async fn pair(ground: &Ground, fails: bool) -> (Uuid, Outcome<usize>) {
    let executor = ground
        .executor(vec![Definition::of::<Pair>().unwrap()])
        .await;
    let params = PairParams {
        left: 1,
        right: 2,
        fails,
    };
    let mut submitted: Submitted<Pair> = executor.begin(params, "trial").await.unwrap();
    (submitted.id(), submitted.outcome().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_subsagas_of_one_kind_run_side_by_side_each_on_its_own_params_and_outputs() {
    let ground = Ground::new().await;
    let (id, outcome) = pair(&ground, false).await;
    assert!(matches!(outcome, Outcome::Succeeded(32)), "{outcome:?}");
    let once = [0, 10, 11, 20, 21].map(|slot| (slot, (1, 0)));
    assert_eq!(ground.effects(id).await, once.into());
    assert_eq!(ground.count().await, 5);
    ground.assert_log_is_whole(id).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_subsaga_is_undone_from_its_end_to_its_beginning() {
    let ground = Ground::new().await;
    let (id, outcome) = pair(&ground, true).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    let log = ground.assert_log_is_whole(id).await;
    let definition = Definition::of::<Pair>().unwrap();
    let names: Vec<_> = definition.node_names().collect();
    let undone = |name: &str| {
        let is_it = |event: &Event| {
            event.kind == "undo_finished" && names[usize::try_from(event.node_id).unwrap()] == name
        };
        log.iter()
            .position(is_it)
            .unwrap_or_else(|| panic!("{name} is not undone: {log:#?}"))
    };
    assert!(undone("left.store") < undone("left.first"));
    assert!(undone("right.store") < undone("right.first"));
    let undone = [10, 11, 20, 21].map(|slot| (slot, (1, 1)));
    assert_eq!(ground.effects(id).await, undone.into());
    assert_eq!(ground.count().await, 0);
    ground.database.assert_books_balance().await;
}

#[test]
fn a_saga_or_subsaga_that_ends_in_two_nodes_is_no_definition() {
    let two = vec![vec![Item::Db(0), Item::Db(1)]];
    let inner = vec![vec![Item::Sub(2, two.clone())]];
    for stages in [two, inner] {
        assert!(definition("trial", &stages, quick).is_err(), "{stages:?}");
    }
}
