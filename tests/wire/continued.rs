//! Answers that go on behind the place where they stopped: where the route wants it, where it is text, and marked.

use serde_json::{Value, json};

use super::harness::{
    Answer, End, Origin, Play, Recipe, Request, Serving, Tank, Tongue, chunked, find, text,
};

const BOTH: &str = "on_truncated: continue, on_broken: continue";

fn head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec()
}

/// A whole answer of these events.
fn whole(events: &[String]) -> Vec<u8> {
    let mut answer = head();
    answer.extend(events.iter().flat_map(chunked));
    answer.extend(b"0\r\n\r\n");
    answer
}

/// The same, broken off behind `extra`.
fn broken(events: &[String], extra: &str) -> Vec<u8> {
    let mut answer = head();
    answer.extend(events.iter().flat_map(chunked));
    if !extra.is_empty() {
        answer.extend(chunked(extra));
    }
    answer
}

fn named(name: &str, data: Value) -> String {
    let mut data = data;
    data["type"] = name.into();
    format!("event: {name}\ndata: {data}\n\n")
}

/// Messages: the beginning, a word, the end.
mod messages {
    use super::{Value, json, named};

    pub(super) fn start(id: &str, input: u64) -> String {
        let usage =
            json!({ "input_tokens": input, "output_tokens": 1, "cache_read_input_tokens": 5 });
        let message = json!({ "id": id, "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage });
        named("message_start", json!({ "message": message }))
    }

    pub(super) fn block(index: u64, block: Value) -> String {
        named(
            "content_block_start",
            json!({ "index": index, "content_block": block }),
        )
    }

    pub(super) fn text_block() -> String {
        block(0, json!({ "type": "text", "text": "" }))
    }

    pub(super) fn word(text: &str) -> String {
        let delta = json!({ "type": "text_delta", "text": text });
        named("content_block_delta", json!({ "index": 0, "delta": delta }))
    }

    pub(super) fn end(reason: &str, output: u64) -> [String; 3] {
        let usage = json!({ "output_tokens": output });
        [
            named("content_block_stop", json!({ "index": 0 })),
            named(
                "message_delta",
                json!({ "delta": { "stop_reason": reason }, "usage": usage }),
            ),
            named("message_stop", json!({})),
        ]
    }

    pub(super) fn answer(id: &str, words: &[&str], reason: &str, output: u64) -> Vec<String> {
        let mut events = vec![start(id, 10), text_block()];
        events.extend(words.iter().map(|text| word(text)));
        events.extend(end(reason, output));
        events
    }
}

/// Chat: the same.
mod chat {
    use super::{Value, json};

    pub(super) fn chunk(id: &str, delta: Value, finish: Value) -> String {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        let chunk = json!({ "id": id, "object": "chat.completion.chunk", "created": id.len(), "model": id, "choices": [choice] });
        format!("data: {chunk}\n\n")
    }

    pub(super) fn usage(id: &str, output: u64) -> String {
        let usage = json!({ "prompt_tokens": 10, "completion_tokens": output, "total_tokens": 10 + output,
            "completion_tokens_details": { "reasoning_tokens": 1 } });
        let chunk = json!({ "id": id, "object": "chat.completion.chunk", "created": 1, "model": id, "choices": [], "usage": usage });
        format!("data: {chunk}\n\n")
    }

    pub(super) fn answer(id: &str, words: &[&str], finish: &str, output: u64) -> Vec<String> {
        let mut events = vec![chunk(
            id,
            json!({ "role": "assistant", "content": "" }),
            Value::Null,
        )];
        events.extend(
            words
                .iter()
                .map(|text| chunk(id, json!({ "content": text }), Value::Null)),
        );
        events.push(chunk(id, json!({}), finish.into()));
        events.push(usage(id, output));
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}

/// An upstream that gives these answers in turn, the last one again and again, and a proxy that continues.
async fn start(answers: &str, plays: Vec<Play>) -> (Serving, Tank) {
    let plays: Vec<(bool, Vec<u8>)> = plays
        .into_iter()
        .map(|play| match play {
            Play::Reset(bytes) => (true, bytes),
            Play::Answer(bytes) | Play::Last(bytes) => (false, bytes),
        })
        .collect();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Origin::start().await.play(move |_| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match plays[number.min(plays.len() - 1)].clone() {
            (true, bytes) => Play::Reset(bytes),
            (false, bytes) => Play::Last(bytes),
        }
    });
    let tank = Recipe::over(&upstream.url())
        .retry("max_retries: 0")
        .start_with(&format!("answers: {{ {answers} }}"));
    (upstream, tank)
}

async fn ask(tank: &Tank, request: &Request) -> Answer {
    let answer = tank.call(request).await;
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    tank.at_rest().await;
    answer
}

/// The data of all events of this name; of all, where they have none.
fn data(body: &[u8], name: &str) -> Vec<Value> {
    let body = text(body);
    let mut found = Vec::new();
    for event in body.split("\n\n") {
        let is_wanted = name.is_empty() || event.starts_with(&format!("event: {name}\n"));
        let line = event.lines().find_map(|line| line.strip_prefix("data: "));
        found.extend(
            line.filter(|_| is_wanted)
                .and_then(|line| serde_json::from_str::<Value>(line).ok()),
        );
    }
    found
}

fn counted(tank: &Tank, cause: &str, outcome: &str) -> u64 {
    let labels = [("cause", cause), ("outcome", outcome)];
    tank.count("surgetank_continued_total", &labels)
}

fn raises(answer: &Answer) {
    assert_ne!(answer.end, End::Whole, "it never ends cleanly");
    assert!(
        find(&answer.body, b"\"error\"").is_some(),
        "{}",
        text(&answer.body)
    );
}

#[tokio::test]
async fn a_cut_message_goes_on_in_the_same_block_with_the_cost_of_both() {
    let first = messages::answer("msg_1", &["Hello ", "wor"], "max_tokens", 3);
    let second = messages::answer("msg_2", &["ld", "!"], "end_turn", 4);
    let (upstream, tank) = start(
        "on_truncated: continue",
        vec![Play::Answer(whole(&first)), Play::Answer(whole(&second))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    assert_eq!(answer.end, End::Whole);
    assert_eq!(
        Tongue::Messages.text_of_stream(&answer.body),
        "Hello world!"
    );
    let starts = data(&answer.body, "message_start");
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0]["message"]["id"], "msg_1");
    for (name, times) in [
        ("content_block_start", 1),
        ("content_block_stop", 1),
        ("message_stop", 1),
    ] {
        assert_eq!(data(&answer.body, name).len(), times, "{name}");
    }
    let ends = data(&answer.body, "message_delta");
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["delta"]["stop_reason"], "end_turn");
    let usage = &ends[0]["usage"];
    assert_eq!(
        (
            &usage["output_tokens"],
            &usage["input_tokens"],
            &usage["cache_read_input_tokens"]
        ),
        (&json!(7), &json!(20), &json!(10))
    );
    let marks = text(&answer.body)
        .matches(": x-surgetank-continued: truncated\n\n")
        .count();
    assert_eq!(marks, 1);
    assert!(
        find(&answer.body, b"x-surgetank-truncated").is_none(),
        "it is whole now"
    );

    let asked: Value = serde_json::from_slice(&upstream.seen()[1].body).expect("JSON");
    let turns = asked["messages"].as_array().expect("turns");
    assert_eq!(turns.len(), 3);
    assert_eq!(
        turns[1],
        json!({ "role": "assistant", "content": "Hello wor" })
    );
    assert_eq!(turns[2]["role"], "user");
    let please = turns[2]["content"].as_str().expect("text");
    assert!(please.contains("ended with: \"Hello wor\""), "{please}");
    assert_eq!(upstream.seen()[1].head.one("x-api-key"), Some("k"));
    assert_eq!(counted(&tank, "truncated", "continued"), 1);
    assert_eq!(
        tank.count("surgetank_tokens_total", &[("kind", "output")]),
        7
    );
}

#[tokio::test]
async fn a_cut_chat_goes_on_with_the_ids_of_its_beginning() {
    let first = chat::answer("one", &["Hello ", "wor"], "length", 3);
    let second = chat::answer("second", &["ld", "!"], "stop", 4);
    let (upstream, tank) = start(
        "on_truncated: continue",
        vec![Play::Answer(whole(&first)), Play::Answer(whole(&second))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Chat.stream()).await;
    assert_eq!(answer.end, End::Whole);
    assert_eq!(Tongue::Chat.text_of_stream(&answer.body), "Hello world!");
    let chunks = data(&answer.body, "");
    for chunk in &chunks {
        assert_eq!(
            (&chunk["id"], &chunk["model"]),
            (&json!("one"), &json!("one")),
            "{chunk}"
        );
    }
    let finishes: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str())
        .collect();
    assert_eq!(finishes, ["stop"]);
    let roles = chunks
        .iter()
        .filter(|chunk| !chunk["choices"][0]["delta"]["role"].is_null());
    assert_eq!(roles.count(), 1, "no second beginning");
    let usages: Vec<_> = chunks
        .iter()
        .filter(|chunk| !chunk["usage"].is_null())
        .collect();
    assert_eq!(usages.len(), 1);
    let usage = &usages[0]["usage"];
    assert_eq!(
        (&usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(7), &json!(27))
    );
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 2);
    assert_eq!(text(&answer.body).matches("data: [DONE]").count(), 1);
    let asked: Value = serde_json::from_slice(&upstream.seen()[1].body).expect("JSON");
    assert_eq!(asked["messages"][1]["content"], "Hello wor");
}

