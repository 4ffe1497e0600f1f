"""What an application does with the openai package."""

from typing import Any

import openai

from call import Answer, Call, Client, each, opened, plain, settle
from table import CASES, PROMPT, Thing

CLIENTS = [
    Client("openai", "openai", openai.OpenAI, openai.DefaultHttpxClient, path="/v1"),
    Client("openai-async", "openai", openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient, path="/v1", is_async=True),
]

MODEL: str = CASES["model"]["chat"]
MESSAGES: Any = [{"role": "user", "content": PROMPT}]


# === Chat Completions ===


def _completion(answer: Answer, completion: Any) -> None:
    choice = completion.choices[0]
    answer.text, answer.finish = choice.message.content or "", choice.finish_reason
    answer.id, answer.model, answer.usage = completion.id, completion.model, plain(completion.usage)
    answer.refusal, answer.parsed = choice.message.refusal, getattr(choice.message, "parsed", None)
    answer.whole = plain(completion)


async def _chat_create(client: Any, answer: Answer) -> None:
    _completion(answer, await settle(client.chat.completions.create(model=MODEL, messages=MESSAGES)))


async def _chat_create_stream(client: Any, answer: Answer, **more: Any) -> None:
    stream = await settle(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **more))
    async for chunk in each(stream):
        answer.events.append(plain(chunk))
        answer.id, answer.model, answer.usage = chunk.id, chunk.model, plain(chunk.usage)
        for choice in chunk.choices:
            answer.text += choice.delta.content or ""
            answer.finish = choice.finish_reason or answer.finish


async def _chat_create_stream_usage(client: Any, answer: Answer) -> None:
    await _chat_create_stream(client, answer, stream_options={"include_usage": True})


async def _chat_stream(client: Any, answer: Answer, **more: Any) -> None:
    async with opened(client.chat.completions.stream(model=MODEL, messages=MESSAGES, **more)) as stream:
        async for event in each(stream):
            answer.events.append(plain(event))
            if event.type == "content.delta":
                answer.text += event.delta
        _completion(answer, await settle(stream.get_final_completion()))


async def _chat_stream_object(client: Any, answer: Answer) -> None:
    await _chat_stream(client, answer, response_format=Thing)


async def _chat_parse(client: Any, answer: Answer) -> None:
    parsing = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Thing)
    _completion(answer, await settle(parsing))


# === Responses ===


def _response(answer: Answer, response: Any) -> None:
    answer.text, answer.finish = response.output_text, response.status
    answer.id, answer.model, answer.usage = response.id, response.model, plain(response.usage)
    answer.parsed = getattr(response, "output_parsed", None)
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    answer.refusal = next((part.refusal for part in parts if part.type == "refusal"), None)
    answer.whole = plain(response)


async def _responses_create(client: Any, answer: Answer) -> None:
    _response(answer, await settle(client.responses.create(model=MODEL, input=PROMPT)))


async def _responses_create_stream(client: Any, answer: Answer) -> None:
    stream = await settle(client.responses.create(model=MODEL, input=PROMPT, stream=True))
    async for event in each(stream):
        answer.events.append(plain(event))
        if event.type == "response.output_text.delta":
            answer.text += event.delta
        if event.type == "response.completed":
            _response(answer, event.response)


async def _responses_stream(client: Any, answer: Answer, **more: Any) -> None:
    async with opened(client.responses.stream(model=MODEL, input=PROMPT, **more)) as stream:
        async for event in each(stream):
            answer.events.append(plain(event))
            if event.type == "response.output_text.delta":
                answer.text += event.delta
        _response(answer, await settle(stream.get_final_response()))


async def _responses_stream_object(client: Any, answer: Answer) -> None:
    await _responses_stream(client, answer, text_format=Thing)


async def _responses_parse(client: Any, answer: Answer) -> None:
    _response(answer, await settle(client.responses.parse(model=MODEL, input=PROMPT, text_format=Thing)))


# === Without text ===


async def _embeddings(client: Any, answer: Answer) -> None:
    answer.whole = plain(await settle(client.embeddings.create(model=MODEL, input=["one", "two"])))


async def _models(client: Any, answer: Answer) -> None:
    answer.whole = plain(await settle(client.models.list()))


CALLS = [
    Call("chat.create", "chat", _chat_create),
    Call("chat.create+stream", "chat", _chat_create_stream, streams=True),
    Call("chat.create+stream+usage", "chat", _chat_create_stream_usage, streams=True),
    Call("chat.stream", "chat", _chat_stream, streams=True),
    Call("chat.parse", "chat", _chat_parse, kind="object"),
    Call("chat.stream+schema", "chat", _chat_stream_object, kind="object", streams=True),
    Call("responses.create", "responses", _responses_create),
    Call("responses.create+stream", "responses", _responses_create_stream, streams=True),
    Call("responses.stream", "responses", _responses_stream, streams=True),
    Call("responses.parse", "responses", _responses_parse, kind="object"),
    Call("responses.stream+schema", "responses", _responses_stream_object, kind="object", streams=True),
    Call("embeddings.create", "chat", _embeddings, kind="data"),
    Call("models.list", "chat", _models, kind="data"),
]
