"""Cut a stream of bytes into the units of its protocol, and say what each one is.

In:  bytes of one direction of one connection, as they come.  Out: (name, bytes) for each whole unit.
Redis: a request is named by its command, a script by `evalsha:<sha>`; a reply by the request it
answers. AMQP: a method frame is named by its method; other frames have no name.
"""

from __future__ import annotations

import struct
from collections import deque

Unit = tuple[str, bytes]


class Plain:
    """No protocol: what comes is a unit."""

    def up(self, data: bytes) -> list[Unit]:
        return [("", data)]

    def down(self, data: bytes) -> list[Unit]:
        return [("", data)]


class Redis:
    """RESP2 with pipelining. After SUBSCRIBE replies come unasked: from then on they have no name."""

    def __init__(self) -> None:
        self._up, self._down = b"", b""
        self._asked: deque[str] = deque()
        self._unasked = False

    def up(self, data: bytes) -> list[Unit]:
        self._up += data
        found: list[Unit] = []
        while (end := resp_end(self._up, 0)) > 0:
            unit, self._up = self._up[:end], self._up[end:]
            name = request_name(unit)
            self._unasked = self._unasked or "subscribe" in name
            self._asked.append(name)
            found.append((name, unit))
        return found

    def down(self, data: bytes) -> list[Unit]:
        if self._unasked:
            data, self._down = self._down + data, b""
            return [("", data)]
        self._down += data
        found: list[Unit] = []
        while (end := resp_end(self._down, 0)) > 0:
            unit, self._down = self._down[:end], self._down[end:]
            found.append((self._asked.popleft() if self._asked else "", unit))
        return found


def resp_end(data: bytes, start: int) -> int:
    """Where the value at `start` ends; 0 while it is not all there."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return 0
    kind, after = data[start : start + 1], line + 2
    if kind == b"$":
        length = int(data[start + 1 : line])
        end = after + length + 2 if length >= 0 else after
        return end if end <= len(data) else 0
    if kind == b"*":
        for _ in range(max(int(data[start + 1 : line]), 0)):
            after = resp_end(data, after)
            if not after:
                return 0
    return after


def request_name(unit: bytes) -> str:
    """The command, in small letters; of a script also its digest."""
    parts = unit.split(b"\r\n", 6)
    if len(parts) < 3:
        return ""
    name = parts[2].decode(errors="replace").lower()
    return f"{name}:{parts[4].decode(errors='replace')}" if name == "evalsha" else name


AMQP_METHODS = {
    (60, 20): "basic.consume",
    (60, 40): "basic.publish",
    (60, 60): "basic.deliver",
    (60, 71): "basic.get_ok",
    (60, 80): "basic.ack",  # upwards an acknowledgement, downwards a confirm
    (60, 90): "basic.reject",
}


class Amqp:
    """AMQP 0-9-1 frames."""

    def __init__(self) -> None:
        self._up, self._down = b"", b""
        self._greeted = False

    def up(self, data: bytes) -> list[Unit]:
        self._up += data
        found: list[Unit] = []
        if not self._greeted:
            if len(self._up) < 8:
                return found
            self._greeted = True
            found.append(("", self._up[:8]))
            self._up = self._up[8:]
        frames, self._up = amqp_frames(self._up)
        return found + frames

    def down(self, data: bytes) -> list[Unit]:
        frames, self._down = amqp_frames(self._down + data)
        return frames


def amqp_frames(data: bytes) -> tuple[list[Unit], bytes]:
    """Whole frames, and what is left over."""
    found: list[Unit] = []
    while len(data) >= 7:
        kind, _, size = struct.unpack_from(">BHI", data)
        if len(data) < size + 8:
            break
        name = ""
        if kind == 1:
            name = AMQP_METHODS.get(struct.unpack_from(">HH", data, 7), "")
        found.append((name, data[: size + 8]))
        data = data[size + 8 :]
    return found, data


PROTOCOLS = {"plain": Plain, "redis": Redis, "amqp": Amqp}
