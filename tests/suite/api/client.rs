//! The suite's client: a service whose every answer is held against the OpenAPI document.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use nexus::config::Config;
use nexus_tests::script::{Cue, Script};
use nexus_tests::{Answer, TestDatabase, TestService};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use sagas::probe::{Commit, Point, Side};
use sagas::{Executor, ExecutorOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::contract;

/// A [`TestService`] that keeps to its contract.
pub struct Api(TestService);

impl Deref for Api {
    type Target = TestService;

    fn deref(&self) -> &TestService {
        &self.0
    }
}

impl Api {
    /// A service with default limits.
    pub async fn start() -> Self {
        Self(TestService::start().await)
    }

    /// A service configured as the test says.
    pub async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        Self(TestService::start_with(configure).await)
    }

    /// Ends the service and looks at the books.
    pub async fn end(self) {
        self.0.end().await;
    }

    /// Sends a request, and holds the answer against the document.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = Answer::read(self.client.execute(request).await.unwrap()).await;
        contract::hold(method.as_str(), &path, &answer);
        answer
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Creates a project with default limits.
    pub async fn project(&self, name: &str) -> Value {
        let created = self.post("/v1/projects", &json!({ "name": name })).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body
    }

    /// Creates a project with limits.
    pub async fn project_with(&self, name: &str, quota: Value) -> Value {
        let body = json!({ "name": name, "quota": quota });
        let created = self.post("/v1/projects", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body
    }

    /// Asks for an instance of 1 virtual CPU and 1 MiB.
    pub async fn try_instance(&self, project: &str, name: &str) -> Answer {
        let body = json!({ "name": name, "vcpus": 1, "memory_bytes": super::MIB });
        self.post(&format!("/v1/projects/{project}/instances"), &body)
            .await
    }

    /// Creates an instance of 1 virtual CPU and 1 MiB.
    pub async fn instance(&self, project: &str, name: &str) -> Value {
        let created = self.try_instance(project, name).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body
    }

    /// Waits until an operation has ended.
    pub async fn ended(&self, operation: &str) -> Value {
        let path = format!("/v1/operations/{operation}");
        nexus_tests::eventually("the operation ends", async || {
            self.get(&path).await.body["state"] != "running"
        })
        .await;
        self.get(&path).await.body
    }

    /// A connection without a client.
    pub async fn connect(&self) -> TcpStream {
        let url = self.url("");
        TcpStream::connect(url.trim_start_matches("http://"))
            .await
            .unwrap()
    }

    /// Sends bytes as they are, which should ask for the connection's end, and reads the answer.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        let mut stream = self.connect().await;
        // The service may answer and close before it has read everything.
        stream.write_all(request).await.ok();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        let answer = parse(&String::from_utf8(bytes).unwrap());
        let line = String::from_utf8_lossy(request);
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap_or_default());
        contract::hold(method, target.split('?').next().unwrap(), &answer);
        answer
    }

    /// Sends a body as it is, as JSON.
    pub async fn raw_body(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut request = head(method, path);
        let type_and_length = "Content-Type: application/json\r\nContent-Length:";
        request.push_str(&format!("{type_and_length} {}\r\n\r\n", body.len()));
        self.raw([request.as_bytes(), body].concat()).await
    }
}

/// The first lines of a request, without the empty line after them.
pub fn head(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: nexus\r\nConnection: close\r\n")
}

fn parse(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer but {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let body = match body {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Answer {
        status: StatusCode::from_bytes(status.as_bytes()).unwrap(),
        headers,
        body,
    }
}

/// A value with its ids numbered, and its times and page tokens left out, for snapshots.
pub fn redacted(value: &Value) -> Value {
    redact(value, &mut BTreeMap::new())
}

fn redact(value: &Value, ids: &mut BTreeMap<String, usize>) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("next_page", Value::String(_)) => "[token]".into(),
                    ("duration_us" | "undo_duration_us", Value::Number(_)) => "[duration]".into(),
                    _ => redact(value, ids),
                };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| redact(item, ids)).collect(),
        Value::String(text) if is_time(text) => "[time]".into(),
        Value::String(text) => number_ids(text, ids).into(),
        other => other.clone(),
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 27 && text.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

fn number_ids(text: &str, ids: &mut BTreeMap<String, usize>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let id = rest.get(..36).filter(|id| Uuid::try_parse(id).is_ok());
        if let Some(id) = id {
            let next = ids.len() + 1;
            let number = *ids.entry(id.to_owned()).or_insert(next);
            result.push_str(&format!("[id {number}]"));
        } else {
            result.push(first);
        }
        rest = &rest[id.map_or(first.len_utf8(), str::len)..];
    }
    result
}

/// Another process on the service's database, which lies still after the first saga of its that
/// comes behind `node`: alive, so that nobody takes the saga over, until it is drained.
pub async fn halting(database: &TestDatabase, node: &str) -> Executor {
    let script = Script::default();
    script.set(vec![Cue::halt(&Point {
        saga_id: Uuid::nil(),
        commit: Commit::Action,
        what: node.to_owned(),
        side: Side::After,
    })]);
    probed(database, script).await
}

/// Another process on the service's database with a script of its own.
pub async fn probed(database: &TestDatabase, script: Script) -> Executor {
    let options = ExecutorOptions {
        takes_over: false,
        probe: Arc::new(script),
        ..ExecutorOptions::default()
    };
    Executor::start(database.pools(), options).await.unwrap()
}
