"""A way to a Redis server on which some published messages are lost: what a subscriber does not get.

In:  a server's port.  Out: a port of its own; `lost`, the payloads that were dropped.
"""

from __future__ import annotations

import random
import socket
import threading


class Lossy:
    """Passes everything but a share of the messages of channels."""

    def __init__(self, port: int, share: float, seed: int = 1) -> None:
        self._port, self._share, self._chance = port, share, random.Random(seed)
        self.lost: list[bytes] = []
        self.losing = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    @staticmethod
    def _up(client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65_536):
                server.sendall(data)
        except OSError:
            pass
        finally:
            server.close()

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        file = server.makefile("rb")
        try:
            while True:
                raw, value = _reply(file)
                if self._drops(value):
                    self.lost.append(value[-1])
                else:
                    client.sendall(raw)
        except (OSError, EOFError):
            pass
        finally:
            client.close()

    def _drops(self, value: object) -> bool:
        told = isinstance(value, list) and len(value) > 2 and value[0] in (b"message", b"pmessage")
        return told and self.losing and self._chance.random() < self._share

    def close(self) -> None:
        self._listener.close()


def _reply(file: object) -> tuple[bytes, object]:
    """One reply of the protocol: its bytes and its value."""
    line = file.readline()  # type: ignore[attr-defined]
    if not line:
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in (b"$", b"="):
        size = int(rest)
        if size < 0:
            return line, None
        body = file.read(size + 2)  # type: ignore[attr-defined]
        return line + body, body[:-2]
    if kind in (b"*", b">", b"~", b"%"):
        raw, values = line, []
        for _ in range(max(int(rest), 0) * (2 if kind == b"%" else 1)):
            more, value = _reply(file)
            raw += more
            values.append(value)
        return raw, values
    return line, rest
