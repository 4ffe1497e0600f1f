//! Late commit: an answer is begun before it is there, but not before that has become worth its price.
//!
//! A status can be given once. Whoever gives it at once, to be able to say "please wait", turns every
//! later failure into an error inside a success; whoever never does leaves callers before a silent
//! connection, which load balancers cut and people take for a hang. So the status is kept back for
//! as long as a wait is short (`stream.notice_after`), because most failures come within that time.
//! Then the answer is begun with 200, and what is awaited is told in comments; what comes out in
//! the end is joined on unchanged, or told as an error event that every SDK raises.
//!
//! The layer stands outside everything that waits: the user's limit, the chain, the retries, the lane.
//! The stack below it goes on behind the body that it returns (`work`), so a caller who leaves still takes
//! everything with it, and one who takes nothing keeps nobody else waiting.

mod awaiting;
mod body;
mod failure;
mod plan;
mod work;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use tokio::time::sleep_until;
use tower::{Layer, Service};

use self::body::Begun;
pub use self::{
    awaiting::{Awaiting, Retry, What},
    plan::{Form, LATEST, Occasion, Plan},
};
use crate::{
    call::Call,
    fallback::Finished,
    rescue::{Stop, caught},
    server::Lifecycle,
    stacked::Stacked,
    stream::head,
    telemetry::{Metrics, Outcome},
};

/// The rest of the stack, still at work on a request.
type Running = BoxFuture<'static, Result<Finished, Stop>>;

/// Begins answers that are awaited too long.
#[derive(Clone, Debug)]
pub struct LateLayer {
    /// Tells begun answers to end.
    pub lifecycle: Lifecycle,
    /// Counts begun answers by what became of them.
    pub metrics: Arc<Metrics>,
}

impl<S: Clone> Layer<S> for LateLayer {
    type Service = Late<S>;

    fn layer(&self, inner: S) -> Late<S> {
        Late(Stacked::new(self.clone(), inner))
    }
}

/// Gives the stack's answer, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Late<S>(Stacked<LateLayer, S>);

impl<S> Service<Arc<Call>> for Late<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Stop, Future = Running>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Finished;
    type Error = Stop;
    type Future = Running;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Arc<Call>) -> Running {
        let with = self.0.clone();
        let Some(plan) = call.late else {
            return with.below().call(call);
        };
        Box::pin(async move {
            let run = with.below().call(call.clone());
            let (metrics, id) = (with.metrics.clone(), call.id);
            // Within a body there is no net for panics but this one.
            let mut running: Running = Box::pin(async move { caught(run, &metrics, id).await });
            tokio::select! {
                // At the moment itself the answer goes first: it has the real status.
                biased;
                finished = &mut running => return finished,
                () = sleep_until(plan.at) => {}
            }
            Ok(begin(&with, call, plan, running))
        })
    }
}

fn begin(with: &LateLayer, call: Arc<Call>, plan: Plan, running: Running) -> Finished {
    call.journal().begun = true;
    let mut response = Response::new(());
    match plan.form {
        Form::Events => head::events(response.headers_mut()),
        Form::Json => {
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
    }
    call.id.name_in(response.headers_mut(), call.dialect);
    let body = Begun::new(call, plan, running, with.clone()).boxed_unsync();
    Finished {
        response: response.map(|()| body),
        // Until the journal knows better.
        outcome: Outcome::Served,
    }
}
