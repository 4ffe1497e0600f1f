use super::super::outcome::Outcome;
use super::super::priority::Priority;
use super::super::queue::UserKey;
use super::super::shell::Request;
use super::*;

fn key(model: u64) -> LaneKey {
    LaneKey {
        upstream: 1,
        credential: 2,
        model,
    }
}

fn described() -> (LaneSettings, Label) {
    (LaneSettings::default(), Label::shared())
}

fn lane(table: &LaneTable, model: u64) -> Arc<Lane> {
    table.lane(key(model), described)
}

fn request() -> Request {
    let patience_until = Instant::now() + Duration::from_mins(1);
    Request {
        user: UserKey(1),
        retry: None,
        patience_until,
        deadline: None,
        cost: 1,
        priority: Priority::Live,
    }
}

#[test]
fn one_quota_one_lane() {
    let table = LaneTable::new(10);
    assert!(Arc::ptr_eq(&lane(&table, 1), &lane(&table, 1)));
    assert!(!Arc::ptr_eq(&lane(&table, 1), &lane(&table, 2)));
    assert_eq!(
        table
            .snapshots()
            .iter()
            .map(|(key, _)| key.model)
            .collect::<Vec<_>>(),
        [1, 2]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_table_lets_the_longest_unused_idle_lane_go() {
    let table = LaneTable::new(2);
    let busy = lane(&table, 1);
    let _permit = busy.admit(request()).await.expect("admitted");
    tokio::time::advance(Duration::from_secs(2)).await;
    lane(&table, 2);
    tokio::time::advance(Duration::from_secs(2)).await;
    lane(&table, 3);
    let models: Vec<_> = table.snapshots().iter().map(|(key, _)| key.model).collect();
    assert_eq!(models, [1, 3], "the busy one stays");
}

#[tokio::test(start_paused = true)]
async fn a_lane_in_somebodys_hands_does_not_leave() {
    let table = LaneTable::new(1);
    let about_to_be_used = lane(&table, 1);
    tokio::time::advance(IDLE_FOR * 2).await;
    lane(&table, 2);
    assert!(Arc::ptr_eq(&about_to_be_used, &lane(&table, 1)));
    drop(about_to_be_used);
    tokio::time::advance(IDLE_FOR * 2).await;
    lane(&table, 3);
    let models: Vec<_> = table.snapshots().iter().map(|(key, _)| key.model).collect();
    assert_eq!(models, [0, 3], "and the lane that stood in for it stays");
}

async fn throttle(lane: &Arc<Lane>) {
    let permit = lane.admit(request()).await.expect("admitted");
    permit.report(Outcome::Throttled { hint: None }, &[]);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_outlives_names_that_are_invented() {
    let table = LaneTable::new(32);
    throttle(&lane(&table, 0)).await;
    for model in 1..1_000 {
        tokio::time::advance(Duration::from_millis(100)).await;
        lane(&table, model);
        assert!(table.snapshots().len() <= 33, "and one that is shared");
    }
    tokio::time::advance(IDLE_FOR / 2).await;
    let throttles = || lane(&table, 0).snapshot().counters.throttled;
    assert_eq!(throttles(), 1);
    tokio::time::advance(IDLE_FOR).await;
    lane(&table, 1_000);
    assert_eq!(throttles(), 0, "in the end it leaves");
}

#[tokio::test(start_paused = true)]
async fn where_all_have_learned_one_leaves_for_a_newcomer_and_no_more() {
    let table = LaneTable::new(64);
    for model in 0..64 {
        throttle(&lane(&table, model)).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    lane(&table, 64);
    let models: Vec<_> = table.snapshots().iter().map(|(key, _)| key.model).collect();
    assert_eq!(models, (1..=64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn when_all_are_busy_newcomers_share_a_lane() {
    let table = LaneTable::new(1);
    let busy = lane(&table, 1);
    let _permit = busy.admit(request()).await.expect("admitted");
    let shared = lane(&table, 2);
    assert!(Arc::ptr_eq(&shared, &lane(&table, 3)));
    assert!(!Arc::ptr_eq(&shared, &busy));
    for model in 0..10_000 {
        lane(&table, model);
    }
    assert_eq!(table.snapshots().len(), 2, "invented names make no lanes");
}

#[tokio::test(start_paused = true)]
async fn who_floods_the_table_shares_with_itself_and_few_others() {
    let table = LaneTable::new(1);
    let busy = lane(&table, 1);
    let _permit = busy.admit(request()).await.expect("admitted");
    let of = |upstream, credential| {
        let key = LaneKey {
            upstream,
            credential,
            model: 7,
        };
        table.lane(key, described)
    };
    assert!(!Arc::ptr_eq(&of(1, 2), &of(1, 3)));
    assert!(!Arc::ptr_eq(&of(1, 2), &of(2, 2)));
    for credential in 0..1_000 {
        of(1, credential);
    }
    // One of its own, sixteen that are shared, and that of another upstream.
    assert_eq!(table.snapshots().len(), 18, "invented keys make no lanes");
}

#[test]
fn lanes_that_come_during_a_drain_are_closed_too() {
    let table = LaneTable::new(10);
    let old = lane(&table, 1);
    table.drain();
    for lane in [old, lane(&table, 2)] {
        let admitted = futures_util::FutureExt::now_or_never(lane.admit(request()));
        assert!(admitted.expect("at once").is_err());
    }
}
