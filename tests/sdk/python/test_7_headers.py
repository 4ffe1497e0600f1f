"""What the proxy tells in headers can be read with the SDKs' own means."""

from typing import Any

import pytest

from call import Answer, Call, Client, make_call, settle
from cases import CALLS
from lab import script
from openai_calls import MESSAGES, MODEL


async def _chat(client: Any, answer: Answer) -> None:
    raw = await settle(client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES))
    answer.whole, answer.text = dict(raw.headers), raw.parse().choices[0].message.content


async def _responses(client: Any, answer: Answer) -> None:
    raw = await settle(client.responses.with_raw_response.create(model=MODEL, input="hello"))
    answer.whole, answer.text = dict(raw.headers), raw.parse().output_text


async def _messages(client: Any, answer: Answer) -> None:
    asked: Any = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES}
    raw = await settle(client.messages.with_raw_response.create(**asked))
    answer.whole, answer.text = dict(raw.headers), (await settle(raw.parse())).content[0].text


RAW = {
    "openai": [Call("chat.with_raw_response", "chat", _chat), Call("responses.with_raw_response", "responses", _responses)],
    "anthropic": [Call("messages.with_raw_response", "messages", _messages)],
}
EACH = pytest.mark.parametrize(
    ("client", "call"), [pytest.param(c, call, id=f"{c}-{call}") for c in CALLS for call in RAW[c.family]]
)


@EACH
@pytest.mark.parametrize(
    ("faults", "attempts", "substituted"),
    [("ok", "1", None), (script("503", "500", "ok"), "3", None), ("503*", "4", "reply")],
    ids=["healthy", "third-try", "exhausted"],
)
def test_what_happened_can_be_read(
    client: Client, call: Call, faults: str, attempts: str, substituted: str | None, note
) -> None:
    seen = make_call(client, call, faults)
    note(client, call, faults, seen)

    assert seen.error is None and seen.answer.text
    headers = seen.answer.whole
    assert headers["x-surgetank-request-id"]
    assert headers["x-surgetank-upstream"] == client.family
    assert headers["x-surgetank-attempts"] == attempts
    assert headers.get("x-surgetank-fallback") == substituted
    assert (int(headers.get("x-surgetank-waited-ms", "0")) >= 20) == (attempts != "1")
    assert headers["server-timing"]


@EACH
def test_request_ids_differ(client: Client, call: Call) -> None:
    ids = {make_call(client, call, "ok").answer.whole["x-surgetank-request-id"] for _ in range(3)}
    assert len(ids) == 3
