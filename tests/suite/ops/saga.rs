//! `nexus saga`, beside a server and without one.

use std::sync::Arc;
use std::time::Duration;

use db_model::types::Name;
use nexus_tests::fixture::WIDE;
use nexus_tests::process::{Ended, Process, Program};
use nexus_tests::script::{Cue, Script};
use nexus_tests::{TestDatabase, eventually};
use reqwest::Method;
use rustix::process::Signal;
use sagas::probe::{Commit, Point, Side};
use sagas::saga::{ProjectCreate, project_create};
use sagas::{Executor, ExecutorOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::assert_one_clear_line;

const SECRET: &str = "nobody's business";

fn command(url: &str, arguments: &[&str]) -> Program {
    let arguments = [&["saga"], arguments].concat();
    Program::new(&arguments).flag("--database-url", url)
}

async fn saga(url: &str, arguments: &[&str]) -> Ended {
    command(url, arguments).run().await
}

/// What a command prints that ends well.
async fn shown(url: &str, arguments: &[&str]) -> String {
    let ended = saga(url, arguments).await;
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains(SECRET), "{ended:?}");
    ended.stdout
}

async fn json_of(url: &str, arguments: &[&str]) -> Value {
    let text = shown(url, &[arguments, &["--json"]].concat()).await;
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).unwrap()
}

/// Asks for a change without waiting for it; gives the operation's id.
async fn submit(process: &Process, path: &str, body: &Value) -> String {
    let request = process.request(Method::POST, path).json(body);
    let accepted = process
        .send(request.header("Prefer", "respond-async"))
        .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.body["id"].as_str().unwrap().to_owned()
}

