//! What surrounds the endpoints: paths, methods, request ids, and bytes that no client library sends.

use nexus_tests::Answer;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Api, head};
use super::contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_are_not_there_are_problems() {
    let api = Api::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/projects",
        "/v1/projects/",
        "/V1/projects",
        "/v1//projects",
        "/v1/projects/web/disks",
        "/v1/projects/web/instances/",
        "/v1/project",
        "/favicon.ico",
        "/v1/projects/web/instances/one/two",
        "/openapi.yaml",
        "/healthz",
        "/readyz",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FETCH"] {
            let answer = api.raw(head(method, path) + "\r\n").await;
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            assert_eq!(answer.body["error_code"], "not_found");
        }
    }
    let long = format!("/v1/{}", "a/".repeat(20_000));
    assert_eq!(api.raw(head("GET", &long) + "\r\n").await.status, 404);
    let admin = api.send_to(&api.admin_url("/v1/projects")).await;
    assert_eq!(
        (admin.status.as_u16(), admin.header("content-type")),
        (404, "application/problem+json")
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_a_path_does_not_know_are_problems_with_allow() {
    let api = Api::start().await;
    let template = ["{project}", "{instance}", "{operation}"];
    for (path, item) in contract::DOCUMENT["paths"].as_object().unwrap() {
        let path = template
            .iter()
            .fold(path.clone(), |path, name| path.replace(name, "x"));
        let known: Vec<_> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|key| key.to_uppercase())
            .collect();
        for method in [
            "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FETCH",
        ] {
            if known.iter().any(|known| known == method) {
                continue;
            }
            let answer = api.raw(head(method, &path) + "\r\n").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            assert_eq!(answer.body["error_code"], "method_not_allowed");
            let allow = answer.header("allow").split(',').map(str::trim);
            let mut allow: Vec<_> = allow.filter(|method| *method != "HEAD").collect();
            allow.sort_unstable();
            let mut known = known.clone();
            known.sort_unstable();
            assert_eq!(allow, known, "{method} {path}");
        }
    }
    assert_eq!(
        api.request_to(Method::DELETE, "/openapi.json").await.status,
        405
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_as_get_without_the_body() {
    let api = Api::start().await;
    api.project("web").await;
    for (path, status) in [
        ("/v1/projects", 200),
        ("/v1/projects/web", 200),
        ("/v1/projects/none", 404),
        ("/none", 404),
    ] {
        let answer = api.request_to(Method::HEAD, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.is_null()),
            (status, true),
            "{path}"
        );
        let get = api.get(path).await;
        for header in ["content-type", "content-length", "etag"] {
            // The ids of the two requests are of one length.
            assert_eq!(answer.header(header), get.header(header), "{path} {header}");
        }
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_are_neither_name_nor_id_are_refused() {
    let api = Api::start().await;
    api.project("web").await;
    let long = "a".repeat(64);
    let huge = "a".repeat(30_000);
    for (segment, rule) in [
        ("Web", "name"),
        ("1", "name"),
        ("web-", "name"),
        ("-", "name"),
        ("a.b", "name"),
        ("%20", "name"),
        ("a%2Fb", "name"),
        ("%00", "name"),
        ("a%00", "name"),
        ("%C3%A4", "name"),
        ("%ff", "utf8"),
        ("%c3%28", "utf8"),
        ("%zz", "name"),
        ("%", "name"),
        ("%4", "name"),
        ("*", "name"),
        ("0199c0de-0000-7000-8000-00000000000", "name"),
        (&long, "name"),
        (&huge, "name"),
    ] {
        for (path, field) in [
            (format!("/v1/projects/{segment}"), "project"),
            (format!("/v1/projects/{segment}/quota"), "project"),
            (format!("/v1/projects/{segment}/instances"), "project"),
            (format!("/v1/projects/{segment}/instances/one"), "project"),
            (format!("/v1/projects/web/instances/{segment}"), "instance"),
            (format!("/v1/operations/{segment}"), "operation"),
        ] {
            let answer = api.raw(head("GET", &path) + "\r\n").await;
            let short = path.get(..80).unwrap_or(&path);
            assert_eq!(answer.status, 400, "{short}: {answer:?}");
            let error = &answer.body["errors"][0];
            assert_eq!(error["field"], field, "{short}");
            let rule = if field == "operation" && rule == "name" {
                "syntax"
            } else {
                rule
            };
            assert_eq!(error["rule"], rule, "{short}: {answer:?}");
        }
        let refused = api
            .raw(head("DELETE", &format!("/v1/projects/{segment}")) + "\r\n")
            .await;
        assert_eq!(refused.status, 400);
    }
    // An escape that stands for a character of a name is that character.
    assert_eq!(
        api.raw(head("GET", "/v1/projects/%77eb") + "\r\n")
            .await
            .status,
        200
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_kept_or_replaced_and_stand_on_every_answer() {
    let api = Api::start().await;
    let longest = "x".repeat(128);
    for (given, kept) in [
        ("a", true),
        ("trace/4711~!", true),
        (longest.as_str(), true),
        ("", false),
        ("a b", false),
        ("caf\u{e9}", false),
        (&format!("{longest}x"), false),
        ("a\tb", false),
    ] {
        for path in [
            "/v1/version",
            "/none",
            "/v1/projects/none",
            "/docs/",
            "/openapi.json",
        ] {
            let answer = api
                .raw(format!(
                    "{}x-request-id: {given}\r\n\r\n",
                    head("GET", path)
                ))
                .await;
            let id = answer.header("x-request-id");
            assert_eq!(id == given, kept, "{path} {given:?}: {id}");
            assert!(
                kept || uuid::Uuid::try_parse(id).is_ok(),
                "{path} {given:?}: {id}"
            );
        }
    }
    // Of two the first.
    let two = format!(
        "{}x-request-id: a\r\nx-request-id: b\r\n\r\n",
        head("GET", "/none")
    );
    assert_eq!(api.raw(two).await.body["request_id"], "a");
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_nobody_expects_break_nothing() {
    let api = Api::start().await;
    api.project("web").await;
    for (header, status) in [
        ("Prefer: \u{e9}\u{e9}", 200),
        ("Prefer: ,,;=", 200),
        ("Accept: text/html", 200),
        ("Accept: *", 200),
        ("If-None-Match: \"", 400),
        ("If-None-Match: W/", 400),
        ("If-None-Match: \u{e9}", 400),
        ("If-None-Match: ,", 400),
        ("If-None-Match: *, \"a\"", 400),
        ("If-Match: \"x\"", 200),
        ("Content-Type: \u{e9}", 200),
        ("Transfer-Encoding: chunked\r\nX: y", 200),
    ] {
        let body = if header.starts_with("Transfer") {
            "0\r\n\r\n"
        } else {
            ""
        };
        let request = format!("{}{header}\r\n\r\n{body}", head("GET", "/v1/projects/web"));
        let answer = api.raw(request).await;
        assert_eq!(answer.status, status, "{header}: {answer:?}");
    }
    // A GET with a body is answered as one without.
    let body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(
        api.raw(format!("{}{body}", head("GET", "/v1/projects")))
            .await
            .status,
        200
    );
    api.end().await;
}

impl Api {
    /// A request of any method.
    async fn request_to(&self, method: Method, path: &str) -> Answer {
        self.send(self.request(method, path)).await
    }

    /// GET of a whole URL.
    pub async fn send_to(&self, url: &str) -> Answer {
        Answer::read(self.client.get(url).send().await.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_methods_of_a_body_take_it_whichever_way_it_comes() {
    let api = Api::start().await;
    // In two pieces with a pause between them.
    let body = json!({ "name": "web" }).to_string();
    let (first, second) = body.split_at(5);
    let mut stream = api.connect().await;
    let length = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let begin = format!("{}{length}{first}", head("POST", "/v1/projects"));
    stream.write_all(begin.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    // A body that ends before its length is not taken for a whole one.
    let mut stream = api.connect().await;
    let begin = format!("{}{length}{{}}", head("POST", "/v1/projects"));
    stream.write_all(begin.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"));
    assert_eq!(
        api.get("/v1/operations").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_and_disturbs_nobody() {
    let api = Api::start().await;
    let headers = |count: usize| -> String { (0..count).map(|n| format!("h{n}: x\r\n")).collect() };
    let get = |extra: &str| format!("{}{extra}\r\n", head("GET", "/v1/version"));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"hello\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/projects HTTP/9.9\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/a b HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/\x00 HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (get("bad\0header: x\r\n").into_bytes(), "400"),
        (
            get("Content-Length: 1\r\nContent-Length: 2\r\n").into_bytes(),
            "400",
        ),
        (get("Content-Length: -1\r\n").into_bytes(), "400"),
        (get("Transfer-Encoding: what\r\n").into_bytes(), "400"),
        (get(&headers(300)).into_bytes(), "431"),
        (
            head("GET", &format!("/{}", "a".repeat(70_000))).into_bytes(),
            "414",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            "400",
        ),
    ];
    for (bytes, status) in cases {
        let mut stream = api.connect().await;
        stream.write_all(&bytes).await.ok();
        stream.write_all(b"\r\n\r\n").await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {answer:?}"
        );
        assert_eq!(api.get("/v1/version").await.status, 200);
    }
    api.end().await;
}
