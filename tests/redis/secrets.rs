//! What a shared store is told of callers: how much they have used and what is to be done later, by fingerprints; no
//! credential, no name of a user.

use serde_json::json;

use super::{
    harness::{Canary, Log, Origin, Recipe, Request, Tongue, soon},
    server::Server,
};

/// In every credential, cookie and name of a user.
const SECRET: &str = "canary-b07f66d3";
/// Of the server.
const PASSWORD: &str = "password-c2d94f17";
/// In what is asked, which a queue is there to keep.
const PROMPT: &str = "prompt-1e90c5aa";

fn ask(number: usize) -> Request {
    let turn = json!([{ "role": "user", "content": PROMPT }]);
    let body = json!({ "model": "m", "messages": turn });
    Request::post(Tongue::Chat.path(), body.to_string())
        .header("authorization", &format!("Bearer sk-{SECRET}"))
        .header("x-api-key", SECRET)
        .header("cookie", &format!("session={SECRET}"))
        .header("x-surgetank-user", &format!("{SECRET}-{number}"))
}

fn cli(server: &Server, arguments: &[&str]) -> String {
    server.cli(&[&["-a", PASSWORD, "--no-auth-warning"], arguments].concat())
}

/// Everything that the server has, as it writes it to its disk, and as it tells its operator.
fn everything(server: &Server) -> Vec<u8> {
    assert_eq!(cli(server, &["SAVE"]), "OK");
    let keys = cli(server, &["KEYS", "*"]);
    assert!(keys.contains("surgetank"), "it was used: {keys}");
    let told = cli(server, &["CLIENT", "LIST"]) + &cli(server, &["SLOWLOG", "GET", "1000"]);
    [keys.into_bytes(), told.into_bytes(), server.files()].concat()
}

#[tokio::test]
async fn a_shared_store_learns_no_credential_and_no_name() {
    let log = Log::listen();
    // Without compression a word in a file can be found.
    let options = "--rdbcompression no --appendonly yes --slowlog-log-slower-than 0 --requirepass";
    let options: Vec<_> = options.split(' ').chain([PASSWORD]).collect();
    let server = Server::with(&options).await;
    let origin = Origin::start().await.serve(|_| {
        let head = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json";
        Some(format!("{head}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes())
    });
    let start = |password: &str| {
        let recipe = Recipe::over(&origin.url())
            .upstream("credential: { env: TEST_KEY }")
            .retry("max_retries: 0, patience: 200ms")
            .fallback("[queue]");
        recipe.start_with(&format!(
            "store: {{ url: 'redis://:{password}@127.0.0.1:{}' }}\n\
             limits: {{ identify: [ 'header:x-surgetank-user', credential ], per_user: {{ requests: 100/min, tokens: 10000/min, concurrent: 5 }}, total: {{ requests: 1000/min }} }}\n\
             queue: {{ retry_base: 20ms, retry_cap: 50ms }}",
            server.port()
        ))
    };
    let tank = start(PASSWORD);
    for number in 0..5 {
        let taken_in = soon("202", tank.call(&ask(number))).await;
        assert_eq!(taken_in.status, 202, "{}", taken_in.text());
        Canary(SECRET).is_not_in_answer("what is said of a queued request", &taken_in);
    }
    let all = everything(&server);
    Canary(SECRET).is_not_in("the server", &all);
    assert!(
        Canary(PROMPT).betrayed(&all).is_some(),
        "the queue keeps what was asked, and this test would find it"
    );
    // A password that is wrong is told of, and not told.
    let locked_out = start(&format!("{PASSWORD}-once"));
    let failed = soon("an answer", locked_out.call(&ask(9))).await;
    assert_eq!(failed.status, 500, "it could not be queued");
    Canary(SECRET).is_not_in_answer("a failure", &failed);
    for word in [SECRET, PROMPT, PASSWORD] {
        let said = log.everything().join("\n");
        Canary(word).is_not_in("the log", said.as_bytes());
        for tank in [&tank, &locked_out] {
            Canary(word).is_not_in("metrics", &tank.proxy.metrics().render());
        }
    }
}
