use super::*;
use crate::telemetry::totals::Outcomes;

fn scene() -> Scene {
    Scene {
        stage: Stage::Running,
        recent: Recent {
            span: Duration::from_secs(20),
            sum: Step::default(),
        },
        panics: 0,
        hurt_by: None,
        in_flight: 0,
        lanes: Vec::new(),
    }
}

fn outcomes<const N: usize>(counts: [(Outcome, u64); N]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for (outcome, count) in counts {
        outcomes[outcome as usize] = count;
    }
    outcomes
}

fn with<const N: usize>(mut scene: Scene, upstream: &str, counts: [(Class, u64); N]) -> Scene {
    let classes = scene.recent.sum.upstreams.entry(upstream.to_owned());
    let classes = classes.or_default();
    for (class, count) in counts {
        classes[class as usize] = count;
    }
    scene
}

fn ended<const N: usize>(mut scene: Scene, counts: [(Outcome, u64); N]) -> Scene {
    scene.recent.sum.outcomes = outcomes(counts);
    scene
}

fn lane(reason: WaitReason, waiting: usize) -> LaneScene {
    LaneScene {
        upstream: "openai".to_owned(),
        reason,
        closed_for: Duration::from_millis(8_200),
        waiting,
        longest: Duration::from_secs(12),
        quota_left: None,
    }
}

fn hurt(mut scene: Scene, upstream: &str, class: Class) -> Scene {
    scene.hurt_by = Some((upstream.to_owned(), class));
    scene
}

fn held(mut scene: Scene, reason: WaitReason, waiting: usize) -> Scene {
    scene.lanes.push(lane(reason, waiting));
    scene
}

#[track_caller]
fn says(scene: &Scene, level: Level, fault: Fault, sentence: &str) {
    let told = headline(scene);
    assert_eq!(
        (told.level, told.fault, told.sentence.as_str()),
        (level, fault, sentence)
    );
}

#[test]
fn a_good_night() {
    says(
        &scene(),
        Level::Calm,
        Fault::Nobody,
        "All is well. No request has come lately.",
    );
    let busy = ended(scene(), [(Outcome::Served, 240)]);
    says(
        &busy,
        Level::Calm,
        Fault::Nobody,
        "All is well. 12 requests a second are being answered.",
    );
    let told = headline(&busy);
    assert_eq!(
        told.callers,
        "Of the callers in the last 20 s, 240 got their answer."
    );
    assert_eq!(told.advice, None);
    assert_eq!(headline(&scene()).callers, "No caller notices anything.");
}

#[test]
fn a_storm_that_callers_only_wait_through() {
    let storm = with(
        scene(),
        "openai",
        [(Class::Throttled, 30), (Class::Served, 90)],
    );
    let storm = ended(storm, [(Outcome::Served, 90)]);
    let storm = held(storm, WaitReason::Gate, 42);
    says(
        &storm,
        Level::Busy,
        Fault::Quota,
        "openai asks to slow down (30 of 120 attempts lately).",
    );
    assert_eq!(
        headline(&storm).callers,
        "Of the callers in the last 20 s, 90 got their answer, 42 wait now, the longest for 12 s."
    );
    let over = with(
        scene(),
        "openai",
        [(Class::Throttled, 2), (Class::Served, 8)],
    );
    let mut over = ended(over, [(Outcome::Served, 8)]);
    over.recent.sum.saved = 2;
    says(
        &over,
        Level::Busy,
        Fault::Quota,
        "openai asks to slow down (2 of 10 attempts lately). Retries made up for it.",
    );
}

#[test]
fn an_upstream_that_is_left_alone_is_still_told() {
    let silent = held(scene(), WaitReason::Breaker, 3);
    says(
        &silent,
        Level::Busy,
        Fault::Vendor,
        "openai is failing (asked again in 8.2 s).",
    );
    let nobody = held(scene(), WaitReason::Gate, 0);
    says(
        &nobody,
        Level::Busy,
        Fault::Quota,
        "openai asks to slow down (asked again in 8.2 s). Nobody waits at the moment.",
    );
    let full = held(scene(), WaitReason::Window, 5);
    says(
        &full,
        Level::Busy,
        Fault::Vendor,
        "openai takes requests more slowly than they come.",
    );
}

