//! Who may call: tokens, where they are shown, and that they stay here.

use surgetank::config::Config;

use super::harness::{Caller, Folder, Origin, Recipe, Request, Rig, Tank, Tongue};

const TOKEN: &str = "token-of-the-first-caller";
const OTHER: &str = "token-of-another-caller";

struct Guarded {
    rig: Rig,
    folder: Folder,
}

impl Guarded {
    fn start() -> Self {
        let folder = Folder::new();
        let file = folder.write("tokens", &format!("{TOKEN}\n{OTHER}\n"));
        let block = format!("auth: {{ tokens: {{ file: '{}' }} }}", file.display());
        let lab =
            surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
        let tank = Recipe::over(&lab.url()).start_with(&block);
        Self {
            rig: Rig { lab, tank },
            folder,
        }
    }

    fn block(&self) -> String {
        format!(
            "auth: {{ tokens: {{ file: '{}' }} }}",
            self.folder.path("tokens").display()
        )
    }
}

#[tokio::test]
async fn without_a_token_nothing_reaches_the_upstream_and_each_dialect_hears_why() {
    let guarded = Guarded::start();
    let tank = &guarded.rig.tank;
    for tongue in Tongue::ALL {
        for (shown, label) in [
            (None, "missing"),
            (Some("wrong"), "unknown"),
            (Some(&TOKEN[..20]), "unknown"),
        ] {
            let before = tank.count("surgetank_unauthorized_total", &[("token", label)]);
            let mut request = tongue.plain();
            if let Some(token) = shown {
                request = request.header("x-surgetank-token", token);
            }
            let refused = tank.call(&request).await;
            assert_eq!(refused.status, 401, "{tongue:?} {shown:?}");
            assert!(
                refused
                    .head
                    .one("www-authenticate")
                    .is_some_and(|scheme| scheme.starts_with("Bearer"))
            );
            let error = &refused.json()["error"];
            let told = match tongue {
                Tongue::Messages => &error["type"] == "authentication_error",
                Tongue::Chat | Tongue::Responses => &error["code"] == "invalid_api_key",
            };
            assert!(told, "{tongue:?}: {}", refused.text());
            assert!(!refused.text().contains("token-of"), "{}", refused.text());
            assert_eq!(
                tank.count("surgetank_unauthorized_total", &[("token", label)]),
                before + 1
            );
        }
        for token in [TOKEN, OTHER] {
            for value in [token.to_owned(), format!("Bearer {token}")] {
                let request = tongue.plain().header("X-Surgetank-Token", &value);
                assert_eq!(tank.call(&request).await.status, 200, "{tongue:?}");
            }
        }
    }
    assert_eq!(guarded.rig.lab.stats().requests, 12);
    assert_eq!(tank.outcomes("rejected"), 9);
    tank.at_rest().await;
}

#[tokio::test]
async fn a_caller_is_asked_before_its_body_is_read() {
    let guarded = Guarded::start();
    let mut caller = guarded.rig.tank.caller().await;
    // The body never comes.
    caller
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: app\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    assert_eq!(caller.answer().await.status, 401);
}

#[tokio::test]
async fn the_token_stays_here_and_the_callers_key_goes_on() {
    let origin = Origin::start().await;
    let folder = Folder::new();
    let file = folder.write("tokens", TOKEN);
    let auth = |header: &str| {
        format!(
            "auth: {{ tokens: {{ file: '{}' }}{header} }}",
            file.display()
        )
    };
    let answer = |_: &_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
    let url = origin.url();
    let serving = origin.serve(answer);

    // (where the token is shown, the configuration of it, whether the upstream has a credential of its own)
    for (fields, header, own_credential, expected) in [
        (
            vec![
                ("x-surgetank-token", TOKEN),
                ("authorization", "Bearer sk-caller"),
            ],
            "",
            false,
            "Bearer sk-caller",
        ),
        (
            vec![("x-door", TOKEN), ("authorization", "Bearer sk-caller")],
            ", header: x-door",
            false,
            "Bearer sk-caller",
        ),
        (
            vec![("authorization", TOKEN)],
            ", header: authorization",
            true,
            "Bearer configured-key",
        ),
        (
            vec![("x-api-key", TOKEN)],
            ", header: [authorization, x-api-key]",
            true,
            "Bearer configured-key",
        ),
    ] {
        let mut recipe = Recipe::over(&url);
        if own_credential {
            recipe = recipe.upstream("credential: { env: TEST_KEY }");
        }
        let tank = recipe.start_with(&auth(header));
        let mut request = Request::post("/v1/chat/completions", "{}");
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        assert_eq!(tank.call(&request).await.status, 200, "{header}");
        let seen = serving.seen().pop().expect("it came");
        assert_eq!(seen.head.one("authorization"), Some(expected), "{header}");
        for (name, value) in &seen.head.fields {
            let value = String::from_utf8_lossy(value);
            assert!(!value.contains(TOKEN), "{name} carries the token: {header}");
        }
    }
}

#[tokio::test]
async fn tokens_are_read_again_with_the_configuration() {
    let guarded = Guarded::start();
    let tank = &guarded.rig.tank;
    let yaml = Recipe::over(&guarded.rig.lab.url()).yaml(&guarded.block());
    let status = async |token: &str| {
        let request = Tongue::Chat.plain().header("x-surgetank-token", token);
        tank.call(&request).await.status
    };
    assert_eq!((status(TOKEN).await, status(OTHER).await), (200, 200));
    guarded.folder.write("tokens", OTHER);
    assert_eq!(status(TOKEN).await, 200, "not before it is read");
    tank.reload(&yaml);
    assert_eq!((status(TOKEN).await, status(OTHER).await), (401, 200));
    guarded.folder.write("tokens", "short");
    let config = Config::parse("test", &yaml, &|_| None).expect("well written");
    let error = tank
        .proxy
        .reload(&config, &|_| None)
        .expect_err("no protection")
        .to_string();
    assert!(
        error.contains("fewer than 16 characters") && !error.contains("short\""),
        "{error}"
    );
    assert_eq!(status(OTHER).await, 200, "the old ones hold on");
    tank.reload(&Recipe::over(&guarded.rig.lab.url()).yaml(""));
    assert_eq!(tank.call(&Tongue::Chat.plain()).await.status, 200);
}

