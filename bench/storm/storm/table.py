"""The results as Markdown."""

import math

from .ideal import ideal_waits
from .measures import Got, Outcome, quantile
from .storms import Call, Scale, Storm

HEAD = (
    "contender", "served", "replies", "errors", "upstream calls per answer", "share of the ideal",
    "wait of the served: median", "p99", "wait of all: median", "p99", "Jain's index",
)  # fmt: skip


def table(storm: Storm, calls: list[Call], scale: Scale, outcomes: list[Outcome]) -> str:
    """One storm: the ideal first, then the contenders in the order of what they serve."""
    waits = ideal_waits(storm, calls, scale)
    everybody = waits + [math.inf] * (storm.asked - len(waits))
    rows = [
        ["*ideal*", f"{len(waits)} of {storm.asked}", "", "", "1.00", "1.00"]
        + [seconds(quantile(values, part)) for values in (waits, everybody) for part in (0.5, 0.99)]
        + ["1.00"]
    ]
    rows += [row(outcome) for outcome in sorted(outcomes, key=lambda o: -o.served)]
    lines = [f"### {storm.name}: {storm.about}", "", _line(HEAD), _line(["---"] + ["--:"] * (len(HEAD) - 1))]
    lines += map(_line, rows)
    lines += ["", *(_light(storm, outcomes))]
    return "\n".join(lines)


def row(outcome: Outcome) -> list[str]:
    waits = [seconds(outcome.wait(part, of_all=of_all)) for of_all in (False, True) for part in (0.5, 0.99)]
    return [
        outcome.contender,
        str(outcome.served),
        str(outcome.count(Got.REPLY)),
        str(outcome.errors),
        f"{outcome.calls_per_answer:.2f}",
        f"{outcome.share_of_ideal:.2f}",
        *waits,
        f"{outcome.fairness:.2f}",
    ]


def _light(storm: Storm, outcomes: list[Outcome]) -> list[str]:
    """What the light users got beside a greedy one."""
    if "greedy" not in storm.calls:
        return []
    asked = storm.asked - storm.calls["greedy"]
    told = []
    for outcome in outcomes:
        counts = outcome.served_by_user()
        told.append(f"{outcome.contender} {sum(counts.values()) - counts['greedy']}")
    return [f"Calls of the light users that were served, of {asked}: {', '.join(told)}.", ""]


def seconds(wait: float) -> str:
    return "never" if wait == math.inf else f"{wait:.1f} s"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
