//! One request and its answer.

use std::time::SystemTime;

use tokio::time::Instant;

use super::admission::Decision;
use super::answer::Scene;
use super::api::{Endpoint, Request};
use super::body::{self, Body, BodyError};
use super::control;
use super::fault::{Fault, FaultSpec};
use super::head::{Head, Malformed};
use super::listener::ListenerState;
use super::perform::perform;
use super::quota::{Hints, Level};
use super::record::{Outcome, Phase};
use super::reply::{Ending, Finish, Play, Reply};
use super::scripts;
use super::shared::{Entry, Shared};
use super::stage;
use super::wire::{Left, Wire};

/// A plan for one request: what is played, and the slot that is held meanwhile.
struct Plan {
    play: Play,
    /// Held until the answer has ended.
    slot: Option<Decision>,
}

impl Plan {
    /// Something that takes no slot.
    fn of(play: Play) -> Self {
        Self { play, slot: None }
    }
}

/// Serves one request whose head was read; tells what becomes of the connection.
pub(super) async fn exchange(wire: &mut Wire, lab: &Shared, connection: u64, head: Head) -> Ending {
    if let Some(reply) = control::answer(lab, &head) {
        return aside(wire, lab, &head, reply).await;
    }
    let mut entry = lab.begin(connection, &head);
    let early = scripts::wants_early(&head);
    let body = if early {
        Ok(Body::unread())
    } else {
        receive(wire, lab, &head).await
    };
    let body = match body {
        Ok(body) => body,
        Err(BodyError::Left) => {
            let phase = entry.phase;
            entry.end(Outcome::CallerLeft(phase), None);
            return Ending::Close;
        }
        Err(BodyError::Refused(malformed)) => {
            lab.count(|stats| stats.malformed += 1);
            let play = Play::Answer(Box::new(complaint(
                malformed.status(),
                &malformed.to_string(),
            )));
            return conclude(wire, entry, Plan::of(play)).await;
        }
    };
    entry.heard(&body.bytes, &body.trailers);
    let mut plan = plan(lab, &entry, &head, &body);
    if let (true, Play::Answer(reply)) = (early, &mut plan.play) {
        // What is left of the request would be taken for the next one.
        reply.finish = Finish::Close;
    }
    conclude(wire, entry, plan).await
}

/// Answers a head that is not well formed.
pub(super) async fn reject(wire: &mut Wire, lab: &Shared, malformed: Malformed) {
    lab.count(|stats| stats.malformed += 1);
    let reply = complaint(malformed.status(), &malformed.to_string());
    // Whether the caller is still there to read it makes no difference.
    let _ = perform(wire, Play::Answer(Box::new(reply)), &mut Phase::Headers).await;
}

/// Reads the body, and asks for it first where the caller waits to be asked.
async fn receive<'a>(wire: &mut Wire, lab: &'a Shared, head: &Head) -> Result<Body<'a>, BodyError> {
    let framing = head.framing()?;
    let asks = head
        .field("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if asks && head.minor_version >= 1 && wire.inbox().is_empty() {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    body::read(wire, framing, &lab.config.limits, &lab.body_budget).await
}

/// Answers `/_lab/…`, which is neither counted nor recorded.
async fn aside(wire: &mut Wire, lab: &Shared, head: &Head, reply: Reply) -> Ending {
    if receive(wire, lab, head).await.is_err() {
        return Ending::Close;
    }
    let play = Play::Answer(Box::new(reply));
    perform(wire, play, &mut Phase::Headers)
        .await
        .unwrap_or(Ending::Close)
}

