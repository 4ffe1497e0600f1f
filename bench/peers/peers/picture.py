"""The two figures that matter, as a picture."""

from .table import middle

WIDTH, ROW, LABEL = 720, 26, 130
PANELS = [
    ("plain 32", "cpu_us", "CPU of a request, µs"),
    ("streams", "cpu_us", "CPU of a streamed event, µs"),
    ("memory", "stream_kib_5000", "Memory of a live stream, KiB"),
]


def svg(results: dict) -> str:
    parts, top = [], 10
    for measure, figure, title in PANELS:
        values = {peer: middle(results, peer, measure, figure) for peer in results if peer not in ("direct",)}
        values = {peer: value for peer, value in values.items() if value}
        if not values:
            continue
        # Gateways in other classes would make every other bar a dot: the axis ends at six times the median bar.
        most = min(max(values.values()), 6 * sorted(values.values())[len(values) // 2])
        parts.append(f'<text x="10" y="{top + 14}" class="title">{title}</text>')
        top += 24
        for peer, value in values.items():
            width = min(value / most, 1.0) * (WIDTH - LABEL - 90)
            kind = "ours" if peer == "surgetank" else "theirs"
            parts.append(f'<text x="{LABEL - 8}" y="{top + 14}" text-anchor="end">{peer}</text>')
            parts.append(f'<rect x="{LABEL}" y="{top}" width="{width:.1f}" height="18" rx="3" class="{kind}"/>')
            parts.append(f'<text x="{LABEL + width + 6:.1f}" y="{top + 14}">{value:,.1f}</text>')
            top += ROW
        top += 12
    style = (
        "text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}"
        ".ours{fill:#0a7ea4}.theirs{fill:#afb8c1}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="The cost of surgetank beside other proxies"><style>{style}</style>{"".join(parts)}</svg>\n'
    )
