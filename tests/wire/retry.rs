//! What another try can mend is mended unseen; what it cannot arrives at once and unchanged; and the upstream sees
//! exactly the calls that were promised.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::harness::{Answer, Origin, Recipe, Request, Rig, Tongue, soon};

/// Failures that another try mends, as the lab plays them: script, attempts in all.
const MENDED: &[(&str, usize)] = &[
    ("ok", 1),
    ("429;retry-after-ms=20,ok", 2),
    ("slow-down;retry-after-ms=20,ok", 2),
    ("408,ok", 2),
    ("409,ok", 2),
    ("500,ok", 2),
    ("502,ok", 2),
    ("503,ok", 2),
    ("504,ok", 2),
    ("529,ok", 2),
    ("520,ok", 2),
    ("500,529,503,ok", 4),
    ("400;should-retry=true,ok", 2),
    ("reset,ok", 2),
    ("fin,ok", 2),
    ("refuse,ok", 2),
    ("fin-head,ok", 2),
    ("bad-head,ok", 2),
    ("bad-head;kind=garbage,ok", 2),
    ("bad-head;kind=nul,ok", 2),
    ("giant-headers,ok", 2),
    ("hang,ok", 2),
];

/// Those that need an answer in one piece.
const MENDED_PLAIN: &[(&str, usize)] = &[
    // A chunked answer with two lengths has one meaning left and passes, cleaned of them.
    ("bad-head;kind=two-lengths,ok", 2),
    ("cut,ok", 2),
    ("cut;after=end,ok", 2),
    ("reset-body,ok", 2),
    ("long-length,ok", 2),
    ("cut,reset-body,long-length,ok", 4),
];

/// Those that need a stream: nothing has left for the caller yet.
const MENDED_STREAM: &[(&str, usize)] = &[
    ("error-first,ok", 2),
    ("error-first;form=native,ok", 2),
    ("error-first;form=chat,ok", 2),
    ("error-first;form=hybrid,ok", 2),
    ("error-first;status=500,ok", 2),
    ("error-first;status=429,ok", 2),
    // The greeting has come, and is held back.
    ("error-preamble,ok", 2),
    ("error-preamble;form=native,ok", 2),
    ("error-preamble;form=chat,ok", 2),
    ("error-preamble;form=hybrid,ok", 2),
    ("error-preamble;status=529,error-preamble;status=429,ok", 3),
    ("cut;after=0,ok", 2),
    ("cut;after=0;split,ok", 2),
    ("cut-clean;after=0,ok", 2),
    ("reset-body;after=0,ok", 2),
    ("empty,ok", 2),
];

fn healthy(tongue: Tongue, stream: bool, answer: &Answer) -> bool {
    let said = if stream {
        tongue.text_of_stream(&answer.body)
    } else {
        tongue.text_of_answer(&answer.json())
    };
    let whole = !stream || answer.text().contains(tongue.terminator());
    answer.status == 200
        && said.starts_with("the tank takes")
        && said.trim_end().ends_with("tap")
        && whole
}

async fn mended(
    rig: &Rig,
    tongue: Tongue,
    stream: bool,
    script: &str,
    attempts: usize,
) -> Result<(), String> {
    let key = format!("{tongue:?}-{stream}-{script}").replace([',', ';', '='], "-");
    let request = if stream {
        tongue.stream()
    } else {
        tongue.plain()
    }
    .script(&key, script);
    let answer = soon(script, rig.tank.call(&request)).await;
    let seen = rig.attempts(&key);
    let same = seen.iter().all(|attempt| {
        let (first, now) = (&seen[0], attempt);
        first.body == now.body && first.head == now.head && now.body_len > 0
    });
    let told = answer.number("x-surgetank-attempts");
    if healthy(tongue, stream, &answer) && seen.len() == attempts && told == attempts as u64 && same
    {
        return Ok(());
    }
    let text = answer.text().chars().take(200).collect::<String>();
    Err(format!(
        "{tongue:?} stream={stream} {script}: {} after {} calls (told {told}, same bytes: {same}): {text}",
        answer.status,
        seen.len()
    ))
}

