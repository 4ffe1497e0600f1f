"""Writes what every client saw as tables: a row for each call, a column for each fault.

A cell names what the application got, then the HTTP calls of its SDK and the calls that reached the upstream:
`answer 1→2` is an answer for which the proxy had to try twice.
"""

import json
from pathlib import Path

TITLES = {
    "1_healthy": "Nothing is wrong",
    "2_transient": "One failure, then all is well",
    "3_permanent": "No wait can mend it",
    "4_exhausted": "Every try fails",
    "5_midstream": "The stream breaks",
    "6_limits": "The proxy's own limit for a user",
    "7_headers": "Headers",
}


CASES = json.loads((Path(__file__).parent / "cases.json").read_text())
ORDER = [fault["name"] for table in CASES.values() if isinstance(table, list) for fault in table]


def tables(lines: list[dict[str, str]]) -> str:
    return "\n".join(table(suite, [line for line in lines if line["suite"] == suite]) for suite in TITLES)


def table(suite: str, lines: list[dict[str, str]]) -> str:
    faults = sorted({line["fault"] for line in lines}, key=place)
    rows = sorted({(line["client"], line["call"]) for line in lines})
    cells = {(line["client"], line["call"], line["fault"]): line["seen"] for line in lines}
    written = [["client", "call", *faults], ["---"] * (2 + len(faults))]
    written += [[client, call, *(cells.get((client, call, fault), "") for fault in faults)] for client, call in rows]
    return f"## {TITLES[suite]}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in written)


def place(fault: str) -> tuple[int, str]:
    """The order of cases.json; what is told behind a comma comes after the plain fault."""
    name, _, more = fault.partition(",")
    return (ORDER.index(name) if name in ORDER and not more else len(ORDER), fault)


def write(source: Path, target: Path) -> None:
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    _, _, legend = __doc__.partition("\n\n")
    target.write_text(f"# What each client saw\n\n{legend}\n{tables(lines)}")
