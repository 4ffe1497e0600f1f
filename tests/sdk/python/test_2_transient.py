"""One upstream call fails and the next is well: the application does not notice."""

import pytest

from call import Call, Client, differences, make_call
from cases import CALLS, rows
from healthy import answer_to, healthy
from lab import script


@rows("transient")
def test_the_caller_sees_nothing(client: Client, call: Call, fault: dict, note) -> None:
    seen = make_call(client, call, script(fault["fault"], answer_to(call)))
    note(client, call, fault["name"], seen)

    assert seen.error is None
    assert differences(healthy(client, call).plain(), seen.answer.plain()) == []
    assert [upstream.played for upstream in seen.upstream] == [fault["fault"].partition(";")[0], "ok"]
    assert len(seen.exchanges) == 1, "the SDK had to retry"
    assert seen.header("x-surgetank-attempts") == "2"
    first, second = seen.upstream
    assert (first.target, first.body, first.headers) == (second.target, second.body, second.headers)
    assert first.header("x-stainless-retry-count") == "0"


@pytest.mark.parametrize("client", CALLS, ids=str)
def test_retry_after_is_obeyed(client: Client, note) -> None:
    call = CALLS[client][0]
    seen = make_call(client, call, script("429;retry-after=1", answer_to(call)))
    note(client, call, "429, retry-after: 1", seen)

    assert seen.error is None
    assert 1.0 <= seen.seconds < 3.0
    assert (len(seen.exchanges), len(seen.upstream)) == (1, 2)
    assert int(seen.header("x-surgetank-waited-ms") or 0) >= 1000
