"""A fleet that is not there: one process that speaks on Redis as many of our workers would.

    python -m tests.support.simulator URL COUNT [--silent N] [--delay N:SECONDS] [--garbage N] [--twice N]
                              [--wrong-ticket N] [--dies N] [--beat SECONDS] [--events RATE] [--prefix P]

Each node has a connection of its own that listens to control requests, so that the server counts as many
listeners as there are nodes; all of them announce themselves and answer on one more. Nodes are called
`sim0000@fleet` and so on; the manners are dealt out from the end of the fleet, in the order of the options.
It says `ready` when it can be asked, and ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import heapq
import json
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import hiredis
import msgspec

from qcore.brokers.redis.bus_scripts import ANNOUNCE, REPLY
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import Script as Lua
from qcore.errors import Malformed
from qcore.wire import control as wire
from qcore.wire import envelope

MANNERS = ("silent", "delay", "garbage", "twice", "wrong_ticket", "dies")
GARBAGE = b"\x00no message at all"


def node_of(number: int) -> str:
    return f"sim{number:04}@fleet"


class Wire:
    """One connection: whole commands out, whole replies in."""

    def __init__(self, host: str, port: int, db: int) -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        self.ask([("SELECT", str(db))])

    def send(self, commands: list[tuple[Any, ...]]) -> None:
        self.sock.sendall(b"".join(hiredis.pack_command(c) for c in commands))

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The answers to all of these, in one round trip."""
        self.send(commands)
        answers: list[Any] = []
        while len(answers) < len(commands):
            self.reader.feed(self.sock.recv(65_536))
            answers += list(self.said())
        return answers

    def said(self) -> Iterator[Any]:
        while (reply := self.reader.gets()) is not False:
            yield reply

    def heard(self) -> list[Any]:
        """What has come since the last look; the socket is readable."""
        self.reader.feed(self.sock.recv(65_536))
        return list(self.said())


