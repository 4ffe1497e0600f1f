//! A collector of traces.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::span::SpanKind,
};
use prost::Message as _;

use super::{Origin, Serving, until};

/// Takes OTLP over HTTP.
pub(crate) struct Collector {
    url: String,
    serving: Serving,
}

/// A span as it arrived, with ids in hexadecimal digits and values as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for none.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) is_server: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) failed: bool,
    pub(crate) service: String,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let origin = Origin::start().await;
        let url = origin.url();
        let ok =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let serving = origin.serve(|_| Some(ok.to_vec()));
        Self { url, serving }
    }

    /// The block of the configuration that sends traces here.
    pub(crate) fn block(&self, more: &str) -> String {
        format!("telemetry: {{ log: json, otlp: '{}'{more} }}", self.url)
    }

    /// Everything that has come, as it came.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let bodies = self.serving.seen().into_iter().map(|seen| seen.body);
        bodies.collect::<Vec<_>>().concat()
    }

    /// The spans that have come.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for seen in self.serving.seen() {
            assert!(
                seen.head.start.starts_with("POST /v1/traces "),
                "{}",
                seen.head.start
            );
            let request = ExportTraceServiceRequest::decode(seen.body.as_slice());
            for resource in request.expect("OTLP").resource_spans {
                let about = resource
                    .resource
                    .map(|resource| attributes(resource.attributes));
                let service = about.and_then(|mut about| about.remove("service.name"));
                let service = service.unwrap_or_default();
                for span in resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans)
                {
                    spans.push(Span {
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        is_server: span.kind == SpanKind::Server as i32,
                        name: span.name,
                        attributes: attributes(span.attributes),
                        began: span.start_time_unix_nano,
                        ended: span.end_time_unix_nano,
                        failed: span.status.is_some_and(|status| status.code == 2),
                        service: service.clone(),
                    });
                }
            }
        }
        spans
    }

    /// Waits until `count` spans are here: the requests' own, then the tries', each in the order of time.
    pub(crate) async fn sorted(&self, count: usize) -> (Vec<Span>, Vec<Span>) {
        until("the spans come", || self.spans().len() >= count).await;
        let mut spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans.sort_by_key(|span| span.began);
        spans.into_iter().partition(|span| span.is_server)
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let texts = list.into_iter().map(|pair| (pair.key, text(pair.value)));
    texts.collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            let texts = list.values.into_iter().map(|value| text(Some(value)));
            texts.collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}
