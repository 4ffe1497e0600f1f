"""Starts the fake API and the proxies, runs the suites against them, and ends what it started.

The suites find the addresses in SDK_STACK, a JSON object, and append what each client saw to the file SDK_SEEN.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "sdk"
LOGS = CACHE / "logs"
BINARY = os.environ["SURGETANK_BIN"]

# Name in SDK_STACK, and the configuration that stands for it.
PROXIES = {"proxy": "surgetank.yaml", "bare": "surgetank.bare.yaml", "limited": "surgetank.limits.yaml"}

READY_WITHIN = 15.0
STOPPED_WITHIN = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(stack: ExitStack, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
    """Starts the binary with its output in a log of its own; it ends with `stack`."""
    log = stack.enter_context(open(LOGS / f"{name}.log", "wb"))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SURGETANK_")}
    process = subprocess.Popen(
        [BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=inherited | environment
    )
    stack.callback(stop, name, process)
    return process


def stop(name: str, process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        print(f"tests/sdk: {name} did not end within {STOPPED_WITHIN:.0f} s of SIGTERM; it is killed", flush=True)
        process.kill()
        process.wait()


def until(ready, name: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (LOGS / f"{name}.log").read_text(errors="replace")
            ended = f"ended with {process.returncode}" if process.returncode is not None else "is not ready"
            sys.exit(f"tests/sdk: {name} {ended}; it said:\n{log[-4000:]}")
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


def start_all(stack: ExitStack) -> dict[str, str]:
    lab = f"127.0.0.1:{free_port()}"
    process = start(stack, "lab", "lab", "--listen", lab)
    until(lambda: answers(f"http://{lab}/_lab/stats"), "lab", process)

    addresses = {"lab": f"http://{lab}"}
    for name, config in PROXIES.items():
        listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        flags = ("--config", str(HERE / config), "--listen", listen, "--admin", admin)
        process = start(stack, name, "run", *flags, LAB_URL=addresses["lab"], SURGETANK_LOG="debug")
        until(lambda: healthy(admin), name, process)
        addresses |= {name: f"http://{listen}", f"{name}_admin": f"http://{admin}"}
    return addresses


def suites(arguments: list[str]) -> list[list[str]]:
    """The commands to run: Python last, because its last test looks at what all of them left behind."""
    match arguments:
        case []:
            return [node([]), python([])]
        case ["node", *rest]:
            return [node(rest)]
        case ["python", *rest]:
            return [python(rest)]
    sys.exit("usage: tests/sdk/run [python [PYTEST-ARGUMENTS] | node [NODE-TEST-ARGUMENTS]]")


def node(arguments: list[str]) -> list[str]:
    reporter = ("--test-reporter", str(HERE / "node" / "reporter.mjs"))
    files = sorted(str(file) for file in (HERE / "node").glob("*.test.mjs"))
    # One process for all files: the clients are loaded once.
    return ["node", "--test", "--test-isolation=none", *reporter, *arguments, *files]


def python(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "--rootdir", str(HERE / "python"), str(HERE / "python"), *arguments]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    commands = suites(sys.argv[1:])
    LOGS.mkdir(parents=True, exist_ok=True)
    seen = CACHE / "seen.jsonl"
    seen.unlink(missing_ok=True)
    with ExitStack() as stack:
        addresses = start_all(stack)
        print("tests/sdk:", ", ".join(f"{name} {url}" for name, url in addresses.items()), flush=True)
        environment = os.environ | {
            "SDK_STACK": json.dumps(addresses | {"logs": str(LOGS)}),
            "SDK_SEEN": str(seen),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        failed = [command for command in commands if subprocess.run(command, env=environment, check=False).returncode]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
