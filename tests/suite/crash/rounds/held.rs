//! Sagas that are surely unfinished when a replica dies: each waits for a row that the test has locked.

use super::super::*;
use super::fleet::Fleet;
use nexus_tests::Answer;
use nexus_tests::history::session;
use nexus_tests::process::client_of_one_request;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// The project whose quota is locked: no client of the load touches it, so none of them waits.
const PROJECT: &str = "held";

/// Sagas that are held on each of the replicas that meet the fault: fewer than a replica has sessions.
const SAGAS: usize = 10;

/// Instances that are being created.
pub struct Held {
    /// The session that has the lock.
    lock: Option<Client>,
    pub operations: Vec<Uuid>,
    names: Vec<String>,
}

/// Creates the project of all rounds.
pub async fn prepare(api: &str) {
    let body = json!({ "name": PROJECT });
    let answer = ask(api, Method::POST, "", |request| request.json(&body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Deletes it: it must be empty.
pub async fn clear(api: &str) {
    let path = format!("/{PROJECT}");
    let answer = ask(api, Method::DELETE, &path, |request| request).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn ask(
    api: &str,
    method: Method,
    path: &str,
    complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Answer {
    let request = client_of_one_request().request(method, format!("{api}/v1/projects{path}"));
    Answer::read(complete(request).send().await.unwrap()).await
}

impl Held {
    /// Locks the quota and has each of these replicas begin sagas that need it.
    pub async fn begin(fleet: &Fleet, places: &[usize]) -> Self {
        let lock = session(&fleet.url()).await;
        let sql = format!(
            "BEGIN; SELECT FROM project_quota WHERE project_id = (SELECT id FROM project \
             WHERE name = '{PROJECT}' AND time_deleted IS NULL) FOR UPDATE"
        );
        lock.batch_execute(&sql).await.unwrap();
        let mut held = Self {
            lock: Some(lock),
            operations: Vec::new(),
            names: Vec::new(),
        };
        for &place in places {
            for number in 0..SAGAS {
                let name = format!("held{place}-{number}");
                let body = json!({ "name": name, "vcpus": 1, "memory_bytes": 1 << 20 });
                let path = format!("/{PROJECT}/instances");
                let answer = ask(&fleet.api(place), Method::POST, &path, |request| {
                    request.header("prefer", "respond-async").json(&body)
                })
                .await;
                assert_eq!(answer.status, 202, "{answer:?}");
                held.operations
                    .push(answer.body["id"].as_str().unwrap().parse().unwrap());
                held.names.push(name);
            }
        }
        held
    }

    /// Lets them go on: with the session its lock goes.
    pub fn let_go(&mut self) {
        self.lock = None;
    }

    /// How many of them have another owner than the one that began them.
    pub async fn taken_over(&self, database: &Client) -> i64 {
        let sql = "SELECT count(*) FROM saga WHERE id = ANY($1) AND generation > 1";
        let row = database.query_one(sql, &[&self.operations]).await.unwrap();
        row.get(0)
    }

    /// Sees that each has succeeded and is told once, and removes what it made, which must be there.
    pub async fn assert_done(self, database: &Client, api: &str) {
        let of_these = "SELECT count(*) FROM saga WHERE id = ANY($1) AND time_finished IS NULL";
        nexus_tests::eventually("the held sagas have ended", async || {
            let row = database.query_one(of_these, &[&self.operations]).await;
            row.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        let told = "SELECT count(*) FROM event WHERE operation_id = ANY($1)";
        let row = database.query_one(told, &[&self.operations]).await.unwrap();
        assert_eq!(
            usize::try_from(row.get::<_, i64>(0)),
            Ok(self.operations.len())
        );
        for operation in &self.operations {
            let url = format!("{api}/v1/operations/{operation}");
            let response = client_of_one_request().get(url).send().await.unwrap();
            let answer = Answer::read(response).await;
            assert_eq!(answer.body["state"], Value::from("succeeded"), "{answer:?}");
        }
        for name in &self.names {
            let path = format!("/{PROJECT}/instances/{name}");
            let answer = ask(api, Method::DELETE, &path, |request| request).await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
    }
}
