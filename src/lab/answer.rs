//! Healthy answers, and the headers that every answer of a vendor carries.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::api::{DEFAULT_MODEL, Endpoint, Request, Vendor};
use super::body::Body as Received;
use super::config::AnswerConfig;
use super::echo;
use super::errors::VendorError;
use super::fault::Params;
use super::head::Head;
use super::json::Quoted;
use super::quota::Level;
use super::reply::{Body, Reply};
use super::speech::{Pace, Speech};
use crate::dialect::times::{go_duration, rfc3339, unix_seconds};

pub(super) const JSON: &str = "application/json";
pub(super) const SSE: &str = "text/event-stream; charset=utf-8";

/// Everything that the answer to one request depends on.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) head: &'a Head,
    pub(super) body: &'a Received<'a>,
    pub(super) request: &'a Request,
    pub(super) config: AnswerConfig,
    /// Number of the request, of which the ids are made.
    pub(super) serial: u64,
    pub(super) now: SystemTime,
    /// What the rate-limit headers tell, where there is a quota.
    pub(super) level: Option<Level>,
}

impl AnswerConfig {
    /// This answer, as a fault's parameters reshape it.
    pub(super) fn shaped(&self, params: &Params) -> Self {
        Self {
            words: params.words.unwrap_or(self.words),
            text: params
                .text
                .clone()
                .or_else(|| self.text.clone().filter(|_| params.words.is_none())),
            headers_after: params.headers_after.unwrap_or(self.headers_after),
            first_token: params.first_token.unwrap_or(self.first_token),
            interval: params.interval.unwrap_or(self.interval),
            chunked: params.chunked.unwrap_or(self.chunked),
        }
    }
}

impl Scene<'_> {
    pub(super) fn vendor(&self) -> Vendor {
        self.request.vendor
    }

    /// The text that is generated, where the endpoint generates one.
    pub(super) fn speech(&self) -> Option<Speech> {
        let created = unix_seconds(self.now);
        self.request
            .endpoint
            .speaks()
            .then(|| Speech::new(self.request, &self.config, self.serial, created))
    }

    /// The error that the request deserves by itself: its body or its address is not understood.
    pub(super) fn refusal(&self) -> Option<VendorError> {
        if let Some(place) = &self.request.unreadable {
            let mut error = VendorError::of_status(self.vendor(), 400);
            error.message = format!("We could not parse the JSON body of your request ({place}).");
            return Some(error);
        }
        (self.request.endpoint == Endpoint::Unknown).then(|| {
            let mut error = VendorError::of_status(self.vendor(), 404);
            error.message = format!(
                "Unknown request URL: {} {}",
                self.head.method,
                self.head.path()
            );
            error
        })
    }

    /// The healthy answer: a stream of events or JSON.
    pub(super) fn healthy(&self, speech: Option<Arc<Speech>>, stream: bool) -> Reply {
        let AnswerConfig {
            headers_after,
            first_token,
            interval,
            ..
        } = self.config;
        let mut reply = match speech {
            Some(speech) if stream => {
                let mut reply = Reply::new(200);
                reply.header("content-type", SSE);
                reply.header("cache-control", "no-cache");
                reply.body = Body::Pieces(speech.pieces(Pace {
                    first_token,
                    interval,
                }));
                reply
            }
            Some(speech) => {
                let between = u32::try_from(speech.len().saturating_sub(1)).unwrap_or(u32::MAX);
                let mut reply = Reply::with_body(200, JSON, speech.json());
                reply.wait = first_token.saturating_add(interval.saturating_mul(between));
                reply
            }
            None => Reply::with_body(200, JSON, self.plain()),
        };
        reply.wait = reply.wait.saturating_add(headers_after);
        self.dress(&mut reply);
        reply
    }

    /// An error status with the vendor's body.
    pub(super) fn error(&self, error: &VendorError) -> Reply {
        let mut reply = Reply::with_body(
            error.status,
            JSON,
            error.body(self.vendor(), &self.request_id()),
        );
        reply.wait = self.config.headers_after;
        self.dress(&mut reply);
        reply
    }

    /// Adds the headers that the vendor puts on every answer.
    pub(super) fn dress(&self, reply: &mut Reply) {
        reply.header("date", httpdate::fmt_http_date(self.now));
        match self.vendor() {
            Vendor::Anthropic => {
                reply.header("request-id", self.request_id());
                reply.header("anthropic-organization-id", "org-lab");
            }
            Vendor::OpenAi => {
                reply.header("x-request-id", self.request_id());
                reply.header("openai-organization", "org-lab");
                reply.header("openai-processing-ms", reply.wait.as_millis().to_string());
                reply.header("openai-version", "2020-10-01");
            }
        }
        if let Some(level) = &self.level {
            rate_limit_headers(reply, self.vendor(), level, self.now);
        }
    }

    pub(super) fn request_id(&self) -> String {
        format!("req_lab_{:06}", self.serial)
    }

    /// The answers of the endpoints that generate no text.
    fn plain(&self) -> String {
        match self.request.endpoint {
            Endpoint::Echo => echo::report(self.head, self.body),
            Endpoint::CountTokens => format!(r#"{{"input_tokens":{}}}"#, self.request.input_tokens),
            Endpoint::Embeddings => embeddings(self.request),
            Endpoint::Model => model(self.vendor(), &self.request.model),
            _ => models(self.vendor()),
        }
    }
}

