"""Starting servers on free ports of this machine, and ending them again."""

import asyncio
import os
import socket
import string
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

CONFIGS = Path(__file__).parent.parent / "contenders"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(name: str, place: Path, **values: object) -> Path:
    """Writes a contender's configuration with its values filled in."""
    text = string.Template((CONFIGS / name).read_text()).substitute(values)
    target = place / name
    target.write_text(text)
    return target


@asynccontextmanager
async def running(
    command: list[str | Path], log: Path, ready: str, within: float, **environment: str
) -> AsyncIterator[None]:
    """Runs a server from the moment `ready`, an address, answers until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=output,
            stderr=output,
            env=os.environ | environment,
        )
        try:
            await _until_ready(process, ready, within, log)
            yield
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _until_ready(process: subprocess.Popen, ready: str, within: float, log: Path) -> None:
    deadline = time.monotonic() + within
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                async with session.get(ready, timeout=aiohttp.ClientTimeout(total=2)) as response:
                    if response.status < 500:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{process.args[0]} did not answer at {ready} within {within:.0f} s; its words are in {log}")
