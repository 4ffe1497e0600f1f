"""Nothing is wrong: nobody can tell that there is a proxy."""

from call import Call, Client, differences, make_call
from cases import calls
from healthy import answer_to, direct
from table import THING

# What an intermediary must or may change on the way up (RFC 9110, sections 7.6.1 and 7.6.3), and the test's own marks.
OF_THE_HOP = {"host", "connection", "via", "transfer-encoding", "content-length", "x-lab-key", "x-lab-script"}
# What differs from one answer of the fake API to the next, or belongs to the connection.
OF_THE_ANSWER = {"date", "request-id", "x-request-id", "openai-processing-ms", "connection", "transfer-encoding"}


@calls()
def test_the_result_is_the_same(client: Client, call: Call, note) -> None:
    without = direct(client, call)
    seen = make_call(client, call, answer_to(call), account="direct")
    note(client, call, "healthy", seen)

    assert seen.error is None
    assert differences(without.answer.plain(), seen.answer.plain()) == []
    assert (len(seen.exchanges), len(seen.upstream)) == (1, 1)
    assert seen.header("x-surgetank-fallback") is None


@calls(kind="text")
def test_the_call_is_worth_comparing(client: Client, call: Call) -> None:
    answer = direct(client, call).answer
    assert len(answer.text.split()) > 10
    assert answer.finish in ("stop", "completed", "end_turn")
    assert answer.id is not None and answer.model is not None
    assert len(answer.events) > 10 or not call.streams or call.name == "messages.stream.text"


@calls(kind="object")
def test_the_object_is_parsed(client: Client, call: Call) -> None:
    assert direct(client, call).answer.parsed == THING


@calls()
def test_the_upstream_sees_the_same_request(client: Client, call: Call) -> None:
    without = make_call(client, call, answer_to(call), at="lab", account="same").upstream[0]
    behind = make_call(client, call, answer_to(call), account="same").upstream[0]

    assert (behind.target, behind.body) == (without.target, without.body)
    assert travelling(behind.headers, OF_THE_HOP) == travelling(without.headers, OF_THE_HOP)
    assert "surgetank" in (behind.header("via") or "")


@calls()
def test_the_vendors_headers_arrive(client: Client, call: Call) -> None:
    without, seen = direct(client, call).exchanges[0], make_call(client, call, answer_to(call), account="direct").exchanges[0]
    assert seen.status == without.status
    added = {name for name in seen.headers if name.startswith("x-surgetank-")} | {"via", "server-timing"}
    expected = travelling(without.headers.items(), OF_THE_ANSWER)
    assert travelling(seen.headers.items(), OF_THE_ANSWER | added) == expected
    assert seen.headers.get("request-id", seen.headers.get("x-request-id", "")).startswith("req_lab_")


def travelling(headers, left_out: set[str]) -> list[tuple[str, str]]:
    """By name; repeated ones in their order."""
    kept = [(name.lower(), value) for name, value in headers if name.lower() not in left_out]
    return sorted(kept, key=lambda field: field[0])