/// The same token is the same user, wherever it is shown.
#[tokio::test]
async fn a_token_in_place_of_the_key_tells_the_user() {
    let folder = Folder::new();
    let file = folder.write("tokens", &format!("{TOKEN}\n{OTHER}\n"));
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let tank = Recipe::over(&lab.url())
        .upstream("credential: { env: TEST_KEY }")
        .start_with(&format!(
            "auth: {{ tokens: {{ file: '{}' }}, header: [authorization, x-api-key] }}\n\
             limits: {{ identify: [credential], per_user: {{ requests: 1/h, when_exceeded: reject }} }}",
            file.display()
        ));
    let status = async |name: &str, value: &str| {
        let request = Request::post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
        Tank::call(&tank, &request.header(name, value)).await.status
    };
    assert_eq!(
        status("authorization", &format!("Bearer {TOKEN}")).await,
        200
    );
    assert_eq!(status("x-api-key", TOKEN).await, 429);
    assert_eq!(status("x-api-key", OTHER).await, 200);
}

#[tokio::test]
async fn nothing_changes_through_the_operators_port_without_a_token() {
    let folder = Folder::new();
    let file = folder.write("admin", TOKEN);
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let ask = async |method: &str, path: &str, fields: &[(&str, &str)]| {
        let mut request = Request::new(method, path);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        Caller::connect(admin).await.call(&request).await
    };
    let right = format!("Bearer {TOKEN}");
    let wrong = format!("Bearer {OTHER}");
    let (right_one, wrong_one) = (
        [("authorization", right.as_str())],
        [("authorization", wrong.as_str())],
    );
    assert_eq!(
        ask("POST", "/api/reload", &right_one).await.status,
        403,
        "no token is configured"
    );
    rig.tank.reload(
        &Recipe::over(&rig.lab.url())
            .yaml(&format!("admin_token: {{ file: '{}' }}", file.display())),
    );
    for fields in [&[][..], &wrong_one, &[("x-surgetank-token", TOKEN)]] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "GET"] {
            for path in [
                "/",
                "/metrics",
                "/healthz",
                "/readyz",
                "/api/state",
                "/api/events",
                "/api/reload",
                "/nothing",
            ] {
                if matches!(method, "GET" | "HEAD") && path != "/api/reload" {
                    continue;
                }
                let answer = ask(method, path, fields).await;
                assert!(
                    (401..=405).contains(&answer.status),
                    "{method} {path}: {}",
                    answer.status
                );
            }
        }
    }
    let refused = ask("POST", "/api/reload", &[]).await;
    assert_eq!(
        (refused.status, refused.head.has("www-authenticate")),
        (401, true)
    );
    assert_eq!(ask("GET", "/api/reload", &right_one).await.status, 405);
    assert_eq!(ask("POST", "/api/reload", &right_one).await.status, 202);
    let foreign = [
        ("authorization", right.as_str()),
        ("origin", "http://evil.example"),
    ];
    assert_eq!(ask("POST", "/api/reload", &foreign).await.status, 403);
    let rebound = Request::get("/api/state").host("evil.example");
    assert_eq!(
        Caller::connect(admin).await.call(&rebound).await.status,
        403
    );
}

#[tokio::test]
async fn an_address_that_shows_too_many_wrong_tokens_is_not_looked_at_any_more() {
    let folder = Folder::new();
    let file = folder.write("tokens", &format!("{TOKEN}\n"));
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let block = |failures: &str| {
        let file = file.display();
        format!("auth: {{ tokens: {{ file: '{file}' }}, failures: {failures} }}")
    };
    let shows = |token: &str| Tongue::Chat.plain().header("x-surgetank-token", token);
    let tank = Recipe::over(&lab.url()).start_with(&block("3/h"));
    for _ in 0..5 {
        assert_eq!(tank.call(&shows(TOKEN)).await.status, 200);
        let nothing = tank.call(&Tongue::Chat.plain()).await;
        assert_eq!(nothing.status, 401, "it is no guess");
    }
    for number in 0..3 {
        let refused = tank.call(&shows(&format!("wrong-token-{number}"))).await;
        assert_eq!(refused.status, 401);
    }
    let served = lab.stats().requests;
    // Whether a guess was right is not told.
    for token in ["wrong-token-4", TOKEN] {
        let refused = tank.call(&shows(token)).await;
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!((1..=1_201).contains(&refused.number("retry-after")));
        assert!(!refused.head.has("www-authenticate"));
        assert!(!refused.text().contains("token-of"), "{}", refused.text());
    }
    assert_eq!(
        tank.count("surgetank_unauthorized_total", &[("token", "too_many")]),
        2
    );
    assert_eq!(lab.stats().requests, served, "nothing reached the upstream");
    tank.at_rest().await;

    // Where that is not wanted.
    let open = Recipe::over(&lab.url()).start_with(&block("none"));
    for _ in 0..20 {
        assert_eq!(open.call(&shows("wrong-token")).await.status, 401);
    }
    assert_eq!(open.call(&shows(TOKEN)).await.status, 200);
}
