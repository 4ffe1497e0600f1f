#!/usr/bin/env python3
"""Writes surgetank.json, the dashboard, with the builders that Grafana makes of its own schema (grafana-foundation-sdk).

    dashboard.py           prints it
    UPDATE_DOCS=1 tests/run grafana      writes the file anew

Five rows, in the order in which somebody on call asks: do callers get what they ask for, what do the upstreams say, what do
the lanes do about it, what is left for later, how is the process itself.
"""

import json
import string

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as styles
from grafana_foundation_sdk.models.common import BigValueColorMode, GraphDrawStyle, LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, DashboardCursorSync, ThresholdsMode, Threshold, VariableRefresh

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
CHOSEN = 'job=~"$job",instance=~"$instance"'


def chosen(expression):
    """The expression with every selector narrowed to what is chosen above the dashboard."""
    return expression.replace("{}", "{" + CHOSEN + "}").replace("{,", "{" + CHOSEN + ",")


def query(expression, legend, letter="A"):
    return prometheus.Dataquery().expr(chosen(expression)).legend_format(legend).ref_id(letter)


def steps(*marks):
    """Thresholds from (value, colour) pairs; the first value is None."""
    made = [Threshold(value=value, color=colour) for value, colour in marks]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def figure(title, about, expression, unit, marks):
    return (
        stat.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(4).span(4)
        .color_mode(BigValueColorMode.VALUE).thresholds(steps(*marks))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query(expression, title))
    )


