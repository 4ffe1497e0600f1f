//! The quota over the wire.

use std::time::Duration;

use surgetank::lab::{Hints, Per, QuotaConfig};

use crate::client::{Call, Client, PATIENCE, lab};

#[tokio::test]
async fn an_empty_bucket_rejects_with_the_vendors_words_and_hints() {
    let lab = lab("quota: { rate: 0.5, burst: 2, hints: both }");
    let first = Call::chat(false).answer(&lab).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(
        first
            .header("x-ratelimit-reset-requests")
            .unwrap()
            .ends_with('s')
    );
    assert_eq!(Call::messages(true).answer(&lab).await.status, 200);

    let rejected = Call::chat(false).answer(&lab).await;
    assert_eq!(rejected.status, 429);
    assert_eq!(rejected.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(
        rejected.header("retry-after"),
        Some("2"),
        "a token in just under 2 s, rounded up"
    );
    let millis: u64 = rejected.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1000..=2000).contains(&millis), "{millis}");
    assert_eq!(rejected.header("x-ratelimit-remaining-requests"), Some("0"));

    let rejected = Call::messages(true).answer(&lab).await;
    assert_eq!(rejected.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        rejected.header("anthropic-ratelimit-requests-limit"),
        Some("2")
    );
    assert!(
        rejected
            .header("anthropic-ratelimit-requests-reset")
            .unwrap()
            .ends_with('Z')
    );
    let stats = lab.stats();
    assert_eq!(
        (stats.throttled, stats.executions, stats.answered),
        (2, 2, 4)
    );
}

#[tokio::test]
async fn a_compressed_quota_admits_burst_and_rate() {
    let lab = lab("quota: { rate: 200, burst: 5 }");
    let begun = tokio::time::Instant::now();
    let mut client = Client::connect(&lab).await;
    let mut served = 0;
    for _ in 0..150 {
        client.send(&Call::chat(false).bytes()).await;
        served += u32::from(client.answer().await.status == 200);
    }
    let most = 5.0 + 200.0 * begun.elapsed().as_secs_f64();
    assert!(f64::from(served) <= most, "{served} of at most {most}");
    assert!(served >= 5);
}

#[tokio::test]
async fn faults_cost_nothing_and_tell_the_level() {
    let lab = lab("quota: { rate: 0, burst: 1 }");
    for _ in 0..3 {
        let answer = Call::chat(false).fault("500").answer(&lab).await;
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("1"));
    }
    assert_eq!(Call::chat(false).answer(&lab).await.status, 200);
    assert_eq!(Call::chat(false).answer(&lab).await.status, 429);
}

#[tokio::test]
async fn each_credential_has_a_quota_of_its_own() {
    let lab = lab("quota: { rate: 0, burst: 1, per: credential }");
    let call = |header: &str| Call::messages(false).with(header);
    for header in [
        "x-api-key: one",
        "authorization: Bearer two",
        "x-api-key: three",
    ] {
        assert_eq!(call(header).answer(&lab).await.status, 200, "{header}");
        assert_eq!(call(header).answer(&lab).await.status, 429, "{header}");
    }
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_until_one_ends() {
    let lab = lab("
        answer: { words: 3, interval: 10s }
        quota: { rate: 100, burst: 100, concurrent: 1 }");
    let mut slow = Client::connect(&lab).await;
    slow.send(&Call::chat(true).bytes()).await;
    slow.at_least(1).await;
    assert_eq!(Call::messages(false).answer(&lab).await.status, 529);
    assert_eq!(Call::chat(false).answer(&lab).await.status, 503);
    assert_eq!(lab.stats().overloaded, 2);

    drop(slow);
    lab.wait_for(|stats| stats.cancelled == 1, PATIENCE)
        .await
        .expect("the slow caller has left");
    let answer = Call::chat(true).fault("ok;interval=0").answer(&lab).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_quota_changes_while_running() {
    let lab = lab("{}");
    assert_eq!(
        Call::chat(false)
            .answer(&lab)
            .await
            .header("x-ratelimit-limit-requests"),
        None
    );
    let quota = QuotaConfig {
        rate: 0.0,
        burst: 1.0,
        rejects_cost: 0.0,
        per: Per::All,
        concurrent: None,
        hints: Hints::None,
    };
    lab.set_quota(Some(quota.clone()));
    assert_eq!(Call::chat(false).answer(&lab).await.status, 200);
    let rejected = Call::chat(false).answer(&lab).await;
    assert_eq!(
        (rejected.status, rejected.header("retry-after")),
        (429, None)
    );

    lab.set_quota(Some(QuotaConfig {
        rate: 1000.0,
        ..quota
    }));
    let served = async { while Call::chat(false).answer(&lab).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(5), served)
        .await
        .expect("the new rate fills the bucket");
    lab.set_quota(None);
    for _ in 0..5 {
        assert_eq!(Call::chat(false).answer(&lab).await.status, 200);
    }
}
