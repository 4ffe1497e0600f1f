//! From a fault and a request to what is played on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answer::Scene;
use super::api::{Endpoint, Vendor};
use super::control::TRAP;
use super::damage;
use super::errors::VendorError;
use super::fault::{BodyKind, ErrorForm, Fault, FaultSpec, Params, RetryAfter};
use super::quota::Hints;
use super::reply::{Body, Ending, Finish, Framing, Play, Reply};
use super::speech::Speech;

/// What is played for a fault.
pub(super) fn stage(spec: &FaultSpec, scene: &Scene<'_>) -> Play {
    let params = &spec.params;
    let wait = scene.config.headers_after;
    match spec.fault {
        Fault::Hang => Play::Silence {
            lasting: params.lasting.unwrap_or(damage::LONG_SILENCE),
            then: Ending::Close,
        },
        Fault::Refuse | Fault::Closed => Play::Silence {
            lasting: Duration::ZERO,
            then: Ending::Reset,
        },
        Fault::Reset => Play::Silence {
            lasting: wait,
            then: Ending::Reset,
        },
        Fault::Fin => Play::Silence {
            lasting: wait,
            then: Ending::Close,
        },
        Fault::Raw => Play::Raw {
            wait,
            bytes: Bytes::from(params.bytes.clone().unwrap_or_default()),
        },
        Fault::Status(status) => finished(status_reply(status, params, scene), scene),
        fault => match VendorError::of_fault(scene.vendor(), fault) {
            Some(error) => finished(
                error_reply(&error.altered(params), fault, params, scene),
                scene,
            ),
            None => finished(answer(spec, scene), scene),
        },
    }
}

/// What is played for a request that deserves an error by itself.
pub(super) fn refuse(error: &VendorError, scene: &Scene<'_>) -> Play {
    finished(scene.error(error), scene)
}

/// What is played for a request that the quota rejects; `wait` is the time until there is a token.
pub(super) fn throttle(hints: Hints, wait: Duration, scene: &Scene<'_>) -> Play {
    let mut reply = scene.error(&VendorError::of_status(scene.vendor(), 429));
    if matches!(hints, Hints::Seconds | Hints::Both) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        reply.header("retry-after", seconds.max(1).to_string());
    }
    if matches!(hints, Hints::Millis | Hints::Both) {
        let millis = wait.as_micros().div_ceil(1000).max(1);
        reply.header("retry-after-ms", millis.to_string());
    }
    finished(reply, scene)
}

/// What is played when too many generations run at once.
pub(super) fn overload(scene: &Scene<'_>) -> Play {
    finished(
        scene.error(&VendorError::of_status(
            scene.vendor(),
            overloaded(scene.vendor()),
        )),
        scene,
    )
}

/// The status by which a vendor says that it is overloaded.
fn overloaded(vendor: Vendor) -> u16 {
    match vendor {
        Vendor::Anthropic => 529,
        Vendor::OpenAi => 503,
    }
}

// === Statuses ===

fn status_reply(status: u16, params: &Params, scene: &Scene<'_>) -> Reply {
    if status >= 400 {
        let error = VendorError::of_status(scene.vendor(), status).altered(params);
        return error_reply(&error, Fault::Status(status), params, scene);
    }
    let mut reply = Reply::new(status);
    reply.wait = scene.config.headers_after;
    if status == 304 {
        reply.header("etag", "\"lab\"");
    } else if status != 204 {
        reply.header(
            "location",
            params.location.clone().unwrap_or_else(|| TRAP.to_owned()),
        );
        reply.body = Body::Whole(Bytes::new());
    }
    if params.body == Some(BodyKind::Text) {
        reply.body = Body::Whole(Bytes::from_static(b"a body that must not be here"));
    }
    scene.dress(&mut reply);
    reply
}

