"""After all of it: nothing is held, nothing was written down that must not be. Runs behind either suite."""

import re
import time
import urllib.request
from pathlib import Path

import pytest

from call import STACK
from lab import Lab
from table import PROMPT

PROXIES = ["proxy", "spent", "bare", "limited", "hurried", "queued", "queued_down"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_it_is_still_ready(proxy: str) -> None:
    with urllib.request.urlopen(f"{STACK[f'{proxy}_admin']}/readyz", timeout=5) as answer:
        assert answer.status == 200


def test_no_upstream_call_is_left(lab: Lab) -> None:
    deadline = time.monotonic() + 5
    while lab.stats()["live_requests"] and time.monotonic() < deadline:
        time.sleep(0.05)
    stats = lab.stats()
    assert (stats["live_requests"], stats["malformed"], stats["misused"]) == (0, 0, 0)


@pytest.mark.parametrize("proxy", PROXIES)
def test_logs_hold_no_credential_no_prompt_and_no_panic(proxy: str) -> None:
    log = Path(STACK["logs"], f"{proxy}.log").read_text(errors="replace")
    assert log, "nothing was logged at all"
    assert not re.search(r"sk-test-\w+", log)
    assert PROMPT not in log
    assert "panicked" not in log
