//! Sagas that do not get on: seen, counted and told once, and forgotten when they go on.

use std::sync::Arc;
use std::time::Duration;

use db_model::metrics::{SAGAS_STALLED, SAGAS_STALLED_TOTAL};
use metrics_exporter_prometheus::PrometheusBuilder;
use nexus_tests::log::Log;
use nexus_tests::outside::Fault;
use nexus_tests::trial::{Ground, Item, ended, quick, stages_of, subject, submit, table};
use nexus_tests::{eventually, metric};
use sagas::definition::Definition;
use sagas::registry::Registry;
use sagas::{Executor, ExecutorOptions, Outcome, Start};
use serde_json::Value;

#[tokio::test]
async fn a_saga_of_which_nothing_is_recorded_is_counted_and_told_once_and_gone_when_it_goes_on() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let (log, _listening) = Log::listen();
    let ground = Ground::new().await;
    let nodes = table(&stages_of([Item::External(0), Item::Last(1)]), quick);
    let after = Duration::from_secs(1);
    let trial = Definition::new("trial-stalled", nodes, after, |_| {
        Ok((Value::Null, subject()))
    });
    let options = ExecutorOptions {
        registry: Arc::new(Registry::new([trial]).unwrap()),
        watchdog_interval: Duration::from_millis(50),
        ..ExecutorOptions::default()
    };
    let executor = Executor::start(ground.database.pools(), options)
        .await
        .unwrap();
    ground.outside.script("n00:", [Fault::HangBeforeEffect]);
    let mut submitted = submit(&executor, "trial-stalled", &ground.params(), Start::Riding).await;
    ground.outside.hang(1).await;
    let stalled = || metric(&handle.render(), SAGAS_STALLED);
    let counted = format!(r#"{SAGAS_STALLED_TOTAL}{{saga="trial-stalled"}}"#);
    let id = submitted.id().to_string();
    let told = || {
        let text = log.text();
        let lines = text
            .lines()
            .filter(|line| line.contains("WARN") && line.contains("is stalled"));
        lines.filter(|line| line.contains(&id)).count()
    };
    assert_eq!((stalled(), told()), (0, 0), "it has only begun");
    eventually("it is stalled", async || stalled() == 1).await;
    eventually("it is told", async || told() == 1).await;
    // Many looks later it is still stalled, and that is no news.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        (stalled(), metric(&handle.render(), &counted), told()),
        (1, 1, 1)
    );
    ground.outside.release();
    let outcome = ended(&mut submitted).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    eventually("it is forgotten", async || stalled() == 0).await;
    assert_eq!(metric(&handle.render(), &counted), 1);
    ground.database.assert_books_balance().await;
}
