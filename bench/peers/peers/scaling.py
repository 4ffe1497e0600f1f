"""How the cost of a request grows with what there is: cores, routes and upstreams, users, live streams."""

import argparse
import json
import platform
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .__main__ import SLOW_EVENTS
from .measures import plain
from .peers import Context, start
from .processes import Rig

QUESTIONS = {
    "workers": [1, 2],
    "routes": [1, 10, 100, 1_000],
    "users": [10, 10_000, 1_000_000],
    "streams": [0, 1_000, 5_000],
}
TITLES = {
    "workers": "by workers (cores)",
    "routes": "by routes, each with an upstream of its own",
    "users": "by users, each with a limit",
    "streams": "by live streams beside it",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/peers/scale", description=__doc__)
    parser.add_argument("--only", default=",".join(QUESTIONS), help="only these, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round of load")
    parser.add_argument("--out", type=Path, help="directory for scaling.json, scaling.md and scaling.svg")
    parser.add_argument("--rig", type=Path)
    parser.add_argument("--surgetank", type=Path)
    parser.add_argument("--cache", type=Path)
    return parser.parse_args()


class Scale:
    """One run: the sizes of a question take turns, so that all meet the same machine."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options, self.place = options, place
        self.rig = Rig(options.rig, place)

    def ask(self, question: str) -> dict[int, dict]:
        sizes, seen = QUESTIONS[question], {}
        options = SLOW_EVENTS if question == "streams" else ()
        with self.rig.upstream(*options) as upstream, ExitStack() as running:
            started = {}
            for size in sizes:
                started[size] = self.start(question, size, upstream)
                running.callback(started[size][0].end)
                if question == "streams" and size:
                    running.enter_context(self.rig.holding(started[size][1], size))
            rounds: dict[int, list] = {size: [] for size in sizes}
            for _ in range(self.options.rounds):
                for size, (process, port) in started.items():
                    more = ("--users", size) if question == "users" else ()
                    figures = plain(self.rig, "surgetank", process, port, upstream, 32, self.options.seconds, *more)
                    rounds[size].append(figures)
                    print(f"  {question} {size}: {figures['cpu_us']:.1f} µs, {figures['rps']:,.0f}/s", flush=True)
            for size in sizes:
                seen[size] = {name: median(it[name] for it in rounds[size]) for name in ("cpu_us", "rps", "errors")}
                seen[size]["mib"] = started[size][0].resident() / 2**20
        return seen

    def start(self, question: str, size: int, upstream: int):
        place = self.place / f"{question}-{size}"
        place.mkdir()
        context = Context(
            self.options.rig,
            self.options.surgetank,
            self.options.cache,
            place,
            upstream,
            workers=size if question == "workers" else 1,
            routes=size if question == "routes" else 1,
        )
        return start("surgetank", context)


def markdown(results: dict) -> str:
    lines = []
    for question, sizes in results.items():
        lines += ["", f"| {TITLES[question]} | CPU µs/request | requests/s | MiB resident |", "|---|---|---|---|"]
        lines += [
            f"| {size:,} | {it['cpu_us']:.1f} | {it['rps']:,.0f} | {it['mib']:.1f} |" for size, it in sizes.items()
        ]
    return "\n".join(lines[1:]) + "\n"


def svg(results: dict) -> str:
    """A row of bars for each question, all on one scale: what grows, shows."""
    most = max(it["cpu_us"] for sizes in results.values() for it in sizes.values())
    parts, top = [], 10
    for question, sizes in results.items():
        parts.append(f'<text x="10" y="{top + 14}" class="title">CPU of a request, µs, {TITLES[question]}</text>')
        top += 24
        for size, it in sizes.items():
            width = it["cpu_us"] / most * 480
            parts.append(f'<text x="112" y="{top + 14}" text-anchor="end">{size:,}</text>')
            parts.append(f'<rect x="120" y="{top}" width="{width:.1f}" height="18" rx="3" class="ours"/>')
            parts.append(f'<text x="{126 + width:.1f}" y="{top + 14}">{it["cpu_us"]:.1f}</text>')
            top += 26
        top += 12
    style = "text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}.ours{fill:#0a7ea4}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {top}" role="img" '
        f'aria-label="How the cost of a request grows"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="surgetank-scale-") as place:
        scale = Scale(options, Path(place))
        results = {question: scale.ask(question) for question in options.only.split(",")}
    text = markdown(results)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "scaling.md").write_text(text + f"\n{platform.platform()}, medians of {options.rounds} rounds\n")
        (options.out / "scaling.svg").write_text(svg(results))
        (options.out / "scaling.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
