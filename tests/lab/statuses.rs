//! Statuses with the vendors' bodies, and their hints.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::client::{Call, Client, End, PATIENCE, lab};

#[tokio::test]
async fn each_status_has_the_vendors_body() {
    let lab = lab("{}");
    let anthropic = [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ];
    for (status, kind) in anthropic {
        let answer = Call::messages(true)
            .fault(&status.to_string())
            .answer(&lab)
            .await;
        assert_eq!(answer.status, status);
        let body = answer.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&"error".into(), &kind.into())
        );
        assert_eq!(
            body["request_id"],
            answer.header("request-id").unwrap(),
            "{status}"
        );
    }
    let openai = [
        (401, "invalid_request_error", "invalid_api_key".into()),
        (404, "invalid_request_error", "model_not_found".into()),
        (408, "timeout", Value::Null),
        (429, "rate_limit_error", "rate_limit_exceeded".into()),
        (500, "server_error", Value::Null),
        (
            503,
            "service_unavailable_error",
            "server_is_overloaded".into(),
        ),
    ];
    for call in [Call::chat(false), Call::responses(true)] {
        for (status, kind, code) in &openai {
            let answer = call.clone().fault(&status.to_string()).answer(&lab).await;
            assert_eq!(answer.status, *status);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert!(answer.header("x-request-id").is_some());
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["type"], &error["code"]),
                (&Value::from(*kind), code),
                "{status}"
            );
        }
    }
}

#[tokio::test]
async fn a_bad_gateway_is_a_page() {
    let lab = lab("{}");
    for call in [Call::messages(false), Call::chat(false)] {
        let answer = call.fault("502").answer(&lab).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (502, Some("text/html"))
        );
        assert!(answer.text().starts_with("<html>"));
    }
    let answer = Call::chat(false).fault("500;body=empty").answer(&lab).await;
    assert_eq!((answer.status, answer.text().as_str()), (500, ""));
}

#[tokio::test]
async fn permanent_rejections_carry_their_codes_and_no_hint() {
    let lab = lab("{}");
    for (fault, status, code) in [
        ("insufficient-quota", 429, "insufficient_quota"),
        ("credit-balance-exhausted", 429, "credit_balance_exhausted"),
        ("spend-limit", 429, "organization_spend_limit_exceeded"),
        ("usage-limit", 429, "organization_usage_limit_exceeded"),
        ("402", 402, "billing_not_active"),
        (
            "429;code=project_spend_limit_exceeded;retry-after=none",
            429,
            "project_spend_limit_exceeded",
        ),
    ] {
        let answer = Call::chat(false).fault(fault).answer(&lab).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (status, None),
            "{fault}"
        );
        assert_eq!(answer.json()["error"]["code"], code, "{fault}");
    }
    let answer = Call::messages(false)
        .fault("spend-limit")
        .answer(&lab)
        .await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, None));
    assert_eq!(
        answer.json()["error"]["details"]["error_code"],
        "enforced_spend_limit_reached"
    );
    let answer = Call::messages(false)
        .fault("usage-limit")
        .answer(&lab)
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn hints_are_what_was_asked_for() {
    let lab = lab("{}");
    let digits = "9".repeat(4000);
    for (fault, expected) in [
        ("429", vec!["1"]),
        ("429;retry-after=none", vec![]),
        ("503", vec![]),
        ("503;retry-after=7", vec!["7"]),
        ("429;retry-after=-1", vec!["-1"]),
        ("429;retry-after=1e309", vec!["1e309"]),
        ("429;retry-after=99999999999", vec!["99999999999"]),
        ("429;retry-after=soon", vec!["soon"]),
        ("429;retry-after=0.5", vec!["0.5"]),
        ("429;retry-after=double", vec!["1", "7"]),
        ("429;retry-after=digits:4000", vec![digits.as_str()]),
    ] {
        let answer = Call::messages(false).fault(fault).answer(&lab).await;
        assert_eq!(answer.all("retry-after"), expected, "{fault}");
    }
    let answer = Call::chat(false)
        .fault("429;retry-after=none;retry-after-ms=250;should-retry=false")
        .answer(&lab)
        .await;
    assert_eq!(answer.header("retry-after-ms"), Some("250"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn dates_lie_in_the_past_or_ahead() {
    let lab = lab("{}");
    let date = async |fault: &str| {
        let answer = Call::chat(false).fault(fault).answer(&lab).await;
        httpdate::parse_http_date(answer.header("retry-after").unwrap()).unwrap()
    };
    let now = SystemTime::now();
    assert!(date("429;retry-after=past").await < now);
    let ahead = date("429;retry-after=date+30s")
        .await
        .duration_since(now)
        .unwrap();
    assert!((28..=31).contains(&ahead.as_secs()), "{ahead:?}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let lab = lab("{}");
    for status in ["204", "304"] {
        let answer = Call::chat(false).fault(status).answer(&lab).await;
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(
            (
                answer.header("content-length"),
                answer.header("transfer-encoding")
            ),
            (None, None)
        );
        assert!(answer.body.is_empty());
    }
    let answer = Call::chat(false).fault("204;body=text").answer(&lab).await;
    assert_eq!(answer.text(), "a body that must not be here");
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let lab = lab("{}");
    let mut client = Client::connect(&lab).await;
    let head = "POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\
        x-lab-fault: 413;early\r\n\r\n";
    client.send(head.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (413, Some("close"))
    );
    // What is still sent disturbs nobody.
    client.send(&vec![b'x'; 8_000_000]).await;
    assert_eq!(client.rest(PATIENCE).await, (Vec::new(), End::Fin));
}

#[tokio::test]
async fn redirects_lead_into_the_trap() {
    let lab = lab("{}");
    for status in ["301", "302", "303", "307", "308"] {
        let answer = Call::chat(false).fault(status).answer(&lab).await;
        assert_eq!(
            (
                answer.status.to_string().as_str(),
                answer.header("location")
            ),
            (status, Some("/_lab/trap"))
        );
    }
    assert_eq!(lab.stats().trapped, 0);
    assert_eq!(
        Call::new("/_lab/trap", false).answer(&lab).await.status,
        200
    );
    lab.wait_for(|stats| stats.trapped == 1, Duration::from_secs(5))
        .await
        .expect("the trap counts");
    let answer = Call::chat(false)
        .fault("307;to=http://127.0.0.1:9/")
        .answer(&lab)
        .await;
    assert_eq!(answer.header("location"), Some("http://127.0.0.1:9/"));
}
