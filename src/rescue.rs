//! The edge: from here on every request ends in a response, in the caller's own dialect.
//!
//! This is the only place where an error becomes HTTP. Each error has two messages: what the caller
//! reads here is from a fixed vocabulary, and the log has the cause.

mod fields;
mod stop;

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    app::{Arrival, Inbound},
    body::{self, Body},
    call::{Call, CallId},
    dialect::{Dialect, ErrorKind, errors},
    fallback::Finished,
    rules::RulesInForce,
    server::{EndBy, Lifecycle},
    stacked::Stacked,
    telemetry::{Metrics, Observed, Outcome, Report, Telling, TraceParent, Traces},
    wake::WhenWoken,
};

pub(crate) use fields::fields_of;
pub use stop::Stop;
pub(crate) use stop::Told;

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Makes a fallible stack infallible.
#[derive(Clone, Debug)]
pub struct RescueLayer {
    /// Tell how many requests are told of.
    pub rules: RulesInForce,
    /// Ends what has no answer yet when the process ends.
    pub lifecycle: Lifecycle,
    /// Where outcomes are counted.
    pub metrics: Arc<Metrics>,
    /// Where spans are sent.
    pub traces: Traces,
}

impl<S: Clone> Layer<S> for RescueLayer {
    type Service = Rescue<S>;

    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue(Stacked::new(self.clone(), inner))
    }
}

/// Gives every request an id, a report and a response.
#[derive(Clone, Debug)]
pub struct Rescue<S>(Stacked<RescueLayer, S>);

impl<S> Service<Arrival> for Rescue<S>
where
    S: Service<Inbound, Response = Finished, Error = Stop, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let with = self.0.clone();
        let Answering { report, run } = Answering::begin(&with, arrival);
        // Nothing but this is kept while the stack runs: what an async function is called with it keeps twice.
        Box::pin(async move {
            let ended = {
                let mut run = pin!(run);
                poll_fn(|cx| until_the_end(run.as_mut(), &with, report.id, cx)).await
            };
            Ok(report.answer(ended))
        })
    }
}

/// A request on its way through the stack, and what is needed to make a response of what it comes to.
struct Answering<F> {
    report: Reported,
    run: F,
}

struct Reported {
    report: Report,
    understood: Arc<OnceLock<Arc<Call>>>,
    id: CallId,
    dialect: Dialect,
    is_head: bool,
}

type Run<F> = WhenWoken<Either<F, BoxFuture<'static, Result<Finished, Stop>>>>;

impl<F: Future<Output = Result<Finished, Stop>>> Answering<Run<F>> {
    /// The message is moved once, into the stack below: a future of ours that kept it would be as large.
    fn begin<S>(with: &Stacked<RescueLayer, S>, arrival: Arrival) -> Self
    where
        S: Service<Inbound, Response = Finished, Error = Stop, Future = F> + Clone,
    {
        let RescueLayer {
            rules,
            lifecycle: _,
            metrics,
            traces,
        } = &**with;
        let (id, arrived) = (CallId::random(&mut rand::rng()), Instant::now());
        let Arrival { request, peer } = arrival;
        let is_head = request.method() == Method::HEAD;
        let dialect = Dialect::detect(
            request.uri().path(),
            request.headers().contains_key(ANTHROPIC_VERSION),
        );
        let understood = Arc::new(OnceLock::new());
        let parent = TraceParent::of(request.headers());
        let telling = Telling {
            spot: traces.place(parent, id),
            traces: traces.clone(),
            parent,
            sample: rules.now().sample,
        };
        let is_traced = telling.spot.is_some();
        let report = Report::begin(metrics.clone(), telling, id, arrived, understood.clone());
        let inbound = Inbound {
            request,
            peer,
            id,
            arrived,
            dialect,
            is_traced,
            understood: understood.clone(),
        };
        let mut below = with.below();
        let run = match catch_unwind(AssertUnwindSafe(move || below.call(inbound))) {
            Ok(run) => Either::Left(run),
            Err(_) => Either::Right(ready(Err(panicked(metrics, id))).boxed()),
        };
        let report = Reported {
            report,
            understood,
            id,
            dialect,
            is_head,
        };
        let run = WhenWoken::new(run);
        Self { report, run }
    }
}

