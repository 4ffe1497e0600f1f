"""The crowd. All but the SDK's callers are naive: one request, and whatever comes back is shown."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import aiohttp
import openai

from .measures import Ending, Got, quantile
from .storms import BASE, CAP, RETRIES, Call, Scale

MODEL = "gpt-storm"
KEY = "sk-storm-which-is-no-secret-7f3a9c51e8"
MESSAGES = [{"role": "user", "content": "Where is my order?"}]
REPLY = "x-surgetank-fallback"
RETRIED = {408, 409, 429, 500, 502, 503, 504}


class Caller(Protocol):
    """Makes one call; returns what came of it and, for an error, which."""

    async def __call__(self, call: Call) -> tuple[Got, str]: ...


def body(call: Call) -> dict:
    return {"model": MODEL, "messages": MESSAGES, "user": call.user, "stream": call.streams}


class Plain:
    """One request by a plain HTTP client."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session, self._url = session, f"{base_url}/v1/chat/completions"

    async def __call__(self, call: Call) -> tuple[Got, str]:
        return (await self.attempt(call))[:2]

    async def attempt(self, call: Call) -> tuple[Got, str, bool]:
        """Also tells whether another try could mend it."""
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            async with self._session.post(self._url, json=body(call), headers=headers) as response:
                text = await response.text()
        except (aiohttp.ClientError, OSError) as error:
            return Got.ERROR, type(error).__name__, True
        if response.status != 200:
            return Got.ERROR, str(response.status), response.status in RETRIED
        if not _is_whole(text, call.streams):
            return Got.ERROR, "200, broken", False
        return (Got.REPLY if _is_reply(response.headers, text) else Got.ANSWER), "", False


def _is_whole(text: str, streams: bool) -> bool:
    if streams:
        return "data: [DONE]" in text and '"error"' not in text
    try:
        return bool(json.loads(text)["choices"])
    except (ValueError, KeyError, TypeError):
        return False


def _is_reply(headers: Mapping[str, str], text: str) -> bool:
    """Whether surgetank wrote it: said in the head, or in a comment where the stream had begun before that was known."""
    return REPLY in headers or any(line.startswith(":") and f"{REPLY}:" in line for line in text.splitlines())


class Seed(Plain):
    """Backoff and jitter for each request on its own: 2 s · 2^n plus a random 0 to 2 s, three retries, no lane."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, scale: Scale) -> None:
        super().__init__(session, base_url)
        self._scale = scale

    async def __call__(self, call: Call) -> tuple[Got, str]:
        for retry in range(RETRIES + 1):
            got, detail, mendable = await self.attempt(call)
            if not mendable or retry == RETRIES:
                break
            wait = min(CAP, BASE * 2**retry) + random.uniform(0, BASE)
            await asyncio.sleep(self._scale.real(wait))
        return got, detail


class Sdk:
    """The official client with its defaults: two retries, its own backoff, hints obeyed."""

    def __init__(self, base_url: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=KEY)

    async def __call__(self, call: Call) -> tuple[Got, str]:
        create = self.client.chat.completions.create
        try:
            answer = await create(model=MODEL, messages=MESSAGES, user=call.user, stream=call.streams)
            if not call.streams:
                return (Got.ANSWER, "") if answer.choices else (Got.ERROR, "200, broken")
            finished = [c.finish_reason async for chunk in answer for c in chunk.choices]
            return (Got.ANSWER, "") if any(finished) else (Got.ERROR, "200, broken")
        except openai.APIStatusError as error:
            return Got.ERROR, str(error.status_code)
        except openai.APIError as error:
            return Got.ERROR, type(error).__name__


async def send(
    calls: list[Call], caller: Caller, scale: Scale, start: Callable[[], Awaitable[None]]
) -> tuple[list[Ending], float]:
    """Sends the crowd and waits until everybody has something.

    Also tells how late this program's own clock ran (p99, in seconds).
    """
    lags: list[float] = []
    watch = asyncio.create_task(_watch(lags))
    await start()
    began = time.monotonic()

    async def one(call: Call) -> Ending:
        await asyncio.sleep(began + call.at - time.monotonic())
        called = time.monotonic()
        try:
            got, detail = await asyncio.wait_for(caller(call), scale.caller_timeout)
        except TimeoutError:
            got, detail = Got.TIMEOUT, "nothing in time"
        return Ending(call.user, got, time.monotonic() - called, detail)

    endings = await asyncio.gather(*map(one, calls))
    watch.cancel()
    return list(endings), quantile(lags, 0.99)


async def _watch(lags: list[float]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.02)
        lags.append(time.monotonic() - before - 0.02)
