//! The events of an operation: a stream that tells each once, from any replica, and passes over none.

use std::time::{Duration, Instant};

use db_model::batch::Batch;
use db_model::query::{saga, saga_event};
use db_model::types::limits::{OPERATION_FOLLOW_INTERVAL_MAX, OPERATION_STREAMS_MAX, POOL_WAIT};
use nexus_tests::process::Program;
use nexus_tests::{TestDatabase, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::MIB;
use super::client::{Api, halting, redacted};
use super::contract;
use super::refusal::{begin, begin_project};

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: Option<i64>,
    name: String,
    data: Value,
}

impl Event {
    fn parse(block: &str) -> Option<Self> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        // A comment has no data.
        let data = serde_json::from_str(field("data: ")?).unwrap();
        let event = Self {
            id: field("id: ").map(|id| id.parse().unwrap()),
            name: field("event: ").unwrap().to_owned(),
            data,
        };
        contract::hold_event(&event.name, &event.data);
        if event.name == "end" {
            assert_eq!(event.id, None);
        } else {
            assert_eq!(event.data["kind"], event.name);
            assert_eq!(event.data["sequence"].as_i64(), event.id);
        }
        Some(event)
    }

    /// Its number, node and kind; of the end the state.
    fn short(&self) -> String {
        let text = |name: &str| self.data[name].as_str().unwrap().to_owned();
        match self.id {
            Some(id) => format!("{id} {} {}", text("node"), self.name),
            None => format!("{} {}", self.name, text("state")),
        }
    }
}

/// A stream under way.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(request: RequestBuilder, last: Option<&str>) -> Self {
        let request = match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert!(response.headers().contains_key("x-request-id"));
        let text = String::new();
        Self { response, text }
    }

    async fn of(api: &Api, id: &str, last: Option<&str>) -> Self {
        Self::open(api.request(Method::GET, &path(id)), last).await
    }

    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = Event::parse(block);
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Sees that nothing comes for a while: longer than between two looks at the log.
    async fn is_silent(&mut self) {
        self.is_silent_for(OPERATION_FOLLOW_INTERVAL_MAX * 3 / 2)
            .await;
    }

    async fn is_silent_for(&mut self, wait: Duration) {
        let event = tokio::time::timeout(wait, self.next()).await;
        assert!(event.is_err(), "{event:?}");
    }

    async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    async fn short_rest(&mut self) -> Vec<String> {
        self.rest().await.iter().map(Event::short).collect()
    }
}

fn path(id: &str) -> String {
    format!("/v1/operations/{id}/events")
}