class Fleet:
    """Nodes, their manners, and the two round trips that keep them known."""

    def __init__(self, url: str, count: int, manners: dict[str, int], delay_s: float, prefix: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "127.0.0.1", parts.port or 6379, int(parts.path.strip("/") or 0))
        self.keys = Keys(self._place[2], {"global_keyprefix": prefix})
        self.nodes = [node_of(i) for i in range(count)]
        self.manner: dict[str, str] = {}
        rest = list(self.nodes)
        for name, number in manners.items():
            for _ in range(number):
                self.manner[rest.pop()] = name
        self.delay_s, self.started_at = delay_s, time.time()
        self._mouth = Wire(*self._place)
        self._told: set[Lua] = set()
        self._ears = selectors.DefaultSelector()
        self._read: tuple[bytes, wire.Request | None] = (b"", None)
        self._later: list[tuple[float, str, wire.Request]] = []
        self._answers: list[tuple[Any, ...]] = []
        self.commands = 0

    def enter(self) -> None:
        """Listen with every node, then be known."""
        channel = self.keys.channel(wire.EXCHANGE, "")
        table = self.keys.binding(wire.EXCHANGE)
        binds: list[tuple[Any, ...]] = []
        for node in self.nodes:
            ear = Wire(*self._place)
            ear.ask([("PSUBSCRIBE", channel)])
            ear.sock.setblocking(False)
            self._ears.register(ear.sock, selectors.EVENT_READ, (node, ear))
            binds.append(("SADD", table, self.keys.member("", "", f"{node}.{wire.EXCHANGE}")))
        self._mouth.ask(binds)
        self.announce(30.0)
        self._ears.register(self._mouth.sock, selectors.EVENT_READ, ("", self._mouth))

    def announce(self, ttl_s: float) -> None:
        """A sign of life of every node that has not died."""
        said = []
        for number, node in enumerate(self.nodes):
            if self.manner.get(node) != "dead":
                info = {
                    "pid": 10_000 + number,
                    "host": "fleet",
                    "version": "0",
                    "queues": ["celery"],
                    "pool": "prefork",
                    "concurrency": 4,
                    "started_at": self.started_at,
                    "instance": f"sim-{number}",
                }
                noted = msgspec.json.encode({"ttl_s": ttl_s, "info": info})
                said.append(self._lua(ANNOUNCE, (self.keys.members, self.keys.infos), (node, noted)))
        self._say(said)

    def events(self) -> None:
        """One heartbeat of every node, as workers publish theirs."""
        channel = self.keys.channel("celeryev", "worker.heartbeat")
        said: list[tuple[Any, ...]] = []
        for number, node in enumerate(self.nodes):
            body = {
                "type": "worker-heartbeat",
                "hostname": node,
                "pid": 10_000 + number,
                "timestamp": time.time(),
                "utcoffset": 0,
                "clock": 0,
                "freq": 2.0,
                "active": 0,
                "processed": 0,
                "loadavg": [0, 0, 0],
                "sw_ident": "qcore",
                "sw_ver": "0",
                "sw_sys": "Linux",
            }
            raw = envelope.wrap(
                json.dumps(body).encode(),
                exchange="celeryev",
                routing_key="worker.heartbeat",
                delivery_mode=1,
            )
            said.append(("PUBLISH", channel, raw))
        self._say(said)

    def _lua(self, script: Lua, keys: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """A script: its text the first time, then its digest; one connection says all in order."""
        head = script.head if script in self._told else ("EVAL", script.text)
        self._told.add(script)
        return (*head, len(keys), *keys, *arguments)

    def _say(self, commands: list[tuple[Any, ...]]) -> None:
        if commands:
            self._mouth.send(commands)
            self.commands += len(commands)

    def serve(self, timeout_s: float) -> None:
        """Answer what has been asked, and what was to be answered later."""
        now = time.monotonic()
        if self._later:
            timeout_s = max(0.0, min(timeout_s, self._later[0][0] - now))
        for key, _ in self._ears.select(timeout_s):
            node, ear = key.data
            try:
                said = ear.heard()
            except BlockingIOError:
                continue
            if not node:
                continue
            for one in said:
                if isinstance(one, list) and one[0] == b"pmessage":
                    self._asked(node, one[3])
        while self._later and self._later[0][0] <= time.monotonic():
            _, node, request = heapq.heappop(self._later)
            self._reply(node, request)
        answers, self._answers = self._answers, []
        self._say(answers)

    def _asked(self, node: str, raw: bytes) -> None:
        if raw != self._read[0]:
            try:
                self._read = (raw, wire.decode_request(raw))
            except Malformed:
                self._read = (raw, None)
        request = self._read[1]
        if request is None or request.reply_key is None or not request.is_for(node):
            return
        manner = self.manner.get(node, "")
        if manner == "delay":
            heapq.heappush(self._later, (time.monotonic() + self.delay_s, node, request))
        elif manner == "dies":
            self.manner[node] = "dead"
        elif manner not in ("silent", "dead"):
            self._reply(node, request)
            if manner == "twice":
                self._reply(node, request)

    def _reply(self, node: str, request: wire.Request) -> None:
        manner = self.manner.get(node, "")
        exchange, key = request.reply_exchange or wire.REPLY_EXCHANGE, request.reply_key or ""
        ticket = "somebody else's" if manner == "wrong_ticket" else request.ticket
        raw = wire.encode_reply(
            wire.Reply(node, {"ok": "pong"}, ticket, instance=f"sim-{node}"), exchange, key
        )
        keys = self.keys
        arguments = (exchange, key, keys.sep, keys.prefix, GARBAGE if manner == "garbage" else raw)
        self._answers.append(self._lua(REPLY, (keys.binding(exchange),), arguments))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    for name in MANNERS:
        parser.add_argument(f"--{name.replace('_', '-')}", default="0")
    parser.add_argument("--beat", type=float, default=10.0)
    parser.add_argument("--events", type=float, default=0.0, help="seconds between heartbeats, 0: none")
    parser.add_argument("--prefix", default="")
    given = parser.parse_args()
    delayed, _, delay = str(given.delay).partition(":")
    manners = {name: int(delayed if name == "delay" else getattr(given, name)) for name in MANNERS}
    fleet = Fleet(given.url, given.count, manners, float(delay or 0.1), given.prefix)
    going = True

    def stop(*_: Any) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    fleet.enter()
    print("ready", flush=True)
    next_beat = time.monotonic() + given.beat
    next_event = time.monotonic() + given.events if given.events else float("inf")
    while going:
        now = time.monotonic()
        if now >= next_beat:
            fleet.announce(max(given.beat * 3, 2.0))
            next_beat += given.beat
        if now >= next_event:
            fleet.events()
            next_event += given.events
        fleet.serve(max(0.0, min(next_beat, next_event, now + 0.2) - now))
    print(f"commands {fleet.commands}", flush=True)


if __name__ == "__main__":
    main()
