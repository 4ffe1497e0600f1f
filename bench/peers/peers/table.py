"""The figures as a table, for people and for the README."""

from statistics import median

COLUMNS = [
    ("plain 32", "cpu_us", "CPU µs/request, 32 conn."),
    ("plain 32", "rps", "requests/s on one core"),
    ("plain 256", "cpu_us", "CPU µs/request, 256 conn."),
    ("tls 32", "cpu_us", "CPU µs/request, TLS upstream"),
    ("latency", "p50", "µs p50 at 200/s"),
    ("latency", "p99", "µs p99 at 200/s"),
    ("streams", "cpu_us", "CPU µs/event"),
    ("streams", "delay_p50", "µs delay of an event"),
    ("streams", "first_p50", "µs to the first event"),
    ("streams", "bunching_p50", "µs bunching"),
    ("memory", "idle_mib", "MiB idle"),
    ("memory", "stream_kib_1000", "KiB/stream at 1,000"),
    ("memory", "stream_kib_5000", "KiB/stream at 5,000"),
    ("memory", "ready_ms", "ms to the first answer"),
]


def middle(results: dict, peer: str, measure: str, figure: str) -> float | None:
    rounds = [it[figure] for it in results.get(peer, {}).get(measure, []) if it.get(figure) is not None]
    return median(rounds) if rounds else None


def span(results: dict, peer: str, measure: str, figure: str) -> str:
    """The median, and the range where there were several rounds."""
    rounds = [it[figure] for it in results.get(peer, {}).get(measure, []) if it.get(figure) is not None]
    if not rounds:
        return "–"
    low, mid, high = (_short(it) for it in (min(rounds), median(rounds), max(rounds)))
    return mid if low == high else f"{mid} ({low}–{high})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def markdown(results: dict) -> str:
    peers = list(results)
    lines = ["| | " + " | ".join(peers) + " |", "|---|" + "---|" * len(peers)]
    for measure, figure, label in COLUMNS:
        lines.append(f"| {label} | " + " | ".join(span(results, peer, measure, figure) for peer in peers) + " |")
    return "\n".join(lines)


# What surgetank promises of itself: its figure at most (or at least) so many times a peer's.
TARGETS = [
    ("plain 32", "cpu_us", "nginx", 1.0),
    ("plain 32", "cpu_us", "haproxy", 0.7),
    ("plain 32", "cpu_us", "envoy", 0.4),
    ("plain 32", "cpu_us", "relay", 2.2),
    ("tls 32", "cpu_us", "nginx-plain", 1.0),
    ("tls 32", "cpu_us", "envoy", 0.45),
    ("plain 32", "rps", "nginx", -1.0),
    ("latency", "p50", "nginx", 1.0),
    ("latency", "p99", "nginx", 1.2),
    ("streams", "cpu_us", "nginx", 1.0),
]
ALONE = [("memory", "stream_kib_5000", 24.0), ("memory", "idle_mib", 12.0), ("memory", "ready_ms", 50.0)]


def verdicts(results: dict) -> list[str]:
    lines = []
    for measure, figure, peer, factor in TARGETS:
        ours, theirs = middle(results, "surgetank", measure, figure), middle(results, peer, measure, figure)
        if not ours or not theirs:
            continue
        ratio = ours / theirs
        good = ratio >= -factor if factor < 0 else ratio <= factor
        bound = f"≥ {-factor:g}" if factor < 0 else f"≤ {factor:g}"
        lines.append(f"{'met   ' if good else 'MISSED'} {measure} {figure}: {ratio:.2f} × {peer} (aim {bound})")
    for measure, figure, most in ALONE:
        ours = middle(results, "surgetank", measure, figure)
        if ours is not None:
            lines.append(f"{'met   ' if ours <= most else 'MISSED'} {measure} {figure}: {ours:.1f} (aim ≤ {most:g})")
    return lines
