"""A TCP proxy that does what networks do, on command.

In:  `python -m tests.faults.proxy PORT PROTOCOL`, then one JSON object a line on standard input.
Out: one JSON object a line: {"port": …} first, then an answer to each command.

    {"do": "reset"}                                 every connection ends at once, with a RST
    {"do": "hole", "way": "both", "s": 2}           nothing passes for that long; null: until cleared
    {"do": "hole", "at": {"way": "down", "name": …}}   the same, from the next unit of that name on; it is
            the first that does not pass
    {"do": "latency", "way": "down", "ms": 50}      what passes is late
    {"do": "limit", "way": "down", "bytes": 100}    each connection is reset after so many bytes
    {"do": "cut", "way": "down", "name": …, "every": n, "times": m}
            the n-th, 2n-th … unit of that name is not passed on and its connection is reset:
            downwards the server has acted and its client does not know, upwards it was never asked
    {"do": "clear"}     no toxics any more           {"do": "stats"}    what was counted
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.faults.wires import PROTOCOLS
from tests.support.processes import ROOT

BOTH = ("up", "down")


class Pair:
    """One connection of a client, and ours to the server for it."""

    def __init__(
        self,
        server: Server,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._server = server
        self._readers = {"up": client[0], "down": upstream[0]}
        self._writers = {"up": upstream[1], "down": client[1]}
        self._wire = PROTOCOLS[server.protocol]()
        self._passed = Counter[str]()

    async def run(self) -> None:
        tasks = [asyncio.create_task(self._pump(way)) for way in BOTH]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self.close()

    async def _pump(self, way: str) -> None:
        reader, writer, server = self._readers[way], self._writers[way], self._server
        try:
            while data := await reader.read(65536):
                await server.delay(way)
                for name, unit in getattr(self._wire, way)(data):
                    if server.is_hole(way, name):
                        await server.delay(way)
                    if server.is_cut(way, name):
                        await writer.drain()
                        self.reset()
                        return
                    writer.write(unit)
                    self._passed[way] += len(unit)
                    if self._passed[way] > server.limits.get(way, 1 << 60):
                        self.reset()
                        return
                await writer.drain()
        except OSError:
            return

    def reset(self) -> None:
        """A RST to the client; a plain end to the server, after all that was passed on."""
        sock = self._writers["down"].get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writers["down"].transport.abort()
        self.close()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class Server:
    """The proxy's own process."""

    def __init__(self, port: int, protocol: str) -> None:
        self.target, self.protocol = port, protocol
        self.pairs: set[Pair] = set()
        self.counts = Counter[str]()
        self.clear()

    def clear(self) -> None:
        self.limits: dict[str, int] = {}
        self.late_s = dict.fromkeys(BOTH, 0.0)
        self.cuts: list[dict[str, Any]] = []
        self.holes: list[dict[str, Any]] = []
        for opened in getattr(self, "open", {}).values():
            opened.set()
        self.open = {way: asyncio.Event() for way in BOTH}
        for opened in self.open.values():
            opened.set()

    async def delay(self, way: str) -> None:
        await self.open[way].wait()
        if self.late_s[way]:
            await asyncio.sleep(self.late_s[way])

    def is_cut(self, way: str, name: str) -> bool:
        if name:
            self.counts[f"{way} {name}"] += 1
        for cut in self.cuts:
            if cut["way"] == way and cut["name"] == name and cut["times"] > 0:
                cut["seen"] = cut.get("seen", 0) + 1
                if cut["seen"] % cut["every"] == 0:
                    cut["times"] -= 1
                    self.counts["cut"] += 1
                    return True
        return False

    def is_hole(self, way: str, name: str) -> bool:
        """Whether a hole begins with this unit."""
        for hole in self.holes:
            if hole["at"] == {"way": way, "name": name}:
                self.holes.remove(hole)
                self.counts["hole"] += 1
                self.dig(BOTH, hole["s"])
                return True
        return False

    def dig(self, ways: tuple[str, ...], seconds: float | None) -> None:
        for one in ways:
            self.open[one].clear()
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, self.open[one].set)

    async def serve(self) -> None:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        _say({"port": listener.sockets[0].getsockname()[1]})
        stdin = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
        )
        while line := await stdin.readline():
            _say(self.obey(json.loads(line)))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        for one in (writer, upstream[1]):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(self, (reader, writer), upstream)
        self.pairs.add(pair)
        try:
            await pair.run()
        finally:
            self.pairs.discard(pair)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        what, way = command["do"], command.get("way", "both")
        ways = BOTH if way == "both" else (way,)
        if what == "reset":
            for pair in list(self.pairs):
                pair.reset()
        elif what == "hole":
            if command.get("at"):
                self.holes.append(command)
            else:
                self.dig(ways, command["s"])
        elif what == "latency":
            self.late_s.update(dict.fromkeys(ways, command["ms"] / 1000))
        elif what == "limit":
            self.limits.update(dict.fromkeys(ways, command["bytes"]))
        elif what == "cut":
            self.cuts.append(command)
        elif what == "clear":
            self.clear()
        return {"counts": dict(self.counts), "open": len(self.pairs)}


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


class Proxy:
    """The test's side: starts the process and gives it commands."""

    def __init__(self, url: str, protocol: str = "plain") -> None:
        parts = urlsplit(url)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy", str(parts.port), protocol],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = int(self._answer()["port"])
        self.url = url.replace(f":{parts.port}", f":{self.port}", 1)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the proxy has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def tell(self, do: str, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def reset(self) -> None:
        self.tell("reset")

    def hole(self, seconds: float | None, way: str = "both") -> None:
        self.tell("hole", s=seconds, way=way)

    def hole_at(self, way: str, name: str) -> None:
        """A hole, until cleared, from the next unit of that name on."""
        self.tell("hole", s=None, at={"way": way, "name": name})

    def latency(self, ms: float, way: str = "both") -> None:
        self.tell("latency", ms=ms, way=way)

    def limit(self, count: int, way: str = "both") -> None:
        self.tell("limit", bytes=count, way=way)

    def cut(self, way: str, name: str, every: int, times: int) -> None:
        self.tell("cut", way=way, name=name, every=every, times=times)

    def clear(self) -> None:
        self.tell("clear")

    def counts(self) -> Counter[str]:
        return Counter(self.tell("stats")["counts"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def proxied(url: str, protocol: str = "plain") -> Iterator[Proxy]:
    """A proxy in front of the server of `url`, gone at the end."""
    proxy = Proxy(url, protocol)
    try:
        yield proxy
    finally:
        proxy.close()


if __name__ == "__main__":
    asyncio.run(Server(int(sys.argv[1]), sys.argv[2]).serve())
