"""The results as a picture: what became of the callers of each storm.

Also by itself, from a run's JSON: `python3 -m storm.picture results.json storm.svg`.
"""

import json
import sys
from html import escape
from pathlib import Path

from .storms import STORMS

WIDTH, ROW, BAR, LABEL, MARGIN = 800, 24, 16, 140, 12
KINDS = (("served", "the model's answer"), ("reply", "a friendly reply"), ("error", "an error"))
TITLES = {
    "burst": "A burst: 120 calls at once on a quota of 60 a minute",
    "overload": "An overload: twice the quota for three minutes, and a refusal costs half a request",
    "outage": "An outage: four minutes at 70 % of the quota, the second of them nothing but errors",
}
NAMES = {"sdk": "the official SDK", "seed": "backoff alone", "envoy-patient": "Envoy, patient", "envoy": "Envoy", "litellm": "LiteLLM"}
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;fill:#24292f}"
    ".ours{font-weight:600;fill:#24292f}.served{fill:#0a7ea4}.reply{fill:#9fd0e0}.error{fill:#d1495b}"
    ".ideal{stroke:#24292f;stroke-width:1.5;stroke-dasharray:3 3}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa4ae}.title,.ours{fill:#e6edf3}.ideal{stroke:#e6edf3}"
    ".served{fill:#3aa6c9}.reply{fill:#24505f}}"
)


def svg(outcomes: list[dict]) -> str:
    """Of outcomes as `results.json` has them; a panel a storm, a bar a contender, best first."""
    parts, top = _legend(), 40
    for name, storm in STORMS.items():
        rows = [outcome for outcome in outcomes if outcome["storm"] == name]
        if not rows:
            continue
        parts.append(_text(MARGIN, top + 14, TITLES[name], "title"))
        top += 26
        first = top
        for outcome in sorted(rows, key=lambda outcome: -outcome["served"]):
            parts += _bar(outcome, storm.asked, top)
            top += ROW
        at = LABEL + _width(rows[0]["ideal"], storm.asked)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{first - 4}" y2="{top - 4}" class="ideal"/>')
        top += 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="What became of the callers of each storm"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _legend() -> list[str]:
    parts, left = [], MARGIN
    for kind, words in KINDS:
        parts.append(f'<rect x="{left}" y="10" width="12" height="12" rx="2" class="{kind}"/>')
        parts.append(_text(left + 18, 21, words))
        left += 40 + 8 * len(words)
    parts.append(f'<line x1="{left}" x2="{left}" y1="8" y2="24" class="ideal"/>')
    parts.append(_text(left + 8, 21, "all that could be served"))
    return parts


def _bar(outcome: dict, asked: int, top: int) -> list[str]:
    served, errors = outcome["served"], outcome["errors"]
    kind = "ours" if outcome["contender"] == "surgetank" else ""
    parts = [_text(LABEL - 8, top + 13, NAMES.get(outcome["contender"], outcome["contender"]), kind, "end")]
    left = LABEL
    for name, count in (("served", served), ("reply", asked - served - errors), ("error", errors)):
        width = _width(count, asked)
        if count:
            parts.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" class="{name}"/>')
        left += width
    calls = outcome["calls_per_answer"]
    told = f"{served} of {asked}, {calls:.1f} calls each" if calls else f"{served} of {asked}"
    return [*parts, _text(left + 8, top + 13, told, kind)]


def _width(count: int, asked: int) -> float:
    return count / asked * (WIDTH - LABEL - 200)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(svg(json.loads(source.read_text())))
