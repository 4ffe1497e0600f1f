//! The lab as an HTTP server: what it takes, what it refuses, and `/echo`.

use serde_json::Value;
use surgetank::lab::LabHandle;

use crate::client::{Call, Client, End, PATIENCE, SILENCE, lab};

async fn send(lab: &LabHandle, request: &[u8]) -> crate::client::Answer {
    let mut client = Client::connect(lab).await;
    client.send(request).await;
    client.answer().await
}

#[tokio::test]
async fn echo_tells_what_came_to_the_byte() {
    let lab = lab("{}");
    let request = b"PuRGE /echo/a/../%2e%2e/b?x='|'&y=%20&&z HTTP/1.1\r\nHost: lab\r\nX-A: 1\r\nx-a:  two \xe9\r\n\
        Content-Length: 5\r\nX-Empty:\r\n\r\nhello";
    let report = send(&lab, request).await.json();
    assert_eq!(
        (&report["method"], &report["version"]),
        (&"PuRGE".into(), &"HTTP/1.1".into())
    );
    assert_eq!(report["target"], "/echo/a/../%2e%2e/b?x='|'&y=%20&&z");
    let headers: Value = serde_json::from_str(
        r#"[["Host","lab"],["X-A","1"],["x-a","two é"],["Content-Length","5"],["X-Empty",""]]"#,
    )
    .unwrap();
    assert_eq!(report["headers"], headers);
    assert_eq!(report["lines"][3], "x-a:  two é", "lines as they came");
    assert_eq!(report["body_length"], 5);
    assert_eq!(
        report["body_sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
}

#[tokio::test]
async fn chunks_and_trailers_are_read() {
    let lab = lab("{}");
    let request = b"POST /echo HTTP/1.1\r\nhost: lab\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nX-Sum: 9\r\nx-more: a b\r\n\r\n";
    // Byte by byte and in one piece.
    for step in [1, request.len()] {
        let mut client = Client::connect(&lab).await;
        for piece in request.chunks(step) {
            client.send(piece).await;
        }
        let report = client.answer().await.json();
        assert_eq!(report["body_length"], 5);
        assert_eq!(
            report["trailers"],
            serde_json::json!(["X-Sum: 9", "x-more: a b"])
        );
        client.send(request).await;
        assert_eq!(
            client.answer().await.status,
            200,
            "the connection is in step"
        );
    }
}

#[tokio::test]
async fn a_caller_who_asks_first_is_told_to_continue() {
    let lab = lab("{}");
    let mut client = Client::connect(&lab).await;
    client.send(b"POST /echo HTTP/1.1\r\nhost: lab\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.at_least(25).await, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"hello").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.interims.as_slice(), &answer.json()["body_length"]),
        (&[100][..], &5.into())
    );
}

#[tokio::test]
async fn requests_may_be_pipelined() {
    let lab = lab("{}");
    let mut client = Client::connect(&lab).await;
    let all: Vec<u8> = (0..200).flat_map(|_| Call::chat(false).bytes()).collect();
    client.send(&all).await;
    for _ in 0..200 {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(lab.stats().connections, 1);
}

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_counted() {
    let lab = lab("{}");
    let cases: [&[u8]; 7] = [
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"GET /echo HTTP/1.1\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /echo HTTP/1.1\nhost: a\n\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    ];
    for (index, request) in cases.into_iter().enumerate() {
        let mut client = Client::connect(&lab).await;
        client.send(request).await;
        let (bytes, end) = client.rest(PATIENCE).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("HTTP/1.1 400 "),
            "{:?}: {text}",
            String::from_utf8_lossy(request)
        );
        assert_eq!(end, End::Fin, "nothing more is read from that connection");
        assert_eq!(lab.stats().malformed, index as u64 + 1);
    }
}

#[tokio::test]
async fn heads_and_bodies_have_bounds() {
    let lab = lab("limits: { head_bytes: 1000, body_bytes: 1000, body_bytes_total: 2048 }");
    let head = format!(
        "GET /echo HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n",
        "x".repeat(2000)
    );
    assert_eq!(send(&lab, head.as_bytes()).await.status, 431);
    let length = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n";
    assert_eq!(send(&lab, length).await.status, 413);
    let chunk = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n";
    assert_eq!(send(&lab, chunk).await.status, 413);

    // Two bodies that are still arriving hold all the memory there is.
    let begin = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nx";
    let mut holders = Vec::new();
    for count in 4..=5 {
        let mut client = Client::connect(&lab).await;
        client.send(begin).await;
        lab.wait_for(|stats| stats.requests + 1 >= count, PATIENCE)
            .await
            .expect("it has begun");
        holders.push(client);
    }
    let refused = async {
        while send(
            &lab,
            b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        )
        .await
        .status
            != 503
        {}
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the third is refused");
    drop(holders);
    lab.wait_for(|stats| stats.live_requests == 0, PATIENCE)
        .await
        .expect("they have left");
    assert_eq!(
        send(
            &lab,
            b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx"
        )
        .await
        .status,
        200
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let lab = lab("limits: { connections: 1 }");
    let mut first = Client::connect(&lab).await;
    first.send(&Call::chat(false).bytes()).await;
    first.answer().await;
    let mut second = Client::connect(&lab).await;
    second.send(&Call::chat(false).bytes()).await;
    let waiting = tokio::time::timeout(SILENCE, second.at_least(1)).await;
    assert!(waiting.is_err(), "the second is not served");
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn head_requests_get_heads() {
    let lab = lab("{}");
    for target in ["/echo", "/v1/models"] {
        let mut client = Client::connect(&lab).await;
        client
            .send(format!("HEAD {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
            .await;
        let (bytes, end) = client.rest(SILENCE).await;
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        assert!(length.parse::<u32>().unwrap() > 10);
        assert_eq!(end, End::Silence, "the connection lives on");
    }
}

#[tokio::test]
async fn http_1_0_gets_no_chunks() {
    let lab = lab("{}");
    let body = &Call::chat(true).body;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = send(&lab, head.as_bytes()).await;
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn the_small_endpoints_answer() {
    let lab = lab("{}");
    let get = async |target: &str, version: &str| {
        send(
            &lab,
            format!("GET {target} HTTP/1.1\r\nhost: a\r\n{version}\r\n").as_bytes(),
        )
        .await
        .json()
    };
    assert_eq!(get("/v1/models", "").await["object"], "list");
    assert_eq!(
        get("/v1/models", "anthropic-version: 2023-06-01\r\n").await["has_more"],
        false
    );
    assert_eq!(get("/v1/models/gpt-x", "").await["id"], "gpt-x");
    let tokens = Call::new("/v1/messages/count_tokens", false)
        .answer(&lab)
        .await
        .json();
    assert!(tokens["input_tokens"].as_u64().unwrap() > 0);

    let mut call = Call::new("/v1/embeddings", false);
    call.body = r#"{"model":"e","input":["a","b"],"encoding_format":"base64"}"#.to_owned();
    let embeddings = call.answer(&lab).await.json();
    assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
    assert!(embeddings["data"][1]["embedding"].is_string());
}

#[tokio::test]
async fn what_is_not_understood_is_told_as_the_vendor_would() {
    let lab = lab("{}");
    let mut call = Call::messages(false);
    call.body = "{\"model\": secret}".to_owned();
    let answer = call.answer(&lab).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (400, &"invalid_request_error".into())
    );
    assert!(!answer.text().contains("secret"));
    let answer = Call::new("/v1/nothing", false).answer(&lab).await;
    assert_eq!(answer.status, 404);
    assert_eq!(lab.stats().executions, 0);
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time() {
    let lab = lab("limits: { idle: 30ms }");
    let mut client = Client::connect(&lab).await;
    client.send(&Call::chat(false).bytes()).await;
    client.answer().await;
    let (bytes, end) = client.rest(PATIENCE).await;
    assert_eq!((bytes.len(), end), (0, End::Fin));
}
