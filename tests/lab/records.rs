//! What the lab remembers, and when it knows that a caller has left.

use std::time::Duration;

use serde_json::Value;
use surgetank::lab::{Outcome, Phase};

use crate::client::{Answer, Call, Client, PATIENCE, lab};

/// Name, request, and the phase in which it is abandoned.
type Case = (&'static str, Vec<u8>, fn(Phase) -> bool);

#[tokio::test]
async fn a_caller_who_leaves_is_seen_in_every_phase() {
    let lab = lab("answer: { words: 50, interval: 50ms }");
    let whole = Call::chat(true).bytes();
    let unfinished = &whole[..whole.len() - 1];
    let cases: [Case; 4] = [
        ("upload", unfinished.to_vec(), |phase| {
            phase == Phase::Request
        }),
        ("hang", Call::chat(true).fault("hang").bytes(), |phase| {
            phase == Phase::Headers
        }),
        (
            "stream",
            whole.clone(),
            |phase| matches!(phase, Phase::Body { bytes } if bytes > 0),
        ),
        (
            "hang-body",
            Call::chat(false)
                .fault("hang-body;after=9;interval=0")
                .bytes(),
            |phase| phase == Phase::Body { bytes: 9 },
        ),
    ];
    for (index, (name, request, expected)) in cases.into_iter().enumerate() {
        let mut client = Client::connect(&lab).await;
        client.send(&request).await;
        let begun = index as u64 + 1;
        lab.wait_for(|stats| stats.requests == begun, PATIENCE)
            .await
            .expect("the request has begun");
        if name == "stream" || name == "hang-body" {
            client.body(9).await;
        }
        if name == "hang" {
            let played = |stats: &surgetank::lab::Stats| stats.by_fault.contains_key("hang");
            lab.wait_for(played, PATIENCE)
                .await
                .expect("the request was read");
        }
        drop(client);
        // The stream's next event would be due in 50 ms at the latest, the others' never.
        let left = lab
            .wait_for(|stats| stats.cancelled == begun, Duration::from_millis(500))
            .await;
        left.unwrap_or_else(|stats| unreachable!("{name}: nobody noticed: {stats:?}"));
        let record = lab.requests().pop().unwrap();
        assert!(
            matches!(record.outcome, Outcome::CallerLeft(phase) if expected(phase)),
            "{name}: {record:?}"
        );
        assert_eq!(lab.stats().live_requests, 0);
    }
    lab.wait_for(|stats| stats.live_connections == 0, PATIENCE)
        .await
        .expect("all connections are closed");
}

#[tokio::test]
async fn requests_are_remembered_as_they_came() {
    let lab = lab("record: { requests: 3, body_bytes: 8 }");
    for number in 0..5 {
        let mut call = Call::chat(false)
            .with(format!("X-Number: {number}"))
            .with("x-number: again");
        call.body = format!("{{\"n\":{number}}}      ");
        call.answer(&lab).await;
    }
    let records = lab.requests();
    assert_eq!(
        records.iter().map(|record| record.id).collect::<Vec<_>>(),
        [3, 4, 5],
        "the oldest are forgotten"
    );
    let last = records.last().unwrap();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        last.headers_named("x-number").collect::<Vec<_>>(),
        [b"4".as_slice(), b"again"]
    );
    assert_eq!(
        (last.body.as_ref(), last.body_len),
        (&b"{\"n\":4} "[..], 13)
    );
    assert_eq!(
        (last.outcome, last.status, last.played.as_str()),
        (Outcome::Completed, Some(200), "ok")
    );
    assert!(last.ended.unwrap() >= last.arrived);
    assert!(records[0].connection < last.connection);
}