fn error_reply(error: &VendorError, fault: Fault, params: &Params, scene: &Scene<'_>) -> Reply {
    let mut reply = scene.error(error);
    let edge = error.status == 502 || (error.status == 504 && scene.vendor() == Vendor::OpenAi);
    let kind = params
        .body
        .unwrap_or(if edge { BodyKind::Html } else { BodyKind::Json });
    match kind {
        BodyKind::Json => {}
        BodyKind::Html => replace_body(&mut reply, "text/html", page(error.status)),
        BodyKind::Text => replace_body(&mut reply, "text/plain", error.message.clone()),
        BodyKind::Empty => replace_body(&mut reply, "text/plain", String::new()),
    }
    let hinted = matches!(fault, Fault::Status(429) | Fault::SlowDown);
    let default = if hinted {
        RetryAfter::Raw("1".to_owned())
    } else {
        RetryAfter::Absent
    };
    retry_after(
        &mut reply,
        params.retry_after.as_ref().unwrap_or(&default),
        scene,
    );
    if let Some(millis) = &params.retry_after_ms {
        reply.header("retry-after-ms", millis.clone());
    }
    if let Some(should_retry) = &params.should_retry {
        reply.header("x-should-retry", should_retry.clone());
    }
    reply
}

fn replace_body(reply: &mut Reply, content_type: &str, body: String) {
    reply.headers.retain(|(name, _)| name != "content-type");
    reply.header("content-type", content_type);
    reply.body = Body::Whole(Bytes::from(body));
}

fn page(status: u16) -> String {
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body><h1>{status}</h1><hr>edge</body>\r\n</html>\r\n"
    )
}

fn retry_after(reply: &mut Reply, hint: &RetryAfter, scene: &Scene<'_>) {
    let value = match hint {
        RetryAfter::Absent => return,
        RetryAfter::Raw(text) => text.clone(),
        RetryAfter::Doubled => {
            reply.header("retry-after", "1");
            "7".to_owned()
        }
        RetryAfter::Past => httpdate::fmt_http_date(scene.now - Duration::from_hours(1)),
        RetryAfter::Ahead(span) => httpdate::fmt_http_date(scene.now + *span),
        RetryAfter::Digits(count) => "9".repeat(*count),
    };
    reply.header("retry-after", value);
}

// === Answers, healthy or damaged ===

fn answer(spec: &FaultSpec, scene: &Scene<'_>) -> Reply {
    let params = &spec.params;
    let stream = scene.request.stream && spec.fault != Fault::Json;
    let mut speech = scene.speech();
    if let Some(speech) = &mut speech {
        damage::speech(speech, spec);
    }
    let speech = speech.map(Arc::new);
    let mut reply = scene.healthy(speech.clone(), stream);
    if scene.config.chunked {
        reply.framing = Framing::Chunked;
    }
    if matches!(
        spec.fault,
        Fault::ErrorFirst | Fault::ErrorPreamble | Fault::ErrorMid
    ) {
        put_error(
            &mut reply,
            spec.fault,
            params,
            scene,
            speech.as_deref().filter(|_| stream),
        );
    }
    let content = speech.map_or(0, |speech| speech.len());
    damage::reply(&mut reply, spec, content);
    reply
}

/// Puts an error into a 200: as an event, or as the JSON where nothing streams.
fn put_error(
    reply: &mut Reply,
    fault: Fault,
    params: &Params,
    scene: &Scene<'_>,
    speech: Option<&Speech>,
) {
    let status = params.status.unwrap_or(overloaded(scene.vendor()));
    let error = VendorError::of_status(scene.vendor(), status).altered(params);
    let Some(speech) = speech else {
        let failed =
            params.form == Some(ErrorForm::Failed) && scene.request.endpoint == Endpoint::Responses;
        reply.body = Body::Whole(Bytes::from(match scene.speech() {
            Some(speech) if failed => speech.failed_json(&error),
            _ => error.body(scene.vendor(), &scene.request_id()),
        }));
        return;
    };
    let after = match fault {
        Fault::ErrorFirst => None,
        Fault::ErrorPreamble => Some(0),
        _ => Some(damage::place(params.after, speech.len())),
    };
    let mut end = vec![speech.error(&error, params.form, after)];
    if params.done {
        end.push("data: [DONE]\n\n".to_owned());
    }
    reply.body = damage::then_events(reply.body.take(), after, end);
}

/// What holds for every answer: HEAD, HTTP/1.0 and `connection: close`.
fn finished(mut reply: Reply, scene: &Scene<'_>) -> Play {
    reply.head_only = scene.head.method == "HEAD";
    if scene.head.minor_version == 0 && reply.is_chunked() {
        reply.framing = Framing::UntilClose;
    }
    if !scene.head.keeps_alive() && reply.finish == Finish::KeepAlive {
        reply.finish = Finish::Close;
    }
    Play::Answer(Box::new(reply))
}
