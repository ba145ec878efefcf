"""A server that speaks the part of memcached's text protocol that stores of results use.

No memcached is installed with the tests. This one keeps keys, expires them and counts, as the protocol
describes; it is no proof of how a real server behaves under memory pressure.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

RELATIVE_S = 30 * 86400


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while line := self.rfile.readline():
            name, *words = line.decode().split()
            self.wfile.write(self.answer(name, words))

    def answer(self, name: str, words: list[str]) -> bytes:
        keys = self.server.keys
        if name in ("set", "add"):
            value = self.rfile.read(int(words[3]) + 2)[:-2]
            with self.server.lock:
                if name == "add" and self.alive(words[0]):
                    return b"NOT_STORED\r\n"
                expiry = int(words[2])
                until = expiry if expiry > RELATIVE_S else time.time() + expiry
                keys[words[0]] = (value, until if expiry else float("inf"))
            return b"STORED\r\n"
        with self.server.lock:
            if name == "get":
                found = [k for k in words if self.alive(k)]
                lines = [
                    b"VALUE %s 0 %d\r\n%s\r\n" % (k.encode(), len(keys[k][0]), keys[k][0]) for k in found
                ]
                return b"".join(lines) + b"END\r\n"
            if name == "touch":
                return b"TOUCHED\r\n" if self.alive(words[0]) else b"NOT_FOUND\r\n"
            if name == "delete":
                there = self.alive(words[0])
                keys.pop(words[0], None)
                return b"DELETED\r\n" if there else b"NOT_FOUND\r\n"
        return b"ERROR\r\n"

    def alive(self, key: str) -> bool:
        return key in self.server.keys and self.server.keys[key][1] > time.time()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: dict[str, tuple[bytes, float]] = {}
        self.lock = threading.Lock()


@pytest.fixture
def memcached() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def memcached_place(memcached: Server) -> str:
    host, port = memcached.server_address[:2]
    return f"{host!s}:{port}"
