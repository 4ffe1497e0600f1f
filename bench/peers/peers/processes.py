"""Starting servers on free ports of this machine, what they use, and ending them again."""

import json
import os
import socket
import string
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "configs"
TICKS = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = 0, (os.cpu_count() or 1) - 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(name: str, place: Path, **values: object) -> Path:
    """Writes a configuration with its values filled in, into a folder of its own: surgetank watches that of its file, and
    a log that grows in the same folder would be an event a line."""
    text = string.Template((CONFIGS / name).read_text()).substitute(place=place, **values)
    target = place / "config" / name
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    return target


@dataclass(frozen=True)
class Used:
    """Processor seconds."""

    user: float
    system: float

    def __sub__(self, other: "Used") -> "Used":
        return Used(self.user - other.user, self.system - other.system)


class Process:
    """A server and its children."""

    def __init__(self, command: list, place: Path, name: str, cores: set[int], **environment: str) -> None:
        self.log = place / f"{name}.log"
        self.began = time.monotonic()
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | environment,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def family(self) -> list[int]:
        found, todo = [], [self.popen.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += map(int, task.read_text().split())
        return found

    def used(self) -> Used:
        user = system = 0
        for pid in self.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return Used(user / TICKS, system / TICKS)

    def resident(self) -> int:
        """Bytes that are in memory and its own: what a child shares with its parent counts once."""
        total = 0
        for pid in self.family():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def until_ready(self, port: int, within: float, path: str = "/v1/models", any_status: bool = False) -> float:
        """Seconds from its start to its first answer."""
        request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode()
        while time.monotonic() - self.began < within:
            if self.popen.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
                    probe.sendall(request)
                    answer = probe.recv(12)
                    if answer[9:12] == b"200" or (any_status and answer.startswith(b"HTTP/")):
                        return time.monotonic() - self.began
            except OSError:
                pass
            time.sleep(0.001)
        words = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.popen.args[0]} did not answer within {within:.0f} s; its last words:\n{words}")

    def end(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class Rig:
    """Both ends of the measurement."""

    def __init__(self, binary: Path, place: Path) -> None:
        self.binary, self.place = binary, place

    @contextmanager
    def upstream(self, *options: object):
        port = free_port()
        command = [self.binary, "upstream", "--listen", f"127.0.0.1:{port}", *options]
        process = Process(command, self.place, "upstream", {LOAD_CORE})
        try:
            for _ in range(500):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.01)
            yield port
        finally:
            process.end()

    def run(self, kind: str, port: int, *options: object) -> dict:
        command = ["taskset", "-c", LOAD_CORE, self.binary, kind, "--to", f"127.0.0.1:{port}", *options]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout)

    @contextmanager
    def holding(self, port: int, streams: int):
        command = ["taskset", "-c", str(LOAD_CORE), self.binary, "hold", "--to", f"127.0.0.1:{port}"]
        command += ["--streams", str(streams)]
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)