impl Reported {
    /// The response, of what became of the request.
    fn answer(self, ended: Result<Finished, Stop>) -> Response<Body> {
        let Self {
            mut report,
            understood,
            id,
            dialect,
            is_head,
        } = self;
        let (mut response, outcome) = match ended {
            Ok(Finished { response, outcome }) => (response, outcome),
            Err(stop) => stopped(&stop, dialect, id),
        };
        let call = understood.get().map(AsRef::as_ref);
        fields::tell(response.headers_mut(), id, call);
        if let Some(call) = call {
            response
                .extensions_mut()
                .insert(EndBy(call.deadline.end_by()));
        }
        report.answered(outcome, response.status());
        if is_head {
            report.ends_with_its_head();
        }
        response.map(|body| Observed::new(body, report).boxed_unsync())
    }
}

/// Runs the stack for as long as the process has time. Looks at it whenever it is polled, and nothing
/// has to wake it: the connection polls all that it carries once when the end comes.
fn until_the_end(
    run: Pin<&mut impl Future<Output = Result<Finished, Stop>>>,
    with: &RescueLayer,
    id: CallId,
    cx: &mut Context<'_>,
) -> Poll<Result<Finished, Stop>> {
    match poll_caught(run, &with.metrics, id, cx) {
        Poll::Pending if with.lifecycle.is_ending() => Poll::Ready(Err(Stop::Stopping)),
        polled => polled,
    }
}

/// Runs a part of the stack; a panic in it becomes an error like any other.
pub(crate) async fn caught(
    run: impl Future<Output = Result<Finished, Stop>>,
    metrics: &Metrics,
    id: CallId,
) -> Result<Finished, Stop> {
    let mut run = pin!(run);
    poll_fn(|cx| poll_caught(run.as_mut(), metrics, id, cx)).await
}

fn poll_caught(
    run: Pin<&mut impl Future<Output = Result<Finished, Stop>>>,
    metrics: &Metrics,
    id: CallId,
    cx: &mut Context<'_>,
) -> Poll<Result<Finished, Stop>> {
    catch_unwind(AssertUnwindSafe(|| run.poll(cx)))
        .unwrap_or_else(|_| Poll::Ready(Err(panicked(metrics, id))))
}

/// The panic hook has told where; the payload may hold anything, so it is not logged.
fn panicked(metrics: &Metrics, id: CallId) -> Stop {
    metrics.panics.inc();
    tracing::error!(
        request_id = id.as_str(),
        "a request ended in a panic of surgetank's"
    );
    Stop::Panicked
}

/// Writes down that a request got no answer, and gives what its caller is told.
pub(crate) fn told(stop: &Stop, id: CallId) -> Told {
    let told = stop.told();
    if told.outcome != Outcome::Limited {
        tracing::info!(request_id = id.as_str(), status = told.status.as_u16(), reason = %stop, "a request was not answered by an upstream");
    }
    told
}

fn stopped(stop: &Stop, dialect: Dialect, id: CallId) -> (Response<Body>, Outcome) {
    let Told {
        status,
        kind,
        outcome,
    } = told(stop, id);
    let mut response = error_response(dialect, id, status, kind, &stop.to_string());
    stop.fields(dialect.vendor(), response.headers_mut());
    (response, outcome)
}

fn error_response(
    dialect: Dialect,
    id: CallId,
    status: StatusCode,
    kind: ErrorKind,
    message: &str,
) -> Response<Body> {
    let spec = errors::ErrorSpec {
        status: status.as_u16(),
        kind,
        message,
        request_id: id.as_str(),
    };
    let mut response = Response::new(body::full(errors::body(dialect, &spec)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    id.name_in(headers, dialect);
    response
}
