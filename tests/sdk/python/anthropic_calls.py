"""What an application does with the anthropic package."""

from typing import Any

import anthropic

from call import Answer, Call, Client, each, opened, plain, settle
from table import CASES, PROMPT, Thing

CLIENTS = [
    Client("anthropic", "anthropic", anthropic.Anthropic, anthropic.DefaultHttpxClient),
    Client("anthropic-async", "anthropic", anthropic.AsyncAnthropic, anthropic.DefaultAsyncHttpxClient, is_async=True),
]

ASKED: Any = {
    "model": CASES["model"]["messages"],
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": PROMPT}],
}


def _message(answer: Answer, message: Any) -> None:
    answer.text = "".join(block.text for block in message.content if block.type == "text")
    answer.id, answer.model, answer.usage = message.id, message.model, plain(message.usage)
    answer.finish, answer.parsed = message.stop_reason, getattr(message, "parsed_output", None)
    details = plain(message).get("stop_details") or {}
    answer.refusal = details.get("explanation") if message.stop_reason == "refusal" else None
    answer.whole = plain(message)


async def _create(client: Any, answer: Answer) -> None:
    _message(answer, await settle(client.messages.create(**ASKED)))


async def _create_stream(client: Any, answer: Answer) -> None:
    async for event in each(await settle(client.messages.create(**ASKED, stream=True))):
        answer.events.append(plain(event))
        if event.type == "message_start":
            answer.id, answer.model = event.message.id, event.message.model
        if event.type == "content_block_delta":
            answer.text += event.delta.text
        if event.type == "message_delta":
            answer.finish, answer.usage = event.delta.stop_reason, plain(event.usage)


async def _stream(client: Any, answer: Answer, **more: Any) -> None:
    async with opened(client.messages.stream(**ASKED, **more)) as stream:
        async for event in each(stream):
            answer.events.append(plain(event))
            if event.type == "text":
                answer.text += event.text
        _message(answer, await settle(stream.get_final_message()))


async def _stream_text(client: Any, answer: Answer) -> None:
    async with opened(client.messages.stream(**ASKED)) as stream:
        async for text in each(stream.text_stream):
            answer.text += text
        _message(answer, await settle(stream.get_final_message()))


async def _stream_object(client: Any, answer: Answer) -> None:
    await _stream(client, answer, output_format=Thing)


async def _parse(client: Any, answer: Answer) -> None:
    _message(answer, await settle(client.messages.parse(**ASKED, output_format=Thing)))


async def _count_tokens(client: Any, answer: Answer) -> None:
    asked = {key: value for key, value in ASKED.items() if key != "max_tokens"}
    answer.whole = plain(await settle(client.messages.count_tokens(**asked)))


async def _models(client: Any, answer: Answer) -> None:
    answer.whole = plain(await settle(client.models.list()))


CALLS = [
    Call("messages.create", "messages", _create),
    Call("messages.create+stream", "messages", _create_stream, streams=True),
    Call("messages.stream", "messages", _stream, streams=True),
    Call("messages.stream.text", "messages", _stream_text, streams=True),
    Call("messages.parse", "messages", _parse, kind="object"),
    Call("messages.stream+schema", "messages", _stream_object, kind="object", streams=True),
    Call("messages.count_tokens", "messages", _count_tokens, kind="data"),
    Call("models.list", "messages", _models, kind="data"),
]