/// Asks for a change without waiting for it; gives the operation's id.
async fn submit(api: &Api, path: &str, body: &Value) -> String {
    let request = api.request(Method::POST, path).json(body);
    let accepted = api.send(request.header("Prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_told_whole_and_from_each_place_on() {
    const SECRET: &str = "nobody's business";
    let api = Api::start().await;
    let body = json!({ "name": "web", "description": SECRET });
    let created = submit(&api, "/v1/projects", &body).await;
    api.ended(&created).await;
    let failed = submit(&api, "/v1/projects", &body).await;
    api.ended(&failed).await;
    for (id, expected) in [
        (
            &created,
            &[
                "1 insert succeeded",
                "2 activate succeeded",
                "end succeeded",
            ][..],
        ),
        (&failed, &["1 insert failed", "end failed"]),
    ] {
        let whole = Stream::of(&api, id, None).await.rest().await;
        let short: Vec<_> = whole.iter().map(Event::short).collect();
        assert_eq!(short, expected);
        let view = api.get(&format!("/v1/operations/{id}")).await.body;
        for (member, value) in whole.last().unwrap().data.as_object().unwrap() {
            assert_eq!(&view[member], value, "{member}");
        }
        for after in 0..=5 {
            let mut rest = Stream::of(&api, id, Some(&after.to_string())).await;
            let from = after.min(whole.len() - 1);
            assert_eq!(rest.rest().await, whole[from..], "behind {after}");
        }
        let far = Stream::of(&api, id, Some("99999999999999999999"));
        assert_eq!(far.await.rest().await, whole[whole.len() - 1..]);
        assert!(!format!("{whole:?}").contains(SECRET));
        let shown: Vec<_> = whole
            .iter()
            .map(|event| {
                let mut data = redacted(&event.data);
                if data["duration_us"].is_i64() {
                    data["duration_us"] = "[duration]".into();
                }
                data
            })
            .collect();
        if *id == created {
            insta::assert_json_snapshot!(shown[..2], @r#"
            [
              {
                "attempts": 1,
                "duration_us": "[duration]",
                "kind": "succeeded",
                "node": "insert",
                "sequence": 1,
                "time": "[time]"
              },
              {
                "attempts": 1,
                "duration_us": "[duration]",
                "kind": "succeeded",
                "node": "activate",
                "sequence": 2,
                "time": "[time]"
              }
            ]
            "#);
        } else {
            assert_eq!(whole[0].data["error"]["error_code"], "name_taken");
            assert_eq!(whole[0].data["error"], whole[1].data["error"]);
        }
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_another_replica_runs_is_followed_as_it_goes_on() {
    let api = Api::start().await;
    api.project("web").await;
    let other = halting(&api.database, "insert").await;
    let operation = begin(&api, &other, "insert").await;
    let mut stream = Stream::of(&api, &operation, None).await;
    assert_eq!(stream.next().await.unwrap().short(), "1 insert succeeded");
    // Who comes later has the same, and who has it already waits.
    let mut late = Stream::of(&api, &operation, Some("0")).await;
    assert_eq!(late.next().await.unwrap().short(), "1 insert succeeded");
    let mut behind = Stream::of(&api, &operation, Some("1")).await;
    behind.is_silent().await;
    other.drain(Duration::ZERO).await;
    for stream in [&mut stream, &mut late, &mut behind] {
        assert_eq!(
            stream.short_rest().await,
            ["2 stop succeeded", "end succeeded"]
        );
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_behind_a_gap_is_told_before_the_gap_is_filled() {
    let api = Api::start().await;
    let other = halting(&api.database, "nothing").await;
    let sql = api.database.client().await;
    let add_saga = async |id: Uuid| {
        let hash = &sagas::registry::builtin()
            .find("instance-create")
            .unwrap()
            .hash;
        let add = format!(
            "INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, \
             request_id, resource_kind, resource_id, resource_name, time_created) VALUES ('{id}', \
             'instance-create', '{hash}', '{{}}', 'running', '{}', 1, 'r', 'instance', '{id}', 'one', now())",
            other.id()
        );
        sql.batch_execute(&add).await.unwrap();
    };
    let add = async |id: Uuid, node: i64, kind: &str, phase: i16, sequence: i64| {
        let add = format!(
            "INSERT INTO saga_event (saga_id, node_id, kind, phase, sequence) \
             VALUES ('{id}', {node}, '{kind}', {phase}, {sequence})"
        );
        sql.batch_execute(&add).await.unwrap();
    };
    let (one, purged) = (Uuid::now_v7(), Uuid::now_v7());
    add_saga(one).await;
    add(one, 0, "started", 1, 1).await;
    add(one, 1, "succeeded", 2, 3).await;
    let mut stream = Stream::of(&api, &one.to_string(), None).await;
    assert_eq!(stream.next().await.unwrap().short(), "1 insert started");
    stream.is_silent().await;
    add(one, 0, "succeeded", 2, 2).await;
    assert_eq!(stream.next().await.unwrap().short(), "2 insert succeeded");
    assert_eq!(stream.next().await.unwrap().short(), "3 stop succeeded");
    // What waits for a person may go on, and then the gap is filled; what is over for good has no more.
    add(one, 1, "undo_started", 3, 5).await;
    let end = async |state: &str| {
        let end = format!("UPDATE saga SET state = '{state}', time_finished = now()");
        sql.batch_execute(&end).await.unwrap();
    };
    end("stuck").await;
    assert_eq!(stream.short_rest().await, ["end stuck"]);
    end("failed").await;
    let mut again = Stream::of(&api, &one.to_string(), Some("3")).await;
    assert_eq!(
        again.short_rest().await,
        ["5 stop undo_started", "end failed"]
    );

    add_saga(purged).await;
    let mut stream = Stream::of(&api, &purged.to_string(), None).await;
    stream.is_silent().await;
    let purge = "DELETE FROM saga_event; DELETE FROM saga";
    sql.batch_execute(purge).await.unwrap();
    assert_eq!(stream.short_rest().await, [""; 0]);
    other.drain(Duration::ZERO).await;
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_refused_before_the_stream_begins() {
    let api = Api::start().await;
    api.project("web").await;
    let operations = api.get("/v1/operations").await.body;
    let id = operations["items"][0]["id"].as_str().unwrap();
    for bad in ["-1", "+1", "1.5", "one", "", "1 2"] {
        let request = api.request(Method::GET, &path(id));
        let refused = api.send(request.header("Last-Event-ID", bad)).await;
        assert_eq!(refused.status, 400, "{bad:?}");
        let error = &refused.body["errors"][0];
        assert_eq!(error["field"], "Last-Event-ID");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("whole number"), "{detail}");
    }
    let unknown = api.get(&path(&Uuid::now_v7().to_string())).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(api.get(&path("web")).await.status, 400);
    let query = api.get(&format!("{}?after=1", path(id))).await;
    assert_eq!(query.status, 400);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stuck_is_at_its_end_until_it_is_retried() {
    let api = Api::start().await;
    api.project("web").await;
    let sql = api.database.client().await;
    // Somebody changes the instance's state, and neither the next node nor the undo finds it as it was.
    let meddle = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN NEW.state := 'failed'; RETURN NEW; END $$; \
                  CREATE TRIGGER meddled BEFORE INSERT ON instance FOR EACH ROW EXECUTE FUNCTION meddle()";
    sql.batch_execute(meddle).await.unwrap();
    let body = json!({ "name": "one", "vcpus": 1, "memory_bytes": MIB });
    let id = submit(&api, "/v1/projects/web/instances", &body).await;
    let mut stream = Stream::of(&api, &id, None).await;
    let events = stream.rest().await;
    let short: Vec<_> = events.iter().map(Event::short).collect();
    let whole = [
        "1 insert succeeded",
        "2 stop failed",
        "3 insert undo_failed",
        "end stuck",
    ];
    assert_eq!(short, whole);
    assert_eq!(events[1].data["error"]["error_code"], "wrong_state");
    assert_eq!(events[2].data["attempts"], 8);
    assert!(events[2].data["error"].is_object());
    assert_eq!(events[3].data["error"]["error_code"], "operation_stuck");

    let mend = "UPDATE instance SET state = 'creating'";
    sql.batch_execute(mend).await.unwrap();
    let saga_id = id.parse().unwrap();
    let retry = Batch::new()
        .step(saga::retry(saga_id))
        .step(saga_event::retry_undos(saga_id));
    retry.commit(&api.pools().writes).await.unwrap();
    let mut rest = Stream::of(&api, &id, Some("3")).await;
    assert_eq!(
        rest.short_rest().await,
        ["4 insert undo_finished", "end failed"]
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_does_not_keep_the_service_from_ending() {
    let api = Api::start().await;
    api.project("web").await;
    let other = halting(&api.database, "insert").await;
    let operation = begin(&api, &other, "insert").await;
    let mut stream = Stream::of(&api, &operation, None).await;
    assert_eq!(stream.next().await.unwrap().short(), "1 insert succeeded");
    let rest = tokio::spawn(async move { stream.short_rest().await });
    let begun = Instant::now();
    api.end().await;
    // Without an end: the caller goes on at another replica.
    assert_eq!(rest.await.unwrap(), [""; 0]);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    other.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_a_stream_is_refused_for_now() {
    let api = Api::start().await;
    api.project("web").await;
    let other = halting(&api.database, "insert").await;
    let operation = begin(&api, &other, "insert").await;
    let mut streams = Vec::new();
    for _ in 0..OPERATION_STREAMS_MAX {
        streams.push(Stream::of(&api, &operation, Some("1")).await);
    }
    let refused = api.get(&path(&operation)).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.body["error_code"], "unavailable");
    // Who hangs up leaves the place, once a comment has found out.
    streams.pop();
    eventually("a place is free", async || {
        let request = api.request(Method::GET, &path(&operation));
        request.send().await.unwrap().status() == 200
    })
    .await;
    other.drain(Duration::ZERO).await;
    for stream in &mut streams {
        let rest = stream.short_rest().await;
        assert_eq!(rest, ["2 stop succeeded", "end succeeded"]);
    }
    eventually("there is room again", async || {
        api.get(&path(&operation)).await.status == 200
    })
    .await;
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_a_database_that_is_away() {
    // Nobody else takes over: a process whose sessions are gone would count as dead before long.
    let database = TestDatabase::new().await;
    let other = halting(&database, "insert").await;
    let operation = begin_project(&other).await;
    let proxy = database.proxy().await;
    let mut replica = Program::server_on(proxy.url()).start().await;
    let request = replica.request(Method::GET, &path(&operation));
    let mut stream = Stream::open(request, None).await;
    assert_eq!(stream.next().await.unwrap().short(), "1 insert succeeded");
    proxy.refuse(true);
    proxy.cut();
    // Until a look has been given up.
    let away = POOL_WAIT + Duration::from_secs(1);
    stream.is_silent_for(away).await;
    proxy.refuse(false);
    other.drain(Duration::ZERO).await;
    assert_eq!(
        stream.short_rest().await,
        ["2 activate succeeded", "end succeeded"]
    );
    replica.terminate().await;
    database.assert_books_balance().await;
}