#[tokio::test]
async fn the_last_chunk_of_a_cut_chat_may_hold_text() {
    let mut first = chat::answer("one", &["Hello "], "length", 3);
    first[2] = chat::chunk("one", json!({ "content": "wor" }), "length".into());
    let second = chat::answer("second", &["ld"], "stop", 4);
    let (_upstream, tank) = start(
        "on_truncated: continue",
        vec![Play::Answer(whole(&first)), Play::Answer(whole(&second))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Chat.stream()).await;
    let body = text(&answer.body);
    let metrics = String::from_utf8(tank.proxy.metrics().render()).expect("text");
    let told: Vec<_> = metrics
        .lines()
        .filter(|line| {
            line.contains("attempts_total")
                || line.contains("denied")
                || line.contains("continued_total")
        })
        .collect();
    assert_eq!(
        Tongue::Chat.text_of_stream(&answer.body),
        "Hello world",
        "{body} {told:#?}"
    );
    assert!(find(&answer.body, b"\"length\"").is_none());
}

#[tokio::test]
async fn a_broken_stream_goes_on_behind_its_last_whole_event() {
    let second = messages::answer("msg_2", &["ld", "!"], "end_turn", 4);
    let begun = [
        messages::start("msg_1", 10),
        messages::text_block(),
        messages::word("Hello wor"),
    ];
    let half = "event: content_block_delta\ndata: {\"type\":\"content_bl";
    for cut in [
        Play::Reset(broken(&begun, half)),
        Play::Last(broken(&begun, "")),
        Play::Answer(whole(&begun)),
    ] {
        let (_upstream, tank) = start(
            "on_broken: continue",
            vec![cut, Play::Answer(whole(&second))],
        )
        .await;
        let answer = ask(&tank, &Tongue::Messages.stream()).await;
        assert_eq!(answer.end, End::Whole);
        assert_eq!(
            Tongue::Messages.text_of_stream(&answer.body),
            "Hello world!"
        );
        assert_eq!(data(&answer.body, "message_start").len(), 1);
        assert_eq!(data(&answer.body, "content_block_start").len(), 1);
        assert!(
            find(&answer.body, b"content_bl\n").is_none(),
            "no half event"
        );
        assert!(find(&answer.body, b": x-surgetank-continued: broken\n\n").is_some());
        assert_eq!(counted(&tank, "broken", "continued"), 1);
        assert_eq!(tank.outcomes("served"), 1);
    }
}

#[tokio::test]
async fn a_run_in_the_background_is_taken_up_where_it_was_left() {
    let event = |number: u64, name: &str, rest: Value| {
        let mut data = rest;
        data["sequence_number"] = number.into();
        named(name, data)
    };
    let response = json!({ "response": { "id": "resp_1-a", "status": "in_progress" } });
    let word = |number, text: &str| {
        event(
            number,
            "response.output_text.delta",
            json!({ "item_id": "i", "delta": text }),
        )
    };
    let begun = [
        event(0, "response.created", response),
        word(1, "Hello "),
        word(2, "wor"),
    ];
    let rest = [
        word(2, "wor"),
        word(3, "ld"),
        event(
            4,
            "response.completed",
            json!({ "response": { "id": "resp_1-a", "status": "completed" } }),
        ),
    ];
    let (upstream, tank) = start(
        "on_broken: continue",
        vec![
            Play::Reset(broken(&begun, "event: response.out")),
            Play::Answer(whole(&rest)),
        ],
    )
    .await;
    let request = Tongue::Responses.with(true, &json!({ "background": true }));
    let answer = ask(&tank, &request).await;
    assert_eq!(answer.end, End::Whole);
    assert_eq!(
        Tongue::Responses.text_of_stream(&answer.body),
        "Hello world"
    );
    let numbers: Vec<_> = data(&answer.body, "")
        .iter()
        .map(|data| data["sequence_number"].as_u64().expect("numbered"))
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    let again = &upstream.seen()[1];
    assert_eq!(
        again.head.start,
        "GET /v1/responses/resp_1-a?stream=true&starting_after=2 HTTP/1.1"
    );
    assert_eq!(again.head.one("authorization"), Some("Bearer k"));
    assert!(again.body.is_empty());
}

#[tokio::test]
async fn a_run_that_is_not_in_the_background_breaks_honestly() {
    let begun = [named(
        "response.output_text.delta",
        json!({ "delta": "Hello" }),
    )];
    let (upstream, tank) = start(BOTH, vec![Play::Reset(broken(&begun, ""))]).await;
    let answer = ask(&tank, &Tongue::Responses.stream()).await;
    raises(&answer);
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(counted(&tank, "broken", "unfit"), 1);
}

/// A request, the beginning of its answer, and why that cannot be continued.
fn unfit() -> Vec<(&'static str, Request, Vec<String>)> {
    let with = |extra: Value| Tongue::Messages.with(true, &extra);
    let start = || messages::start("msg_1", 10);
    let text = || vec![start(), messages::text_block(), messages::word("Hello")];
    let block = |kind: &str| {
        vec![
            start(),
            messages::block(0, json!({ "type": kind })),
            messages::word("x"),
        ]
    };
    let choice = |index: u64| {
        format!(
            "data: {}\n\n",
            json!({ "id": "c", "choices": [{ "index": index, "delta": { "content": "x" } }] })
        )
    };
    let tool = json!({ "tool_calls": [{ "index": 0, "id": "t", "function": { "name": "f", "arguments": "{" } }] });
    let mut then_tool = text();
    then_tool.push(messages::block(
        1,
        json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} }),
    ));
    vec![
        ("content", Tongue::Messages.stream(), block("tool_use")),
        ("content", Tongue::Messages.stream(), block("thinking")),
        ("content", Tongue::Messages.stream(), then_tool),
        ("content", Tongue::Chat.stream(), vec![choice(0), choice(1)]),
        (
            "content",
            Tongue::Chat.stream(),
            vec![choice(0), chat::chunk("c", tool, Value::Null)],
        ),
        (
            "unfit",
            with(json!({ "output_config": { "format": { "type": "json_schema" } } })),
            text(),
        ),
        ("unfit", with(json!({ "container": "c" })), text()),
        (
            "prefilled",
            with(
                json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "assistant", "content": "Y" }] }),
            ),
            text(),
        ),
    ]
}

