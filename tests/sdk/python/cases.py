"""The rows: every client times every call times every fault that concerns the call."""

from typing import Any

import pytest

import anthropic_calls
import openai_calls
from call import Call, Client
from table import CASES

CALLS: dict[Client, list[Call]] = {
    client: calls
    for clients, calls in ((openai_calls.CLIENTS, openai_calls.CALLS), (anthropic_calls.CLIENTS, anthropic_calls.CALLS))
    for client in clients
}


def pairs(*, kind: str | None = None, streams: bool | None = None) -> list[tuple[Client, Call]]:
    """Every client with each of its calls, or only with those of a kind."""
    return [
        (client, call)
        for client, calls in CALLS.items()
        for call in calls
        if kind in (None, call.kind) and streams in (None, call.streams)
    ]


def concerns(fault: dict[str, Any], call: Call) -> bool:
    return (
        call.streams == fault.get("streams", call.streams)
        and call.dialect in fault.get("dialects", [call.dialect])
        and call.kind in fault.get("kinds", [call.kind])
    )


def rows(faults: str, **of_calls: Any) -> Any:
    """Parametrises a test with `client`, `call` and `fault`, a row of the named table in cases.json."""
    return pytest.mark.parametrize(
        ("client", "call", "fault"),
        [
            pytest.param(client, call, fault, id=f"{client.name}-{call.name}-{fault['name']}")
            for client, call in pairs(**of_calls)
            for fault in CASES[faults]
            if concerns(fault, call)
        ],
    )


def calls(**of_calls: Any) -> Any:
    """Parametrises a test with `client` and `call`."""
    return pytest.mark.parametrize(
        ("client", "call"),
        [pytest.param(client, call, id=f"{client.name}-{call.name}") for client, call in pairs(**of_calls)],
    )
