//! Nodes that call out, against a service that counts, delays, fails, hangs and answers twice.

use std::time::Duration;

use nexus_tests::outside::Fault;
use nexus_tests::trial::{
    Deed, Event, Ground, Item, Params, definition, ended, key_outside, quick, stages_of, submit,
};
use reqwest::Method;
use sagas::definition::{Definition, ErrorClass, Kind, Policy};
use sagas::{Cause, Executor, Failure, Outcome, Start, SubmittedAny};
use serde_json::Value;

/// Longer than a call of these takes, shorter than one that is late.
const SHORT: Duration = Duration::from_millis(400);

/// A row, a call of node `n01`, and a row with which the saga ends.
fn trial() -> Definition {
    tried(quick)
}

fn tried(policy: fn(&mut Policy)) -> Definition {
    let items = [Item::Db(0), Item::External(1), Item::Last(2)];
    definition("trial", &stages_of(items), policy).unwrap()
}

/// Calls and computations end soon, and are not tried often.
fn short(policy: &mut Policy) {
    let is_db = *policy == Policy::of(Kind::Db);
    quick(policy);
    policy.attempts_max = 2;
    if !is_db {
        policy.timeout = SHORT;
    }
}

async fn run(executor: &Executor, params: &Params) -> (SubmittedAny, Outcome<Value>) {
    let mut submitted = submit(executor, "trial", params, Start::Durable).await;
    let outcome = ended(&mut submitted).await;
    (submitted, outcome)
}

fn failure(outcome: Outcome<Value>) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("did not fail: {other:?}"),
    }
}

/// The class of a failed call, and how often it was tried.
fn class(outcome: Outcome<Value>) -> (ErrorClass, Option<u32>) {
    let failure = failure(outcome);
    assert_eq!(failure.node, "n01");
    match failure.cause {
        Cause::Call { class, .. } => (class, failure.attempts),
        other => panic!("no call failed: {other:?}"),
    }
}

fn event<'a>(log: &'a [Event], node_id: i64, kind: &str) -> &'a Event {
    let found = log
        .iter()
        .find(|event| event.node_id == node_id && event.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind} of node {node_id}: {log:#?}"))
}

