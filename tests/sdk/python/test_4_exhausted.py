"""Every try fails: the application gets an answer all the same, or one proper error."""

from typing import Any

import pytest

from call import Answer, Call, Client, Seen, make_call, settle
from cases import CALLS, calls, rows
from lab import forever
from openai_calls import MESSAGES, MODEL
from table import CASES, PROMPT, REPLY, TRIES

FINISHED = {"chat": "stop", "responses": "completed", "messages": "end_turn"}
PREFIX = {"chat": "chatcmpl-", "responses": "resp_", "messages": "msg_"}


@rows("exhausted", kind="text")
def test_the_reply_is_an_answer_like_any_other(client: Client, call: Call, fault: dict, note) -> None:
    seen = make_call(client, call, forever(fault["fault"]), at="spent")
    note(client, call, fault["name"], seen)

    assert seen.error is None
    answer = seen.answer
    assert (answer.text, answer.finish) == (REPLY, FINISHED[call.dialect])
    assert answer.model == CASES["model"][call.dialect]
    assert answer.id is not None and answer.id.startswith(PREFIX[call.dialect])
    assert answer.refusal is None
    assert tokens(answer.usage) in (None, 0)
    spent_once(seen)
    assert seen.header("x-surgetank-fallback") == "reply"


@rows("exhausted", kind="object")
def test_structured_output_gets_a_refusal(client: Client, call: Call, fault: dict, note) -> None:
    seen = make_call(client, call, forever(fault["fault"]), at="spent")
    note(client, call, fault["name"], seen)

    assert seen.error is None
    answer = seen.answer
    assert (answer.parsed, answer.text, answer.refusal) == (None, "", REPLY)
    assert answer.finish == ("refusal" if call.dialect == "messages" else FINISHED[call.dialect])
    spent_once(seen)
    assert seen.header("x-surgetank-fallback") == "reply"


@rows("exhausted", kind="data")
def test_what_has_no_reply_fails_properly(client: Client, call: Call, fault: dict, note) -> None:
    seen = make_call(client, call, forever(fault["fault"]), at="spent")
    note(client, call, fault["name"], seen)

    sdk = __import__(client.family)
    expected = sdk.RateLimitError if fault["name"] == "429" else sdk.InternalServerError
    assert isinstance(seen.error, expected)
    spent_once(seen)
    assert seen.header("x-should-retry") == "false"
    assert seen.header("x-surgetank-fallback") is None


@calls(kind="text")
def test_ids_are_unique(client: Client, call: Call) -> None:
    ids = {make_call(client, call, "503*", at="spent").answer.id for _ in range(2)}
    assert len(ids) == 2


async def _forced_tool_chat(client: Any, answer: Answer) -> None:
    tool: Any = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
    choice: Any = {"type": "function", "function": {"name": "lookup"}}
    asked = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[tool], tool_choice=choice)
    message = (await settle(asked)).choices[0].message
    answer.text, answer.refusal, answer.parsed = message.content or "", message.refusal, message.tool_calls


async def _forced_tool_responses(client: Any, answer: Answer) -> None:
    tool: Any = {"type": "function", "name": "lookup", "parameters": {"type": "object", "properties": {}}, "strict": False}
    choice: Any = {"type": "function", "name": "lookup"}
    response = await settle(client.responses.create(model=MODEL, input=PROMPT, tools=[tool], tool_choice=choice))
    parts = [part for item in response.output for part in item.content]
    answer.text, answer.refusal = response.output_text, parts[0].refusal


async def _forced_tool_messages(client: Any, answer: Answer) -> None:
    tool: Any = {"name": "lookup", "input_schema": {"type": "object", "properties": {}}}
    asked: Any = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES, "tools": [tool]}
    message = await settle(client.messages.create(**asked, tool_choice={"type": "tool", "name": "lookup"}))
    answer.text = "".join(block.text for block in message.content if block.type == "text")
    answer.refusal = message.to_dict()["stop_details"]["explanation"] if message.stop_reason == "refusal" else None


