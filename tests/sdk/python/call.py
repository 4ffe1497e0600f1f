"""One call of one client: made as an application makes it, observed on both sides of the proxy."""

import asyncio
import inspect
import itertools
import json
import os
import re
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lab import Lab, UpstreamCall

# Making one takes longer than most of these calls, and each call has a client of its own.
_NO_TLS = ssl.create_default_context()

STACK: dict[str, str] = json.loads(os.environ.get("SDK_STACK") or "{}")


@dataclass
class Answer:
    """What the application holds in its hands. A broken stream leaves what had arrived until then."""

    text: str = ""
    finish: str | None = None
    id: str | None = None
    model: str | None = None
    usage: Any = None
    parsed: Any = None
    refusal: str | None = None
    events: list[Any] = field(default_factory=list)
    """Of a stream: each as the SDK gave it out."""
    whole: Any = None
    """The final object as the SDK gave it out."""

    def plain(self) -> dict[str, Any]:
        """As data that can be compared with another call's."""
        return {name: plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Call:
    """A way of asking: a method of an SDK with its arguments."""

    name: str
    dialect: str
    run: Callable[[Any, Answer], Awaitable[None]]
    kind: str = "text"
    """text, object (structured output), or data (no text at all: embeddings, models, token counts)."""
    streams: bool = False

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Client:
    """An SDK in one of its flavours."""

    name: str
    family: str
    """The module: openai or anthropic."""
    make: Callable[..., Any]
    make_http: Callable[..., Any]
    path: str = ""
    """What the SDK's base URL has behind the address."""
    is_async: bool = False

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Exchange:
    """One HTTP exchange of the SDK with whatever stands at its base URL."""

    status: int | None
    """None where no response head came."""
    headers: dict[str, str]


@dataclass
class Seen:
    """What came of a call."""

    answer: Answer
    error: Exception | None
    exchanges: list[Exchange]
    upstream: list[UpstreamCall]
    seconds: float

    def header(self, name: str) -> str | None:
        """A header of the last response."""
        return self.exchanges[-1].headers.get(name)

    def __str__(self) -> str:
        """One cell of the table: what the application saw, its SDK's calls and the upstream's."""
        if self.error is not None:
            status = getattr(self.error, "status_code", None)
            what = type(self.error).__name__ + (f" {status}" if status else "")
        elif self.header("x-surgetank-fallback"):
            what = "refusal" if self.answer.refusal else "reply"
        else:
            what = "answer"
        return f"{what} {len(self.exchanges)}→{len(self.upstream)}"


def make_call(
    client: Client,
    call: Call,
    script: str,
    *,
    at: str = "proxy",
    account: str | None = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Seen:
    """Lets `client` make `call` at one of the addresses, while its upstream calls meet `script`.

    Every call has a credential of its own unless an `account` is given: what the proxy learns about one credential's
    quota must not reach the next row. Rows from which it learns nothing share one, because it keeps 1,024 of them.
    """
    key = uuid.uuid4().hex[:16]
    own = {"x-lab-key": key, "x-lab-script": script}
    watch = _Watch()
    answer = Answer()

    async def made() -> Exception | None:
        sdk = client.make(
            api_key=f"sk-test-{account or key}",
            base_url=STACK[at] + client.path,
            default_headers=own | (headers or {}),
            http_client=client.make_http(event_hooks=watch.hooks(client), verify=_NO_TLS),
            **options,
        )
        try:
            await call.run(sdk, answer)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is observed
            return error
        finally:
            await settle(sdk.close())
        return None

    began = time.monotonic()
    error = asyncio.run(made())
    seconds = time.monotonic() - began
    return Seen(answer, error, watch.exchanges(), Lab(STACK["lab"]).calls(key), seconds)


class _Watch:
    """Counts the SDK's own HTTP requests, and keeps the response heads."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.heads: dict[int, Exchange] = {}

    def hooks(self, client: Client) -> dict[str, list[Any]]:
        def request(request: Any) -> None:
            self.requests.append(request)

        def response(response: Any) -> None:
            self.heads[id(response.request)] = Exchange(response.status_code, dict(response.headers))

        async def async_request(message: Any) -> None:
            request(message)

        async def async_response(message: Any) -> None:
            response(message)

        if client.is_async:
            return {"request": [async_request], "response": [async_response]}
        return {"request": [request], "response": [response]}

    def exchanges(self) -> list[Exchange]:
        return [self.heads.get(id(request), Exchange(None, {})) for request in self.requests]


# === Sync and async clients with one and the same code ===


async def settle(value: Any) -> Any:
    """The value itself, or what it promises."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    """The items of either kind of stream."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


@asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    """Either kind of context manager."""
    if hasattr(manager, "__aenter__"):
        async with manager as inside:
            yield inside
    else:
        with manager as inside:
            yield inside


# === Comparing ===

_SERIAL = re.compile(r"(lab[_-])\d{6}\b")


def plain(value: Any) -> Any:
    """A result of an SDK as data, without what differs from one call to the next: serial numbers and creation times."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {key: 0 if key in ("created", "created_at") else plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return _SERIAL.sub(r"\1######", value)
    return value


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two results differ, for a message that can be read."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return list(itertools.chain(*(differences(one.get(k, "absent"), other.get(k, "absent"), f"{path}.{k}") for k in keys)))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return list(itertools.chain(*(differences(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other)))))
    return [] if one == other else [f"{path or 'value'}: {one!r} became {other!r}"]
