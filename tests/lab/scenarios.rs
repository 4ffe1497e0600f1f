//! Scenario files: rules over the wire, and the examples that are shipped.

use std::path::Path;
use std::time::Duration;

use surgetank::lab::{Lab, LabConfig};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::{Call, End, PATIENCE, lab};

#[tokio::test]
async fn rules_choose_by_path_model_and_number() {
    let lab = lab("
        rules:
          - match: { path: /v1/messages, nth: 2 }
            fault: 529
          - match: { path: /v1/chat/*, model: m-*, stream: true }
            times: 1
            fault: 'cut;after=1'
          - match: { model: other }
            fault: hang
    ");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(Call::messages(false).answer(&lab).await.status);
    }
    assert_eq!(statuses, [200, 529, 200]);
    assert_eq!(Call::chat(false).answer(&lab).await.status, 200);
    assert_eq!(Call::chat(true).raw(&lab).await.1, End::Fin);
    assert!(
        Call::chat(true)
            .answer(&lab)
            .await
            .text()
            .ends_with("[DONE]\n\n"),
        "only once"
    );
}

#[tokio::test]
async fn a_window_of_the_listener_is_kept() {
    let lab = lab("listener: [ { from: 50ms, until: 300ms, state: closed } ]");
    let refused = async {
        while TcpStream::connect(lab.addr()).await.is_ok() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the window has begun");
    let taken = async {
        while TcpStream::connect(lab.addr()).await.is_err() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .expect("and is over");
}

#[tokio::test]
async fn every_shipped_scenario_loads_and_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/lab");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let config =
            LabConfig::load(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lab = Lab::start(LabConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..config
        })
        .unwrap();
        assert_eq!(
            Call::new("/_lab/stats", false).answer(&lab).await.status,
            404,
            "it serves"
        );
        count += 1;
    }
    assert!(count >= 5, "{count} scenarios");
}

#[tokio::test]
async fn dropping_and_stopping_close_everything() {
    let lab = lab("{}");
    let addr = lab.addr();
    let hanging = Call::chat(false).fault("hang").bytes();
    let mut client = crate::client::Client::connect(&lab).await;
    client.send(&hanging).await;
    lab.wait_for(|stats| stats.live_requests == 1, PATIENCE)
        .await
        .expect("it hangs");
    lab.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
    let (bytes, end) = client.rest(PATIENCE).await;
    assert_eq!(bytes.len(), 0);
    assert_ne!(end, End::Silence);
}
