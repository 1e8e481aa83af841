//! Undos that are given up: the saga waits for a person, is left alone until then, and goes on when told.

use metrics_exporter_prometheus::PrometheusBuilder;
use nexus_tests::log::Log;
use nexus_tests::metric;
use nexus_tests::outside::Fault;
use nexus_tests::trial::{
    Deed, Ground, Item, definition, ended, key_outside, quick, stages_of, submit,
};
use reqwest::Method;
use sagas::definition::Definition;
use sagas::{Cause, Outcome, Start};

/// A call of node `n00`, and a row.
fn trial() -> Definition {
    let items = [Item::External(0), Item::Last(1)];
    definition("trial-stuck", &stages_of(items), quick).unwrap()
}

#[tokio::test]
async fn an_undo_that_never_succeeds_is_given_up_with_reason_log_and_metric_and_goes_on_when_told()
{
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let (log, _listening) = Log::listen();
    let ground = Ground::new().await;
    let first = ground.executor(vec![trial()]).await;
    let refuse = Fault::Refuse.to("n00:");
    ground.outside.on(refuse.only(Method::DELETE).always());
    let params = ground.params().with(1, Deed::Refuse);
    let mut submitted = submit(&first, "trial-stuck", &params, Start::Durable).await;
    let outcome = ended(&mut submitted).await;
    let Outcome::Stuck(failure) = outcome else {
        panic!("not stuck: {outcome:?}");
    };
    assert!(matches!(failure.cause, Cause::Refused(_)), "{failure}");
    let (id, key) = (submitted.id(), key_outside(submitted.id(), "n00"));
    assert_eq!(ground.saga(id).await.unwrap(), ("stuck".to_owned(), 1));
    assert_eq!(ground.outside.count(&key, &Method::DELETE), 4);
    let events = ground.assert_log_is_whole(id).await;
    let given_up = events.last().unwrap();
    assert_eq!(
        (given_up.kind.as_str(), given_up.phase, given_up.attempts),
        ("undo_failed", 4, 4)
    );
    assert_eq!(given_up.data["cause"]["call"]["class"], "refused");
    let counted = r#"nexus_sagas_total{saga="trial-stuck",outcome="stuck"}"#;
    let text = recorder.handle().render();
    assert_eq!(metric(&text, counted), 1, "{text}");
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("ERROR"));
    assert_eq!(
        lines.filter(|line| line.contains(&id.to_string())).count(),
        1,
        "{text}"
    );

    // Another process takes over what its neighbour has left, and not this.
    ground.outside.script("n00:", [Fault::HangBeforeEffect]);
    let left = submit(&first, "trial-stuck", &ground.params(), Start::Durable).await;
    ground.outside.hang(1).await;
    ground.declare_dead(&first).await;
    let _second = ground.executor(vec![trial()]).await;
    assert_eq!(ground.ends(left.id()).await, "succeeded");
    assert_eq!(ground.saga(id).await.unwrap(), ("stuck".to_owned(), 1));
    assert_eq!(ground.outside.count(&key, &Method::DELETE), 4);

    // The reason has gone, and a person says so.
    ground.outside.clear();
    ground.retry(id).await;
    assert_eq!(ground.ends(id).await, "failed");
    assert!(!ground.outside.effects().contains(&key));
    let events = ground.assert_log_is_whole(id).await;
    let phases = events
        .iter()
        .map(|event| (event.kind.as_str(), event.phase));
    let undos: Vec<_> = phases
        .filter(|(kind, _)| kind.starts_with("undo"))
        .collect();
    assert_eq!(
        undos,
        [
            ("undo_started", 3),
            ("undo_failed", 5),
            ("undo_finished", 4)
        ]
    );
    assert_eq!(ground.count().await, 1);
    ground.outside.release();
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_of_rows_that_the_database_refuses_is_given_up_and_goes_on_when_told() {
    let ground = Ground::new().await;
    let items = [Item::Db(0), Item::Db(1), Item::Last(2)];
    let trial = definition("trial", &stages_of(items), quick).unwrap();
    let executor = ground.executor(vec![trial]).await;
    ground
        .sql("ALTER TABLE trial ADD CONSTRAINT trial_no_undo CHECK (kind <> 'undo' OR slot <> 0)")
        .await;
    let params = ground.params().with(2, Deed::Break);
    let mut submitted = submit(&executor, "trial", &params, Start::Durable).await;
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Stuck(_)), "{outcome:?}");
    let id = submitted.id();
    assert_eq!(ground.effects(id).await, [(0, (1, 0)), (1, (1, 1))].into());
    for round in 1..=2_i16 {
        let events = ground.assert_log_is_whole(id).await;
        let given_up = events.iter().filter(|event| event.kind == "undo_failed");
        let given_up: Vec<_> = given_up
            .map(|event| (event.phase, event.attempts))
            .collect();
        let now = (4, 4);
        let all = [vec![(5, 4); usize::from(round == 2)], vec![now]].concat();
        assert_eq!(given_up, all);
        assert_eq!(
            events.last().unwrap().data["cause"]["unexpected"]["constraint"],
            "trial_no_undo"
        );
        if round == 1 {
            ground.retry(id).await;
            ground.becomes(id, "stuck").await;
        }
    }
    ground
        .sql("ALTER TABLE trial DROP CONSTRAINT trial_no_undo")
        .await;
    ground.retry(id).await;
    assert_eq!(ground.ends(id).await, "failed");
    assert_eq!(ground.effects(id).await, [(0, (1, 1)), (1, (1, 1))].into());
    assert_eq!(ground.count().await, 0);
    ground.assert_log_is_whole(id).await;
    ground.database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_is_told_to_go_on_while_it_runs_is_taken_from_whoever_runs_it_at_once() {
    let ground = Ground::new().await;
    let executor = ground.executor(vec![trial()]).await;
    ground.outside.script("n00:", [Fault::HangBeforeEffect]);
    let mut submitted = submit(&executor, "trial-stuck", &ground.params(), Start::Durable).await;
    ground.outside.hang(1).await;
    ground.retry(submitted.id()).await;
    // The same process takes it up again, beside its own call that hangs.
    assert_eq!(ground.ends(submitted.id()).await, "succeeded");
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    let key = key_outside(submitted.id(), "n00");
    let tokens = ground.outside.tokens(&key);
    assert_eq!(tokens.len(), 2);
    assert!(tokens[0] < tokens[1], "{tokens:?}");
    assert_eq!(ground.outside.made(&key), 1);
    assert_eq!(ground.effects(submitted.id()).await, [(1, (1, 0))].into());
    ground.assert_log_is_whole(submitted.id()).await;
    ground.database.assert_books_balance().await;
}
