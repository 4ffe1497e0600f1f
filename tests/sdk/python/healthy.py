"""Healthy answers, and how they look without a proxy: what every other result is compared with."""

from functools import cache

from call import Answer, Call, Client, Seen, make_call
from lab import saying
from table import THING


def answer_to(call: Call) -> str:
    """The script of a healthy answer to this call: a text, or an object where one was asked for."""
    return saying(THING.model_dump_json()) if call.kind == "object" else "ok"


@cache
def direct(client: Client, call: Call, script: str | None = None) -> Seen:
    """The call without a proxy."""
    seen = make_call(client, call, script or answer_to(call), at="lab", max_retries=0, account="direct")
    assert seen.error is None, f"the fake API and {client} do not understand each other: {seen.error!r}"
    return seen


def healthy(client: Client, call: Call, script: str | None = None) -> Answer:
    return direct(client, call, script).answer
