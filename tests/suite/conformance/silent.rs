//! Group E: no error is swallowed, mistaken for another, or told twice.

use db_model::batch::sqlstate::{self, Again, Answer, Blast};
use db_model::batch::{Batch, BatchError};
use nexus_tests::fault::Faults;
use nexus_tests::process::{Process, Program};
use nexus_tests::proxy::Trouble;
use nexus_tests::{TestDatabase, TestService};
use reqwest::Method;
use serde_json::{Value, json};

use super::sql;

/// The records of the level ERROR, of a process that is ended for it.
async fn errors(mut process: Process) -> Vec<Value> {
    let ended = process.terminate().await;
    let mut log = nexus_tests::process::records(&ended.stdout);
    log.retain(|record| record["level"] == "ERROR");
    log
}

#[track_caller]
fn assert_names(record: &Value, parts: &[&str]) {
    let text = record.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {record:#}");
    }
}

/// A fleet whose quota can be changed, and the process that does it.
struct Scene {
    database: TestDatabase,
    faults: Faults,
    process: Process,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let process = Program::server_on(&database.url().await).start().await;
        let faults = Faults::new(&database).await;
        Self {
            database,
            faults,
            process,
        }
    }

    async fn end(self) -> Vec<Value> {
        self.faults.clear().await;
        let errors = errors(self.process).await;
        self.database.assert_books_balance().await;
        errors
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e01_e05_e09_an_error_of_a_batch_is_one_record_with_all_that_is_known_of_it() {
    let scene = Scene::new().await;
    let (faults, process) = (&scene.faults, &scene.process);
    faults.at("UPDATE ON fleet_quota").await;
    // Conflicts first, so that the try that fails is not the first one.
    faults
        .sql("CREATE OR REPLACE FUNCTION fault() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('fault_count') <= 2 THEN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001'; END IF; \
             RAISE EXCEPTION 'nobody knows this' USING ERRCODE = 'ZZ999', CONSTRAINT = 'strange_key'; END $$")
        .await;
    let update = process
        .request(Method::PUT, "/v1/fleet/quota")
        .json(&json!({ "projects": 7 }));
    let answer = process.send(update.header("x-request-id", "unknown")).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("SQLSTATE ZZ999"), "{detail}");
    assert!(detail.contains("constraint strange_key"), "{detail}");
    let errors = scene.end().await;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_names(
        &errors[0],
        &[
            "unknown",
            "fleet_quota.set_limit (step",
            "try 3",
            "ZZ999",
            "nobody knows this",
            "strange_key",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e01_e09_an_error_of_an_operation_is_one_record_whether_or_not_somebody_waits() {
    let scene = Scene::new().await;
    let process = &scene.process;
    let check =
        "ALTER TABLE project ADD CONSTRAINT project_mood_check CHECK (description <> 'sad')";
    scene.faults.sql(check).await;
    let create = |name: &str, prefer: &str| {
        process
            .request(Method::POST, "/v1/projects")
            .json(&json!({ "name": name, "description": "sad" }))
            .header("x-request-id", name)
            .header("prefer", prefer)
    };
    let answer = process.send(create("waits", "wait=30")).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    // It was never more than a batch that failed.
    assert!(answer.body["operation_id"].is_null(), "{answer:?}");
    let answer = process.send(create("leaves", "respond-async")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/v1/operations/{}", answer.body["id"].as_str().unwrap());
    nexus_tests::eventually("the operation ends", async || {
        process.get(&path).await.body["state"] == "failed"
    })
    .await;
    let errors = scene.end().await;
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for (error, request) in errors.iter().zip(["waits", "leaves"]) {
        let what = ["project.insert", "try 1", "23514", "project_mood_check"];
        assert_names(error, &what);
        assert_names(error, &[request]);
        // The row is data of a caller.
        assert!(!error.to_string().contains("sad"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e02_the_error_of_a_batch_is_never_that_something_failed_before() {
    let database = TestDatabase::new().await;
    let pools = database.pools();
    let failing = [
        ("22012", "SELECT 1 / 0"),
        ("42P01", "SELECT * FROM nothing"),
        ("42601", "SELECT FROM WHERE"),
        ("23502", "INSERT INTO executor (id) VALUES (NULL)"),
    ];
    for (sqlstate, text) in failing {
        for place in 0..4 {
            let step = |index| sql("step", if index >= place { text } else { "SELECT 1" });
            let batch = Batch::all((0..4).map(step).collect());
            let error = batch.commit(&pools.writes).await.unwrap_err();
            assert_eq!(error.server().unwrap().sqlstate, sqlstate);
            assert_eq!(error.step().unwrap().index, place);
        }
    }
    let rule = sqlstate::rule("25P02");
    assert_eq!((rule.answer, rule.again), (Answer::Bug, Again::Never));
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e04_a_unique_violation_is_name_taken_only_by_the_constraint_of_names() {
    let service = TestService::start().await;
    let faults = Faults::new(&service.database).await;
    let index = "CREATE UNIQUE INDEX project_description_key ON project (description)";
    faults.sql(index).await;
    let create = async |name: &str, description: &str| {
        let body = json!({ "name": name, "description": description });
        service.post("/v1/projects", &body).await
    };
    let first = create("one", "same").await;
    assert_eq!(first.status, 201);
    let other = create("two", "same").await;
    assert_eq!(other.status, 500, "{other:?}");
    assert_eq!(other.body["error_code"], "internal");
    let detail = other.body["detail"].as_str().unwrap();
    assert!(detail.contains("23505"), "{detail}");
    assert!(detail.contains("project_description_key"), "{detail}");
    let name = create("one", "other").await;
    assert_eq!(name.status, 409, "{name:?}");
    assert_eq!(name.body["existing_id"], first.body["id"]);

    // The name of another noun's constraint, and one's own without its details, are no refusal either.
    faults.at("INSERT ON project").await;
    for constraint in ["instance_name_key", "project_name_key"] {
        faults.raise("23505", constraint, 1).await;
        let answer = create("three", "third").await;
        assert_eq!(answer.status, 500, "{constraint}: {answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(constraint), "{detail}");
    }
    faults.clear().await;
    service.end().await;
}

/// The status with which a request is answered whose statement fails with a SQLSTATE.
fn status(sqlstate: &str) -> u16 {
    match sqlstate::rule(sqlstate).answer {
        Answer::Busy => 503,
        // None of the constraints here has a name that stands for a refusal.
        Answer::Bug | Answer::ByConstraint => 500,
    }
}

/// One code of each row and some of other engines.
fn codes() -> Vec<String> {
    let own = sqlstate::RULES.iter().map(|rule| rule.codes[0]);
    let codes = own.map(|code| {
        if code.len() == 2 {
            format!("{code}000")
        } else {
            code.to_owned()
        }
    });
    // 00000 cannot be raised.
    let codes = codes.map(|code| {
        if code == "00000" {
            "42P01".to_owned()
        } else {
            code
        }
    });
    codes
        .chain(["ZZ999".to_owned(), "CR000".to_owned()])
        .collect()
}

#[track_caller]
fn assert_told(answer: &nexus_tests::Answer, wanted: u16, sqlstate: &str) {
    assert_eq!(answer.status, wanted, "{sqlstate}: {answer:?}");
    let busy = wanted == 503;
    assert_eq!(answer.header("retry-after"), if busy { "1" } else { "" });
    let code = if busy { "unavailable" } else { "internal" };
    assert_eq!(answer.body["error_code"], code, "{sqlstate}");
    assert_eq!(answer.body["request_id"], answer.header("x-request-id"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(busy || detail.contains(sqlstate), "{sqlstate}: {detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e05_e10_every_error_of_a_write_is_answered_by_its_row_of_the_table() {
    let service = TestService::start().await;
    let faults = Faults::new(&service.database).await;
    faults.at("UPDATE ON fleet_quota").await;
    let limits = json!({ "projects": 7 });
    assert_eq!(["ZZ999", "CR000", "42P01"].map(status), [500; 3]);
    assert_eq!(["55P03", "57014", "53300", "40P01"].map(status), [503; 4]);
    for sqlstate in codes() {
        // One whose outcome is unknown is sent again until it is known.
        if sqlstate::rule(&sqlstate).kills == Blast::CommitUnknown {
            continue;
        }
        faults.raise(&sqlstate, "strange", 1_000).await;
        let answer = service.put("/v1/fleet/quota", &limits).await;
        assert_told(&answer, status(&sqlstate), &sqlstate);
    }
    for sqlstate in ["40003", "08007"] {
        faults.raise(sqlstate, "", 2).await;
        let answer = service.put("/v1/fleet/quota", &limits).await;
        assert_eq!(answer.status, 200, "{sqlstate}: {answer:?}");
    }
    faults.clear().await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e05_e06_e10_no_rows_is_an_answer_and_an_error_of_a_read_is_another() {
    let service = TestService::start().await;
    let faults = Faults::new(&service.database).await;
    faults.at_reads_of("project").await;
    let empty = service.get("/v1/projects").await;
    assert_eq!(
        (empty.status.as_u16(), &empty.body["items"]),
        (200, &json!([]))
    );
    assert_eq!(service.get("/v1/projects/web").await.status, 404);
    for sqlstate in codes() {
        faults.raise(&sqlstate, "", 1_000).await;
        for path in ["/v1/projects", "/v1/projects/web"] {
            let answer = service.get(path).await;
            assert_told(&answer, status(&sqlstate), &sqlstate);
        }
    }
    faults.clear().await;
    // The next one is not told what became of the last.
    assert_eq!(service.get("/v1/projects").await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e07_nothing_is_rolled_back_by_a_message_that_could_fail() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let table = "CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY); INSERT INTO item VALUES (1)";
    client.batch_execute(table).await.unwrap();
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    drop(pools.writes.get().await.unwrap());
    let broken = || {
        let insert = |label, id: i64| sql(label, format!("INSERT INTO item VALUES ({id})"));
        Batch::new()
            .step(insert("first", 2))
            .step(insert("second", 1))
    };
    let assert_cause = |error: BatchError| {
        assert!(matches!(error, BatchError::Unexpected { .. }), "{error:?}");
        assert_eq!(error.constraint(), Some("item_pkey"));
        assert_eq!(error.step().unwrap().label, "second");
    };
    proxy.take_traffic();
    assert_cause(broken().commit(&pools.writes).await.unwrap_err());
    let traffic = proxy.take_traffic();
    let sent: String = traffic.iter().map(|t| t.sent.as_str()).collect();
    assert!(
        sent.ends_with('S') && sent.matches('S').count() == 1,
        "{sent}"
    );
    assert!(!sent.contains('Q'), "{sent}");

    // The session goes right after the server has said why: that stays the cause.
    proxy.on(Trouble::CutReplyAfter("2C2E".len()));
    assert_cause(broken().commit(&pools.writes).await.unwrap_err());
    let traffic = proxy.take_traffic();
    assert_eq!(traffic[0].received, "2C2EZ", "what is cut off is the end");
    assert_eq!(proxy.troubles(), 1);
    assert_eq!(proxy.connections(), 1);
    pools.ping().await.unwrap();
    assert_eq!(proxy.connections(), 2, "the lost session was used again");
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e08_e09_an_undo_that_is_refused_leaves_a_stuck_operation_that_everybody_sees() {
    let scene = Scene::new().await;
    let (faults, process) = (&scene.faults, &scene.process);
    let project = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(project.status, 201);
    // The node after the insert fails, and then so does the insert's undo.
    faults.at("UPDATE ON instance").await;
    faults.at("DELETE ON instance").await;
    faults.raise("23514", "strange_check", 1_000).await;
    let body = json!({ "name": "one", "vcpus": 1, "memory_bytes": 1 << 20 });
    let create = process.request(Method::POST, "/v1/projects/web/instances");
    let create = create.json(&body).header("x-request-id", "stuck");
    let answer = process.send(create).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(answer.body["error_code"], "operation_stuck");
    let id = answer.body["operation_id"].as_str().unwrap().to_owned();
    let operation = process.get(&format!("/v1/operations/{id}")).await.body;
    assert_eq!(operation["state"], "stuck");
    assert_eq!(operation["error"]["error_code"], "operation_stuck");
    let listed = process.get("/v1/operations?state=stuck").await.body;
    assert_eq!(listed["items"][0]["id"], id.as_str());
    let stuck = r#"nexus_sagas_total{saga="instance-create",outcome="stuck"}"#;
    assert_eq!(process.metric(stuck).await, 1);

    // What a person does who has looked.
    faults.clear().await;
    let mend = "DELETE FROM instance; UPDATE saga SET state = 'failed' WHERE state = 'stuck'; \
                UPDATE project_quota SET instances_used = 0, vcpus_used = 0, memory_bytes_used = 0";
    faults.sql(mend).await;
    let errors = scene.end().await;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let what = [
        "instance.set_state",
        "instance.remove",
        "strange_check",
        "stuck",
    ];
    assert_names(&errors[0], &what);
    assert_names(&errors[0], &[&id]);
}
