//! What a process has counted.

use db_model::metrics::{COUNTERS, GAUGES};
use db_model::types::limits::BATCH_ATTEMPTS_MAX;
use nexus_tests::fault::Faults;
use nexus_tests::process::Program;
use nexus_tests::proxy::Trouble;
use nexus_tests::{TestDatabase, TestService};
use reqwest::Method;
use serde_json::json;

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

#[test]
fn every_metric_is_in_the_document_and_no_other() {
    let mut known: Vec<_> = COUNTERS
        .iter()
        .chain(GAUGES)
        .map(|metric| metric.name)
        .collect();
    let rows = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `nexus_"));
    let mut written: Vec<_> = rows
        .map(|row| format!("nexus_{}", row.split('`').next().unwrap()))
        .collect();
    known.sort_unstable();
    written.sort_unstable();
    assert_eq!(known, written);
    assert!(
        COUNTERS
            .iter()
            .all(|counter| counter.name.ends_with("_total"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_a_retry_is_counted_and_after_the_cap_the_answer_is_503_with_retry_after() {
    const RETRIES: &str = r#"nexus_batch_retries_total{sqlstate="40001"}"#;
    let database = TestDatabase::new().await;
    let mut process = Program::server_on(&database.url().await).start().await;
    let faults = Faults::new(&database).await;
    faults.at("UPDATE ON fleet_quota").await;
    let limits = json!({ "projects": 7 });
    assert_eq!(process.metric(RETRIES).await, 0);

    faults.raise("40001", "", 3).await;
    let answer = process.put("/v1/fleet/quota", &limits).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(process.metric(RETRIES).await, 3);
    let conflicts = r#"nexus_batches_total{outcome="conflict"}"#;
    assert_eq!(process.metric(conflicts).await, 0);

    faults.raise("40001", "", 1_000).await;
    let answer = process.put("/v1/fleet/quota", &limits).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.body["error_code"], "unavailable");
    let again = u64::from(BATCH_ATTEMPTS_MAX) - 1;
    assert_eq!(process.metric(RETRIES).await, 3 + again);
    assert_eq!(process.metric(conflicts).await, 1);
    faults.clear().await;

    let created = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    let sagas = r#"nexus_sagas_total{saga="project-create",outcome="succeeded"}"#;
    assert_eq!(process.metric(sagas).await, 1);
    assert!(process.metric(r#"nexus_pool_slots{pool="writes"}"#).await > 0);
    assert_eq!(process.metric("nexus_sagas_running").await, 0);
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_to_a_batch_that_has_committed_is_no_defect() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let mut process = Program::server_on(proxy.url()).start().await;
    // In the insert of a saga, in a node of it, and in a change of one batch.
    proxy.on(Trouble::LoseReply.to("INSERT INTO saga ("));
    proxy.on(Trouble::LoseReply.to("INSERT INTO \"project\""));
    let create = process
        .request(Method::POST, "/v1/projects")
        .header("prefer", "respond-async, wait=30")
        .json(&json!({ "name": "web" }));
    let created = process.send(create).await;
    assert_eq!(created.status, 201, "{created:?}");
    proxy.on(Trouble::LoseReply.to("INSERT INTO \"event\""));
    let limits = json!({ "projects": 7 });
    let answer = process.put("/v1/fleet/quota", &limits).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(proxy.troubles(), 3);
    let ended = async |outcome: &str| {
        let batches = format!(r#"nexus_batches_total{{outcome="{outcome}"}}"#);
        process.metric(&batches).await
    };
    assert_eq!(ended("unexpected").await, 0, "defects are counted");
    assert_eq!(ended("recorded").await, 3);
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_services_of_one_process_share_its_metrics() {
    let (one, other) = (TestService::start().await, TestService::start().await);
    for service in [&one, &other] {
        let answer = service
            .client
            .get(service.admin_url("/metrics"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/plain"), "{kind}");
        let text = answer.text().await.unwrap();
        for name in [
            "nexus_batches_total",
            "nexus_pool_slots",
            "nexus_sagas_running",
        ] {
            assert!(
                text.contains(&format!("# TYPE {name} ")),
                "no {name}: {text}"
            );
        }
    }
    one.end().await;
    other.end().await;
}
