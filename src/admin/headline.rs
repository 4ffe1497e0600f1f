//! The sentence at the top of the status page: what is wrong, and whose fault it is.
//!
//! Somebody who was woken at three reads one sentence before anything else. So it is decided here, in
//! the order in which the causes matter to users, and not left to whoever compares eight charts:
//! first what no waiting mends (our own faults, money), then what callers suffer now, then what they
//! only wait for, then what is their own doing. The first that holds is told, and the rest of the
//! page has the rest.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::history::{Recent, Step};
use crate::{
    lane::WaitReason,
    retry::triage::Class,
    server::Stage,
    telemetry::{Outcome, totals::Classes},
};

/// How much it matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Callers get their answers.
    Calm,
    /// Callers get their answers, later or by other means than usual.
    Busy,
    /// Callers see errors or substitutes.
    Trouble,
}

/// Whose fault it is: who can mend it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing is wrong.
    Nobody,
    /// The vendor's service.
    Vendor,
    /// The vendor, or the way to it.
    Network,
    /// The quota at the vendor, which is smaller than what is asked.
    Quota,
    /// The account at the vendor: money, or its allowance.
    Account,
    /// The application that calls.
    Application,
    /// Single users, who ask for more than their limit.
    Users,
    /// surgetank itself.
    Surgetank,
}

/// The sentence, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headline {
    /// How much it matters.
    pub level: Level,
    /// Whose fault it is.
    pub fault: Fault,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What callers notice of it.
    pub callers: String,
    /// What can be done, where anything can.
    pub advice: Option<&'static str>,
}

/// What there is to judge by.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The process's stage.
    pub stage: Stage,
    /// What happened lately.
    pub recent: Recent,
    /// Panics in the last fifteen minutes.
    pub panics: u64,
    /// The upstream and the class behind the errors and substitutes that callers got lately.
    pub hurt_by: Option<(String, Class)>,
    /// Requests whose answer has not ended.
    pub in_flight: u64,
    /// The lanes, in any order.
    pub lanes: Vec<LaneScene>,
}

/// What matters of one lane.
#[derive(Clone, Debug)]
pub struct LaneScene {
    /// Its upstream's name.
    pub upstream: String,
    /// What holds its next request.
    pub reason: WaitReason,
    /// For how long at least.
    pub closed_for: Duration,
    /// Requests that wait.
    pub waiting: usize,
    /// How long the one that waits for longest has waited.
    pub longest: Duration,
    /// The smallest part of a quota that is left, as the vendor told it.
    pub quota_left: Option<f64>,
}

/// Less than this part of a quota is worth a word.
const QUOTA_LOW: f64 = 0.1;

/// Refusals are the application's doing when they are at least this many, and this part of all.
const MANY_REFUSED: u64 = 5;
const LARGE_PART: f64 = 0.2;

/// Decides.
#[must_use]
pub fn headline(scene: &Scene) -> Headline {
    let callers = callers(scene);
    let verdict = stopping(scene)
        .or_else(|| our_fault(scene))
        .or_else(|| no_money(scene))
        .or_else(|| failing(scene))
        .or_else(|| waiting(scene))
        .or_else(|| callers_own(scene))
        .or_else(|| saved(scene))
        .or_else(|| quota_low(scene))
        .unwrap_or_else(|| calm(scene));
    Headline {
        level: verdict.level,
        fault: verdict.fault,
        sentence: verdict.sentence,
        callers,
        advice: verdict.advice,
    }
}

struct Verdict {
    level: Level,
    fault: Fault,
    sentence: String,
    advice: Option<&'static str>,
}

impl Verdict {
    fn new(level: Level, fault: Fault, sentence: String) -> Self {
        Self {
            level,
            fault,
            sentence,
            advice: None,
        }
    }

    fn advise(self, advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..self
        }
    }
}

fn stopping(scene: &Scene) -> Option<Verdict> {
    let sentence = match (scene.stage, scene.in_flight) {
        (Stage::Running, _) => return None,
        (Stage::Settling, _) => "surgetank is about to stop and still takes requests.".to_owned(),
        (_, 0) => "surgetank is stopping; nothing runs any more.".to_owned(),
        (_, left) => format!("surgetank is stopping; {} finishing.", are(left, "request")),
    };
    Some(Verdict::new(Level::Busy, Fault::Nobody, sentence))
}

fn our_fault(scene: &Scene) -> Option<Verdict> {
    if scene.panics == 0 {
        return None;
    }
    let sentence = format!(
        "surgetank itself failed on {} in the last 15 minutes.",
        count(scene.panics, "request")
    );
    let advice = "This is a bug: the log has the place. The other requests are not touched by it.";
    Some(Verdict::new(Level::Trouble, Fault::Surgetank, sentence).advise(advice))
}

