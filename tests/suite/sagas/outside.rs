//! The service outside that the sagas' tests call: it keeps its word, and each of its faults is one.

use std::time::{Duration, Instant};

use nexus_tests::outside::{Call, Client, Error, FENCING_TOKEN, Fault, Outside};
use nexus_tests::{Answer, SOON, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Shorter than a call that hangs, longer than one that does not.
const SHORT: Duration = Duration::from_millis(500);

async fn start() -> (Outside, Client) {
    let outside = Outside::start().await;
    let client = Client::new(outside.url(), SOON);
    (outside, client)
}

fn has(outside: &Outside, key: &str) -> bool {
    outside.effects().contains(key)
}

fn status_of<T>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Refused { status, .. } | Error::Failed { status }) => status,
        Err(Error::Unreachable(error)) => panic!("{error:?}"),
        Ok(_) => 200,
    }
}

#[tokio::test]
async fn a_second_call_of_one_key_is_no_second_effect_and_answers_the_same() {
    let (outside, client) = start().await;
    let first = client.put("a", 1, &json!({ "size": 1 })).await.unwrap();
    let second = client.put("a", 2, &json!({ "size": 2 })).await.unwrap();
    assert_eq!(first, json!({ "key": "a", "body": { "size": 1 } }));
    assert_eq!(second, first);
    assert_eq!(outside.effects(), ["a".to_owned()].into());
    assert_eq!(outside.made("a"), 1);
    client.delete("a", 2).await.unwrap();
    let call = |method, token, body| Call {
        method,
        key: "a".to_owned(),
        token,
        body,
    };
    let calls = [
        call(Method::POST, 1, json!({ "size": 1 })),
        call(Method::POST, 2, json!({ "size": 2 })),
        call(Method::DELETE, 2, Value::Null),
    ];
    assert_eq!(outside.calls("a"), calls);
    assert_eq!(outside.count("a", &Method::POST), 2);
    assert_eq!(outside.count("b", &Method::POST), 0);
    assert!(outside.effects().is_empty());
}

#[tokio::test]
async fn what_was_deleted_is_not_made_by_a_late_call_whether_it_was_there_or_not() {
    let (outside, client) = start().await;
    client.put("there", 1, &json!(1)).await.unwrap();
    for key in ["there", "unknown"] {
        client.delete(key, 1).await.unwrap();
        client.delete(key, 1).await.unwrap();
        assert_eq!(status_of(client.put(key, 1, &json!(1)).await), 409);
    }
    assert!(outside.effects().is_empty());
    assert_eq!((outside.made("there"), outside.made("unknown")), (1, 0));
}

