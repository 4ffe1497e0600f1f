"""What is measured of one peer in one round."""

from .peers import PEERS
from .processes import Process, Rig, Used


def plain(rig: Rig, name: str, process: Process | None, port: int, upstream: int, connections: int, seconds: float, *more):
    """Requests as fast as the answers come: processor time of each, and how many a second."""
    options = ["--connections", connections, "--seconds", seconds, *_headers(name, upstream), *more]
    before = process.used() if process else Used(0, 0)
    seen = rig.run("load", port, *options)
    used = (process.used() if process else Used(0, 0)) - before
    requests = max(seen["requests"], 1)
    return {
        "cpu_us": (used.user + used.system) / requests * 1e6,
        "user_us": used.user / requests * 1e6,
        "system_us": used.system / requests * 1e6,
        "rps": seen["rps"],
        "errors": seen["errors"],
    }


def latency(rig: Rig, name: str, port: int, upstream: int, rate: float, seconds: float) -> dict:
    """Time from request to answer at a fixed rate."""
    options = ["--connections", 16, "--rate", rate, "--seconds", seconds, *_headers(name, upstream)]
    seen = rig.run("load", port, *options)
    return {**seen["latency_us"], "errors": seen["errors"]}


def streams(rig: Rig, process: Process | None, port: int, number: int) -> dict:
    """Live streams: processor time of each event, and what is added to its way."""
    before = process.used() if process else Used(0, 0)
    seen = rig.run("streams", port, "--streams", number)
    used = (process.used() if process else Used(0, 0)) - before
    return {
        "cpu_us": (used.user + used.system) / max(seen["events"], 1) * 1e6,
        "delay_p50": seen["delay_us"]["p50"],
        "delay_p99": seen["delay_us"]["p99"],
        "first_p50": seen["first_us"]["p50"],
        "bunching_p50": seen["bunching_us"]["p50"],
        "bunching_p99": seen["bunching_us"]["p99"],
        "errors": seen["errors"],
    }


def memory(rig: Rig, process: Process, port: int, numbers: list[int]) -> dict:
    """Resident memory when idle and with slow streams."""
    idle = process.resident()
    seen = {"idle_mib": idle / 2**20, "ready_ms": process.ready_after * 1e3}
    for number in numbers:
        with rig.holding(port, number) as held:
            count = max(held["held"], 1)
            seen[f"stream_kib_{number}"] = (process.resident() - idle) / count / 1024
            seen[f"refused_{number}"] = held["refused"]
    return seen


def _headers(name: str, upstream: int) -> list[str]:
    return [word for header in PEERS[name].headers for word in ("--header", header.format(upstream=upstream))]