async fn comes_to(process: &Process, id: &str, state: &str) {
    let path = format!("/v1/operations/{id}");
    eventually(&format!("the operation is {state}"), async || {
        process.get(&path).await.body["state"] == state
    })
    .await;
}

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_listed_shown_watched_and_drawn() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let body = json!({ "name": "web", "description": SECRET });
    let made = submit(&process, "/v1/projects", &body).await;
    comes_to(&process, &made, "succeeded").await;
    let refused = submit(&process, "/v1/projects", &body).await;
    comes_to(&process, &refused, "failed").await;
    let (made, refused) = (made.as_str(), refused.as_str());

    let list = shown(&url, &["list"]).await;
    let list = words(&list);
    assert_eq!(list[0], ["ID", "KIND", "STATE", "RESOURCE", "AGE", "DONE"]);
    let line = |row: &[&str]| [row[0], row[1], row[2], row[3], row[5]].map(str::to_owned);
    assert_eq!(
        line(&list[1]),
        [refused, "project-create", "failed", "web", "0/2"]
    );
    assert_eq!(
        line(&list[2]),
        [made, "project-create", "succeeded", "web", "2/2"]
    );
    assert_eq!(list.len(), 3);
    let failed = shown(&url, &["list", "--state", "failed"]).await;
    assert!(failed.contains(refused) && !failed.contains(made));
    let newest = json_of(&url, &["list", "--limit", "1"]).await;
    assert_eq!(newest["items"].as_array().unwrap().len(), 1);
    assert_eq!(newest["items"][0]["id"], refused);
    assert_eq!(newest["items"][0]["nodes"][0]["state"], "failed");
    let none = shown(&url, &["list", "--stalled"]).await;
    assert_eq!(none, "There is no such operation.\n");

    let text = shown(&url, &["show", made]).await;
    for part in [
        format!("operation   {made}\n"),
        "kind        project-create\n".to_owned(),
        format!("process {}, alive\n", process.pid()),
        "generation  1\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }
    let text = shown(&url, &["show", refused]).await;
    assert!(
        text.contains("\nerror: ") && text.contains("taken"),
        "{text}"
    );
    let view = json_of(&url, &["show", made]).await;
    let api = process.get(&format!("/v1/operations/{made}")).await.body;
    for (member, value) in api.as_object().unwrap() {
        assert_eq!(&view[member], value, "{member}");
    }
    assert_eq!(view["executor"]["alive"], true);
    assert_eq!(view["stuck"], json!([]));

    let text = shown(&url, &["watch", made]).await;
    let lines = words(&text);
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0][1..6], ["1", "insert", "succeeded", "1", "try"]);
    assert_eq!(lines[1][1..4], ["2", "activate", "succeeded"]);
    assert_eq!(lines[2], ["succeeded"]);
    let ended = saga(&url, &["watch", refused]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.stdout.contains("\nfailed: "), "{ended:?}");

    let text = shown(&url, &["graph", made]).await;
    assert!(text.contains("flowchart TD\n") && text.contains("activate"));
    assert!(text.contains(&format!("project-create {made}, succeeded")));
    assert!(text.contains("1 try"), "{text}");
    let file = std::env::temp_dir().join(format!("{made}.svg"));
    let svg = [
        "graph",
        refused,
        "--format",
        "svg",
        "--output",
        file.to_str().unwrap(),
    ];
    assert_eq!(shown(&url, &svg).await, "");
    let drawn = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        drawn.starts_with("<svg ") && drawn.contains("failed"),
        "{drawn}"
    );
    assert!(!drawn.contains(SECRET));
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_is_drawn_without_a_database() {
    let kind = ["saga", "graph", "--kind", "instance-create"];
    let ended = Program::new(&kind).run().await;
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("insert") && ended.stdout.contains("stop"));
    assert!(ended.stdout.contains("pending") && !ended.stdout.contains("running"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_what_would() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let unknown = Uuid::now_v7().to_string();
    for verb in ["show", "watch", "graph", "retry"] {
        let ended = saga(&url, &[verb, &unknown]).await;
        assert_one_clear_line(&ended, &["there is no operation", &unknown]);
        let ended = saga(&url, &[verb, "web"]).await;
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        let hint = "must be the id of an operation, a UUID";
        assert!(ended.stderr.contains(hint), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    for (line, hint) in [
        (
            &["list", "--state", "unwinding"][..],
            "must be running, succeeded, failed or stuck",
        ),
        (&["list", "--limit", "0"], "1..=1000"),
        (
            &["graph", "--kind", "nothing"],
            "must be one of project-create, ",
        ),
        (
            &["graph", &unknown, "--kind", "project-create"],
            "cannot be used with",
        ),
    ] {
        let ended = saga(&url, line).await;
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
    let nowhere = "/nowhere/at/all.svg";
    let graph = ["graph", "--kind", "project-create", "--output", nowhere];
    assert_one_clear_line(&saga(&url, &graph).await, &["cannot write", nowhere]);
    let away = saga("postgres://nexus@127.0.0.1:1/nexus", &["list"]).await;
    assert_one_clear_line(&away, &["the database is not available"]);
    database.assert_books_balance().await;
}

/// A process that lies still with the project that it begins to create, alive, so that nobody takes it over.
async fn lying_still(database: &TestDatabase) -> (Executor, String) {
    let script = Script::default();
    script.set(vec![Cue::halt(&Point {
        saga_id: Uuid::nil(),
        commit: Commit::Action,
        what: "insert".to_owned(),
        side: Side::After,
    })]);
    let options = ExecutorOptions {
        takes_over: false,
        probe: Arc::new(script),
        ..ExecutorOptions::default()
    };
    let executor = Executor::start(database.pools(), options).await.unwrap();
    let name = Name::new("web").unwrap();
    let params = project_create::Params::new(name, SECRET.to_owned(), WIDE);
    let mut begun = executor
        .submit::<ProjectCreate>(params, "other")
        .await
        .unwrap();
    assert_eq!(format!("{:?}", begun.outcome().await), "Lost");
    (executor, begun.id().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_stalled_is_found_and_taken_from_its_live_process() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let (executor, id) = lying_still(&database).await;
    let id = id.as_str();
    let age = "UPDATE saga SET time_created = time_created - interval '1 hour'; \
               UPDATE saga_event SET time_recorded = time_recorded - interval '1 hour'";
    database.client().await.batch_execute(age).await.unwrap();

    let list = shown(&url, &["list", "--stalled"]).await;
    assert_eq!(
        words(&list)[1][..6],
        [id, "project-create", "running", "(stalled)", "web", "1h"]
    );
    assert_eq!(words(&list)[1][6], "1/2");
    let text = shown(&url, &["show", id]).await;
    assert!(
        text.contains(&format!("executor    {} on ", executor.id())),
        "{text}"
    );
    assert!(
        text.ends_with(&format!("nexus saga retry {id}\n")),
        "{text}"
    );

    let mut interrupted = command(&url, &["watch", id]).spawn();
    let mut watched = command(&url, &["watch", id]).spawn();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    interrupted.signal(Signal::INT);
    assert_eq!(interrupted.exited().await.code(), Some(130));
    assert!(
        !watched.has_exited(),
        "nobody takes it from a live process by himself"
    );

    let text = shown(&url, &["retry", id]).await;
    let taken = format!("Taken from {} on ", executor.id());
    for part in [
        "goes on with what it was asked for",
        &taken,
        "within about a second",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let ended = watched.exited().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 3, "{ended:?}");
    assert!(ended.stdout.ends_with("\nsucceeded\n"), "{ended:?}");
    let view = json_of(&url, &["show", id]).await;
    // Once by the retry, once by who took it over.
    assert_eq!(view["generation"], 3);
    assert_eq!(view["executor"]["pid"], process.pid());
    let over = saga(&url, &["retry", id]).await;
    assert_one_clear_line(&over, &["is over, it succeeded", "nothing to retry"]);
    assert!(executor.ready().is_ok(), "the other process lives on");
    executor.drain(Duration::ZERO).await;
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stuck_is_found_mended_and_retried() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let made = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(made.status, 201);
    // Somebody changes the instance's state, and neither the next node nor the undo finds it as it was.
    let meddle = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN NEW.state := 'failed'; RETURN NEW; END $$; \
                  CREATE TRIGGER meddled BEFORE INSERT ON instance FOR EACH ROW EXECUTE FUNCTION meddle()";
    let sql = database.client().await;
    sql.batch_execute(meddle).await.unwrap();
    let body = json!({ "name": "one", "vcpus": 1, "memory_bytes": 1 << 20, "description": SECRET });
    let id = submit(&process, "/v1/projects/web/instances", &body).await;
    let id = id.as_str();
    let ended = saga(&url, &["watch", id]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.stdout.contains("undo failed"), "{ended:?}");
    assert!(
        ended.stdout.contains("instance.remove touched 0 rows"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("\nstuck: "), "{ended:?}");

    let list = shown(&url, &["list", "--state", "stuck"]).await;
    assert_eq!(
        words(&list)[1][..4],
        [id, "instance-create", "stuck", "one"]
    );
    let text = shown(&url, &["show", id]).await;
    let stuck = "\nstuck: the undo of insert, 8 tries: node insert, step instance.remove";
    for part in [
        stuck,
        "undo failed",
        "\nerror: it failed and could not be undone",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let view = json_of(&url, &["show", id]).await;
    assert_eq!(view["stuck"][0]["node"], "insert");
    assert_eq!(view["stuck"][0]["attempts"], 8);
    let drawn = shown(&url, &["graph", id]).await;
    assert!(drawn.contains("undo failed"), "{drawn}");
    eventually("it is counted", async || {
        process.metric("nexus_sagas_stuck").await == 1
    })
    .await;

    sql.batch_execute("UPDATE instance SET state = 'creating'")
        .await
        .unwrap();
    process.terminate().await;
    let text = shown(&url, &["retry", id]).await;
    for part in ["goes on to undo what it did", "No server runs: start one"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("Taken from"), "{text}");
    let text = shown(&url, &["show", id]).await;
    assert!(text.contains("executor    none: the next server"), "{text}");
    let mut process = Program::server_on(&url).start().await;
    comes_to(&process, id, "failed").await;
    let ended = saga(&url, &["watch", id]).await;
    assert!(ended.stdout.contains("  undo finished"), "{ended:?}");
    let over = saga(&url, &["retry", id]).await;
    assert_one_clear_line(&over, &["is over, it failed"]);
    process.terminate().await;
    database.assert_books_balance().await;
}
