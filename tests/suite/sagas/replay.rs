//! The replay suite: every saga of the registry over every commit of its way.
//!
//! For each saga: its success; every node repeated; every node failed in turn, which must leave
//! everything as it was; every undo repeated; and a crash before and after every commit, forward and
//! unwinding, from which a second executor recovers to exactly what the uninterrupted run gives.
//! The cases come from the registry and from the points that a run passes, so a new saga is covered
//! the moment it is registered.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::batch::Batch;
use db_model::query;
use futures::{StreamExt, stream};
use nexus_tests::script::{Cue, Script};
use nexus_tests::{TestDatabase, fixture};
use sagas::definition::Definition;
use sagas::probe::{Commit, Point, Side};
use sagas::{Executor, ExecutorOptions, Outcome, Start, registry};
use serde_json::Value;

/// Cases that run at once.
const AT_ONCE: usize = 6;

/// The rows that sagas change, without ids and times. With the generations it shows how often a row
/// was changed, so a second effect cannot hide.
const EFFECTS: &str = "\
SELECT jsonb_build_object(
  'fleet', (SELECT jsonb_build_object('used', projects_used, 'generation', generation) FROM fleet_quota),
  'projects', (SELECT jsonb_agg(to_jsonb(p) - 'id' - 'changed_by' - 'time_created' - 'time_modified' - 'time_deleted' - 'time_over'
    || jsonb_build_object('deleted', time_deleted IS NOT NULL) ORDER BY name) FROM project p),
  'quotas', (SELECT jsonb_agg(to_jsonb(q) - 'project_id' - 'changed_by' - 'time_created' - 'time_modified'
    || jsonb_build_object('project', p.name) ORDER BY p.name) FROM project_quota q JOIN project p ON p.id = q.project_id),
  'instances', (SELECT jsonb_agg(to_jsonb(i) - 'id' - 'project_id' - 'changed_by' - 'time_created' - 'time_modified' - 'time_deleted' - 'time_over'
    || jsonb_build_object('deleted', time_deleted IS NOT NULL) ORDER BY name) FROM instance i),
  'events', (SELECT jsonb_agg(jsonb_build_object('kind', kind, 'name', resource_name, 'at', resource_generation)
    ORDER BY resource_name, kind) FROM event)
)::text";

/// One line of the table.
struct Case {
    definition: Arc<Definition>,
    node: String,
    name: String,
    cues: Vec<Cue>,
    /// Cues of the executor that recovers; there is a crash if there are some.
    recovery: Option<Vec<Cue>>,
    expected: Expected,
}

/// What a case must end in.
#[derive(Clone)]
enum Expected {
    /// The saga fails, and everything but the generations is as before.
    AsBefore,
    /// The rows that the uninterrupted run gives, and its state of the saga.
    Same(Arc<Run>),
}

/// What a run gave.
#[derive(Debug)]
struct Run {
    before: Value,
    after: Value,
    state: String,
    points: Vec<Point>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_every_saga_over_every_commit() {
    let mut cases = Vec::new();
    for definition in registry::builtin().all() {
        cases.extend(cases_of(definition).await);
    }
    let count = cases.len();
    let lines = stream::iter(cases).map(check).buffer_unordered(AT_ONCE);
    let mut lines: Vec<String> = lines.collect().await;
    lines.sort();
    // Not by `println!`, which the test runner keeps to itself: the table is what the suite is run for.
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\n{:<16} {:<10} {:<44} {:>6}",
        "saga", "node", "case", "ms"
    )
    .unwrap();
    for line in &lines {
        writeln!(out, "{line}").unwrap();
    }
    assert_eq!(lines.len(), count);
    assert!(
        count >= registry::builtin().all().len() * 10,
        "only {count} cases"
    );
}