/// Decides what is played.
fn plan(lab: &Shared, entry: &Entry<'_>, head: &Head, body: &Body<'_>) -> Plan {
    let request = Request::read(head, &body.bytes);
    let spec = match entry.choose(head, &request) {
        Ok(spec) => spec,
        Err(misuse) => {
            entry.played("misuse", |stats| stats.misused += 1);
            let reply = complaint(400, &misuse.to_string());
            return Plan::of(Play::Answer(Box::new(reply)));
        }
    };
    let mut scene = Scene {
        head,
        body,
        request: &request,
        config: lab.config.answer.shaped(&spec.params),
        serial: entry.id,
        now: SystemTime::now(),
        level: None,
    };
    if spec.fault == Fault::Ok {
        return healthy(lab, entry, &spec, &mut scene);
    }
    scene.level = lab.admission.level(head.credential(), Instant::now());
    listener(lab, &spec);
    let executes = spec.fault.executes() && executes(&request);
    entry.played(&spec.fault.name(), |stats| {
        stats.met(spec.fault);
        stats.executions += u64::from(executes);
    });
    let mut play = stage::stage(&spec, &scene);
    if let Play::Answer(reply) = &mut play {
        reply.header("x-lab-fault", spec.fault.name());
    }
    Plan::of(play)
}

/// The healthy answer, if the request deserves one and the quota has room.
fn healthy(lab: &Shared, entry: &Entry<'_>, spec: &FaultSpec, scene: &mut Scene<'_>) -> Plan {
    if let Some(error) = scene.refusal() {
        entry.played("refusal", |stats| stats.met(Fault::Ok));
        return Plan::of(stage::refuse(&error, scene));
    }
    let decision = match scene.request.endpoint {
        Endpoint::Echo => Decision::Unlimited,
        _ => lab.admission.admit(scene.head.credential(), Instant::now()),
    };
    scene.level = decision.level();
    match decision {
        Decision::Throttled { wait, .. } => {
            entry.played("quota", |stats| stats.throttled += 1);
            let hints = lab
                .admission
                .quota()
                .map_or(Hints::default(), |quota| quota.hints);
            Plan::of(stage::throttle(hints, wait, scene))
        }
        Decision::Overloaded { .. } => {
            entry.played("concurrency", |stats| stats.overloaded += 1);
            Plan::of(stage::overload(scene))
        }
        admitted => {
            let executes = u64::from(executes(scene.request));
            entry.played("ok", |stats| {
                stats.met(Fault::Ok);
                stats.executions += executes;
            });
            Plan {
                play: stage::stage(spec, scene),
                slot: Some(admitted),
            }
        }
    }
}

/// Whether a vendor would bill an answer to this request.
fn executes(request: &Request) -> bool {
    request.endpoint.speaks() || request.endpoint == Endpoint::Embeddings
}

/// The faults that outlive their request by way of the listener.
fn listener(lab: &Shared, spec: &FaultSpec) {
    let lasting = spec.params.lasting;
    match spec.fault {
        Fault::Refuse if lasting.is_some() => lab.order_listener(ListenerState::Reset, lasting),
        Fault::Closed => {
            lab.order_listener(
                ListenerState::Closed,
                Some(lasting.unwrap_or(std::time::Duration::from_secs(1))),
            );
        }
        _ => {}
    }
}

/// Plays, and notes how it ended.
async fn conclude(wire: &mut Wire, mut entry: Entry<'_>, plan: Plan) -> Ending {
    let Plan { play, slot } = plan;
    let (status, whole) = match &play {
        Play::Answer(reply) => (Some(reply.status), reply.is_whole()),
        Play::Silence { .. } | Play::Raw { .. } => (None, false),
    };
    let mut phase = Phase::Headers;
    let ended = perform(wire, play, &mut phase).await;
    entry.phase = phase;
    // Whoever learns of the end must find the slot free.
    drop(slot);
    let status = status.filter(|_| matches!(phase, Phase::Body { .. }));
    let outcome = match ended {
        Ok(_) if whole => Outcome::Completed,
        Ok(_) => Outcome::Broken,
        Err(Left) => Outcome::CallerLeft(phase),
    };
    entry.end(outcome, status);
    ended.unwrap_or(Ending::Close)
}

/// What the lab has to say for itself; the connection is not used again.
fn complaint(status: u16, text: &str) -> Reply {
    let mut reply = Reply::with_body(status, "text/plain", format!("surgetank lab: {text}\n"));
    reply.finish = Finish::Close;
    reply
}

impl Decision {
    /// What the rate-limit headers tell.
    fn level(&self) -> Option<Level> {
        match self {
            Self::Unlimited => None,
            Self::Admitted { level, .. }
            | Self::Throttled { level, .. }
            | Self::Overloaded { level } => Some(*level),
        }
    }
}
