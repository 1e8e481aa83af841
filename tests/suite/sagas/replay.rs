//! The replay suite: every saga of the registry over every commit of its way.
//!
//! For each saga, once with its row made durable first and once with the row in its first batch: its
//! success; every set of nodes repeated; every node told that it failed after its effect; every node failed
//! in turn, which must leave everything as it was, with every set of undos repeated; a crash before and
//! after every commit, forward and unwinding, from which a second executor recovers to exactly what the
//! uninterrupted run gives; and a crash of the second one too, behind every commit that it gets to. The cases
//! come from the registry and from the points that a run passes, so a new saga is covered the moment it is
//! registered.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::Database;
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
const AT_ONCE: usize = 12;

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
    start: Start,
    /// Cues of each executor in turn: all but the last one's saga is halted.
    lives: Vec<Vec<Cue>>,
    expected: Expected,
}

/// What a case must end in.
#[derive(Clone)]
enum Expected {
    /// The saga fails, and everything but the generations is as before.
    AsBefore,
    /// The rows that the uninterrupted run gives, and its state of the saga.
    Same(Arc<Run>),
    /// There never was a saga, and nothing changed.
    Nothing,
}

/// What a run gave.
#[derive(Debug)]
struct Run {
    before: Value,
    after: Value,
    /// How the saga ended, or that there is none.
    state: Option<String>,
    /// The points that the last executor passed.
    points: Vec<Point>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_every_saga_over_every_commit() {
    let starts = [Start::Durable, Start::Riding];
    let all = registry::builtin().all().iter();
    let all = all.flat_map(|definition| starts.map(|start| (definition, start)));
    let found = stream::iter(all).map(|(definition, start)| Cases::of(definition, start));
    let found: Vec<_> = found.buffer_unordered(AT_ONCE).collect().await;
    let (mut cases, mut again) = (Vec::new(), Vec::new());
    for of_one in found {
        cases.extend(of_one.cases);
        again.extend(of_one.again);
    }
    let again = stream::iter(again)
        .map(Again::cases)
        .buffer_unordered(AT_ONCE);
    cases.extend(again.collect::<Vec<_>>().await.into_iter().flatten());
    let count = cases.len();
    let lines = stream::iter(cases).map(check).buffer_unordered(AT_ONCE);
    let mut lines: Vec<String> = lines.collect().await;
    lines.sort();
    // Not by `println!`, which the test runner keeps to itself: the table is what the suite is run for.
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\n{:<16} {:<8} {:<18} {:<52} {:>6}",
        "saga", "start", "node", "case", "ms"
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
struct Cases {
    definition: Arc<Definition>,
    start: Start,
    nodes: Vec<String>,
    cases: Vec<Case>,
    again: Vec<Again>,
}

impl Cases {
    async fn of(definition: &Arc<Definition>, start: Start) -> Self {
        let mut cases = Self {
            definition: Arc::clone(definition),
            start,
            nodes: definition.node_names().map(str::to_owned).collect(),
            cases: Vec::new(),
            again: Vec::new(),
        };
        cases.forward().await;
        for failing in 0..cases.nodes.len() {
            cases.failing(failing).await;
        }
        cases
    }

    fn add(&mut self, node: &str, name: String, lives: Vec<Vec<Cue>>, expected: Expected) {
        self.cases.push(Case {
            definition: Arc::clone(&self.definition),
            node: node.to_owned(),
            name,
            start: self.start,
            lives,
            expected,
        });
    }

    async fn run(&self, lives: Vec<Vec<Cue>>) -> Run {
        run(&self.definition, self.start, lives).await
    }

    /// What a run that fails at a node leaves: nothing at all where that is the batch with the row.
    fn undone(&self, failing: usize) -> Expected {
        match (self.start, failing) {
            (Start::Riding, 0) => Expected::Nothing,
            _ => Expected::AsBefore,
        }
    }

    async fn forward(&mut self) {
        let success = Arc::new(self.run(vec![Vec::new()]).await);
        let name = self.definition.name;
        assert_eq!(
            success.state.as_deref(),
            Some("succeeded"),
            "{name} does not succeed by itself"
        );
        assert_ne!(success.before, success.after, "{name} has no effect");
        let same = Expected::Same(Arc::clone(&success));
        self.add("", "success".to_owned(), vec![Vec::new()], same.clone());
        for set in sets(&self.nodes) {
            let cues = set.iter().map(|node| Cue::repeat(Commit::Action, node));
            self.add(
                &set.join("+"),
                "repeated".to_owned(),
                vec![cues.collect()],
                same.clone(),
            );
        }
        for node in self.nodes.clone() {
            let cues = vec![Cue::fail_after(&node)];
            self.add(
                &node,
                "failed after its effect".to_owned(),
                vec![cues],
                same.clone(),
            );
        }
        for (index, point) in success.points.iter().enumerate() {
            let unborn = self.start == Start::Riding && index == 0;
            let expected = if unborn {
                Expected::Nothing
            } else {
                same.clone()
            };
            let lives = if unborn {
                vec![vec![Cue::halt(point)]]
            } else {
                vec![vec![Cue::halt(point)], Vec::new()]
            };
            self.add(&point.what, crash("forward", point), lives, expected);
            if !unborn {
                self.crashed_again(&crash("forward", point), &[], point, &success);
            }
        }
    }

    async fn failing(&mut self, failing: usize) {
        let node = self.nodes[failing].clone();
        let fail = Cue::fail(&node);
        self.add(
            &node,
            "failed".to_owned(),
            vec![vec![fail.clone()]],
            self.undone(failing),
        );
        if matches!(self.undone(failing), Expected::Nothing) {
            return;
        }
        let failure = Arc::new(self.run(vec![vec![fail.clone()]]).await);
        let same = Expected::Same(Arc::clone(&failure));
        let undoable: Vec<_> = self.nodes[..failing]
            .iter()
            .filter(|node| self.definition.is_undoable(node))
            .cloned()
            .collect();
        for set in sets(&undoable) {
            let repeats = set.iter().map(|node| Cue::repeat(Commit::Undo, node));
            let cues = [fail.clone()].into_iter().chain(repeats).collect();
            let name = format!("undo repeated, {node} failed");
            self.add(&set.join("+"), name, vec![cues], same.clone());
        }
        for (index, point) in failure.points.iter().enumerate() {
            if self.start == Start::Riding && index == 0 {
                continue;
            }
            // The halt comes first, should both be at one point.
            let cues = vec![Cue::halt(point), fail.clone()];
            let name = crash(&format!("{node} failed"), point);
            self.add(
                &point.what,
                name.clone(),
                vec![cues, vec![fail.clone()]],
                same.clone(),
            );
            self.crashed_again(&name, std::slice::from_ref(&fail), point, &failure);
        }
    }

    /// Notes a crash whose recovery shall crash too. Only behind commits: a crash before one finds what a
    /// crash behind the one before it leaves.
    fn crashed_again(&mut self, name: &str, cues: &[Cue], point: &Point, same: &Arc<Run>) {
        if point.side == Side::Before {
            return;
        }
        self.again.push(Again {
            definition: Arc::clone(&self.definition),
            start: self.start,
            name: name.to_owned(),
            cues: cues.to_vec(),
            point: point.clone(),
            same: Arc::clone(same),
        });
    }
}

/// A crash whose recovery shall crash too, at each point that it gets to.
struct Again {
    definition: Arc<Definition>,
    start: Start,
    name: String,
    cues: Vec<Cue>,
    point: Point,
    same: Arc<Run>,
}

impl Again {
    async fn cases(self) -> Vec<Case> {
        let then = |point: &Point| -> Vec<Cue> {
            // The halt comes first, should both be at one point.
            [Cue::halt(point)]
                .into_iter()
                .chain(self.cues.clone())
                .collect()
        };
        let first = then(&self.point);
        let lives = vec![first.clone(), self.cues.clone()];
        let recovered = run(&self.definition, self.start, lives).await;
        recovered
            .points
            .iter()
            .filter(|again| again.side == Side::After)
            .map(|again| Case {
                definition: Arc::clone(&self.definition),
                node: self.point.what.clone(),
                name: format!("{}, {}", self.name, crash("then", again)),
                start: self.start,
                lives: vec![first.clone(), then(again), self.cues.clone()],
                expected: Expected::Same(Arc::clone(&self.same)),
            })
            .collect()
    }
}

/// Every set of some of these, from one of them to all.
fn sets(nodes: &[String]) -> Vec<Vec<String>> {
    (1_u32..1 << nodes.len())
        .map(|set| {
            let has = |index: &usize| set & (1 << index) != 0;
            (0..nodes.len())
                .filter(has)
                .map(|index| nodes[index].clone())
                .collect()
        })
        .collect()
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
        start,
        lives,
        expected,
    } = case;
    let row = format!("{start:?}").to_lowercase();
    let title = format!("{:<16} {row:<8} {node:<18} {name:<52}", definition.name);
    let given = run(&definition, start, lives).await;
    match expected {
        Expected::AsBefore => {
            assert_eq!(given.state.as_deref(), Some("failed"), "{title}");
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
        Expected::Nothing => {
            assert_eq!(given.state, None, "{title}");
            assert_eq!(given.before, given.after, "{title}");
        }
    }
    format!("{title} {:>6}", begun.elapsed().as_millis())
}

/// Runs a saga's example in a database of its own. Each executor but the last is halted by its cues, and the
/// next one recovers under its own.
async fn run(definition: &Definition, start: Start, lives: Vec<Vec<Cue>>) -> Run {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let script = Arc::new(Script::default());
    let options = |probe: &Arc<Script>| ExecutorOptions {
        probe: Arc::clone(probe) as _,
        // It is looked for what the dead have left twice in this time.
        heartbeat_interval: Duration::from_millis(200),
        ..ExecutorOptions::default()
    };
    let mut executor = Executor::start(pools.clone(), options(&script))
        .await
        .unwrap();
    let fixture = fixture::replayed(&executor).await;
    let before = effects(&database).await;
    let deaths = lives.len() - 1;
    let mut lives = lives.into_iter();
    script.set(lives.next().unwrap());

    let (params, subject) = definition.example(&fixture).unwrap();
    let mut submitted = executor
        .submit_any(definition.name, params, subject, "replay", start)
        .await
        .unwrap();
    let outcome = submitted.outcome().await;
    let halted = matches!(outcome, Outcome::Lost);
    assert!(halted || deaths == 0, "{outcome:?}");
    for cues in lives {
        // The one before is dead: it says nothing more, and its lease is over.
        die(&executor, &pools).await;
        script.set(cues);
        executor = Executor::start(database.pools(), options(&script))
            .await
            .unwrap();
        let ended = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
        database
            .eventually("the saga ends, or is halted", async || {
                database.number(ended).await == 0 || script.halted()
            })
            .await;
    }
    let points = script.passed();
    if deaths > 0 {
        assert_eq!(executor.drain(Duration::from_secs(10)).await, 0);
    } else {
        die(&executor, &pools).await;
    }
    let state = database
        .client()
        .await
        .query_opt("SELECT state FROM saga WHERE id = $1", &[&submitted.id()])
        .await
        .unwrap()
        .map(|row| row.get(0));
    let after = effects(&database).await;
    database.assert_books_balance().await;
    Run {
        before,
        after,
        state,
        points,
    }
}

async fn die(executor: &Executor, pools: &Database) {
    executor.stop();
    let end = Batch::new().step(query::executor::end(executor.id()));
    end.commit(&pools.writes).await.unwrap();
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