fn no_money(scene: &Scene) -> Option<Verdict> {
    let exhausted = |classes: &Classes| classes[Class::Exhausted as usize];
    let upstreams = scene.recent.sum.upstreams.iter();
    let (upstream, classes) = upstreams.max_by_key(|(_, classes)| exhausted(classes))?;
    if exhausted(classes) == 0 {
        return None;
    }
    let sentence = format!("The account at {upstream} is out of money or allowance.");
    let advice =
        "No waiting mends it: top up the account or raise its limit in the vendor's console.";
    Some(Verdict::new(Level::Trouble, Fault::Account, sentence).advise(advice))
}

/// Callers see errors or substitutes.
fn failing(scene: &Scene) -> Option<Verdict> {
    let outcome = |outcome: Outcome| scene.recent.sum.outcomes[outcome as usize];
    let errors = outcome(Outcome::Failed) + outcome(Outcome::Broken);
    if errors + outcome(Outcome::Substituted) == 0 {
        return None;
    }
    let blamed = scene.hurt_by.as_ref();
    let blamed = blamed.map(|(upstream, class)| Culprit::counted(scene, upstream, *class));
    let Some(culprit) = blamed else {
        let sentence = format!("{} lately, and no upstream is to blame.", failed(errors));
        let advice = "The recent trouble below has the reasons.";
        return Some(Verdict::new(Level::Trouble, Fault::Surgetank, sentence).advise(advice));
    };
    let advice = match culprit.fault {
        Fault::Network => "Look at DNS, the network and the upstream's base_url.",
        Fault::Quota => "Ask the vendor for a larger quota, or add a fallback to another upstream.",
        _ => {
            "Look at the vendor's status page; a fallback to another upstream would serve callers."
        }
    };
    Some(Verdict::new(Level::Trouble, culprit.fault, culprit.sentence).advise(advice))
}

/// Callers wait, or some will as soon as they come.
fn waiting(scene: &Scene) -> Option<Verdict> {
    let waiting: usize = scene.lanes.iter().map(|lane| lane.waiting).sum();
    let held = scene.lanes.iter().any(|lane| is_held(lane.reason));
    if waiting == 0 && !held {
        return None;
    }
    let (fault, mut sentence) = if let Some(culprit) = culprit(scene) {
        (culprit.fault, culprit.sentence)
    } else {
        let lane = scene.lanes.iter().max_by_key(|lane| lane.waiting)?;
        let sentence = format!(
            "{} takes requests more slowly than they come.",
            lane.upstream
        );
        let is_full = lane.reason == WaitReason::Window;
        (if is_full { Fault::Vendor } else { Fault::Quota }, sentence)
    };
    if waiting == 0 {
        sentence.push_str(" Nobody waits at the moment.");
    }
    let advice = "Nothing to do: requests go on as the vendor takes them, fairly across users.";
    Some(Verdict::new(Level::Busy, fault, sentence).advise(advice))
}

/// What callers do to themselves.
fn callers_own(scene: &Scene) -> Option<Verdict> {
    let outcomes = &scene.recent.sum.outcomes;
    let all: u64 = outcomes.iter().sum();
    let is_many = |count: u64| count >= MANY_REFUSED && count as f64 >= LARGE_PART * all as f64;
    let refused = outcomes[Outcome::Refused as usize] + outcomes[Outcome::Rejected as usize];
    if is_many(refused) {
        let sentence = format!(
            "{} of {} lately were wrong in themselves and were refused.",
            refused,
            count(all, "request")
        );
        let advice =
            "Look at what the application sends: the recent trouble below has the statuses.";
        return Some(Verdict::new(Level::Busy, Fault::Application, sentence).advise(advice));
    }
    let limited = outcomes[Outcome::Limited as usize];
    if is_many(limited) {
        let sentence = format!(
            "{} of {} lately were over their user's own limit.",
            limited,
            count(all, "request")
        );
        let advice = "Nothing to do, unless the limits are too tight.";
        return Some(Verdict::new(Level::Busy, Fault::Users, sentence).advise(advice));
    }
    None
}

/// The upstream fails now and then, and retries make up for it.
fn saved(scene: &Scene) -> Option<Verdict> {
    let saved = scene.recent.sum.saved;
    let culprit = culprit(scene).filter(|_| saved > 0)?;
    let sentence = format!("{} Retries made up for it.", culprit.sentence);
    Some(Verdict::new(Level::Busy, culprit.fault, sentence))
}

fn quota_low(scene: &Scene) -> Option<Verdict> {
    let left = |lane: &LaneScene| lane.quota_left.filter(|left| *left < QUOTA_LOW);
    let lanes = scene.lanes.iter();
    let lowest = lanes
        .filter_map(|lane| Some((left(lane)?, lane)))
        .min_by(|(one, _), (other, _)| one.total_cmp(other));
    let (left, lane) = lowest?;
    let sentence = format!(
        "The quota at {} is nearly used: {:.0} % is left.",
        lane.upstream,
        left * 100.0
    );
    let advice = "Requests are spread over what is left of it; a larger quota would end the waits.";
    Some(Verdict::new(Level::Busy, Fault::Account, sentence).advise(advice))
}

