//! A saga with everything in it, side by side and in one another: a crash before and after each of its
//! commits, forward and unwinding, from which a second process goes on to what was to come.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use nexus_tests::script::{Cue, Script};
use nexus_tests::trial::{self, Deed, Ground, Item, Params, definition, ended, quick, submit};
use sagas::definition::Definition;
use sagas::probe::{Commit, Point, Side};
use sagas::{Outcome, Start};
use uuid::Uuid;

/// Cases that run at once.
const AT_ONCE: usize = 4;

/// The slots of rows that have an undo, but for the node before the last.
const ROWS: [usize; 4] = [0, 3, 7, 8];
const CALLS: [&str; 3] = ["n01.n02", "n05.n06", "n11"];
/// Fails in the cases that unwind.
const FAILING: usize = 12;

fn everything() -> Vec<Vec<Item>> {
    let left = Item::Sub(1, vec![vec![Item::External(2)], vec![Item::Db(3)]]);
    let inner = vec![vec![Item::External(6), Item::Db(7)], vec![Item::Pure(4)]];
    let right = Item::Sub(5, inner);
    vec![
        vec![Item::Db(0)],
        vec![left, right, Item::Db(8)],
        vec![Item::Pure(9), Item::Pure(10)],
        vec![Item::External(11)],
        vec![Item::Db(FAILING)],
        vec![Item::Last(13)],
    ]
}

/// A way of a saga that is to be interrupted.
#[derive(Clone, Debug)]
struct Case {
    title: String,
    params: Params,
    cues: Vec<Cue>,
    start: Start,
}

/// Definitions of their own, so that each case's sagas are taken over by its own processes.
fn own() -> (&'static str, impl Fn() -> Definition) {
    let name: &str = format!("trial-{}", Uuid::now_v7()).leak();
    (name, move || {
        definition(name, &everything(), quick).unwrap()
    })
}

/// Runs a case, sees that it ends as it must, and gives what it passed.
async fn run(ground: &Ground, case: Case) -> Vec<Point> {
    let Case {
        title,
        params,
        cues,
        start,
    } = case;
    let (name, definition) = own();
    let script = Arc::new(Script::default());
    let halts = !cues.is_empty();
    script.set(cues);
    let first = trial::start(ground.database.pools(), vec![definition()], script.clone()).await;
    let mut submitted = submit(&first, name, &params, start).await;
    let id = submitted.id();
    let outcome = ended(&mut submitted).await;
    assert_eq!(
        matches!(outcome, Outcome::Lost),
        halts,
        "{title}: {outcome:?}"
    );
    ground.declare_dead(&first).await;
    let points = script.passed();
    let fails = params.deeds.contains_key(&FAILING);
    if ground.saga(id).await.is_none() {
        // It had not been born.
        assert_eq!((start, halts), (Start::Riding, true), "{title}");
        assert!(ground.effects(id).await.is_empty(), "{title}");
        assert!(ground.outside_of(id).is_empty(), "{title}");
        return points;
    }
    let second = trial::start(ground.database.pools(), vec![definition()], script.clone()).await;
    let state = ground.ends(id).await;
    let effects = ground.effects(id).await;
    let outside = ground.outside_of(id);
    if fails {
        assert_eq!(state, "failed", "{title}");
        assert_eq!(effects, ROWS.map(|slot| (slot, (1, 1))).into(), "{title}");
        assert_eq!(outside, BTreeSet::new(), "{title}");
    } else {
        assert_eq!(state, "succeeded", "{title}");
        let rows = ROWS.into_iter().chain([FAILING, 13]);
        assert_eq!(
            effects,
            rows.map(|slot| (slot, (1, 0))).collect(),
            "{title}"
        );
        assert_eq!(outside, CALLS.map(str::to_owned).into(), "{title}");
    }
    for node in CALLS {
        assert_eq!(
            ground.outside.made(&trial::key_outside(id, node)),
            1,
            "{title}"
        );
    }
    ground.assert_log_is_whole(id).await;
    second.stop();
    points
}

async fn crash_at_every_commit(params: impl Fn(&Ground) -> Params, start: Start) {
    let ground = Ground::new().await;
    let params = params(&ground);
    let case = |title: String, cues| Case {
        title,
        params: params.clone(),
        cues,
        start,
    };
    let points = run(&ground, case("uninterrupted".to_owned(), Vec::new())).await;
    let mut seen = BTreeSet::new();
    let cases: Vec<_> = points
        .iter()
        .filter(|point| {
            seen.insert(format!(
                "{:?} {} {:?}",
                point.commit, point.what, point.side
            ))
        })
        .map(|point| {
            let title = format!("{:?} {:?} of {}", point.side, point.commit, point.what);
            case(title, vec![Cue::halt(point)])
        })
        .collect();
    println!("{} crashes", cases.len());
    assert!(cases.len() > 30, "{cases:?}");
    let done = stream::iter(cases)
        .map(|case| run(&ground, case))
        .buffer_unordered(AT_ONCE);
    done.collect::<Vec<_>>().await;
    ground.assert_count_holds().await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_of_all_kinds_crashes_at_every_commit_forward_and_is_done_once() {
    crash_at_every_commit(Ground::params, Start::Durable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_of_all_kinds_crashes_at_every_commit_unwinding_and_is_undone_once() {
    let params = |ground: &Ground| ground.params().with(FAILING, Deed::Break);
    crash_at_every_commit(params, Start::Riding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_whose_recovery_crashes_as_well_is_ended_by_the_third() {
    let ground = Ground::new().await;
    let (name, definition) = own();
    let halt = |what: &str, commit| {
        Cue::halt(&Point {
            saga_id: Uuid::nil(),
            commit,
            what: what.to_owned(),
            side: Side::After,
        })
    };
    let script = Arc::new(Script::default());
    script.set(vec![
        halt("n08", Commit::Action),
        halt("n11/started", Commit::Event),
        halt("n08", Commit::Undo),
    ]);
    let params = ground.params().with(FAILING, Deed::Break);
    let start = || trial::start(ground.database.pools(), vec![definition()], script.clone());
    let first = start().await;
    let mut submitted = submit(&first, name, &params, Start::Durable).await;
    let id = submitted.id();
    assert!(matches!(ended(&mut submitted).await, Outcome::Lost));
    ground.declare_dead(&first).await;
    for (commit, what) in [(Commit::Event, "n11/started"), (Commit::Undo, "n08")] {
        let next = start().await;
        let is_it = |point: &Point| {
            (point.commit, point.side) == (commit, Side::After) && point.what == what
        };
        ground
            .database
            .eventually("it crashes again", async || {
                script.passed().iter().any(is_it) && next.running() == 0
            })
            .await;
        ground.declare_dead(&next).await;
    }
    let _last = start().await;
    assert_eq!(ground.ends(id).await, "failed");
    assert_eq!(
        ground.effects(id).await,
        ROWS.map(|slot| (slot, (1, 1))).into()
    );
    assert_eq!(ground.saga(id).await.unwrap().1, 4);
    assert!(ground.outside_of(id).is_empty());
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(id).await;
    ground.database.assert_books_balance().await;
}
