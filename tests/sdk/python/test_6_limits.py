"""A user who asks too fast is told so by the proxy, in the words of the vendor."""

import re
import uuid
from typing import Any

import pytest

from call import Client, Seen, make_call
from cases import CALLS

FIRSTS = pytest.mark.parametrize("client", CALLS, ids=str)


def twice(client: Client, **options: Any) -> tuple[Seen, Seen]:
    account, call = uuid.uuid4().hex, CALLS[client][0]
    first, second = (make_call(client, call, "ok", at="limited", account=account, **options) for _ in range(2))
    return first, second


@FIRSTS
def test_the_second_call_is_told_to_wait(client: Client, note) -> None:
    first, second = twice(client, max_retries=0)
    note(client, CALLS[client][0], "own limit, no retries", second)

    assert first.error is None
    assert isinstance(second.error, __import__(client.family).RateLimitError)
    assert int(second.header("retry-after") or 0) >= 1
    assert second.upstream == [], "the upstream is spared"
    kind = second.error.body["error"]["type"] if client.family == "anthropic" else second.error.type
    assert kind == "rate_limit_error"
    assert (first.header("x-surgetank-request-id"), second.header("x-surgetank-request-id")) != (None, None)


@FIRSTS
def test_its_fields_can_be_read(client: Client) -> None:
    _, second = twice(client, max_retries=0)
    assert re.search(r'"[^"]+";r=0', second.header("ratelimit") or "")
    assert re.search(r'"[^"]+";q=\d+', second.header("ratelimit-policy") or "")


@FIRSTS
def test_the_sdk_comes_back_by_itself(client: Client, note) -> None:
    _, second = twice(client)
    note(client, CALLS[client][0], "own limit", second)

    assert second.error is None
    assert [exchange.status for exchange in second.exchanges] == [429, 200]
    assert len(second.upstream) == 1
    # `retry-after` is in whole seconds; every SDK takes the exact `retry-after-ms` before it.
    told = int(second.exchanges[0].headers["retry-after-ms"]) / 1000
    assert 0 < told <= int(second.exchanges[0].headers["retry-after"])
    assert told <= second.seconds < told + 3.0


@FIRSTS
def test_another_user_is_not_touched(client: Client) -> None:
    answers = [make_call(client, CALLS[client][0], "ok", at="limited", max_retries=0) for _ in range(3)]
    assert [answer.error for answer in answers] == [None, None, None]
