"""Who is compared, and how each is configured."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from .callers import KEY, MODEL, Caller, Plain, Sdk, Seed
from .lab import Lab
from .processes import fill, free_port, running
from .storms import BASE, CAP, RETRIES, Scale

COOLDOWN = 30.0  # seconds of the story
FIRST_DELAY, LONGEST_DELAY, JITTER = 0.5, 8.0, 0.75  # LiteLLM's own first and longest wait, and its random part


@dataclass(frozen=True)
class Context:
    """What a contender is started with."""

    upstream: Lab
    scale: Scale
    place: Path  # for its files
    cache: Path  # what `run` has installed
    surgetank: Path
    session: aiohttp.ClientSession


@dataclass(frozen=True)
class Contender:
    name: str
    about: str
    package: str | None = None  # of requirements/
    unscaled: str = ""  # what stays in real time at any speed

    def version(self, cache: Path) -> str:
        if self.package is None:
            return ""
        lines = (cache / self.package / "installed.txt").read_text().splitlines()
        return next(line for line in lines if not line.startswith("#") and "==" in line)


@asynccontextmanager
async def started(contender: Contender, context: Context) -> AsyncIterator[Caller]:
    """Starts a contender afresh and gives a caller that goes through it."""
    match contender.name:
        case "sdk":
            caller = Sdk(context.upstream.url)
            async with caller.client:
                yield caller
        case "seed":
            yield Seed(context.session, context.upstream.url, context.scale)
        case _:
            port = free_port()
            command, ready, within, environment = _proxy(contender.name, context, port)
            log = context.place / f"{contender.name}.log"
            async with running(command, log, f"http://127.0.0.1:{port}{ready}", within, **environment):
                yield Plain(context.session, f"http://127.0.0.1:{port}")


def _proxy(name: str, context: Context, port: int) -> tuple[list[str | Path], str, float, dict[str, str]]:
    """Its command, the path that tells when it is ready, how long that may take, and its environment."""
    real, upstream = context.scale.real, context.upstream
    if name == "surgetank":
        config = fill(
            "surgetank.yaml",
            context.place,
            port=port,
            upstream=upstream.url,
            base_ms=round(real(BASE) * 1e3),
            cap_ms=round(real(CAP) * 1e3),
            patience_ms=round(context.scale.patience * 1e3),
        )
        return [context.surgetank, "run", "--config", config], "/v1/models", 10, {}
    if name == "litellm":
        config = fill(
            "litellm.yaml",
            context.place,
            model=MODEL,
            key=KEY,
            upstream=upstream.url,
            retries=RETRIES,
            cooldown=f"{real(COOLDOWN):g}",
        )
        command = [
            context.cache / "litellm/bin/litellm",
            "--config",
            config,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        environment = {
            "INITIAL_RETRY_DELAY": f"{real(FIRST_DELAY):.3f}",
            "MAX_RETRY_DELAY": f"{real(LONGEST_DELAY):.3f}",
            "JITTER": f"{real(JITTER):.3f}",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": KEY,
            "LITELLM_LOG": "ERROR",
        }
        return command, "/health/liveliness", 180, environment
    patient = name == "envoy-patient"
    config = fill(
        "envoy.yaml",
        context.place,
        port=port,
        upstream_port=upstream.port,
        base=f"{real(BASE):.3f}",
        cap=f"{real(CAP):.3f}",
        patience=f"{context.scale.patience:.3f}",
        retries=10 if patient else RETRIES,
        budget=100 if patient else 20,
    )
    command = [
        context.cache / "envoy/bin/envoy",
        "-c",
        config,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ]
    return command, "/v1/models", 20, {}


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("sdk", "openai-python, 2 retries of its own, no proxy", "callers", unscaled="its backoff"),
        Contender("seed", "each request for itself: 2·2^n s plus 0 to 2 s, 3 retries, no proxy"),
        Contender("envoy", "3 retries, Retry-After obeyed, retry budget 20 %", "envoy"),
        Contender("envoy-patient", "as envoy, with 10 retries and a budget of 100 %", "envoy"),
        Contender("litellm", "3 retries, cooldown after 3 failures", "litellm"),
        Contender("surgetank", "the defaults: 3 retries, the lane", unscaled="the lane's constants"),
    )
}
