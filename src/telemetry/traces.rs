//! Traces: one span a request, one a try.
//!
//! Spans are made when a request has ended, from what its journal tells anyway. So tracing costs the path
//! of a request nothing but the note of each try, a span cannot say anything that the log may not, and
//! whether a request is worth telling is decided when that is known.

use std::{sync::Arc, time::Duration};

use rand::Rng as _;
use tokio::time::Instant;

use super::{Outcome, TraceParent};
use crate::call::{Call, CallId, Journal};

/// Spans of a request beside its own; further tries are left out.
pub const MOST_TRIES: usize = 32;

/// Where a request stands in a trace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The trace.
    pub trace: u128,
    /// The request's span.
    pub span: u64,
    /// The caller's span, if it told one.
    pub parent: Option<u64>,
}

/// What a request's span tells.
#[derive(Debug)]
pub struct Told<'a> {
    /// Its place.
    pub spot: Spot,
    /// Its id.
    pub id: CallId,
    /// When its head had arrived.
    pub arrived: Instant,
    /// When its answer had ended.
    pub ended: Instant,
    /// What became of it.
    pub outcome: Outcome,
    /// The status that its caller got.
    pub status: Option<u16>,
    /// What an answer was broken by.
    pub broken_by: Option<&'static str>,
    /// The model that has answered, as a label.
    pub model: Option<&'a str>,
    /// What was asked and what has happened; absent where the request was not understood.
    pub call: Option<(&'a Call, &'a Journal)>,
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// This build has no exporter.
    #[error(
        "this surgetank was built without traces: build it with the feature `otlp`, or take `telemetry.otlp` out"
    )]
    NotBuilt,
    /// The exporter could not be made.
    #[error("traces cannot be sent: {0}")]
    Exporter(String),
}

/// Sends spans, if it is told where to. Clones share one exporter.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Exporter>>);

impl Traces {
    /// Sends to `endpoint` from now on (OTLP over HTTP, `/v1/traces` below it), if there is one. Whether
    /// anybody is there is found out by sending.
    ///
    /// # Errors
    /// When this build cannot, or the exporter cannot be made.
    pub fn start(
        endpoint: Option<&str>,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, TracesError> {
        let exporter = endpoint.map(|endpoint| Exporter::start(endpoint, tls));
        Ok(Self(exporter.transpose()?.map(Arc::new)))
    }

    /// The place of a request that begins, if it is to be told. A caller that does not record its part of
    /// the trace is not given ours.
    #[must_use]
    pub fn place(&self, parent: Option<TraceParent>, id: CallId) -> Option<Spot> {
        if self.0.is_none() || parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let span = loop {
            // 0 is no span (W3C Trace Context §3.2.2.4).
            match rand::rng().next_u64() {
                0 => {}
                span => break span,
            }
        };
        Some(Spot {
            // Without a caller's trace, the request's id names it: one word to search for everywhere.
            trace: parent.map_or_else(|| id.number(), |parent| parent.trace),
            span,
            parent: parent.map(|parent| parent.span),
        })
    }

    /// Queues the spans of a request that has ended. Never waits: what finds no room is dropped.
    pub fn tell(&self, told: &Told<'_>) {
        if let Some(exporter) = &self.0 {
            exporter.tell(told);
        }
    }

    /// Sends what is queued and stops, in at most `patience`. Blocks.
    pub fn stop(&self, patience: Duration) {
        if let Some(exporter) = &self.0 {
            exporter.stop(patience);
        }
    }
}

#[cfg(feature = "otlp")]
use super::otlp::Exporter;

/// There is none in this build.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
enum Exporter {}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    fn start(_: &str, _: &Arc<rustls::ClientConfig>) -> Result<Self, TracesError> {
        Err(TracesError::NotBuilt)
    }

    fn tell(&self, _: &Told<'_>) {
        match *self {}
    }

    fn stop(&self, _: Duration) {
        match *self {}
    }
}
