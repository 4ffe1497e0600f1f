//! Traces: what a collector is sent of each request, and what it is not.

use std::time::Duration;

use super::harness::{
    Answer, Caller, Collector, Log, Process, Recipe, Request, Rig, Span, Tank, Tongue, soon,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn traced(collector: &Collector, more: &str) -> Rig {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let tank = Recipe::over(&lab.url()).start_with(&collector.block(more));
    Rig { lab, tank }
}

async fn flush(tank: &Tank) {
    tank.at_rest().await;
    let proxy = tank.proxy.clone();
    let flushing = tokio::task::spawn_blocking(move || proxy.flush(Duration::from_secs(10)));
    soon("the traces are sent", flushing)
        .await
        .expect("no panic");
}

fn id_of(answer: &Answer) -> &str {
    answer.head.one("x-surgetank-request-id").expect("an id")
}

fn attribute<'a>(span: &'a Span, key: &str) -> &'a str {
    span.attributes.get(key).map_or("", String::as_str)
}

#[tokio::test]
async fn a_request_is_a_span_under_its_callers_and_each_try_one_under_it() {
    let log = Log::listen();
    let collector = Collector::start().await;
    let rig = traced(&collector, "");
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let request = Tongue::Chat
        .stream()
        .header("traceparent", &parent)
        .header("tracestate", "vendor=kept");
    let answer = rig.tank.call(&request.script("retried", "500,ok")).await;
    assert_eq!(answer.status, 200);
    for attempt in rig.attempts("retried") {
        for (name, value) in [
            ("traceparent", parent.as_str()),
            ("tracestate", "vendor=kept"),
        ] {
            let sent: Vec<_> = attempt.headers_named(name).collect();
            assert_eq!(sent, [value.as_bytes()], "{name}");
        }
    }
    flush(&rig.tank).await;
    let (requests, tries) = collector.sorted(3).await;
    let [request] = requests.as_slice() else {
        panic!("{requests:#?}");
    };
    assert_eq!(
        (request.trace.as_str(), request.parent.as_str()),
        (TRACE, SPAN)
    );
    assert_eq!(
        (request.name.as_str(), request.service.as_str()),
        ("chat gpt-lab", "surgetank")
    );
    for (key, value) in [
        ("surgetank.request_id", id_of(&answer)),
        ("surgetank.outcome", "served"),
        ("surgetank.attempts", "2"),
        ("surgetank.route", "route-1"),
        ("surgetank.upstream", "lab"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-lab"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(request, key), value, "{key}");
    }
    assert!(!request.failed);
    let [first, second] = tries.as_slice() else {
        panic!("{tries:#?}");
    };
    for tried in [first, second] {
        assert_eq!((tried.trace.as_str(), &tried.parent), (TRACE, &request.id));
        assert_eq!(attribute(tried, "server.address"), "127.0.0.1");
        assert!(request.began <= tried.began && tried.began <= tried.ended);
        assert!(tried.ended <= request.ended);
    }
    assert!(
        first.ended <= second.began,
        "the wait between them belongs to neither"
    );
    let told = |span: &Span| {
        let status = attribute(span, "http.response.status_code").to_owned();
        (
            status,
            attribute(span, "error.type").to_owned(),
            attribute(span, "http.request.resend_count").to_owned(),
            span.failed,
        )
    };
    assert_eq!(
        told(first),
        ("500".into(), "faulty".into(), String::new(), true)
    );
    assert_eq!(
        told(second),
        ("200".into(), String::new(), "1".into(), false)
    );
    let line = log.line_of(&answer).await;
    assert_eq!(line["trace_id"].trim_matches('"'), TRACE);
}

#[tokio::test]
async fn without_a_caller_who_traces_the_request_id_names_the_trace() {
    let collector = Collector::start().await;
    let rig = traced(&collector, "");
    let mut ids = Vec::new();
    for request in [
        Tongue::Messages.plain(),
        Tongue::Messages
            .plain()
            .header("traceparent", "00-nonsense"),
        Request::get("/v1/models"),
        Request::get("/").host("a b"),
    ] {
        ids.push(id_of(&rig.tank.call(&request).await).to_owned());
    }
    flush(&rig.tank).await;
    let (requests, _) = collector.sorted(7).await;
    let told: Vec<_> = requests
        .iter()
        .map(|span| (span.trace.clone(), span.parent.as_str(), span.name.as_str()))
        .collect();
    let names = ["chat claude-lab", "chat claude-lab", "GET", "rejected"];
    let expected: Vec<_> = ids
        .iter()
        .zip(names)
        .map(|(id, name)| (id.clone(), "", name))
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn who_does_not_record_is_not_recorded_and_a_sample_keeps_what_went_wrong() {
    let collector = Collector::start().await;
    let rig = traced(&collector, ", sample: 0");
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    for request in [
        Tongue::Chat.plain(),
        Tongue::Chat
            .plain()
            .header("traceparent", &unsampled)
            .script("dark", "500*"),
    ] {
        rig.tank.call(&request).await;
    }
    let failed = rig
        .tank
        .call(&Tongue::Chat.plain().script("light", "500*"))
        .await;
    assert_eq!(failed.status, 500);
    flush(&rig.tank).await;
    let (requests, _) = collector.sorted(5).await;
    assert_eq!(
        attribute(&requests[0], "surgetank.request_id"),
        id_of(&failed)
    );
    assert_eq!(
        (requests[0].failed, attribute(&requests[0], "error.type")),
        (true, "faulty")
    );
}

#[tokio::test]
async fn the_last_traces_are_sent_before_the_process_ends() {
    let collector = Collector::start().await;
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let yaml = Recipe::over(&lab.url())
        .yaml(&collector.block(""))
        .replace("admin: none", "admin: 127.0.0.1:0");
    let mut process = Process::start(&yaml).await;
    let answer = Caller::connect(process.addr)
        .await
        .call(&Tongue::Chat.plain())
        .await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    let (requests, tries) = collector.sorted(2).await;
    assert_eq!(
        (requests[0].trace.as_str(), tries.len()),
        (id_of(&answer), 1)
    );
}

#[tokio::test]
async fn nobody_at_the_collectors_address_is_no_reason_to_fail() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let yaml = Recipe::over(&lab.url())
        .yaml("telemetry: { log: json, otlp: 'http://127.0.0.1:1' }")
        .replace("admin: none", "admin: 127.0.0.1:0");
    let mut process = Process::start(&yaml).await;
    let answer = Caller::connect(process.addr)
        .await
        .call(&Tongue::Chat.plain())
        .await;
    assert_eq!(answer.status, 200);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
