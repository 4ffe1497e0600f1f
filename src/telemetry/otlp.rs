//! Spans in the words of OpenTelemetry, sent over OTLP/HTTP.
//!
//! The names of attributes are those of the semantic conventions: HTTP, and generative AI for what a model was
//! asked and what it cost. What the conventions have no name for begins with `surgetank.`. Neither a
//! prompt, an answer, a path, a user nor a credential is among them.
//!
//! The SDK's batch processor queues, sends from a thread of its own, repeats what failed, and drops what
//! finds no room. Its client connects to what the configuration names and to nothing else: no redirect
//! and no proxy variable leads it away.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, StringValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
    },
};
use rand::Rng as _;
use tokio::time::Instant;

use super::{
    Outcome,
    traces::{Told, TracesError},
};
use crate::{
    call::{Call, Journal, Try},
    dialect::{Endpoint, Vendor},
    retry::triage::Class,
};

/// Spans that may wait to be sent: a second of a busy instance, and some ten megabytes at most.
const QUEUE: usize = 8_192;

/// One export may take this long before it has failed.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends spans.
#[derive(Debug)]
pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    pub(super) fn start(
        endpoint: &str,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, TracesError> {
        let (url, tls) = (
            format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            tls.clone(),
        );
        // The blocking client has a runtime inside and may be made in no other; the caller may be in one.
        let making = std::thread::spawn(move || exporter(&url, &tls));
        let exporter = making
            .join()
            .unwrap_or_else(|_| Err("its client could not be made".to_owned()))
            .map_err(TracesError::Exporter)?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before ours.
        let resource = Resource::builder();
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("surgetank"),
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        processor.set_resource(&resource.with_attribute(version).build());
        let scope = InstrumentationScope::builder("surgetank")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { processor, scope })
    }

    pub(super) fn tell(&self, told: &Told<'_>) {
        let clock = Clock::now();
        if let Some((call, journal)) = told.call {
            for (count, tried) in (0..).zip(&journal.tries) {
                self.processor.on_end(SpanData {
                    parent_span_id: SpanId::from(told.spot.span),
                    span_kind: SpanKind::Client,
                    name: call.method.to_string().into(),
                    start_time: clock.at(tried.began),
                    end_time: clock.at(tried.ended.unwrap_or(told.ended)),
                    attributes: try_attributes(call, tried, count),
                    status: status(failure_of_try(tried)),
                    ..self.span(told, rand::rng().next_u64().max(1))
                });
            }
        }
        self.processor.on_end(SpanData {
            parent_span_id: told.spot.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: told.spot.parent.is_some(),
            name: name(told).into(),
            start_time: clock.at(told.arrived),
            end_time: clock.at(told.ended),
            attributes: attributes(told),
            status: status(failure(told)),
            ..self.span(told, told.spot.span)
        });
    }

    pub(super) fn stop(&self, patience: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }

    /// A span that says nothing yet.
    fn span(&self, told: &Told<'_>, id: u64) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(told.spot.trace),
                SpanId::from(id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn exporter(url: &str, tls: &rustls::ClientConfig) -> Result<SpanExporter, String> {
    let client = reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .timeout(SEND_TIMEOUT)
        .build()
        .map_err(|error| error.without_url().to_string())?;
    SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url)
        .with_timeout(SEND_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())
}

/// From the clock that only goes forward to the one on the wall.
struct Clock {
    wall: SystemTime,
    now: Instant,
}

impl Clock {
    fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            now: Instant::now(),
        }
    }

    fn at(&self, moment: Instant) -> SystemTime {
        let ago = self.now.saturating_duration_since(moment);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// `{operation} {model}` for a generation, as the conventions for generative AI have it; else the method.
fn name(told: &Told<'_>) -> String {
    let Some((call, _)) = told.call else {
        return "rejected".to_owned();
    };
    match (operation(call), told.model) {
        (Some(operation), Some(model)) => format!("{operation} {model}"),
        (Some(operation), None) => operation.to_owned(),
        (None, _) => call.method.to_string(),
    }
}

fn operation(call: &Call) -> Option<&'static str> {
    match call.dialect.endpoint() {
        Endpoint::Messages | Endpoint::ChatCompletions | Endpoint::Responses => Some("chat"),
        Endpoint::Completions => Some("text_completion"),
        Endpoint::Embeddings => Some("embeddings"),
        Endpoint::Other => None,
    }
}

