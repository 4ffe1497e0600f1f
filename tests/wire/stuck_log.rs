//! Nobody reads the log any more: callers must not notice.

use super::harness::{Caller, Folder, Process, Recipe, Tongue, until};

/// Until so many requests nothing need be dropped: what they leave in the log has room in memory.
const MOST_REQUESTS: usize = 20_000;

#[tokio::test]
async fn a_log_that_nobody_reads_costs_lines_and_no_request() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let yaml = Recipe::over(&lab.url())
        .yaml("telemetry: { log: json }")
        .replace("admin: none", "admin: 127.0.0.1:0");
    // Everything that there is to tell, so that the memory is full before the test is long.
    let mut process = Process::start_in(Folder::new(), &yaml, &[("SURGETANK_LOG", "trace")]).await;
    process.reads_its_log(false);
    let dropped = "surgetank_log_lines_dropped_total";
    assert_eq!(process.metric(dropped).await, Some(0.0));

    let mut caller = Caller::connect(process.addr).await;
    let mut requests = 0;
    while process.metric(dropped).await == Some(0.0) {
        assert!(
            requests < MOST_REQUESTS,
            "the log has found room for {requests} requests"
        );
        for _ in 0..50 {
            let answer = caller.call(&Tongue::Chat.plain()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            requests += 1;
        }
    }
    // And on it goes.
    for _ in 0..50 {
        assert_eq!(caller.call(&Tongue::Chat.plain()).await.status, 200);
    }
    let before = process.log().len();
    process.reads_its_log(true);
    until("the gap is told of", || {
        process.said("lines of the log are missing here").is_some()
    })
    .await;
    assert!(process.log().len() > before);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(
        process.said("stopped").is_some(),
        "the last line is written before the end"
    );
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_the_process_from_ending() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let yaml = Recipe::over(&lab.url())
        .yaml("telemetry: { log: json }")
        .replace("admin: none", "admin: 127.0.0.1:0");
    let mut process = Process::start_in(Folder::new(), &yaml, &[("SURGETANK_LOG", "trace")]).await;
    process.reads_its_log(false);
    let mut caller = Caller::connect(process.addr).await;
    for _ in 0..200 {
        assert_eq!(caller.call(&Tongue::Chat.plain()).await.status, 200);
    }
    drop(caller);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
