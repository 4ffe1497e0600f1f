"""The fake API as the tests command it: scripts go in by header, what it saw comes out of `/_lab/requests`."""

import json
import urllib.request
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class UpstreamCall:
    """One request as the fake API received it."""

    target: str
    headers: list[tuple[str, str]]
    body: str | None
    """The body's SHA-256."""
    played: str
    outcome: str

    def header(self, name: str) -> str | None:
        return next((value for field, value in self.headers if field.lower() == name), None)


class Lab:
    def __init__(self, url: str) -> None:
        self.url = url

    def calls(self, key: str) -> list[UpstreamCall]:
        """What arrived with this `x-lab-key`, oldest first."""
        return [
            UpstreamCall(
                target=request["target"],
                headers=[(name, value) for name, value in request["headers"]],
                body=request["body_sha256"],
                played=request["played"],
                outcome=request["outcome"],
            )
            for request in self._get(f"/_lab/requests?key={key}")["requests"]
        ]

    def stats(self) -> dict:
        return self._get("/_lab/stats")

    def _get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)


def script(*faults: str) -> str:
    return ",".join(faults)


def forever(fault: str) -> str:
    """The fault on this and every later call: `503;retry-after=1` becomes `503*;retry-after=1`."""
    name, separator, parameters = fault.partition(";")
    return f"{name}*{separator}{parameters}"


def saying(text: str) -> str:
    """A healthy answer with this text."""
    return f"ok;text={quote(text, safe='')}"
