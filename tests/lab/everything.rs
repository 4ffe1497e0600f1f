//! Every fault of the catalogue, on every endpoint: the lab survives it and goes on serving.

use surgetank::lab::CATALOGUE;

use crate::client::{Call, PATIENCE, lab};

#[tokio::test]
async fn every_fault_plays_on_every_endpoint() {
    let lab = lab("answer: { words: 4 }");
    let mut played = 0;
    for entry in CATALOGUE {
        // Short where it would be long, and no fault that outlives its request.
        let fault = match entry.name {
            "hang" | "hang-body" => format!("{};for=1ms", entry.name),
            "drip" => "drip;every=0".to_owned(),
            "giant-event" => "giant-event;size=64KiB".to_owned(),
            "closed" => continue,
            name => name.to_owned(),
        };
        for path in [
            "/v1/messages",
            "/v1/chat/completions",
            "/v1/responses",
            "/v1/embeddings",
            "/echo/x",
        ] {
            for stream in [false, true] {
                let call = Call::new(path, stream)
                    .with("connection: close")
                    .fault(&fault);
                let (bytes, _) = call.raw(&lab).await;
                played += 1;
                let record = lab.requests().pop().unwrap();
                assert_eq!(record.played, entry.name, "{path}");
                let silent = matches!(
                    entry.name,
                    "hang" | "reset" | "refuse" | "fin" | "raw" | "reset-body"
                );
                assert!(
                    silent || !bytes.is_empty(),
                    "{} on {path} sent nothing",
                    entry.name
                );
            }
        }
    }
    let stats = lab
        .wait_for(|stats| stats.live_requests == 0, PATIENCE)
        .await
        .expect("all have ended");
    assert_eq!(
        (stats.requests, stats.misused, stats.malformed),
        (played, 0, 0)
    );
    assert_eq!(Call::messages(false).answer(&lab).await.status, 200);
}
