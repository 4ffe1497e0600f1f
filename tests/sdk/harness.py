"""Starts the fake API and the proxies, runs the suites against them, and ends what it started.

The suites find the addresses in SDK_STACK, a JSON object, and append what each client saw to the file SDK_SEEN, of
which `.cache/sdk/seen.md` is made: the answers of all clients to all faults, as tables.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import seen

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "sdk"
SEEN = CACHE / "seen.jsonl"
BINARY = os.environ["SURGETANK_BIN"]

# Name in SDK_STACK, and the configuration that stands for it. `spent` is for what uses up all retries, so that nothing
# that a proxy learns from it reaches the other rows.
PROXIES = {
    "proxy": "surgetank.yaml",
    "spent": "surgetank.yaml",
    "bare": "surgetank.bare.yaml",
    "limited": "surgetank.limits.yaml",
    "hurried": "surgetank.hurried.yaml",
    # The second is for what never succeeds: its breaker must not hold the first one's up.
    "queued": "surgetank.queue.yaml",
    "queued_down": "surgetank.queue.yaml",
}

READY_WITHIN = 15.0
STOPPED_WITHIN = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(stack: ExitStack, log: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Starts the binary with its output in a log of its own; it ends with `stack`."""
    output = stack.enter_context(log.open("wb"))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SURGETANK_")}
    process = subprocess.Popen(
        [BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=inherited | environment
    )
    stack.callback(stop, log.stem, process)
    return process


def stop(name: str, process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        print(f"tests/sdk: {name} did not end within {STOPPED_WITHIN:.0f} s of SIGTERM; it is killed", flush=True)
        process.kill()
        process.wait()


def until(ready: Callable[[], bool], log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")
            ended = f"ended with {process.returncode}" if process.returncode is not None else "is not ready"
            sys.exit(f"tests/sdk: {log.stem} {ended}; it said:\n{said[-4000:]}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def healthy(admin: str) -> bool:
    asked = [BINARY, "health", "--admin", admin]
    return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def start_all(stack: ExitStack, logs: Path) -> dict[str, str]:
    lab = f"127.0.0.1:{free_port()}"
    log = logs / "lab.log"
    process = start(stack, log, "lab", "--listen", lab)
    until(partial(answers, f"http://{lab}/_lab/stats"), log, process)

    addresses = {"lab": f"http://{lab}"}
    for left_over in logs.glob("*.db*"):
        left_over.unlink()
    shared = {"LAB_URL": addresses["lab"], "LAB_KEY": "sk-test-configured"}
    for name, config in PROXIES.items():
        listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        flags = ("--config", str(HERE / config), "--listen", listen, "--admin", admin)
        log = logs / f"{name}.log"
        process = start(stack, log, "run", *flags, SURGETANK_LOG="debug", QUEUE_FILE=str(logs / f"{name}.db"), **shared)
        until(partial(healthy, admin), log, process)
        addresses |= {name: f"http://{listen}", f"{name}_admin": f"http://{admin}"}
    return addresses


def suites(arguments: list[str]) -> dict[str, list[str]]:
    match arguments:
        case []:
            return {"node": node([]), "python": python([])}
        case ["node", *rest]:
            return {"node": node(rest)}
        case ["python", *rest]:
            return {"python": python(rest)}
    sys.exit("usage: tests/sdk/run [python [PYTEST-ARGUMENTS] | node [NODE-TEST-ARGUMENTS]]")


def node(arguments: list[str]) -> list[str]:
    reporter = ("--test-reporter", str(HERE / "node" / "reporter.mjs"))
    files = sorted(str(file) for file in (HERE / "node").glob("*.test.mjs"))
    # One process for all files: the clients are loaded once.
    return ["node", "--test", "--test-isolation=none", *reporter, *arguments, *files]


def python(arguments: list[str]) -> list[str]:
    # Most rows wait for a backoff, so more of them run at once than there are processors.
    return pytest(str(HERE / "python"), "--numprocesses=4", *arguments)


def pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--rootdir", str(HERE / "python"), "-p", "no:cacheprovider", *arguments]


def run(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, check=False).returncode == 0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    SEEN.parent.mkdir(parents=True, exist_ok=True)
    SEEN.write_text("")
    passed = []
    for name, command in suites(sys.argv[1:]).items():
        # A stack of its own for each language: a proxy keeps 1,024 lanes, and each row has one of its own.
        logs = CACHE / "logs" / name
        logs.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            addresses = start_all(stack, logs)
            print("tests/sdk:", ", ".join(f"{name} {url}" for name, url in addresses.items()))
            print(f"tests/sdk: what each client sees will be told in {SEEN.with_suffix('.md')}", flush=True)
            told = {"SDK_STACK": json.dumps(addresses | {"logs": str(logs)}), "SDK_SEEN": str(SEEN)}
            environment = os.environ | told | {"PYTHONDONTWRITEBYTECODE": "1"}
            passed.append(run(command, environment))
            seen.write(SEEN, SEEN.with_suffix(".md"))
            passed.append(run(pytest("-q", str(HERE / "python" / "after_all.py")), environment))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
