"""The program behind `run`."""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import aiohttp

from .callers import send
from .contenders import CONTENDERS, Contender, Context, started
from .ideal import ideal_waits
from .lab import lab
from .measures import Got, Outcome, max_min
from .picture import svg
from .storms import STORMS, Call, Scale, Storm, crowd
from .table import row, table

HERE = Path(__file__).parent.parent


def main() -> None:
    arguments = parse()
    chosen = [
        c for name, c in CONTENDERS.items() if name in (arguments.only or CONTENDERS) and name not in arguments.without
    ]
    if arguments.packages:
        print("\n".join(dict.fromkeys(c.package for c in chosen if c.package)))
        return
    asyncio.run(play(arguments, chosen))


def parse() -> argparse.Namespace:
    names = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser("bench/storm/run", description=__doc__)
    parser.add_argument("--without", type=names, default=[], help="contenders to leave out, as litellm,envoy")
    parser.add_argument("--only", type=names, default=[], help="contenders to run, instead of all")
    parser.add_argument("--storms", type=names, default=list(STORMS), help=f"of {','.join(STORMS)}")
    parser.add_argument("--speed", type=float, default=6.0, help="seconds of the story in a real one (6)")
    parser.add_argument(
        "--hints", choices=("seconds", "both", "millis", "none"), default="seconds", help="what a 429 tells (seconds)"
    )
    parser.add_argument("--seed", default="1", help="of the crowd's arrivals")
    parser.add_argument("--json", type=Path, default=HERE / "results.json")
    parser.add_argument("--picture", type=Path, help="also draws what became of the callers, as SVG")
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="all contenders at once, each with an API of its own: for low speeds",
    )
    parser.add_argument("--packages", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--surgetank", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = {"--without": CONTENDERS, "--only": CONTENDERS, "--storms": STORMS}
    for flag, allowed in known.items():
        for name in getattr(arguments, flag.strip("-")):
            if name not in allowed:
                parser.error(f"{flag} knows {', '.join(allowed)}, not {name}")
    return arguments


async def play(arguments: argparse.Namespace, contenders: list[Contender]) -> None:
    scale = Scale(arguments.speed)
    outcomes: list[Outcome] = []
    # Kept, so that the logs can be read afterwards.
    place = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.cache))
    for storm in map(STORMS.get, arguments.storms):
        calls = crowd(storm, scale, arguments.seed)
        for group in [contenders] if arguments.side_by_side else [[c] for c in contenders]:
            runs = (one(arguments, storm, calls, scale, contender, place) for contender in group)
            outcomes += await asyncio.gather(*runs)
        for outcome in outcomes[-len(contenders) :]:
            print(progress(outcome), flush=True)
    print()
    print(report(arguments, scale, contenders, outcomes))
    results = [as_json(outcome) for outcome in outcomes]
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.picture:
        arguments.picture.write_text(svg(results))


async def one(
    arguments: argparse.Namespace, storm: Storm, calls: list[Call], scale: Scale, contender: Contender, place: Path
) -> Outcome:
    """One contender in one storm; both it and the fake API are new."""
    place = place / f"{storm.name}-{contender.name}"
    place.mkdir()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
        lab(arguments.surgetank, storm, scale, arguments.hints, place) as api,
        started(contender, Context(api, scale, place, arguments.cache, arguments.surgetank, session)) as caller,
    ):
        load = os.getloadavg()[0]
        endings, lag = await send(calls, caller, scale, api.reset)
        upstream_calls = await api.calls()
    ideal = len(ideal_waits(storm, calls, scale))
    return Outcome(
        contender=contender.name,
        storm=storm.name,
        endings=endings,
        upstream_calls=upstream_calls,
        ideal=ideal,
        fair=max_min(storm.calls, ideal),
        lag_p99=lag,
        load=load,
        details=dict(Counter(e.detail for e in endings if e.got in (Got.ERROR, Got.TIMEOUT))),
    )


def progress(outcome: Outcome) -> str:
    lag = f"{outcome.lag_p99 * 1e3:.0f} ms"
    cells = " | ".join(row(outcome))
    return f"{outcome.storm}: {cells} | load {outcome.load:.1f}, lag {lag}, errors {outcome.details}"


def report(arguments: argparse.Namespace, scale: Scale, contenders: list[Contender], outcomes: list[Outcome]) -> str:
    parts = [
        f"Speed ×{scale.speed:g}, hints `{arguments.hints}`, seed {arguments.seed}. "
        f"Waits are real seconds, to the last word. "
        f"A caller leaves after {scale.caller_timeout:.1f} s.",
        "",
        *(f"* **{c.name}** {c.version(arguments.cache)}: {c.about}" for c in contenders),
        "",
        *_unscaled(scale, contenders),
        *(f"Left out: {name}." for name in CONTENDERS if name not in {c.name for c in contenders}),
    ]
    for name in arguments.storms:
        storm = STORMS[name]
        rows = [outcome for outcome in outcomes if outcome.storm == name]
        parts += ["", table(storm, crowd(storm, scale, arguments.seed), scale, rows)]
    lag, load = max(o.lag_p99 for o in outcomes), max(o.load for o in outcomes)
    parts.append(
        f"Machine: {os.cpu_count()} processors, Python {platform.python_version()}; load average up to {load:.1f}, "
        f"the callers' own clock late by up to {lag * 1e3:.0f} ms (p99 of the worst run)."
    )
    return "\n".join(parts)


def _unscaled(scale: Scale, contenders: list[Contender]) -> list[str]:
    if scale.speed == 1:
        return []
    parts = [f"{c.unscaled} ({c.name})" for c in contenders if c.unscaled]
    return [f"In real time at any speed: {', '.join([*parts, 'whole seconds of `retry-after` (all)'])}.", ""]


def as_json(outcome: Outcome) -> dict:
    summary = {
        name: getattr(outcome, name) for name in ("served", "errors", "calls_per_answer", "share_of_ideal", "fairness")
    }
    if not outcome.served:
        summary["calls_per_answer"] = None  # JSON has no infinity
    return summary | {"served_by_user": outcome.served_by_user()} | asdict(outcome)


main()