#[tokio::test]
async fn counters_add_up() {
    let lab = lab("{}");
    for fault in ["ok", "ok", "500", "cut", "reset", "hang;for=1ms"] {
        Call::messages(true).fault(fault).raw(&lab).await;
    }
    let stats = lab
        .wait_for(|stats| stats.live_connections == 0, PATIENCE)
        .await;
    // The connections of whole answers are still open on the lab's side until it sees the caller go.
    let stats = stats.unwrap_or_else(|stats| stats);
    assert_eq!(stats.requests, 6);
    assert_eq!(
        stats.requests,
        stats.answered + stats.broken + stats.cancelled + stats.live_requests
    );
    assert_eq!((stats.answered, stats.broken), (3, 3));
    assert_eq!(
        stats.executions, 3,
        "two healthy answers and one that was cut"
    );
    assert_eq!(stats.by_status, [(200, 3), (500, 1)].into());
    let by_fault = stats
        .by_fault
        .iter()
        .map(|(name, count)| (name.as_str(), *count));
    assert_eq!(
        by_fault.collect::<Vec<_>>(),
        [("500", 1), ("cut", 1), ("hang", 1), ("ok", 2), ("reset", 1)]
    );
}

async fn get(lab: &surgetank::lab::LabHandle, method: &str, target: &str) -> Answer {
    let mut client = Client::connect(lab).await;
    client
        .send(format!("{method} {target} HTTP/1.1\r\nhost: lab\r\n\r\n").as_bytes())
        .await;
    client.answer().await
}

#[tokio::test]
async fn the_same_is_told_over_http() {
    let lab = lab("{}");
    let secret = "sk-very-secret";
    let call = Call::chat(false)
        .with("x-lab-key: k1")
        .with(format!("Authorization: Bearer {secret}"));
    call.answer(&lab).await;
    Call::chat(false).fault("503").answer(&lab).await;

    let stats: Value = get(&lab, "GET", "/_lab/stats").await.json();
    assert_eq!(
        (&stats["requests"], &stats["by_status"]["503"]),
        (&2.into(), &1.into()),
        "{stats}"
    );
    let listed = get(&lab, "GET", "/_lab/requests?key=k1").await;
    assert!(!listed.text().contains(secret));
    let listed = listed.json();
    let record = &listed["requests"][0];
    assert_eq!(listed["requests"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&record["key"], &record["attempt"], &record["outcome"]),
        (&"k1".into(), &1.into(), &"completed".into())
    );
    assert_eq!(
        record["headers"][2][0], "x-lab-key",
        "in the order of arrival"
    );
    assert_eq!(
        record["headers"][3][0], "Authorization",
        "and as it was written"
    );
    assert_eq!(record["body_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        get(&lab, "GET", "/_lab/requests").await.json()["requests"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(
        get(&lab, "GET", "/_lab/faults")
            .await
            .text()
            .contains("\"hang-body\"")
    );

    assert_eq!(
        get(&lab, "GET", "/_lab/reset").await.status,
        404,
        "reading changes nothing"
    );
    assert_eq!(get(&lab, "POST", "/_lab/reset").await.status, 200);
    assert_eq!(lab.stats().requests, 0);
    assert!(lab.requests().is_empty());
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let lab = lab("{}");
    Call::chat(false)
        .with("authorization: Bearer sk-very-secret")
        .answer(&lab)
        .await;
    let shown = format!("{:?}", lab.requests());
    assert!(
        shown.contains("completions") && !shown.contains("sk-very") && !shown.contains("messages"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_reset_forgets_what_is_still_running() {
    let lab = lab("{}");
    let mut old = Client::connect(&lab).await;
    old.send(&Call::chat(true).fault("hang").bytes()).await;
    lab.wait_for(|stats| stats.by_fault.contains_key("hang"), PATIENCE)
        .await
        .expect("it hangs");
    lab.reset();
    Call::chat(false).answer(&lab).await;
    drop(old);
    lab.wait_for(|stats| stats.live_connections == 0, PATIENCE)
        .await
        .expect("the old caller's leaving was noticed");
    let stats = lab.stats();
    assert_eq!(
        (
            stats.requests,
            stats.answered,
            stats.cancelled,
            stats.live_requests
        ),
        (1, 1, 0, 0)
    );
}