/// Nothing is left of a failed trial: neither here nor outside, and the call's undo has run.
async fn assert_undone(ground: &Ground, submitted: &SubmittedAny) {
    let id = submitted.id();
    let key = key_outside(id, "n01");
    assert_eq!(ground.saga(id).await.unwrap().0, "failed");
    assert_eq!(ground.count().await, 0);
    assert_eq!(ground.effects(id).await, [(0, (1, 1))].into());
    ground.outside.idle().await;
    assert!(ground.outside.effects().is_empty());
    assert_eq!(ground.outside.count(&key, &Method::DELETE), 1);
    let log = ground.assert_log_is_whole(id).await;
    for kind in ["started", "failed", "undo_started", "undo_finished"] {
        event(&log, 1, kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_or_is_not_answered_is_made_again_under_its_key_with_one_effect() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    for fault in [
        Fault::FailAfterEffect,
        Fault::FailBeforeEffect,
        Fault::CutInAnswer,
    ] {
        ground.outside.script("n01:", [fault]);
        let (submitted, outcome) = run(&executor, &ground.params()).await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        let key = key_outside(submitted.id(), "n01");
        let calls = ground.outside.calls(&key);
        assert_eq!(calls.len(), 2, "{fault:?}");
        assert!(calls.iter().all(|call| call.token == 1));
        assert_eq!(ground.outside.made(&key), 1);
        let log = ground.assert_log_is_whole(submitted.id()).await;
        assert_eq!(event(&log, 1, "succeeded").attempts, 2);
    }
    assert_eq!(ground.count().await, 6);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_twice_is_one() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    ground.outside.script("n01:", [Fault::AnswerTwice]);
    let (submitted, outcome) = run(&executor, &ground.params()).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    let key = key_outside(submitted.id(), "n01");
    assert_eq!(
        (ground.outside.calls(&key).len(), ground.outside.made(&key)),
        (1, 1)
    );
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_late_is_made_again_and_has_one_effect() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![tried(|policy| {
        short(policy);
        policy.attempts_max = 20;
    })]);
    let executor = executor.await;
    ground.outside.script("n01:", [Fault::Delay(SHORT * 2)]);
    let (submitted, outcome) = run(&executor, &ground.params()).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    ground.outside.idle().await;
    let key = key_outside(submitted.id(), "n01");
    assert!(ground.outside.calls(&key).len() >= 2);
    assert_eq!(ground.outside.made(&key), 1);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_always_late_fails_as_timed_out_and_its_late_effects_do_not_come() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![tried(short)]).await;
    let late = Fault::Delay(SHORT * 3).to("n01:");
    ground.outside.on(late.only(Method::POST).always());
    let (submitted, outcome) = run(&executor, &ground.params()).await;
    assert_eq!(class(outcome), (ErrorClass::TimedOut, Some(2)));
    assert_undone(&ground, &submitted).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_is_not_made_again_and_undone_all_the_same() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    ground
        .outside
        .on(Fault::Refuse.to("n01:").only(Method::POST).always());
    let (submitted, outcome) = run(&executor, &ground.params()).await;
    assert_eq!(class(outcome), (ErrorClass::Refused, Some(1)));
    let key = key_outside(submitted.id(), "n01");
    assert_eq!(ground.outside.count(&key, &Method::POST), 1);
    assert_undone(&ground, &submitted).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_after_its_effect_is_undone() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    let params = ground.params().with(1, Deed::Break);
    let (submitted, outcome) = run(&executor, &params).await;
    assert_eq!(class(outcome), (ErrorClass::Refused, Some(1)));
    assert_eq!(ground.outside.made(&key_outside(submitted.id(), "n01")), 1);
    assert_undone(&ground, &submitted).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_never_succeeds_fails_after_its_attempts_and_is_undone() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    ground.outside.on(Fault::FailAfterEffect
        .to("n01:")
        .only(Method::POST)
        .always());
    let (submitted, outcome) = run(&executor, &ground.params()).await;
    assert_eq!(class(outcome), (ErrorClass::Unavailable, Some(4)));
    let key = key_outside(submitted.id(), "n01");
    assert_eq!(ground.outside.count(&key, &Method::POST), 4);
    let log = ground.log(submitted.id()).await;
    let failed = event(&log, 1, "failed");
    assert_eq!(failed.attempts, 4);
    assert_eq!(failed.data["cause"]["call"]["class"], "unavailable");
    assert_undone(&ground, &submitted).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_panics_fails_and_is_undone() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    let params = ground.params().with(1, Deed::Panic);
    let (submitted, outcome) = run(&executor, &params).await;
    assert_eq!(class(outcome), (ErrorClass::Panicked, Some(1)));
    assert_undone(&ground, &submitted).await;
    // The process lives on.
    let (_, outcome) = run(&executor, &ground.params()).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_panics_or_computes_too_long_fails_and_what_was_done_is_undone() {
    let ground = Ground::new().await;
    let items = [Item::Db(0), Item::Pure(1), Item::Last(2)];
    let trial = definition("trial", &stages_of(items), |policy| {
        short(policy);
        policy.attempts_max = 1;
    });
    let executor = ground.executor(vec![trial.unwrap()]).await;
    let slow = Deed::Slow(u64::try_from(SHORT.as_millis()).unwrap() * 2);
    for (slot, deed) in [
        (1, slow),
        (1, Deed::Panic),
        (1, Deed::Refuse),
        (2, Deed::Panic),
    ] {
        let params = ground.params().with(slot, deed);
        let (submitted, outcome) = run(&executor, &params).await;
        let failure = failure(outcome);
        let timed_out = matches!(
            failure.cause,
            Cause::Call {
                class: ErrorClass::TimedOut,
                ..
            }
        );
        assert_eq!(timed_out, deed == slow, "{failure}");
        assert_eq!(
            failure.to_string().contains("panicked"),
            deed == Deed::Panic,
            "{failure}"
        );
        let effects = ground.effects(submitted.id()).await;
        assert_eq!(effects, [(0, (1, 1))].into(), "{deed:?}");
        ground.assert_log_is_whole(submitted.id()).await;
    }
    assert_eq!(ground.count().await, 0);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_calls_with_a_higher_token_and_the_dead_ones_late_call_is_refused() {
    let ground = Ground::new().await;
    let first = ground.executor(vec![trial()]).await;
    ground.outside.script("n01:", [Fault::HangBeforeEffect]);
    let mut submitted = submit(&first, "trial", &ground.params(), Start::Durable).await;
    ground.outside.hang(1).await;
    ground.declare_dead(&first).await;
    let second = ground.executor(vec![trial()]).await;
    assert_eq!(ground.ends(submitted.id()).await, "succeeded");
    // Only now the call of the dead one gets on.
    ground.outside.release();
    ground.outside.idle().await;
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    let key = key_outside(submitted.id(), "n01");
    let tokens = ground.outside.calls(&key);
    let tokens: Vec<_> = tokens
        .iter()
        .map(|call| (call.method.clone(), call.token))
        .collect();
    assert_eq!(tokens, [(Method::POST, 1), (Method::POST, 2)]);
    assert_eq!(ground.outside.made(&key), 1);
    assert_eq!(
        ground.saga(submitted.id()).await.unwrap(),
        ("succeeded".to_owned(), 2)
    );
    assert_eq!(ground.count().await, 2);
    let log = ground.assert_log_is_whole(submitted.id()).await;
    assert!(log.iter().all(|event| event.kind != "failed"), "{log:?}");
    assert_eq!(second.drain(Duration::from_secs(5)).await, 0);
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_whose_process_dies_over_it_is_called_again_with_a_higher_token() {
    let ground = Ground::new().await;
    let first = ground.executor(vec![trial()]).await;
    let hang = Fault::HangAfterEffect.to("n01:");
    ground.outside.on(hang.only(Method::DELETE));
    let params = ground.params().with(2, Deed::Refuse);
    let mut submitted = submit(&first, "trial", &params, Start::Durable).await;
    ground.outside.hang(1).await;
    ground.declare_dead(&first).await;
    let _second = ground.executor(vec![trial()]).await;
    assert_eq!(ground.ends(submitted.id()).await, "failed");
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    let key = key_outside(submitted.id(), "n01");
    let tokens = ground.outside.tokens(&key);
    assert_eq!(tokens, [1, 1, 2]);
    assert!(ground.outside.effects().is_empty());
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(submitted.id()).await;
    ground.database.assert_books_balance().await;
}