def chart(title, about, unit, *queries, stacked=False, span=12):
    panel = (
        timeseries.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(8).span(span)
        .min(0).line_width(1).fill_opacity(30 if stacked else 8).draw_style(GraphDrawStyle.LINE)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for letter, (expression, legend) in zip(string.ascii_uppercase, queries):
        panel = panel.with_target(query(expression, legend, letter))
    return panel


RATE = "[$__rate_interval]"
GREEN, YELLOW, RED = "green", "yellow", "red"


def callers(board):
    asked = f"sum(rate(surgetank_requests_total{{}}{RATE}))"
    return (
        board.with_row(dashboard.Row("What callers get"))
        .with_panel(figure("Served", "Of those who asked, how many got the upstream's own answer, whole.",
                           f'sum(rate(surgetank_requests_total{{,outcome="served"}}{RATE})) / {asked}', "percentunit",
                           [(None, RED), (0.9, YELLOW), (0.98, GREEN)]))
        .with_panel(figure("See an error", "Failed, cut off, or refused for lack of money.",
                           f'(sum(rate(surgetank_requests_total{{,outcome=~"failed|broken|exhausted"}}{RATE})) or vector(0)) / {asked}', "percentunit",
                           [(None, GREEN), (0.005, YELLOW), (0.02, RED)]))
        .with_panel(figure("Get a substitute", "The friendly reply, or another upstream's answer.",
                           f'(sum(rate(surgetank_requests_total{{,outcome="substituted"}}{RATE})) or vector(0)) / {asked}', "percentunit",
                           [(None, GREEN), (0.01, YELLOW), (0.05, RED)]))
        .with_panel(figure("Saved by retries", "Requests a second that were served only because they were repeated.",
                           f"sum(rate(surgetank_requests_saved_total{{}}{RATE}))", "reqps", [(None, GREEN)]))
        .with_panel(figure("Tries an answer", "The amplification: what an answer costs in attempts.",
                           f'sum(rate(surgetank_upstream_attempts_total{{}}{RATE})) / sum(rate(surgetank_upstream_attempts_total{{,class="served"}}{RATE}))',
                           "short", [(None, GREEN), (1.2, YELLOW), (1.5, RED)]))
        .with_panel(figure("Longest wait now", "How long the request that waits for longest has waited for its turn.",
                           "max(surgetank_queue_oldest_seconds{})", "s", [(None, GREEN), (10, YELLOW), (30, RED)]))
        .with_panel(chart("Requests by outcome", "What became of requests, as their callers would put it.", "reqps",
                          (f"sum by (outcome) (rate(surgetank_requests_total{{}}{RATE}))", "{{outcome}}"), stacked=True))
        .with_panel(chart("Until the first token", "From a request's arrival, with all waits and retries.", "s",
                          *[(f"histogram_quantile({q}, sum by (le) (rate(surgetank_first_token_seconds_bucket{{}}{RATE})))", f"p{int(q * 100)}")
                            for q in (0.5, 0.95, 0.99)]))
        .with_panel(chart("Whole requests", "From arrival to the end of the answer, by route.", "s",
                          (f"histogram_quantile(0.95, sum by (le, route) (rate(surgetank_request_seconds_bucket{{}}{RATE})))", "{{route}} p95")))
        .with_panel(chart("Substitutes by cause", "What was given instead, and the failure behind it.", "reqps",
                          (f"sum by (kind, cause) (rate(surgetank_fallback_total{{}}{RATE}))", "{{kind}} for {{cause}}"), stacked=True))
        .with_panel(chart("Refused by limits", "By the rule that a user met.", "reqps",
                          (f"sum by (rule) (rate(surgetank_limited_total{{}}{RATE}))", "{{rule}}"), stacked=True))
        .with_panel(chart("Truncated and broken answers", "Cut by their token limit, or broken after the first byte.", "reqps",
                          (f"sum by (model) (rate(surgetank_truncated_total{{}}{RATE}))", "truncated {{model}}"),
                          (f"sum by (upstream, cause) (rate(surgetank_stream_broken_total{{}}{RATE}))", "broken {{upstream}} {{cause}}")))
    )


def upstreams(board):
    return (
        board.with_row(dashboard.Row("What the upstreams say"))
        .with_panel(chart("Attempts by class", "What triage made of each answer.", "reqps",
                          (f"sum by (upstream, class) (rate(surgetank_upstream_attempts_total{{}}{RATE}))", "{{upstream}} {{class}}"), stacked=True))
        .with_panel(chart("Until the first byte", "The upstream alone, without our waits.", "s",
                          (f"histogram_quantile(0.5, sum by (le, upstream) (rate(surgetank_first_byte_seconds_bucket{{}}{RATE})))", "{{upstream}} p50"),
                          (f"histogram_quantile(0.95, sum by (le, upstream) (rate(surgetank_first_byte_seconds_bucket{{}}{RATE})))", "{{upstream}} p95")))
        .with_panel(chart("Between two pieces of a stream", "How evenly answers come.", "s",
                          (f"histogram_quantile(0.95, sum by (le, upstream) (rate(surgetank_chunk_seconds_bucket{{}}{RATE})))", "{{upstream}} p95")))
        .with_panel(chart("Quota used", "As the vendors' own headers tell, of the lane that has used most.", "percentunit",
                          ("max by (upstream, quota) (surgetank_vendor_quota_used_ratio{})", "{{upstream}} {{quota}}")))
        .with_panel(chart("Tokens", "As the vendors counted them.", "short",
                          (f"sum by (model, kind) (rate(surgetank_tokens_total{{}}{RATE}))", "{{model}} {{kind}}"), stacked=True))
        .with_panel(chart("Why models stop", "By the finish reason.", "reqps",
                          (f"sum by (finish) (rate(surgetank_answers_total{{}}{RATE}))", "{{finish}}"), stacked=True))
    )


def lanes(board):
    return (
        board.with_row(dashboard.Row("What the lanes do"))
        .with_panel(chart("What requests would wait for", "Lanes by their state.", "short",
                          ("sum by (upstream, state) (surgetank_gate_state{})", "{{upstream}} {{state}}"), stacked=True))
        .with_panel(chart("Waiting and live", "Requests in the fair queue, and answers that have not ended.", "short",
                          ("sum by (upstream, lane) (surgetank_queue_waiting{})", "waiting {{upstream}} {{lane}}"),
                          ("sum by (upstream, lane) (surgetank_inflight{})", "live {{upstream}} {{lane}}"),
                          ("sum by (upstream, lane) (surgetank_window_limit{})", "window {{upstream}} {{lane}}")))
        .with_panel(chart("Time that requests wait on purpose", "Seconds waited a second, by reason.", "short",
                          (f"sum by (reason) (rate(surgetank_waited_seconds_total{{}}{RATE}))", "{{reason}}"), stacked=True))
        .with_panel(chart("Time closed", "The part of the time in which a lane let nobody through.", "percentunit",
                          (f"sum by (upstream, lane, reason) (rate(surgetank_gate_closed_seconds_total{{}}{RATE}))", "{{upstream}} {{lane}} {{reason}}")))
        .with_panel(chart("Pace", "Learned or told, where there is one.", "reqps",
                          ("min by (upstream, lane) (surgetank_pace_limit_per_second{})", "{{upstream}} {{lane}}")))
        .with_panel(chart("Retries not made", "Failed attempts that were not followed by another, by reason.", "reqps",
                          (f"sum by (reason) (rate(surgetank_retries_denied_total{{}}{RATE}))", "{{reason}}"), stacked=True))
        .with_panel(chart("Retry quota", "Tokens left, of the lane with the fewest.", "short",
                          ("min by (upstream, lane) (surgetank_retry_quota_tokens{})", "{{upstream}} {{lane}}")))
        .with_panel(chart("Prompt bytes sent again", "What retries cost in upload.", "Bps",
                          (f"sum(rate(surgetank_resent_bytes_total{{}}{RATE}))", "sent again")))
    )


def queue(board):
    return (
        board.with_row(dashboard.Row("Queued requests"))
        .with_panel(chart("In the queue", "By state; those done, failed and uncertain wait to be read.", "short",
                          ("sum by (state) (surgetank_queued_requests{})", "{{state}}"), stacked=True))
        .with_panel(chart("Kept, or why not", "Requests that were to be queued.", "reqps",
                          (f"sum by (result) (rate(surgetank_queued_total{{}}{RATE}))", "{{result}}"), stacked=True))
        .with_panel(chart("Tries", "How tries of queued requests end.", "reqps",
                          (f"sum by (end) (rate(surgetank_queued_tries_total{{}}{RATE}))", "{{end}}"), stacked=True))
        .with_panel(chart("Age and wait", "Of the oldest that has not ended; and from queueing to the end.", "s",
                          ("max(surgetank_queued_oldest_seconds{})", "oldest"),
                          (f"histogram_quantile(0.95, sum by (le) (rate(surgetank_queued_wait_seconds_bucket{{}}{RATE})))", "wait p95")))
        .with_panel(chart("Size", "Of queued requests and their answers.", "bytes",
                          ("sum by (instance) (surgetank_queued_bytes{})", "{{instance}}")))
        .with_panel(chart("Storage works", "1 while it does.", "short",
                          ("min by (instance) (surgetank_queued_up{})", "{{instance}}")))
    )


def process(board):
    return (
        board.with_row(dashboard.Row("surgetank itself"))
        .with_panel(chart("Requests and connections", "Live ones.", "short",
                          ("sum by (instance) (surgetank_in_flight_requests{})", "requests {{instance}}"),
                          ("sum by (instance) (surgetank_connections{})", "connections {{instance}}")))
        .with_panel(chart("Memory", "Of the process, and held for retries.", "bytes",
                          ("sum by (instance) (process_resident_memory_bytes{})", "process {{instance}}"),
                          ("sum by (instance) (surgetank_held_bytes{})", "held {{instance}}")))
        .with_panel(chart("Processor", "Cores in use.", "short",
                          (f"sum by (instance) (rate(process_cpu_seconds_total{{}}{RATE}))", "{{instance}}")))
        .with_panel(chart("Wrong with surgetank", "Panics, refused configurations, lines of the log that nobody took, calls on the store without an answer.", "short",
                          ("sum by (instance) (increase(surgetank_panics_total{}[$__rate_interval]))", "panics {{instance}}"),
                          ('sum by (instance) (increase(surgetank_config_reloads_total{,result="failure"}[$__rate_interval]))', "refused configurations {{instance}}"),
                          ("sum by (instance) (increase(surgetank_log_lines_dropped_total{}[$__rate_interval]))", "dropped log lines {{instance}}"),
                          ("sum by (operation, reason) (increase(surgetank_store_errors_total{}[$__rate_interval]))", "store {{operation}} {{reason}}")))
        .with_panel(chart("Shared store", "Until it answers, by what it was asked.", "s",
                          (f"histogram_quantile(0.95, sum by (le, operation) (rate(surgetank_store_seconds_bucket{{}}{RATE})))", "{{operation}} p95")))
        .with_panel(chart("Shared store connected", "1 while it answers in time; 0 without one.", "short",
                          ("min by (instance) (surgetank_store_up{})", "{{instance}}")))
        .with_panel(chart("Versions", "How many instances run which.", "short",
                          ("count by (version) (surgetank_build_info{})", "{{version}}"), stacked=True))
    )


def variable(name, label, metric):
    return (
        dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".*")
    )


def build():
    board = (
        dashboard.Dashboard("surgetank").uid("surgetank").tags(["surgetank", "llm", "proxy"])
        .description("What callers get, what the upstreams say, and what surgetank does about it.")
        .editable().tooltip(DashboardCursorSync.CROSSHAIR).refresh("30s").time("now-1h", "now").timezone("browser")
        .with_variable(dashboard.DatasourceVariable("source").label("Data source").type("prometheus"))
        .with_variable(variable("job", "Job", "surgetank_build_info"))
        .with_variable(variable("instance", "Instance", 'surgetank_build_info{job=~"$job"}'))
    )
    return process(queue(lanes(upstreams(callers(board))))).build()


if __name__ == "__main__":
    made = json.loads(JSONEncoder().encode(build()))
    for variable in made["templating"]["list"]:
        # Fields of intervals alone, which the builders give to every kind.
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    print(json.dumps(made, sort_keys=True, indent=2))
