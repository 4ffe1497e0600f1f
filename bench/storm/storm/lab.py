"""The fake API: `surgetank lab` with a storm's quota and outage."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from .processes import free_port, running
from .storms import BURST, Scale, Storm

WORDS = 30
FIRST_WORD = 0.15  # of an answer's time


class Lab:
    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    async def reset(self) -> None:
        """Begins the play: the outage counts from now, and so do the calls."""
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/_lab/reset") as response:
            response.raise_for_status()

    async def calls(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/_lab/stats") as response:
            return (await response.json())["requests"]


def scenario(storm: Storm, scale: Scale, hints: str) -> dict:
    """What the lab is told. A scenario file is YAML, of which JSON is a part."""
    first, rest = scale.answer * FIRST_WORD, scale.answer * (1 - FIRST_WORD)
    told = {
        "answer": {"words": WORDS, "first_token": _ms(first), "interval": _ms(rest / (WORDS - 1))},
        "quota": {"rate": scale.rate, "burst": BURST, "rejects_cost": storm.rejects_cost, "hints": hints},
    }
    if storm.outage:
        begins, ends = (_ms(scale.real(moment)) for moment in storm.outage)
        told["rules"] = [{"match": {"from": begins, "until": ends}, "fault": "500"}]
    return told


@asynccontextmanager
async def lab(binary: Path, storm: Storm, scale: Scale, hints: str, place: Path) -> AsyncIterator[Lab]:
    file = place / "lab.yaml"
    file.write_text(json.dumps(scenario(storm, scale, hints)))
    port = free_port()
    command = [binary, "lab", "--listen", f"127.0.0.1:{port}", "--scenario", file]
    async with running(command, place / "lab.log", f"http://127.0.0.1:{port}/_lab/stats", within=10):
        yield Lab(port)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}ms"