#[tokio::test]
async fn a_token_lower_than_the_highest_of_its_key_is_refused_and_changes_nothing() {
    let (outside, client) = start().await;
    client.put("a", 2, &json!(1)).await.unwrap();
    assert_eq!(status_of(client.put("a", 1, &json!(1)).await), 412);
    assert_eq!(status_of(client.delete("a", 1).await), 412);
    assert!(has(&outside, "a"));
    client.delete("a", 3).await.unwrap();
    assert_eq!(status_of(client.delete("a", 2).await), 412);
    client.put("b", 0, &json!(1)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let (outside, client) = start().await;
    let url = |path: &str| format!("{}{path}", outside.url());
    let http = nexus_tests::process::client_of_one_request();
    let post = |path: &str| http.post(url(path)).header(FENCING_TOKEN, 1);
    for request in [
        http.get(url("/effects/a")).header(FENCING_TOKEN, 1),
        http.post(url("/effects/a")).json(&json!(1)),
        post("/effects/a").body("{"),
        post("/effects/").json(&json!(1)),
        post("/a").json(&json!(1)),
    ] {
        let answer = Answer::read(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(status_of(client.put("a/b", 1, &json!(1)).await), 400);
    assert!(outside.effects().is_empty());
}

#[tokio::test]
async fn a_failure_comes_before_the_effect_or_after_it() {
    let (outside, client) = start().await;
    outside.script("a", [Fault::FailBeforeEffect, Fault::FailAfterEffect]);
    assert_eq!(status_of(client.put("a", 1, &json!(1)).await), 500);
    assert!(!has(&outside, "a"));
    assert_eq!(status_of(client.put("a", 1, &json!(1)).await), 500);
    assert!(has(&outside, "a"));
    client.put("a", 1, &json!(1)).await.unwrap();
    assert_eq!(outside.made("a"), 1);
    outside.script("a", [Fault::FailBeforeEffect, Fault::FailAfterEffect]);
    assert_eq!(status_of(client.delete("a", 1).await), 500);
    assert!(has(&outside, "a"));
    assert_eq!(status_of(client.delete("a", 1).await), 500);
    assert!(!has(&outside, "a"));
}

#[tokio::test]
async fn a_late_call_has_its_effect_also_when_its_caller_has_given_up() {
    let (outside, client) = start().await;
    let late = Duration::from_millis(50);
    outside.script("a", [Fault::Delay(late)]);
    let begun = Instant::now();
    client.put("a", 1, &json!(1)).await.unwrap();
    assert!(begun.elapsed() >= late);

    outside.script("b", [Fault::Delay(SHORT * 2)]);
    let hasty = Client::new(outside.url(), SHORT);
    let error = hasty.put("b", 1, &json!(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(error) if error.is_timeout()));
    assert!(!has(&outside, "b"));
    eventually("the effect comes", async || has(&outside, "b")).await;
}

#[tokio::test]
async fn a_call_that_hangs_goes_on_when_it_is_released() {
    let (outside, client) = start().await;
    outside.script("before", [Fault::HangBeforeEffect]);
    let hasty = Client::new(outside.url(), SHORT);
    let error = hasty.put("before", 1, &json!(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(error) if error.is_timeout()));
    // It comes to its effect only now: after the undo, and so too late.
    client.delete("before", 2).await.unwrap();
    outside.release();
    outside.idle().await;
    assert!(outside.effects().is_empty());

    outside.script("after", [Fault::HangAfterEffect]);
    let call = tokio::spawn(async move { client.put("after", 1, &json!(1)).await });
    outside.hang(1).await;
    eventually("the effect comes", async || has(&outside, "after")).await;
    assert!(!call.is_finished());
    outside.release();
    call.await.unwrap().unwrap();
    assert_eq!(outside.effects(), ["after".to_owned()].into());
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_no_answer_to_the_next_call() {
    let (outside, client) = start().await;
    outside.script("a", [Fault::AnswerTwice]);
    client.put("a", 1, &json!(1)).await.unwrap();
    let other = client.put("b", 1, &json!(2)).await.unwrap();
    assert_eq!(other["key"], "b");

    // On the wire there are two.
    outside.script("c", [Fault::AnswerTwice]);
    let address = outside.url().replace("http://", "");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("DELETE /effects/c HTTP/1.1\r\n{FENCING_TOKEN}: 1\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches(r#""deleted":true"#).count(), 2, "{answers}");
    assert_eq!(outside.count("c", &Method::DELETE), 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_none_and_its_effect_is_there() {
    let (outside, client) = start().await;
    outside.script("a", [Fault::CutInAnswer; 2]);
    let error = client.put("a", 1, &json!(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(error) if !error.is_connect()));
    assert!(has(&outside, "a"));
    let error = client.delete("a", 1).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(_)), "{error}");
    assert!(!has(&outside, "a"));
}

#[tokio::test]
async fn a_rule_meets_the_calls_that_it_names_and_no_others() {
    let (outside, client) = start().await;
    outside.on(Fault::Refuse.to("saga1-").only(Method::DELETE).always());
    outside.on(Fault::FailBeforeEffect.to("saga1-").after(1));
    client.put("saga1-a", 1, &json!(1)).await.unwrap();
    assert_eq!(status_of(client.put("saga1-b", 1, &json!(1)).await), 500);
    client.put("saga1-b", 1, &json!(1)).await.unwrap();
    client.put("saga2-a", 1, &json!(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(status_of(client.delete("saga1-a", 1).await), 422);
    }
    client.delete("saga2-a", 1).await.unwrap();
    outside.clear();
    client.delete("saga1-a", 1).await.unwrap();
    assert_eq!(outside.effects(), ["saga1-b".to_owned()].into());
}

#[tokio::test]
async fn a_service_that_is_gone_is_unreachable() {
    let (outside, client) = start().await;
    client.put("a", 1, &json!(1)).await.unwrap();
    outside.script("b", [Fault::HangBeforeEffect]);
    let other = client.clone();
    let hanging = tokio::spawn(async move { other.put("b", 1, &json!(1)).await });
    outside.hang(1).await;
    drop(outside);
    let error = hanging.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unreachable(_)), "{error}");
    let error = client.put("a", 1, &json!(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(error) if error.is_connect()));
}