#[test]
fn what_callers_suffer_goes_before_what_they_wait_for() {
    let outage = with(scene(), "openai", [(Class::Faulty, 7), (Class::Unsent, 2)]);
    let outage = ended(outage, [(Outcome::Substituted, 2)]);
    let outage = hurt(outage, "openai", Class::Faulty);
    // Another upstream fails more often, but only makes its callers wait.
    let outage = with(outage, "other", [(Class::Throttled, 500)]);
    let outage = held(outage, WaitReason::Breaker, 9);
    says(
        &outage,
        Level::Trouble,
        Fault::Vendor,
        "openai is failing (7 of 9 attempts lately).",
    );
    let unplugged = with(scene(), "local", [(Class::Unsent, 4)]);
    let unplugged = ended(unplugged, [(Outcome::Failed, 1)]);
    let unplugged = hurt(unplugged, "local", Class::Unsent);
    says(
        &unplugged,
        Level::Trouble,
        Fault::Network,
        "local cannot be reached (4 of 4 attempts lately).",
    );
    let cut = ended(scene(), [(Outcome::Broken, 1)]);
    says(
        &hurt(cut, "openai", Class::Broken),
        Level::Trouble,
        Fault::Vendor,
        "openai cuts its answers off.",
    );
    let odd = ended(scene(), [(Outcome::Failed, 3)]);
    says(
        &odd,
        Level::Trouble,
        Fault::Surgetank,
        "3 requests failed lately, and no upstream is to blame.",
    );
}

#[test]
fn money_and_our_own_faults_come_first() {
    let spent = with(
        scene(),
        "openai",
        [(Class::Exhausted, 1), (Class::Faulty, 50)],
    );
    let mut spent = ended(spent, [(Outcome::Exhausted, 1), (Outcome::Failed, 9)]);
    says(
        &spent,
        Level::Trouble,
        Fault::Account,
        "The account at openai is out of money or allowance.",
    );
    spent.panics = 1;
    says(
        &spent,
        Level::Trouble,
        Fault::Surgetank,
        "surgetank itself failed on 1 request in the last 15 minutes.",
    );
    spent.stage = Stage::Draining;
    spent.in_flight = 1;
    says(
        &spent,
        Level::Busy,
        Fault::Nobody,
        "surgetank is stopping; 1 request is finishing.",
    );
}

#[test]
fn callers_are_told_what_is_their_own_doing() {
    let wrong = ended(scene(), [(Outcome::Refused, 6), (Outcome::Served, 14)]);
    says(
        &wrong,
        Level::Busy,
        Fault::Application,
        "6 of 20 requests lately were wrong in themselves and were refused.",
    );
    let few = ended(scene(), [(Outcome::Refused, 6), (Outcome::Served, 94)]);
    assert_eq!(headline(&few).level, Level::Calm);
    let greedy = ended(scene(), [(Outcome::Limited, 50), (Outcome::Served, 50)]);
    says(
        &greedy,
        Level::Busy,
        Fault::Users,
        "50 of 100 requests lately were over their user's own limit.",
    );
}

#[test]
fn a_quota_that_is_nearly_used_is_told_before_it_is() {
    let mut low = ended(scene(), [(Outcome::Served, 100)]);
    low.lanes.push(LaneScene {
        quota_left: Some(0.042),
        ..lane(WaitReason::Idle, 0)
    });
    says(
        &low,
        Level::Busy,
        Fault::Account,
        "The quota at openai is nearly used: 4 % is left.",
    );
    low.lanes[0].quota_left = Some(0.5);
    assert_eq!(headline(&low).level, Level::Calm);
}