/// One and the same vector for every text, as numbers and as base64 of little-endian `f32`.
const VECTOR: (&str, &str) = (
    "[0.0,0.25,-0.25,0.5,-0.5,0.75,-0.75,0.125]",
    "\"AAAAAAAAgD4AAIC+AAAAPwAAAL8AAEA/AABAvwAAAD4=\"",
);

fn embeddings(request: &Request) -> String {
    let (count, base64) = request.embeddings;
    let vector = if base64 { VECTOR.1 } else { VECTOR.0 };
    let data = (0..count)
        .map(|index| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#));
    let data = data.collect::<Vec<_>>().join(",");
    let (model, tokens) = (Quoted(&request.model), request.input_tokens);
    format!(
        r#"{{"object":"list","data":[{data}],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
    )
}

fn model(vendor: Vendor, id: &str) -> String {
    let quoted = Quoted(id);
    match vendor {
        Vendor::Anthropic => format!(
            r#"{{"type":"model","id":{quoted},"display_name":{quoted},"created_at":"2026-01-01T00:00:00Z"}}"#
        ),
        Vendor::OpenAi => {
            format!(r#"{{"id":{quoted},"object":"model","created":1767225600,"owned_by":"lab"}}"#)
        }
    }
}

fn models(vendor: Vendor) -> String {
    let (model, id) = (model(vendor, DEFAULT_MODEL), Quoted(DEFAULT_MODEL));
    match vendor {
        Vendor::Anthropic => {
            format!(r#"{{"data":[{model}],"has_more":false,"first_id":{id},"last_id":{id}}}"#)
        }
        Vendor::OpenAi => format!(r#"{{"object":"list","data":[{model}]}}"#),
    }
}

/// Rate-limit headers: whole requests, and the time until the bucket is full.
fn rate_limit_headers(reply: &mut Reply, vendor: Vendor, level: &Level, now: SystemTime) {
    let (limit, remaining) = (
        format!("{:.0}", level.limit.floor()),
        format!("{:.0}", level.remaining.floor()),
    );
    match vendor {
        Vendor::Anthropic => {
            reply.header("anthropic-ratelimit-requests-limit", limit);
            reply.header("anthropic-ratelimit-requests-remaining", remaining);
            // Whole seconds, rounded up: a time that is told too early is a lie.
            let reset = now + level.full_in + Duration::from_millis(999);
            reply.header("anthropic-ratelimit-requests-reset", rfc3339(reset));
        }
        Vendor::OpenAi => {
            reply.header("x-ratelimit-limit-requests", limit);
            reply.header("x-ratelimit-remaining-requests", remaining);
            reply.header("x-ratelimit-reset-requests", go_duration(level.full_in));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn rate_limit_headers_never_tell_a_time_too_early() {
        let full_in = Duration::from_millis(1_200);
        let level = Level {
            limit: 10.0,
            remaining: 8.8,
            full_in,
        };
        let told = |vendor| {
            let mut reply = Reply::new(200);
            rate_limit_headers(&mut reply, vendor, &level, UNIX_EPOCH);
            reply
                .headers
                .into_iter()
                .map(|(_, value)| value)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(Vendor::Anthropic), ["10", "8", "1970-01-01T00:00:02Z"]);
        assert_eq!(told(Vendor::OpenAi), ["10", "8", "1.2s"]);
    }
}
