//! One queue of two whole proxies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    harness::{Answer, Caller, Origin, Recipe, Request, Tank, Tongue, soon},
    server::Server,
};

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

const WHOLE: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there","refusal":null},"finish_reason":"stop"}]}"#;

async fn read(tank: &Tank, location: &str) -> Answer {
    let request = Request::get(location).header("authorization", "Bearer k");
    soon("what is known of it", tank.call(&request)).await
}

#[tokio::test]
async fn what_one_takes_in_another_gives_out_and_it_is_carried_out_once() {
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (is_well, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let (well, count) = (is_well.clone(), served.clone());
    let origin = Origin::start().await.serve(move |_| {
        if well.load(Ordering::Acquire) {
            count.fetch_add(1, Ordering::AcqRel);
            return Some(answer("200 OK", WHOLE));
        }
        let error = answer(
            "500 Internal Server Error",
            r#"{"error":{"message":"m","type":"server_error"}}"#,
        );
        Some(error)
    });
    let recipe = Recipe::over(&origin.url())
        .upstream("credential: { env: TEST_KEY }")
        .retry("max_retries: 0, patience: 200ms")
        .fallback("[queue]");
    let blocks = format!(
        "store: {{ url: '{}' }}\nqueue: {{ max_attempts: 1000, retry_base: 20ms, retry_cap: 50ms }}",
        server.url()
    );
    let tanks = [recipe.start_with(&blocks), recipe.start_with(&blocks)];
    let mut locations = Vec::new();
    for number in 0..6 {
        let tank = &tanks[number % 2];
        let taken_in = soon("202", tank.call(&Tongue::Chat.plain())).await;
        assert_eq!(taken_in.status, 202, "{}", taken_in.text());
        locations.push(
            taken_in
                .head
                .one("location")
                .expect("a location")
                .to_owned(),
        );
    }
    for location in &locations {
        for tank in &tanks {
            assert_eq!(read(tank, location).await.status, 202);
            let stranger = Request::get(location).header("authorization", "Bearer another");
            assert_eq!(soon("nothing", tank.call(&stranger)).await.status, 404);
        }
    }
    is_well.store(true, Ordering::Release);
    for (number, location) in locations.iter().enumerate() {
        // Where it was not taken in.
        let tank = &tanks[(number + 1) % 2];
        let told = loop {
            let told = read(tank, location).await;
            if told.status != 202 {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((told.status, told.text().as_str()), (200, WHOLE));
    }
    assert_eq!(
        served.load(Ordering::Acquire),
        6,
        "each was carried out once"
    );
    for tank in &tanks {
        tank.at_rest().await;
    }
}

/// Whether a request of this one's is on its way to the upstream.
async fn sends(tank: &Tank) -> bool {
    let (admin, _serving) = tank.admin();
    let state = Request::get("/api/state");
    let state = soon("its state", async {
        Caller::connect(admin).await.call(&state).await.json()
    });
    let lanes = state.await["lanes"].clone();
    let lanes = lanes.as_array().expect("a list");
    lanes.iter().any(|lane| lane["live"] == 1)
}

#[tokio::test]
async fn what_is_cancelled_through_one_ends_where_it_is_carried_out() {
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let origin = Origin::start().await;
    let recipe = Recipe::over(&origin.url())
        .upstream("credential: { env: TEST_KEY }")
        .fallback("[queue]");
    let blocks = format!("store: {{ url: '{}' }}", server.url());
    let tanks = [recipe.start_with(&blocks), recipe.start_with(&blocks)];
    let request = Tongue::Chat.plain().header("prefer", "respond-async");
    let taken_in = soon("202", tanks[0].call(&request)).await;
    let location = taken_in
        .head
        .one("location")
        .expect("a location")
        .to_owned();
    let mut connection = origin.accept().await;
    connection.request().await;
    // Whichever of them it is that carries it out; the other one is told to cancel it.
    let other = &tanks[usize::from(sends(&tanks[0]).await)];
    let delete = Request::get(&location)
        .method("DELETE")
        .header("authorization", "Bearer k");
    assert_eq!(soon("204", other.call(&delete)).await.status, 204);
    let ended = soon(
        "the end of the upstream's connection",
        connection.next_request(),
    )
    .await;
    assert!(ended.is_none(), "nobody waits for its answer any more");
    for tank in &tanks {
        tank.at_rest().await;
        let told = Request::get(&location).header("authorization", "Bearer k");
        assert_eq!(soon("nothing", tank.call(&told)).await.status, 410);
    }
}