fn calm(scene: &Scene) -> Verdict {
    let recent = &scene.recent;
    let all: u64 = recent.sum.outcomes.iter().sum();
    let sentence = match (all, scene.in_flight) {
        (0, 0) => "All is well. No request has come lately.".to_owned(),
        (0, live) => format!("All is well. {} under way.", are(live, "request")),
        _ => format!("All is well. {} being answered.", rate(all, recent.span)),
    };
    Verdict::new(Level::Calm, Fault::Nobody, sentence)
}

/// Which upstream is behind it, and how.
struct Culprit {
    fault: Fault,
    sentence: String,
}

/// The upstream with most attempts that came to nothing lately; where none were made, because a gate
/// or a breaker holds them back, the upstream that is held for longest.
fn culprit(scene: &Scene) -> Option<Culprit> {
    const BAD: [Class; 4] = [
        Class::Throttled,
        Class::Overloaded,
        Class::Faulty,
        Class::Unsent,
    ];
    let Step { upstreams, .. } = &scene.recent.sum;
    let candidates = upstreams.iter().flat_map(|(upstream, classes)| {
        BAD.map(|class| (classes[class as usize], class, upstream.as_str()))
    });
    let worst = candidates.max_by_key(|(bad, ..)| *bad);
    if let Some((_, class, upstream)) = worst.filter(|(bad, ..)| *bad > 0) {
        return Some(Culprit::counted(scene, upstream, class));
    }
    let held = scene.lanes.iter().filter(|lane| is_held(lane.reason));
    held.max_by_key(|lane| lane.closed_for).map(|lane| {
        let class = match lane.reason {
            WaitReason::Breaker => Class::Faulty,
            _ => Class::Throttled,
        };
        let until = format!(" (asked again in {})", seconds(lane.closed_for));
        Culprit::of(class, &lane.upstream, &until)
    })
}

impl Culprit {
    /// With how much of what it was asked came to this.
    fn counted(scene: &Scene, upstream: &str, class: Class) -> Self {
        let classes = scene.recent.sum.upstreams.get(upstream);
        let bad = classes.map_or(0, |classes| classes[class as usize]);
        let all: u64 = classes.map_or(0, |classes| classes.iter().sum());
        if bad == 0 {
            return Self::of(class, upstream, "");
        }
        Self::of(
            class,
            upstream,
            &format!(" ({bad} of {} lately)", count(all, "attempt")),
        )
    }

    fn of(class: Class, upstream: &str, detail: &str) -> Self {
        let (fault, does) = match class {
            Class::Throttled => (Fault::Quota, "asks to slow down"),
            Class::Overloaded => (Fault::Vendor, "is overloaded"),
            Class::Unsent => (Fault::Network, "cannot be reached"),
            Class::Broken => (Fault::Vendor, "cuts its answers off"),
            _ => (Fault::Vendor, "is failing"),
        };
        Self {
            fault,
            sentence: format!("{upstream} {does}{detail}."),
        }
    }
}

fn is_held(reason: WaitReason) -> bool {
    matches!(
        reason,
        WaitReason::Gate | WaitReason::Probe | WaitReason::Breaker
    )
}

/// What callers notice, in the order in which it hurts.
fn callers(scene: &Scene) -> String {
    let outcome = |outcome: Outcome| scene.recent.sum.outcomes[outcome as usize];
    let all: u64 = scene.recent.sum.outcomes.iter().sum();
    let mut text = String::new();
    let mut tell = |part: &str| {
        let _ = write!(text, "{}{part}", if text.is_empty() { "" } else { ", " });
    };
    let errors = outcome(Outcome::Failed) + outcome(Outcome::Broken) + outcome(Outcome::Exhausted);
    for (number, what) in [
        (errors, "saw an error"),
        (outcome(Outcome::Substituted), "got a substitute"),
        (outcome(Outcome::Limited), "met their own limit"),
        (outcome(Outcome::Served), "got their answer"),
    ] {
        if number > 0 {
            tell(&format!("{number} {what}"));
        }
    }
    let waiting: usize = scene.lanes.iter().map(|lane| lane.waiting).sum();
    if waiting > 0 {
        let longest = scene.lanes.iter().map(|lane| lane.longest).max();
        let verb = if waiting == 1 { "waits" } else { "wait" };
        let longest = seconds(longest.unwrap_or_default());
        tell(&format!("{waiting} {verb} now, the longest for {longest}"));
    }
    if text.is_empty() {
        return "No caller notices anything.".to_owned();
    }
    if all == 0 {
        return format!("Of the callers, {text}.");
    }
    format!(
        "Of the callers in the last {}, {text}.",
        seconds(scene.recent.span)
    )
}

fn failed(errors: u64) -> String {
    match errors {
        0 => "Callers got substitutes".to_owned(),
        1 => "1 request failed".to_owned(),
        _ => format!("{errors} requests failed"),
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn are(number: u64, noun: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, noun))
}

fn rate(all: u64, span: Duration) -> String {
    let rate = all as f64 / span.as_secs_f64().max(1.0);
    if rate >= 2.0 {
        return format!("{rate:.0} requests a second are");
    }
    format!(
        "{} in the last {} are",
        count(all, "request"),
        seconds(span)
    )
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests;
