"""Who is compared, and how each is started."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .processes import PROXY_CORE, Process, fill, free_port

TLS_ENVOY = """
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
"""


@dataclass(frozen=True)
class Context:
    rig: Path
    surgetank: Path
    cache: Path
    place: Path
    upstream: int
    cert: Path | None = None
    workers: int = 1
    routes: int = 1


@dataclass(frozen=True)
class Peer:
    name: str
    about: str
    slow: bool = False  # needs minutes to install, and its own figures are far away
    headers: tuple[str, ...] = ()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("direct", "no proxy"),
        Peer("relay", "copies bytes and knows no HTTP: the floor"),
        Peer("surgetank", "all default duties, and a limit for each user"),
        Peer("nginx", "limit, retry, access log, unbuffered"),
        Peer("nginx-plain", "passes on, unbuffered, and nothing else"),
        Peer("haproxy", "limit, retry, log, counters"),
        Peer("envoy", "limit, retry, access log, counters"),
        Peer("litellm", "retry; one worker", slow=True),
        Peer(
            "portkey",
            "passes on",
            slow=True,
            headers=("x-portkey-provider: openai", "x-portkey-custom-host: http://127.0.0.1:{upstream}/v1"),
        ),
    )
}


def start(name: str, context: Context) -> tuple[Process, int]:
    """Starts a peer afresh; its process and the port that it listens on, once it has answered."""
    place = context.place / name
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    values = {
        "port": port,
        "admin": free_port(),
        "upstream": context.upstream,
        "host": "localhost" if context.cert else "127.0.0.1",
        "scheme": "https" if context.cert else "http",
    }
    environment, within, anything = {}, 20.0, False
    match name:
        case "relay":
            command = [context.rig, "relay", "--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{context.upstream}"]
        case "surgetank":
            values |= {"workers": context.workers, **other_routes(context.routes - 1, values)}
            config = fill("surgetank.yaml", place, **values)
            command = [context.surgetank, "run", "--config", config]
            if context.cert:
                environment["SSL_CERT_FILE"] = str(context.cert)
        case "nginx" | "nginx-plain":
            command = ["nginx", "-p", place, "-c", fill(f"{name}.conf", place, **values)]
        case "haproxy":
            values["tls"] = "ssl verify none" if context.cert else ""
            command = ["haproxy", "-f", fill("haproxy.cfg", place, **values)]
        case "envoy":
            values["tls"] = TLS_ENVOY if context.cert else ""
            command = [context.cache / "envoy/bin/envoy", "-c", fill("envoy.yaml", place, **values)]
            command += ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        case "litellm":
            config = fill("litellm.yaml", place, **values)
            command = [context.cache / "litellm/bin/litellm", "--config", config, "--host", "127.0.0.1"]
            command += ["--port", str(port), "--num_workers", "1"]
            environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
            within, anything = 180.0, True
        case "portkey":
            command = ["node", context.cache / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"]
            command += [f"--port={port}", "--headless"]
            within, anything = 60.0, True
        case _:
            raise ValueError(name)
    cores = {PROXY_CORE} if context.workers == 1 else set(range(context.workers))
    process = Process(command, place, name, cores, **environment)
    process.ready_after = process.until_ready(port, within, any_status=anything)
    return process, port


def other_routes(number: int, values: dict) -> dict[str, str]:
    """Routes that are looked at before the one that is taken, each to an upstream of its own."""
    url = "{scheme}://{host}:{upstream}".format(**values)
    return {
        "other_upstreams": "".join(f'  other{it}: {{ base_url: "{url}" }}\n' for it in range(number)),
        "other_routes": "".join(f"  - {{ match: {{ path: /other{it} }}, upstream: other{it} }}\n" for it in range(number)),
    }


def version(name: str, context: Context) -> str:
    """What it says of itself."""
    command = {
        "surgetank": [context.surgetank, "--version"],
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "envoy": [context.cache / "envoy/bin/envoy", "--version"],
        "litellm": [context.cache / "litellm/bin/pip", "show", "litellm"],
    }.get(name.removesuffix("-plain"))
    if command is None:
        return ""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found.group() if found else "unknown"
