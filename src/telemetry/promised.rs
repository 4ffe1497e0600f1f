//! What `/metrics` promises, family by family: dashboards and alerts of others are made of it.
//!
//! `docs/metrics.md` is made of the registry and would follow a name that was changed by mistake. This table does not:
//! whoever changes a line here takes something from somebody, and says so in `CHANGELOG.md`.

use super::{Family, Metrics};

/// Name without `surgetank_`, type, labels. The first part is what shows a storm, and what is done about it.
const PROMISED: &str = "
    upstream_attempts_total counter upstream lane class attempt
    retries_denied_total counter upstream lane reason
    retry_quota_tokens gauge upstream lane
    gate_closed_seconds_total counter upstream lane reason
    gate_state gauge upstream lane state
    pace_limit_per_second gauge upstream lane
    window_limit gauge upstream lane
    inflight gauge upstream lane
    queue_waiting gauge upstream lane
    queue_oldest_seconds gauge upstream lane
    queue_wait_seconds histogram upstream lane outcome
    first_byte_seconds histogram upstream lane
    stream_broken_total counter upstream lane cause
    fallback_total counter upstream lane kind cause
    hint_seconds histogram upstream lane
    lane_changes_total counter upstream lane change
    lane_refused_total counter upstream lane reason
    probes_total counter upstream lane
    vendor_quota_used_ratio gauge upstream lane quota

    requests_total counter route dialect outcome
    request_seconds histogram route outcome
    requests_saved_total counter
    waited_seconds_total counter reason
    resent_bytes_total counter
    first_token_seconds histogram route
    chunk_seconds histogram upstream
    answers_total counter route model finish
    tokens_total counter route model kind
    truncated_total counter route upstream model
    larger_total counter route outcome
    continued_total counter route cause outcome
    unwrapped_total counter route
    begun_early_total counter form end

    limited_total counter rule
    limited_users gauge
    limiter_degraded_total counter mode
    limiter_unsettled_total counter
    store_up gauge
    store_seconds histogram operation
    store_errors_total counter operation reason

    queued_total counter route result
    queued_requests gauge state
    queued_bytes gauge
    queued_oldest_seconds gauge
    queued_wait_seconds histogram route
    queued_tries_total counter route end
    queued_webhooks_total counter result
    queued_up gauge

    connections gauge
    in_flight_requests gauge
    held_bytes gauge
    unprotected_requests_total counter
    tunnels gauge
    tunnel_bytes_total counter upstream direction
    unauthorized_total counter token
    panics_total counter
    log_lines_dropped_total counter
    build_info gauge version
    config_reloads_total counter result
    config_last_reload_successful gauge
    config_last_reload_success_timestamp_seconds gauge
";

/// A family as the table has it.
fn line(family: &Family) -> String {
    let name = family.name.trim_start_matches("surgetank_");
    let words = [name, family.kind].into_iter();
    let labels = family.labels.iter().map(String::as_str);
    words.chain(labels).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_promised_is_exported_with_its_type_and_labels_and_nothing_else_is() {
    let metrics = Metrics::new().expect("no name twice");
    let mut exported: Vec<_> = metrics.families().iter().map(line).collect();
    let mut promised: Vec<_> = PROMISED.split('\n').map(str::trim).collect();
    promised.retain(|line| !line.is_empty());
    exported.sort_unstable();
    promised.sort_unstable();
    let missing: Vec<_> = promised
        .iter()
        .filter(|line| !exported.iter().any(|other| other == *line))
        .collect();
    let unknown: Vec<_> = exported
        .iter()
        .filter(|line| !promised.contains(&line.as_str()))
        .collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "promised and not exported: {missing:#?}\nexported and not promised: {unknown:#?}"
    );
}
