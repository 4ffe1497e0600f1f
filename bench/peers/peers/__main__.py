"""`bench/peers/run`: see its README."""

import argparse
import json
import platform
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from . import measures, picture, table
from .peers import PEERS, Context, start, version
from .processes import Rig

SLOW_EVENTS = ("--events", 600, "--pause", 1000)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__)
    parser.add_argument("--without", default="", help="peers to leave out, by commas; `slow` for all that need minutes")
    parser.add_argument("--only", default="", help="only these peers, by commas")
    parser.add_argument("--measures", default="plain,tls,latency,streams,memory", help="only these, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round of load")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--held", default="1000,5000", help="live streams for the memory figures")
    parser.add_argument("--out", type=Path, help="directory for results.json, results.md and results.svg")
    parser.add_argument("--packages", action="store_true", help="print what must be installed, and end")
    parser.add_argument("--rig", type=Path)
    parser.add_argument("--surgetank", type=Path)
    parser.add_argument("--cache", type=Path)
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[str]:
    only, without = set(filter(None, options.only.split(","))), set(options.without.split(","))
    unknown = (only | without) - set(PEERS) - {"", "slow"}
    if unknown:
        sys.exit(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return [
        peer.name
        for peer in PEERS.values()
        if (not only or peer.name in only)
        and peer.name not in without
        and not (peer.slow and "slow" in without)
    ]


def main() -> None:
    options = arguments()
    peers = chosen(options)
    if options.packages:
        print(" ".join(sorted({name.removesuffix("-plain") for name in peers} - {"direct", "relay", "surgetank"})))
        return
    with tempfile.TemporaryDirectory(prefix="surgetank-peers-") as place:
        results = Bench(options, peers, Path(place)).run()
    report(options, peers, results)


class Bench:
    """One run: peers take turns within a round, so that all meet the same machine."""

    def __init__(self, options: argparse.Namespace, peers: list[str], place: Path) -> None:
        self.options, self.peers, self.place = options, peers, place
        self.rig = Rig(options.rig, place)
        self.results: dict = {peer: {} for peer in peers}
        self.wanted = set(options.measures.split(","))

    def run(self) -> dict:
        if self.wanted & {"plain", "latency", "streams"}:
            self.compare()
        if "tls" in self.wanted:
            self.encrypted()
        if "memory" in self.wanted:
            self.memory()
        return self.results

    def context(self, upstream: int, cert: Path | None = None) -> Context:
        options = self.options
        return Context(options.rig, options.surgetank, options.cache, self.place, upstream, cert)

    def note(self, peer: str, measure: str, seen: dict) -> None:
        self.results[peer].setdefault(measure, []).append(seen)
        if seen.get("errors"):
            print(f"  {peer}: {seen['errors']} errors in `{measure}`: its figures do not count", file=sys.stderr)
        print(f"  {measure:<10} {peer:<12} " + "  ".join(f"{k}={v:,.1f}" for k, v in seen.items()), file=sys.stderr)

    def compare(self) -> None:
        seconds = self.options.seconds
        with self.rig.upstream() as upstream, ExitStack() as running:
            started = {}
            for peer in self.peers:
                if peer == "direct":
                    started[peer] = (None, upstream)
                    continue
                started[peer] = start(peer, self.context(upstream))
                running.callback(started[peer][0].end)
            for number in range(self.options.rounds):
                print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr)
                for peer, (process, port) in started.items():
                    if "plain" in self.wanted:
                        for connections in (32, 256):
                            seen = measures.plain(self.rig, peer, process, port, upstream, connections, seconds)
                            self.note(peer, f"plain {connections}", seen)
                    if "latency" in self.wanted:
                        self.note(peer, "latency", measures.latency(self.rig, peer, port, upstream, 200, seconds))
                    if "streams" in self.wanted and not PEERS[peer].slow:
                        self.note(peer, "streams", measures.streams(self.rig, process, port, self.options.streams))

    def encrypted(self) -> None:
        cert, key = self.options.cache / "cert.pem", self.options.cache / "key.pem"
        with self.rig.upstream("--cert", cert, "--key", key) as upstream, ExitStack() as running:
            started = {}
            for peer in self.peers:
                if peer in ("surgetank", "nginx", "nginx-plain", "haproxy", "envoy"):
                    started[peer] = start(peer, self.context(upstream, cert))
                    running.callback(started[peer][0].end)
            for _ in range(self.options.rounds):
                for peer, (process, port) in started.items():
                    seen = measures.plain(self.rig, peer, process, port, upstream, 32, self.options.seconds)
                    self.note(peer, "tls 32", seen)

    def memory(self) -> None:
        numbers = [int(it) for it in self.options.held.split(",") if it]
        with self.rig.upstream(*SLOW_EVENTS) as upstream:
            for peer in self.peers:
                if peer == "direct":
                    continue
                process, port = start(peer, self.context(upstream))
                try:
                    held = [] if PEERS[peer].slow else numbers
                    self.note(peer, "memory", measures.memory(self.rig, process, port, held))
                finally:
                    process.end()


def report(options: argparse.Namespace, peers: list[str], results: dict) -> None:
    context = Context(options.rig, options.surgetank, options.cache, Path(), 0)
    versions = {peer: version(peer, context) for peer in peers}
    left_out = [peer for peer in PEERS if peer not in peers]
    text = table.markdown(results) + "\n\n"
    text += "\n".join(f"- {peer} {versions[peer]}: {PEERS[peer].about}".replace(" :", ":") for peer in peers) + "\n"
    if left_out:
        text += f"- left out of this run: {', '.join(left_out)}\n"
    text += f"- surgetank's binary: {options.surgetank.stat().st_size / 2**20:.1f} MiB\n"
    text += f"- {platform.platform()}, medians of {options.rounds} rounds with their range\n"
    print(text)
    print("\n".join(table.verdicts(results)))
    direct, fastest = (table.middle(results, it, "plain 32", "rps") for it in ("direct", "relay"))
    if direct and fastest and direct < 1.2 * fastest:
        print("the load generator or the fake API was nearly the bottleneck: requests a second are not to be trusted")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(text)
        (options.out / "results.svg").write_text(picture.svg(results))
        data = {"versions": versions, "machine": platform.platform(), "results": results}
        (options.out / "results.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