/// The cases of one saga, from what its uninterrupted runs pass.
async fn cases_of(definition: &Arc<Definition>) -> Vec<Case> {
    let success = Arc::new(run(definition, Vec::new(), None).await);
    assert_eq!(
        success.state, "succeeded",
        "{} does not succeed by itself",
        definition.name
    );
    assert_ne!(
        success.before, success.after,
        "{} has no effect",
        definition.name
    );
    let same = Expected::Same(Arc::clone(&success));
    let case = |node: &str, name: &str, cues, recovery, expected| Case {
        definition: Arc::clone(definition),
        node: node.to_owned(),
        name: name.to_owned(),
        cues,
        recovery,
        expected,
    };
    let mut cases = vec![case("", "success", Vec::new(), None, same.clone())];
    for point in &success.points {
        let cues = vec![Cue::halt(point)];
        cases.push(case(
            &point.what,
            &crash("forward", point),
            cues,
            Some(Vec::new()),
            same.clone(),
        ));
    }
    for (index, node) in definition.node_names().enumerate() {
        let repeat = vec![Cue::repeat(Commit::Action, node)];
        cases.push(case(node, "repeated", repeat, None, same.clone()));
        let fail = Cue::fail(node);
        cases.push(case(
            node,
            "failed",
            vec![fail.clone()],
            None,
            Expected::AsBefore,
        ));
        let failure = Arc::new(run(definition, vec![fail.clone()], None).await);
        for undone in definition
            .node_names()
            .take(index)
            .filter(|n| definition.is_undoable(n))
        {
            let cues = vec![fail.clone(), Cue::repeat(Commit::Undo, undone)];
            let name = format!("undo repeated, {node} failed");
            cases.push(case(
                undone,
                &name,
                cues,
                None,
                Expected::Same(Arc::clone(&failure)),
            ));
        }
        for point in &failure.points {
            let cues = vec![fail.clone(), Cue::halt(point)];
            // The halt comes first, should both be at one point.
            let cues = cues.into_iter().rev().collect();
            let name = crash(&format!("{node} failed"), point);
            let same = Expected::Same(Arc::clone(&failure));
            cases.push(case(
                &point.what,
                &name,
                cues,
                Some(vec![fail.clone()]),
                same,
            ));
        }
    }
    cases
}

fn crash(way: &str, point: &Point) -> String {
    let side = if point.side == Side::Before {
        "before"
    } else {
        "after"
    };
    let commit = format!("{:?}", point.commit).to_lowercase();
    format!("{way}, crash {side} {commit}")
}

/// Runs a case, compares, and gives its line of the table.
async fn check(case: Case) -> String {
    let begun = Instant::now();
    let Case {
        definition,
        node,
        name,
        cues,
        recovery,
        expected,
    } = case;
    let title = format!("{:<16} {:<10} {:<44}", definition.name, node, name);
    let given = run(&definition, cues, recovery).await;
    match expected {
        Expected::AsBefore => {
            assert_eq!(given.state, "failed", "{title}");
            assert_eq!(
                without_generations(given.before),
                without_generations(given.after),
                "{title}"
            );
        }
        Expected::Same(uninterrupted) => {
            assert_eq!(given.state, uninterrupted.state, "{title}");
            assert_eq!(given.after, uninterrupted.after, "{title}");
        }
    }
    format!("{title} {:>6}", begun.elapsed().as_millis())
}

/// Runs a saga's example in a database of its own under `cues`; if it is halted, a second executor
/// recovers it under the cues of `recovery`.
async fn run(definition: &Definition, cues: Vec<Cue>, recovery: Option<Vec<Cue>>) -> Run {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let script = Arc::new(Script::default());
    let options = |probe: &Arc<Script>| ExecutorOptions {
        probe: Arc::clone(probe) as _,
        ..ExecutorOptions::default()
    };
    let first = Executor::start(pools.clone(), options(&script))
        .await
        .unwrap();
    let fixture = fixture::replayed(&first).await;
    let before = effects(&database).await;
    script.set(cues);

    let (params, subject) = definition.example(&fixture).unwrap();
    let mut submitted = first
        .submit_any(definition.name, params, subject, "replay", Start::Durable)
        .await
        .unwrap();
    let outcome = submitted.outcome().await;
    let points = script.passed();
    assert_eq!(
        matches!(outcome, Outcome::Lost),
        recovery.is_some(),
        "{outcome:?}"
    );

    // The first one is dead: it says nothing more, and its lease is over.
    first.stop();
    let end = Batch::new().step(query::executor::end(first.id()));
    end.commit(&pools.writes).await.unwrap();
    if let Some(cues) = recovery {
        script.set(cues);
        let second = Executor::start(database.pools(), options(&script))
            .await
            .unwrap();
        let unfinished = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
        database
            .eventually("the saga ends", async || {
                database.number(unfinished).await == 0
            })
            .await;
        assert_eq!(second.drain(Duration::from_secs(10)).await, 0);
    }
    let state: String = database
        .client()
        .await
        .query_one("SELECT state FROM saga WHERE id = $1", &[&submitted.id()])
        .await
        .unwrap()
        .get(0);
    let after = effects(&database).await;
    database.assert_books_balance().await;
    Run {
        before,
        after,
        state,
        points,
    }
}

async fn effects(database: &TestDatabase) -> Value {
    let text: String = database
        .client()
        .await
        .query_one(EFFECTS, &[])
        .await
        .unwrap()
        .get(0);
    serde_json::from_str(&text).unwrap()
}

fn without_generations(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.remove("generation");
            for member in members.values_mut() {
                *member = without_generations(member.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_generations(item.take());
            }
        }
        _ => {}
    }
    value
}
