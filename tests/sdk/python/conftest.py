"""Fixtures: the fake API's record, and the table of what was seen."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from call import STACK, Call, Client, Seen
from lab import Lab


def pytest_configure() -> None:
    if not STACK:
        pytest.exit("these tests need the running binary: start them by tests/sdk/run python [ARGS]", returncode=64)


@pytest.fixture
def lab() -> Lab:
    return Lab(STACK["lab"])


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[Client, Call, str, Seen], None]:
    """Notes what a client saw, for the table that the run leaves behind; also into the report of a failed test."""
    suite = request.module.__name__.removeprefix("test_")

    def write(client: Client, call: Call, fault: str, seen: Seen) -> None:
        played = [upstream.played for upstream in seen.upstream]
        print(f"{client} {call} {fault}: {seen}\nupstream: {played}\nerror: {seen.error!r}\nexchanges: {seen.exchanges}")
        line = {"suite": suite, "client": client.name, "call": call.name, "fault": fault, "seen": str(seen)}
        with Path(os.environ["SDK_SEEN"]).open("a") as file:
            file.write(json.dumps(line) + "\n")

    return write