#[tokio::test]
async fn what_another_try_mends_is_never_seen() {
    let rig = Rig::with(|recipe| recipe.timeouts("first_byte: 500ms"));
    let mut wrong = Vec::new();
    for tongue in Tongue::ALL {
        for stream in [false, true] {
            let special = if stream { MENDED_STREAM } else { MENDED_PLAIN };
            for (script, attempts) in MENDED.iter().chain(special) {
                wrong.extend(mended(&rig, tongue, stream, script, *attempts).await.err());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let served = rig.tank.outcomes("served");
    assert_eq!(
        rig.tank.count("surgetank_requests_total", &[]),
        served,
        "all were served"
    );
    rig.tank.at_rest().await;
}

/// Without what differs between two answers of the lab: ids and times.
fn comparable(answer: &Answer) -> (u16, Vec<String>, String) {
    let ours = |line: &String| {
        let name = line
            .split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        name.starts_with("x-surgetank-")
            || matches!(
                name.as_str(),
                "server-timing" | "date" | "request-id" | "x-request-id" | "x-should-retry"
            )
    };
    let mut lines = answer.head.lines_without(&[]);
    lines.retain(|line| !ours(line));
    let mut body = answer.text();
    if let Some(at) = body.find("req_lab_") {
        body.replace_range(at..at + 14, "");
    }
    (answer.status, lines, body)
}

#[tokio::test]
async fn what_no_try_can_mend_arrives_at_once_and_unchanged() {
    let rig = Rig::start();
    let table: &[(&str, bool)] = &[
        ("400", false),
        ("401", false),
        ("403", false),
        ("404", false),
        ("413", false),
        ("418", false),
        ("422", false),
        ("501", true),
        ("request-too-large", true),
        ("500;should-retry=false", true),
        ("429;should-retry=false", true),
        ("402", true),
        ("insufficient-quota", true),
        ("credit-balance-exhausted", true),
        ("spend-limit", true),
        ("usage-limit", true),
        ("insufficient-quota;should-retry=true", true),
        ("429;retry-after=600", true),
    ];
    for tongue in Tongue::ALL {
        for (script, says_no) in table {
            let key = format!("{tongue:?}-{script}").replace([';', '='], "-");
            let request = tongue.plain().script(&key, &star(script));
            let answer = soon(script, rig.tank.call(&request)).await;
            assert_eq!(
                rig.attempts(&key).len(),
                1,
                "{tongue:?} {script}: {}",
                answer.text()
            );
            let direct = super::harness::Caller::connect(rig.lab.addr())
                .await
                .call(&request)
                .await;
            assert_eq!(
                comparable(&answer),
                comparable(&direct),
                "{tongue:?} {script}"
            );
            let told = answer
                .head
                .all("x-should-retry")
                .pop()
                .map(super::harness::text);
            // Anthropic says this one with a status that no SDK repeats.
            let is_repeated =
                *script != "request-too-large" || matches!(answer.status, 408 | 409 | 429 | 500..);
            let expected = (*says_no && is_repeated).then(|| "false".to_owned());
            assert_eq!(
                told, expected,
                "{tongue:?} {script}: what the SDK above is told"
            );
        }
    }
}

#[tokio::test]
async fn spent_retries_hand_on_the_last_answer_and_tell_the_sdk_not_to_multiply() {
    let rig = Rig::start();
    for (script, status) in [
        ("500*", 500),
        ("529*", 529),
        ("503*", 503),
        ("429;retry-after-ms=10*", 429),
    ] {
        let key = script.trim_end_matches('*').replace([';', '='], "-");
        let answer = rig
            .tank
            .call(&Tongue::Messages.plain().script(&key, &star(script)))
            .await;
        assert_eq!(answer.status, status, "{script}");
        assert_eq!(
            rig.attempts(&key).len(),
            4,
            "{script}: one try and three retries"
        );
        assert_eq!(answer.number("x-surgetank-attempts"), 4);
        assert_eq!(answer.head.all("x-should-retry"), [b"false"], "{script}");
        assert!(
            answer.json()["error"]["type"].is_string(),
            "the vendor's own words: {}",
            answer.text()
        );
        assert!(
            answer.number("x-surgetank-waited-ms") >= 30,
            "{script}: {:?}",
            answer.head
        );
    }
    assert_eq!(rig.tank.outcomes("failed"), 4);
}

/// `NAME;params*` is written `NAME*;params`.
fn star(script: &str) -> String {
    let bare = script.trim_end_matches('*');
    bare.split_once(';')
        .map_or(format!("{bare}*"), |(name, rest)| format!("{name}*;{rest}"))
}

#[tokio::test]
async fn no_attempt_begins_before_the_server_allows_it() {
    let rig = Rig::start();
    for (fault, least) in [
        ("429;retry-after-ms=300", 300),
        ("429;retry-after=1", 1000),
        ("429;retry-after=0.4", 400),
        ("503;retry-after=1", 1000),
        ("529;retry-after-ms=250;retry-after=30", 250),
        // Whole seconds: the moment itself is up to a second earlier than it was meant.
        ("429;retry-after=date+3s", 1900),
    ] {
        let key = fault.replace([';', '='], "-");
        let request = Tongue::Chat.plain().script(&key, &format!("{fault},ok"));
        let answer = soon(fault, rig.tank.call(&request)).await;
        assert_eq!(answer.status, 200, "{fault}");
        let seen = rig.attempts(&key);
        let (failed, again) = (seen[0].ended.expect("it ended"), seen[1].arrived);
        let waited = again.saturating_sub(failed);
        assert!(
            waited >= Duration::from_millis(least),
            "{fault}: the second attempt came after {waited:?}"
        );
        assert!(answer.number("x-surgetank-waited-ms") >= least, "{fault}");
    }
}

#[tokio::test]
async fn hints_that_are_no_times_do_not_hammer_and_do_not_hang() {
    let rig = Rig::start();
    let hints = [
        "-1",
        "0",
        "nonsense",
        "NaN",
        "1e309",
        "past",
        "",
        "1;2",
        "0x10",
        "none",
        "digits:4000",
    ];
    for hint in hints {
        let key = format!("hint-{hint}");
        let fault = format!("429;retry-after={}", hint.replace(';', "%3B"));
        let request = Tongue::Chat.plain().script(&key, &format!("{fault},ok"));
        let answer = soon(hint, rig.tank.call(&request)).await;
        let calls = rig.attempts(&key).len();
        // A number beyond all patience is handed on; whatever else is not a time leaves the wait to our own backoff.
        let expected = if hint.starts_with("digits") {
            (429, 1)
        } else {
            (200, 2)
        };
        assert_eq!((answer.status, calls), expected, "retry-after: {hint}");
    }
}

#[tokio::test]
async fn the_callers_word_on_retries_counts() {
    let rig = Rig::start();
    let table = [
        ("x-stainless-retry-count", "0", 4),
        ("x-stainless-retry-count", "1", 1),
        ("x-stainless-retry-count", "2", 1),
        ("x-surgetank-max-retries", "0", 1),
        ("x-surgetank-max-retries", "1", 2),
        ("x-surgetank-max-retries", "5", 6),
        ("x-surgetank-max-retries", "nonsense", 4),
    ];
    for (name, value, calls) in table {
        let key = format!("{name}-{value}");
        let answer = rig
            .tank
            .call(
                &Tongue::Chat
                    .plain()
                    .script(&key, "500*")
                    .header(name, value),
            )
            .await;
        assert_eq!(
            (answer.status, rig.attempts(&key).len()),
            (500, calls),
            "{name}: {value}"
        );
        assert_eq!(answer.head.all("x-should-retry"), [b"false"]);
    }
}

#[tokio::test]
async fn nothing_is_begun_that_cannot_end_in_the_callers_time() {
    let rig = Rig::start();
    let hang = Tongue::Messages
        .plain()
        .script("hang", "hang*")
        .header("x-surgetank-timeout-ms", "400");
    let began = Instant::now();
    let answer = rig.tank.call(&hang).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "timeout_error");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    rig.lab_has("the hanging call is given up", |stats| stats.cancelled == 1)
        .await;

    let wait = Tongue::Messages
        .plain()
        .script("wait", "429;retry-after=20,ok")
        .header("x-surgetank-timeout-ms", "3000");
    let began = Instant::now();
    let answer = rig.tank.call(&wait).await;
    assert_eq!(answer.status, 429);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "a wait in vain is not begun: {:?}",
        began.elapsed()
    );
    assert_eq!(rig.attempts("wait").len(), 1);
    assert_eq!(
        rig.tank
            .count("surgetank_retries_denied_total", &[("reason", "deadline")]),
        2,
        "neither was tried again"
    );
}

#[tokio::test]
async fn how_far_a_post_is_repeated_is_the_operators_choice() {
    let table: &[(&str, &str, &str, &str, usize)] = &[
        ("always", "POST", "reset", "ok", 2),
        ("answered", "POST", "reset", "", 1),
        ("answered", "POST", "cut", "", 1),
        ("answered", "POST", "500", "ok", 2),
        ("unsent", "POST", "500", "", 1),
        ("unsent", "POST", "reset", "", 1),
        // Idempotent methods are not concerned.
        ("unsent", "GET", "reset", "ok", 2),
        ("unsent", "GET", "500", "ok", 2),
    ];
    for (post, method, fault, then, calls) in table {
        let rig = Rig::with(|recipe| recipe.retry(&format!("post: {post}")));
        let request = match *method {
            "GET" => Request::get("/v1/models"),
            _ => Tongue::Chat.plain(),
        };
        let answer = rig
            .tank
            .call(&request.script("key", &format!("{fault},ok")))
            .await;
        assert_eq!(
            answer.status == 200,
            *then == "ok",
            "{post} {method} {fault}: {}",
            answer.status
        );
        assert_eq!(rig.attempts("key").len(), *calls, "{post} {method} {fault}");
    }
}

/// A port where nobody listens.
async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    listener.local_addr().expect("bound")
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_in_the_callers_dialect() {
    let tank = Recipe::over(&format!("http://{}", closed_port().await)).start();
    for tongue in Tongue::ALL {
        let answer = soon("an answer", tank.call(&tongue.stream())).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        let error = &answer.json()["error"];
        let expected = if tongue == Tongue::Messages {
            "api_error"
        } else {
            "server_error"
        };
        assert_eq!(error["type"], expected, "{tongue:?}: {}", answer.text());
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains("connect")),
            "{error}"
        );
        assert_eq!(answer.head.all("x-should-retry"), [b"false"]);
    }
    assert_eq!(tank.outcomes("failed"), 3);
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_found() {
    let rig = Rig::with(|recipe| recipe.retry("max_retries: 8"));
    let answer = rig
        .tank
        .call(&Tongue::Chat.plain().script("back", "closed;for=60ms,ok"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(rig.attempts("back").len(), 2);
}

#[tokio::test]
async fn kept_connections_that_the_upstream_has_closed_cost_no_request() {
    for lasting in ["0ms", "1ms", "2ms"] {
        let rig = Rig::start();
        let mut caller = rig.tank.caller().await;
        for number in 0..200 {
            let request = if number % 2 == 0 {
                Tongue::Chat.plain()
            } else {
                Request::get("/v1/models")
            };
            let fault = format!("close-idle;for={lasting}");
            let answer = caller.call(&request.header("x-lab-fault", &fault)).await;
            assert_eq!(
                answer.status,
                200,
                "{number} at {lasting}: {}",
                answer.text()
            );
        }
        let stats = rig.lab.stats();
        assert_eq!(
            stats.executions, 100,
            "nothing was carried out twice: {stats:?}"
        );
        assert_eq!(rig.tank.outcomes("served"), 200);
    }
}

#[tokio::test]
async fn a_compressed_refusal_is_read_and_handed_on_untouched() {
    let body = br#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).expect("memory");
    let packed = gzip.finish().expect("memory");
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ndate: today\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    let reply = [head.as_bytes(), &packed].concat();
    let origin = Origin::start().await.serve(move |_| Some(reply.clone()));
    let tank = Recipe::over(&origin.url()).start();
    let answer = tank.call(&Tongue::Chat.plain()).await;
    assert_eq!((answer.status, answer.body), (429, packed));
    assert_eq!(origin.seen().len(), 1, "spent money is not asked for again");
    assert_eq!(tank.outcomes("exhausted"), 1);
}

#[tokio::test]
async fn a_broken_body_of_the_upstream_leaves_nothing_of_itself_in_the_answer() {
    // Any cut of a plain answer is noticed before a byte has left, wherever it is.
    let rig = Rig::start();
    for after in (0..400).step_by(7) {
        let key = format!("cut-{after}");
        let script = format!("cut;after={after},reset-body;after={after},ok");
        let answer = rig
            .tank
            .call(&Tongue::Chat.plain().script(&key, &script))
            .await;
        assert!(
            healthy(Tongue::Chat, false, &answer),
            "cut after {after}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(rig.attempts(&key).len(), 3, "cut after {after}");
    }
}

#[tokio::test]
async fn redirects_are_the_callers_to_follow() {
    let rig = Rig::start();
    for status in ["301", "302", "303", "307", "308"] {
        let answer = rig
            .tank
            .call(&Tongue::Chat.plain().script(status, status))
            .await;
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(answer.head.one("location"), Some("/_lab/trap"));
        assert_eq!(rig.attempts(status).len(), 1);
    }
    assert_eq!(rig.lab.stats().trapped, 0);
}