fn attributes(told: &Told<'_>) -> Vec<KeyValue> {
    let mut list = List::default();
    list.text("surgetank.request_id", told.id.as_str());
    list.text("surgetank.outcome", told.outcome.as_str());
    list.some("http.response.status_code", told.status.map(i64::from));
    list.some("error.type", failure(told));
    if let Some((call, journal)) = told.call {
        asked(&mut list, told, call);
        happened(&mut list, journal);
    }
    list.0
}

fn asked(list: &mut List, told: &Told<'_>, call: &Call) {
    list.text("http.request.method", call.method.as_str());
    list.text("surgetank.route", call.route.name());
    list.text("surgetank.dialect", call.dialect.as_str());
    let Some(operation) = operation(call) else {
        return;
    };
    list.text("gen_ai.operation.name", operation);
    let provider = match call.dialect.vendor() {
        Vendor::Anthropic => "anthropic",
        Vendor::OpenAi => "openai",
    };
    list.text("gen_ai.provider.name", provider);
    list.some("gen_ai.request.model", told.model.map(str::to_owned));
    let most = call
        .ask
        .max_output
        .and_then(|most| i64::try_from(most).ok());
    list.some("gen_ai.request.max_tokens", most);
}

fn happened(list: &mut List, journal: &Journal) {
    list.number("surgetank.attempts", u64::from(journal.attempts));
    list.millis("surgetank.waited_ms", journal.waited);
    if let Some(time) = journal.first_byte {
        list.millis("surgetank.first_byte_ms", time);
    }
    list.some("surgetank.fallback", journal.substituted);
    if let Some(upstream) = &journal.upstream {
        list.text("surgetank.upstream", &upstream.name);
    }
    if let Some(finish) = journal.answer.finish {
        let reasons = vec![StringValue::from(finish.as_str())];
        list.some(
            "gen_ai.response.finish_reasons",
            Some(Value::Array(reasons.into())),
        );
    }
    if let Some(used) = &journal.used {
        list.number("gen_ai.usage.input_tokens", used.input);
        list.number("gen_ai.usage.output_tokens", used.output);
        list.number("gen_ai.usage.cache_read.input_tokens", used.cached_input);
    }
}

fn try_attributes(call: &Call, tried: &Try, count: u64) -> Vec<KeyValue> {
    let mut list = List::default();
    let upstream = &tried.upstream;
    list.text("http.request.method", call.method.as_str());
    list.text("surgetank.upstream", &upstream.name);
    list.text("server.address", upstream.authority.host());
    list.some("server.port", upstream.authority.port_u16().map(i64::from));
    list.some("http.response.status_code", tried.status.map(i64::from));
    list.some("surgetank.class", tried.class.map(Class::as_str));
    list.some("error.type", failure_of_try(tried));
    if count > 0 {
        list.number("http.request.resend_count", count);
    }
    list.0
}

/// What went wrong, in one word; nothing when nothing did, or only by the caller's own doing.
fn failure(told: &Told<'_>) -> Option<&'static str> {
    match told.outcome {
        Outcome::Broken => Some(told.broken_by.unwrap_or("broken")),
        Outcome::Failed | Outcome::Exhausted => {
            let class = told.call.and_then(|(_, journal)| journal.class);
            Some(class.map_or(told.outcome.as_str(), Class::as_str))
        }
        _ => None,
    }
}

fn failure_of_try(tried: &Try) -> Option<&'static str> {
    let class = tried.class?;
    (!matches!(class, Class::Served | Class::Refused)).then_some(class.as_str())
}

fn status(failure: Option<&'static str>) -> Status {
    failure.map_or(Status::Unset, Status::error)
}

/// Attributes in the making.
#[derive(Default)]
struct List(Vec<KeyValue>);

impl List {
    fn text(&mut self, key: &'static str, value: &str) {
        self.0.push(KeyValue::new(key, value.to_owned()));
    }

    fn some<V: Into<Value>>(&mut self, key: &'static str, value: Option<V>) {
        self.0.extend(value.map(|value| KeyValue::new(key, value)));
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.some(key, i64::try_from(value).ok());
    }

    fn millis(&mut self, key: &'static str, time: Duration) {
        self.some(key, i64::try_from(time.as_millis()).ok());
    }
}