#[tokio::test]
async fn what_is_not_text_alone_is_never_continued() {
    for (why, request, begun) in unfit() {
        let (upstream, tank) = start(BOTH, vec![Play::Reset(broken(&begun, ""))]).await;
        let answer = ask(&tank, &request).await;
        raises(&answer);
        assert_eq!(upstream.seen().len(), 1, "{why}");
        assert_eq!(counted(&tank, "broken", why), 1, "{why}");
        assert_eq!(tank.outcomes("broken"), 1);
    }
}

#[tokio::test]
async fn a_continuation_that_fails_leaves_the_end_as_it_would_have_been() {
    let busy = || Play::Answer(b"HTTP/1.1 529 Busy\r\ncontent-length: 0\r\n\r\n".to_vec());
    let first = messages::answer("msg_1", &["Hello ", "wor"], "max_tokens", 3);
    let (_upstream, tank) = start(BOTH, vec![Play::Answer(whole(&first)), busy()]).await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    assert_eq!(answer.end, End::Whole);
    let without_comments = text(&answer.body).replace(": x-surgetank-truncated: true\n\n", "");
    assert_eq!(without_comments, first.concat(), "byte by byte");
    assert_ne!(without_comments, text(&answer.body), "marked");
    assert_eq!(counted(&tank, "truncated", "failed"), 1);
    assert_eq!(tank.count("surgetank_truncated_total", &[]), 1);

    let (_upstream, tank) = start(BOTH, vec![Play::Reset(broken(&first[..3], "")), busy()]).await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    raises(&answer);
    assert_eq!(Tongue::Messages.text_of_stream(&answer.body), "Hello ");
    assert_eq!(counted(&tank, "broken", "failed"), 1);
}