FORCED = {
    "openai": [
        Call("chat.create+forced-tool", "chat", _forced_tool_chat, kind="object"),
        Call("responses.create+forced-tool", "responses", _forced_tool_responses, kind="object"),
    ],
    "anthropic": [Call("messages.create+forced-tool", "messages", _forced_tool_messages, kind="object")],
}


@pytest.mark.parametrize(
    ("client", "call"), [pytest.param(c, call, id=f"{c}-{call}") for c in CALLS for call in FORCED[c.family]]
)
def test_a_forced_tool_gets_a_refusal(client: Client, call: Call, note) -> None:
    seen = make_call(client, call, "503*", at="spent")
    note(client, call, "503", seen)

    assert seen.error is None
    assert (seen.answer.text, seen.answer.refusal, seen.answer.parsed) == ("", REPLY, None)
    spent_once(seen)


async def _continued(client: Any, answer: Answer) -> None:
    await settle(client.responses.create(model=MODEL, input=PROMPT, previous_response_id="resp_1"))


async def _continued_stream(client: Any, answer: Answer) -> None:
    stream = await settle(client.responses.create(model=MODEL, input=PROMPT, previous_response_id="resp_1", stream=True))
    await settle(stream.close())


@pytest.mark.parametrize("client", [c for c in CALLS if c.family == "openai"], ids=str)
@pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])
def test_a_continued_conversation_gets_an_error(client: Client, streams: bool, note) -> None:
    # A made-up id in the chain would break the conversation for good; an error can be tried again.
    call = Call("responses.create+previous", "responses", _continued_stream if streams else _continued, streams=streams)
    seen = make_call(client, call, "503*", at="spent")
    note(client, call, "503", seen)

    assert type(seen.error).__name__ == "InternalServerError"
    spent_once(seen)
    assert seen.header("x-should-retry") == "false"


WAYS: dict[str, Any] = {
    "header": {"at": "spent", "headers": {"x-surgetank-fallback": "none"}},
    "configuration": {"at": "bare"},
}


@pytest.mark.parametrize("way", WAYS)
@rows("exhausted")
def test_without_a_reply_the_original_error_arrives(client: Client, call: Call, fault: dict, way: str, note) -> None:
    seen = make_call(client, call, forever(fault["fault"]), **WAYS[way])
    note(client, call, f"{fault['name']}, no fallback by {way}", seen)

    assert seen.error is not None
    spent_once(seen)
    assert seen.header("x-surgetank-fallback") is None
    assert not any(name.startswith("x-surgetank") for upstream in seen.upstream for name, _ in upstream.headers)
    if fault["name"] == "error-first":
        return  # A 200 all the way: what the SDK makes of the vendor's own error event is the SDK's.
    assert seen.header("x-should-retry") == "false"
    if fault["name"] == "reset":
        assert isinstance(seen.error, __import__(client.family).InternalServerError)
        return  # There was no answer to pass on; this one is the proxy's.
    without = make_call(client, call, forever(fault["fault"]), at="lab", max_retries=0)
    assert (type(seen.error), str(seen.error).partition("req_lab")[0]) == (
        type(without.error),
        str(without.error).partition("req_lab")[0],
    )


def spent_once(seen: Seen) -> None:
    """The proxy's tries and no others."""
    # A pooled connection that breaks before the first byte is replaced at once, and that try is not counted: most
    # likely the upstream had closed it before it saw the request.
    free = seen.upstream[0].played == "reset" and len(seen.upstream) > TRIES
    assert len(seen.upstream) == TRIES + free
    assert len(seen.exchanges) == 1
    assert seen.header("x-surgetank-attempts") == str(len(seen.upstream))
    assert {upstream.header("x-stainless-retry-count") for upstream in seen.upstream} == {"0"}


def tokens(usage: Any) -> int | None:
    """All tokens of a usage object together."""
    if usage is None:
        return None
    return sum(value for value in usage.values() if isinstance(value, int))
