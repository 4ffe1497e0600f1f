use super::*;

fn events(stream: &str) -> Vec<Event> {
    let mut framer = crate::stream::sse::Framer::new(64 * 1024);
    framer.push(Bytes::copy_from_slice(stream.as_bytes()));
    std::iter::from_fn(|| framer.next_frame())
        .filter_map(|frame| match frame.kind {
            crate::stream::sse::FrameKind::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

fn heard(thread: &mut Thread, dialect: Dialect, stream: &str) -> String {
    let mut out = VecDeque::new();
    for event in events(stream) {
        let raw = event_of(&event, event.data());
        thread.see(
            &event,
            &crate::dialect::meaning(dialect, &event),
            raw,
            &mut out,
        );
    }
    out.iter().map(|raw| String::from_utf8_lossy(raw)).collect()
}

const WORD: &str = "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Größe 🌊\"}}\n\n";

fn messages(stream: &str) -> Thread {
    let mut thread = Thread::new(Dialect::MESSAGES, false, true).expect("documented");
    heard(&mut thread, Dialect::MESSAGES, stream);
    thread
}

#[test]
fn the_request_is_the_callers_with_two_turns_more_and_every_other_byte() {
    let body = br#"{ "model" : "m", "messages":[ {"role":"user","content":"1e400"} ] ,"x":1e400}"#;
    let next = messages(WORD)
        .next_request(body, By::Message)
        .expect("text");
    let next = String::from_utf8(next).expect("text");
    let (before, after) = next.split_once(",{\"role\":\"assistant\"").expect("a turn");
    assert_eq!(
        before,
        r#"{ "model" : "m", "messages":[ {"role":"user","content":"1e400"} "#
    );
    assert!(
        after.starts_with(",\"content\":\"Größe 🌊\"},{\"role\":\"user\","),
        "{after}"
    );
    assert!(after.ends_with(r#"}] ,"x":1e400}"#), "{after}");
}

#[test]
fn what_cannot_be_gone_on_with_says_why() {
    let ask = |thread: &Thread, body: &str| thread.next_request(body.as_bytes(), By::Message).err();
    let user = r#"{"messages":[{"role":"user"}]}"#;
    assert_eq!(ask(&messages(WORD), user), None);
    assert_eq!(ask(&messages(""), user), Some(Unfit::Empty));
    assert_eq!(
        ask(&messages(&WORD.repeat(2)), user),
        Some(Unfit::Content),
        "two texts"
    );
    let other = WORD.replace("\"type\":\"text\"", "\"type\":\"thinking\"");
    assert_eq!(ask(&messages(&other), user), Some(Unfit::Content));
    let (begin, delta) = WORD.split_at(WORD.find("event: content_block_delta").expect("a delta"));
    let delta = delta.replace("Größe", &"x".repeat(60_000));
    let long = format!("{begin}{}", delta.repeat(5));
    assert_eq!(ask(&messages(&long), user), Some(Unfit::TooLong));
    for (body, why) in [
        (r#"{"messages":[{"role":"assistant"}]}"#, Unfit::Prefilled),
        (r#"{"messages":[]}"#, Unfit::Unreadable),
        (r#"{"messages":"x"}"#, Unfit::Unreadable),
        (r#"{"messages":[{}],"messages":[{}]}"#, Unfit::Unreadable),
        ("no JSON", Unfit::Unreadable),
    ] {
        assert_eq!(ask(&messages(WORD), body), Some(why), "{body}");
    }
    for dialect in [
        Dialect::COMPLETIONS,
        Dialect::EMBEDDINGS,
        Dialect::OPENAI_OTHER,
    ] {
        assert!(Thread::new(dialect, true, true).is_none());
    }
    assert!(Thread::new(Dialect::RESPONSES, false, true).is_none());
}

#[test]
fn a_prefill_ends_with_no_white_space() {
    let body = br#"{"messages":[{"role":"user"}]}"#;
    let turns = |stream: &str| {
        let next = messages(stream)
            .next_request(body, By::Prefill)
            .expect("text");
        String::from_utf8(next)
            .expect("text")
            .matches("\"role\"")
            .count()
    };
    assert_eq!(turns(WORD), 2);
    assert_eq!(
        turns(&WORD.replace("🌊", "🌊 ")),
        3,
        "asked by a message then"
    );
}

#[test]
fn the_model_is_reminded_of_whole_characters() {
    for length in 0..9 {
        let said = format!("{}{}", "x".repeat(length), "🌊".repeat(60));
        assert!(instruction(&said).contains("🌊🌊"), "{length}");
    }
    assert!(instruction("a \"b\"").contains(r#"ended with: "a \"b\"""#));
}

#[test]
fn costs_are_added_part_by_part() {
    let mut sum = serde_json::json!({ "a": 1, "b": { "c": 2 }, "d": null, "e": "x" });
    add(
        &mut sum,
        &serde_json::json!({ "a": 2, "b": { "c": 3, "f": 1 }, "d": 4, "e": 5, "g": 6 }),
    );
    let expected = serde_json::json!({ "a": 3, "b": { "c": 5, "f": 1 }, "d": 4, "e": "x", "g": 6 });
    assert_eq!(sum, expected);
}

#[test]
fn an_id_that_means_something_in_a_path_is_none() {
    let run = |id: &str| {
        let mut thread = Thread::new(Dialect::RESPONSES, true, false).expect("documented");
        let data = format!(
            "data: {{\"type\":\"response.created\",\"sequence_number\":7,\"response\":{{\"id\":\"{id}\"}}}}\n\n"
        );
        heard(&mut thread, Dialect::RESPONSES, &data);
        thread.next_target()
    };
    assert_eq!(
        run("resp_1-a").as_deref(),
        Some("/resp_1-a?stream=true&starting_after=7")
    );
    for id in ["../x", "a/b", "a?b", "a#b", "a%2e", ""] {
        assert_eq!(run(id), None, "{id}");
    }
}

#[test]
fn another_kind_of_block_in_the_rest_ends_the_text_and_follows_it() {
    let mut thread = messages(WORD);
    thread.go_on(&mut VecDeque::new());
    let rest = heard(
        &mut thread,
        Dialect::MESSAGES,
        "event: message_start\ndata: {\"message\":{}}\n\n\
         event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"tool_use\"}}\n\n\
         event: content_block_stop\ndata: {\"index\":0}\n\n\
         event: message_stop\ndata: {}\n\n",
    );
    assert_eq!(
        rest,
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
         event: content_block_start\ndata: {\"index\":1,\"content_block\":{\"type\":\"tool_use\"}}\n\n\
         event: content_block_stop\ndata: {\"index\":1}\n\n\
         event: message_stop\ndata: {}\n\n"
    );
}