#[tokio::test]
async fn the_number_of_continuations_is_bounded() {
    let cut = messages::answer("msg_1", &["more "], "max_tokens", 3);
    let (upstream, tank) = start(
        "on_truncated: continue, max_continuations: 3",
        vec![Play::Answer(whole(&cut))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    assert_eq!(answer.end, End::Whole);
    assert_eq!(
        Tongue::Messages.text_of_stream(&answer.body),
        "more more more more "
    );
    assert_eq!(upstream.seen().len(), 4);
    assert!(find(&answer.body, b": x-surgetank-truncated: true\n\n").is_some());
    let ends = data(&answer.body, "message_delta");
    assert_eq!(ends[0]["usage"]["output_tokens"], 12);
    assert_eq!((ends.len(), counted(&tank, "truncated", "spent")), (1, 1));

    let begun = [
        messages::start("m", 1),
        messages::text_block(),
        messages::word("x"),
    ];
    let (upstream, tank) = start(
        "on_broken: continue, max_continuations: 1",
        vec![Play::Reset(broken(&begun, ""))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    raises(&answer);
    assert_eq!(
        (
            upstream.seen().len(),
            Tongue::Messages.text_of_stream(&answer.body)
        ),
        (2, "xx".to_owned())
    );
}

#[tokio::test]
async fn a_prefill_is_the_answer_so_far_and_nothing_else() {
    let first = messages::answer("msg_1", &["Hello ", "wor"], "max_tokens", 3);
    let second = messages::answer("msg_2", &["ld"], "end_turn", 4);
    let (upstream, tank) = start(
        "on_truncated: continue, continue_by: prefill",
        vec![Play::Answer(whole(&first)), Play::Answer(whole(&second))],
    )
    .await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    assert_eq!(Tongue::Messages.text_of_stream(&answer.body), "Hello world");
    let asked: Value = serde_json::from_slice(&upstream.seen()[1].body).expect("JSON");
    let turns = asked["messages"].as_array().expect("turns");
    assert_eq!(
        (turns.len(), &turns[1]["content"]),
        (2, &json!("Hello wor"))
    );
}

#[tokio::test]
async fn nothing_is_continued_unless_the_route_says_so() {
    let cut = messages::answer("msg_1", &["more "], "max_tokens", 3);
    let (upstream, tank) = start("on_broken: continue", vec![Play::Answer(whole(&cut))]).await;
    let answer = ask(&tank, &Tongue::Messages.stream()).await;
    assert_eq!((answer.end, upstream.seen().len()), (End::Whole, 1));
    assert!(find(&answer.body, b": x-surgetank-truncated: true\n\n").is_some());
    let (upstream, tank) = start(
        "on_truncated: continue",
        vec![Play::Reset(broken(&cut[..3], ""))],
    )
    .await;
    raises(&ask(&tank, &Tongue::Messages.stream()).await);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn where_nothing_happens_the_bytes_are_the_upstreams() {
    for tongue in Tongue::ALL {
        let events: Vec<String> = tongue.events().into_iter().map(str::to_owned).collect();
        let (_upstream, tank) = start(BOTH, vec![Play::Answer(whole(&events))]).await;
        let answer = ask(&tank, &tongue.stream()).await;
        assert_eq!(
            (text(&answer.body), answer.end),
            (events.concat(), End::Whole),
            "{tongue:?}"
        );
    }
}

/// A plain answer of Messages or Chat, in JSON.
fn plain_body(tongue: Tongue, id: &str, said: &str, finish: &str, output: u64) -> Value {
    match tongue {
        Tongue::Messages => json!({ "id": id, "type": "message", "role": "assistant", "model": "m",
            "content": [{ "type": "text", "text": said }], "stop_reason": finish, "stop_sequence": null,
            "usage": { "input_tokens": 10, "output_tokens": output, "service_tier": "standard" } }),
        _ => json!({ "id": id, "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": said }, "finish_reason": finish }],
            "usage": { "prompt_tokens": 10, "completion_tokens": output, "total_tokens": 10 + output } }),
    }
}

fn plain(body: &Value) -> Play {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\netag: \"1\"\r\n\r\n{body}"
    );
    Play::Answer(head.into())
}

/// How each of the two says that a limit has cut the answer, and that it is whole.
fn plain_tongues() -> [(Tongue, &'static str, &'static str); 2] {
    [
        (Tongue::Messages, "max_tokens", "end_turn"),
        (Tongue::Chat, "length", "stop"),
    ]
}

#[tokio::test]
async fn a_cut_plain_answer_goes_on_in_the_same_text_with_the_cost_of_both() {
    for (tongue, cut, end) in plain_tongues() {
        let first = plain_body(tongue, "first", "Hello wor", cut, 3);
        let rest = plain_body(tongue, "second", "ld \"🌊\"", end, 4);
        let (upstream, tank) =
            start("on_truncated: continue", vec![plain(&first), plain(&rest)]).await;
        let answer = ask(&tank, &tongue.plain()).await;
        let expected = plain_body(tongue, "first", "Hello world \"🌊\"", end, 7).to_string();
        let expected = match tongue {
            Tongue::Messages => expected.replace("\"input_tokens\":10", "\"input_tokens\":20"),
            _ => expected
                .replace("\"prompt_tokens\":10", "\"prompt_tokens\":20")
                .replace("\"total_tokens\":17", "\"total_tokens\":27"),
        };
        assert_eq!(text(&answer.body), expected);
        assert_eq!(answer.head.one("x-surgetank-continued"), Some("truncated"));
        assert_eq!(answer.head.one("x-surgetank-truncated"), None);
        assert_eq!(answer.head.one("etag"), None, "it is of other bytes");
        assert_eq!(counted(&tank, "truncated", "continued"), 1);
        let saved = tank.count("surgetank_requests_saved_total", &[]);
        assert_eq!(saved, 0, "nothing had to be tried again");
        let seen = upstream.seen();
        let next: Value = serde_json::from_slice(&seen[1].body).expect("JSON");
        let turns = next["messages"].as_array().expect("turns");
        assert_eq!(turns[turns.len() - 2]["content"], "Hello wor");
        assert_eq!(turns[turns.len() - 1]["role"], "user");
    }
}

#[tokio::test]
async fn a_plain_answer_that_cannot_go_on_comes_as_it_was_and_marked() {
    for (tongue, cut, end) in plain_tongues() {
        let first = plain_body(tongue, "first", "Hello wor", cut, 3);
        let mut tool = plain_body(tongue, "second", "", end, 4);
        if tongue == Tongue::Messages {
            tool["content"] = json!([{ "type": "tool_use", "id": "t", "name": "n", "input": {} }]);
        } else {
            tool["choices"][0]["message"] = json!({ "role": "assistant", "content": null,
                "tool_calls": [{ "id": "t", "type": "function", "function": { "name": "n", "arguments": "{}" } }] });
        }
        let refused =
            Play::Answer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}".to_vec());
        let silent = plain_body(tongue, "second", "no reason", end, 4);
        let mut silent = silent.to_string();
        silent = silent.replace(&format!("\"{end}\""), "null");
        let silent: Value = serde_json::from_str(&silent).expect("JSON");
        for (case, play, outcome) in [
            ("the rest is refused", refused, "failed"),
            ("the rest is no text", plain(&tool), "content"),
            (
                "the rest does not say how it ended",
                plain(&silent),
                "unreadable",
            ),
        ] {
            let (_upstream, tank) =
                start("on_truncated: continue", vec![plain(&first), play]).await;
            let answer = ask(&tank, &tongue.plain()).await;
            assert_eq!(text(&answer.body), first.to_string(), "{case}");
            assert_eq!(
                answer.head.one("x-surgetank-truncated"),
                Some("true"),
                "{case}"
            );
            assert_eq!(answer.head.one("x-surgetank-continued"), None, "{case}");
            assert_eq!(counted(&tank, "truncated", outcome), 1, "{case}");
        }
        // Nor what nobody can tell whether it asks for JSON: a key stands twice.
        let (upstream, tank) = start("on_truncated: continue", vec![plain(&first)]).await;
        let unclear = r#"{"model":"m","user":"a","user":"b","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
        let unclear = Request::post(tongue.path(), unclear).header("authorization", "Bearer k");
        let answer = ask(&tank, &unclear).await;
        assert_eq!(text(&answer.body), first.to_string());
        assert_eq!(upstream.seen().len(), 1);
        // What asks for JSON is not text to be gone on with.
        let wants = json!({ "response_format": { "type": "json_object" }, "output_config": { "format": { "type": "json_schema" } } });
        let (upstream, tank) = start("on_truncated: continue", vec![plain(&first)]).await;
        let answer = ask(&tank, &tongue.with(false, &wants)).await;
        assert_eq!(text(&answer.body), first.to_string());
        assert_eq!(upstream.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_plain_answer_is_continued_as_often_as_the_route_says_and_holds_no_place_meanwhile() {
    let part = |said: &str| plain(&plain_body(Tongue::Chat, "part", said, "length", 1));
    let (upstream, tank) = start(
        "on_truncated: continue, max_continuations: 2",
        vec![part("a"), part("b"), part("c"), part("d")],
    )
    .await;
    let answer = ask(&tank, &Tongue::Chat.plain()).await;
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["choices"][0]["message"]["content"], "abc");
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(answer.head.one("x-surgetank-continued"), Some("truncated"));
    assert_eq!(
        answer.head.one("x-surgetank-truncated"),
        Some("true"),
        "it is still cut"
    );
    assert_eq!(counted(&tank, "truncated", "continued"), 2);
}
