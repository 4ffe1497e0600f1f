//! Scripts: which attempt meets which fault.

use surgetank::lab::FaultSpec;

use crate::client::{Call, End, lab};

async fn statuses(call: &Call, lab: &surgetank::lab::LabHandle, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(call.answer(lab).await.status);
    }
    statuses
}

#[tokio::test]
async fn attempts_with_one_key_follow_the_script() {
    let lab = lab("{}");
    let call = |key: &str| {
        Call::messages(false)
            .with("x-lab-script: 429;retry-after=none,529*2,ok")
            .with(format!("x-lab-key: {key}"))
    };
    assert_eq!(statuses(&call("a"), &lab, 2).await, [429, 529]);
    assert_eq!(
        statuses(&call("b"), &lab, 1).await,
        [429],
        "keys are counted apart"
    );
    assert_eq!(statuses(&call("a"), &lab, 3).await, [529, 200, 200]);

    let attempts: Vec<_> = lab
        .requests_of("a")
        .iter()
        .map(|record| record.attempt)
        .collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3), Some(4), Some(5)]);
    assert_eq!(lab.requests_of("b").len(), 1);
}

#[tokio::test]
async fn a_script_of_the_test_serves_in_order_of_arrival() {
    let lab = lab("rules: [ { fault: 500 } ]");
    lab.script("429,ok").unwrap();
    assert_eq!(
        statuses(&Call::chat(false), &lab, 3).await,
        [429, 200, 500],
        "the rules come after the script"
    );

    lab.script_for("mine", "503*").unwrap();
    let mine = Call::chat(false).with("x-lab-key: mine");
    assert_eq!(statuses(&mine, &lab, 3).await, [503, 503, 503]);
    assert_eq!(statuses(&Call::chat(false), &lab, 1).await, [500]);

    lab.play(
        [FaultSpec::raw("not,http;"), "204".parse().unwrap()]
            .into_iter()
            .collect(),
    );
    assert_eq!(
        Call::chat(false).raw(&lab).await,
        (b"not,http;".to_vec(), End::Fin)
    );
    assert_eq!(statuses(&Call::chat(false), &lab, 1).await, [204]);
    assert!(lab.script("nonsense").is_err());
}

#[tokio::test]
async fn a_header_goes_before_script_and_rules() {
    let lab = lab("rules: [ { fault: 500 } ]");
    lab.script("429*").unwrap();
    assert_eq!(
        Call::chat(false).fault("503").answer(&lab).await.status,
        503
    );
    assert_eq!(Call::chat(false).fault("ok").answer(&lab).await.status, 200);
    assert_eq!(Call::chat(false).answer(&lab).await.status, 429);
    lab.reset();
    assert_eq!(
        Call::chat(false).answer(&lab).await.status,
        500,
        "a reset ends scripts, not rules"
    );
}

#[tokio::test]
async fn a_mistake_is_answered_with_its_cure() {
    let lab = lab("{}");
    for (header, told) in [
        ("x-lab-fault: hnag", "did you mean `hang`"),
        ("x-lab-fault: hang;after=1", "it takes: for"),
        ("x-lab-script: 429", "x-lab-key"),
    ] {
        let answer = Call::chat(false).with(header).answer(&lab).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(told), "{}", answer.text());
    }
    assert_eq!(lab.stats().misused, 3);
}
