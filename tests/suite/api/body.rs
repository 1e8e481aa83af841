//! Bodies that are no JSON, by their bytes, their type or their length.

use super::client::head;
use super::input::{FLEET, INSTANCES, PROJECTS, QUOTA, start, state};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_json_object_are_refused() {
    let (api, before) = start().await;
    let nested = [
        "[".repeat(30_000),
        format!(r#"{{"name": {}1"#, "{\"a\":".repeat(10_000)),
    ];
    for to in [PROJECTS, INSTANCES, QUOTA, FLEET] {
        for (body, rule) in [
            (&b""[..], "syntax"),
            (b" ", "syntax"),
            (b"{", "syntax"),
            (b"}", "syntax"),
            (b"{\"name\"", "syntax"),
            (b"{} {}", "syntax"),
            (b"{},", "syntax"),
            (b"name=a", "syntax"),
            (b"{'name': 'a'}", "syntax"),
            (b"{\"a\": 1,}", "syntax"),
            (b"// {}", "syntax"),
            (b"\xef\xbb\xbf{}", "syntax"),
            (b"[]", "type"),
            (b"[\"a\"]", "type"),
            (b"null", "type"),
            (b"1", "type"),
            (b"true", "type"),
            (b"\"name\"", "type"),
            (b"{\"name\": \"\xff\"}", "utf8"),
            (b"\xff\xfe{\x00}\x00", "utf8"),
            (b"\x00", "syntax"),
        ] {
            let answer = api.raw_body(to.0, to.1, body).await;
            let what = format!("{to:?} {}: {answer:?}", String::from_utf8_lossy(body));
            assert_eq!(answer.status, 400, "{what}");
            let error = &answer.body["errors"][0];
            // What is whole and then goes on may be refused for its contents first.
            let early = error["rule"] == "missing" || error["rule"] == "unknown";
            assert!(error["rule"] == rule || early, "{what}");
        }
        for body in &nested {
            assert_eq!(api.raw_body(to.0, to.1, body).await.status, 400);
        }
    }
    assert_eq!(state(&api).await, before);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_types_and_lengths_that_do_not_fit_are_refused() {
    let (api, before) = start().await;
    for (method, path) in [PROJECTS, INSTANCES, QUOTA, FLEET] {
        for content_type in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: application/json; charset=utf-16\r\n",
            "Content-Type: \r\n",
            "Content-Type: application/problem+json\r\n",
            "Content-Type: application/jsön\r\n",
        ] {
            let request = format!(
                "{}{content_type}Content-Length: 2\r\n\r\n{{}}",
                head(method, path)
            );
            let answer = api.raw(request).await;
            assert_eq!(
                answer.status, 415,
                "{method} {path} {content_type:?}: {answer:?}"
            );
            assert_eq!(answer.body["error_code"], "unsupported_media_type");
        }
        // Just too long, far too long, and of no length that is known beforehand.
        for length in [(64 << 10) + 1, 3 << 20] {
            let answer = api.raw_body(method, path, vec![b' '; length]).await;
            assert_eq!(answer.status, 413, "{method} {path} {length}");
            assert_eq!(answer.body["error_code"], "body_too_large");
            assert!(answer.body["detail"].as_str().unwrap().contains("65536"));
        }
        let json = "Content-Type: application/json\r\nTransfer-Encoding: chunked";
        let chunk = format!("11000\r\n{}\r\n0\r\n\r\n", " ".repeat(0x11000));
        let request = format!("{}{json}\r\n\r\n{chunk}", head(method, path));
        assert_eq!(api.raw(request).await.status, 413, "{method} {path}");
    }
    assert_eq!(state(&api).await, before);
    // The longest body that is taken, in chunks, by a type with a charset.
    let fill = " ".repeat((64 << 10) - 15);
    let json = "Content-Type: application/json;charset=UTF-8\r\nTransfer-Encoding: chunked";
    let chunk = format!("10000\r\n{fill}{{\"name\": \"api\"}}\r\n0\r\n\r\n");
    let answer = api
        .raw(format!(
            "{}{json}\r\n\r\n{chunk}",
            head("POST", "/v1/projects")
        ))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    api.end().await;
}
