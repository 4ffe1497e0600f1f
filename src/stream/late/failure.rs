//! What the stack came to after the answer was begun: an answer that can be joined on, or a failure that
//! has lost its status.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::{Form, Running};
use crate::{
    body::Body,
    call::Call,
    dialect::errors::{self, ErrorSpec},
    fallback::Finished,
    headers::is_of_type,
    rescue::{Stop, fields_of, told},
    stream::{
        coding::{Coding, Decoder},
        inspect,
    },
    telemetry::Outcome,
};

/// Errors are small; one that is larger is told by its status.
const MAX_ERROR: usize = 64 * 1024;

/// An upstream that cannot finish its error in this time is told by its status.
const ERROR_TIME: Duration = Duration::from_secs(5);

/// The fields by which vendors name a request.
const VENDORS_IDS: [&str; 2] = ["request-id", "x-request-id"];

/// How a begun answer goes on.
pub(super) enum Next {
    /// With the body of an answer of the form that was begun, as it comes out of this.
    Join(Body, Decoder),
    /// With this, and then not at all.
    Fail(Bytes),
}

/// What is to be said of it, and how it goes on.
pub(super) struct Resolved {
    /// The fields that came too late for the head, on one line.
    pub(super) fields: String,
    pub(super) next: Next,
}

/// Waits for the stack, and makes of its result what can still be said.
pub(super) async fn resolve(call: Arc<Call>, form: Form, running: Running) -> Resolved {
    match running.await {
        Ok(finished) => answered(&call, form, finished).await,
        Err(stop) => {
            let next = Next::Fail(stopped(&call, form, &stop));
            Resolved {
                fields: line(&call, None),
                next,
            }
        }
    }
}

async fn answered(call: &Call, form: Form, finished: Finished) -> Resolved {
    let Finished { response, outcome } = finished;
    let fields = line(call, Some((response.status(), response.headers())));
    if let Some(decoder) = continues(form, &response) {
        let mut journal = call.journal();
        journal.outcome = Some(outcome);
        journal.first_byte = Some(call.arrived.elapsed());
        return Resolved {
            fields,
            next: Next::Join(response.into_body(), decoder),
        };
    }
    // An answer of another form than it was asked in has not served anybody.
    let outcome = match outcome {
        Outcome::Served | Outcome::Substituted => Outcome::Failed,
        other => other,
    };
    call.journal().outcome = Some(outcome);
    let next = Next::Fail(failure(call, form, response).await);
    Resolved { fields, next }
}

/// What makes the answer's bytes into those that were begun; the head did not speak of a coding.
fn continues(form: Form, response: &Response<Body>) -> Option<Decoder> {
    let kind = match form {
        Form::Events => "text/event-stream",
        Form::Json => "application/json",
    };
    let headers = response.headers();
    // A queued request's is as good an answer as its reply would be.
    let is_answer = matches!(response.status(), StatusCode::OK | StatusCode::ACCEPTED);
    let is_of_form = is_answer && is_of_type(headers, kind);
    let coding = Coding::of(headers).filter(|_| is_of_form);
    coding.map(Decoder::new)
}

/// The upstream's own error, as far as it can be carried over.
async fn failure(call: &Call, form: Form, response: Response<Body>) -> Bytes {
    let (parts, body) = response.into_parts();
    let read = read(body).await;
    let clear = inspect::plain(&parts.headers, read).unwrap_or_default();
    let status = parts.status;
    let instead = if status.is_success() {
        "The upstream's answer did not have the form that was asked for.".to_owned()
    } else {
        format!("The upstream answered {status}.")
    };
    match form {
        Form::Events => errors::retold(call.dialect, status.as_u16(), &clear, &instead),
        Form::Json if errors::read(&clear).is_some() => clear.into(),
        Form::Json => {
            let kind = errors::kind_of_status(status.as_u16());
            json(call, status, kind, &instead)
        }
    }
}

/// An error of our own.
fn stopped(call: &Call, form: Form, stop: &Stop) -> Bytes {
    let told = told(stop, call.id);
    call.journal().outcome = Some(told.outcome);
    let message = stop.to_string();
    match form {
        Form::Events => errors::frame(call.dialect, told.kind, &message, Some(0)),
        Form::Json => json(call, told.status, told.kind, &message),
    }
}

fn json(call: &Call, status: StatusCode, kind: errors::ErrorKind, message: &str) -> Bytes {
    let spec = ErrorSpec {
        status: status.as_u16(),
        kind,
        message,
        request_id: call.id.as_str(),
    };
    errors::body(call.dialect, &spec)
}

/// As much of a body as an error may have. Its end does not matter: what is there is all that can be told.
async fn read(mut body: Body) -> Vec<u8> {
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { return };
            read.extend_from_slice(&data[..data.len().min(MAX_ERROR - read.len())]);
            if read.len() == MAX_ERROR {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(ERROR_TIME, reading).await;
    read.into()
}

/// The fields that came too late, on one line: ours, and what the vendor calls the request.
fn line(call: &Call, answer: Option<(StatusCode, &HeaderMap)>) -> String {
    let mut fields: Vec<String> = fields_of(call)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value.to_str().ok()?)))
        .collect();
    if let Some((status, headers)) = answer {
        if status != StatusCode::OK {
            fields.push(format!("status: {}", status.as_u16()));
        }
        // A field's value has no line ends in it.
        let vendors = VENDORS_IDS
            .into_iter()
            .filter_map(|name| Some(format!("{name}: {}", headers.get(name)?.to_str().ok()?)));
        fields.extend(vendors);
    }
    fields.join("; ")
}
