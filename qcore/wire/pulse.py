"""A worker's health file, from which a probe on the same host reads its state.

In:  facts, about every iteration of the worker's loop.  Out: 320 bytes, read without a request to the worker
or the broker. Standard library only: a probe runs every few seconds, and imports are its main cost.
Layout, little-endian: 8 bytes magic; u32 pid; u32 flags; three f64: started (epoch seconds), last iteration
of the loop and last contact with the broker (CLOCK_MONOTONIC, shared by all processes of a host); u32 boot
mark of the process (its start time in /proc, low 32 bits); 4 blank; the node's name in UTF-8, zero-padded.
"""

from __future__ import annotations

import os
import struct
import time
from typing import NamedTuple

from qcore.base import process_facts

MAGIC = b"QPULSE1\0"
LAYOUT = struct.Struct("<8sIIdddI4x264s")
FLAGS_AT, TURN_AT, TALK_AT = 12, 24, 32

READY, AWAY, STOPPING, BUSY = 1, 2, 4, 8
SOLO = 16  # runs tasks in the loop itself, so a long task looks like a stuck loop

#: a loop without an iteration, or an idle one without a claim, for this long is stuck, seconds
STUCK_S = 20.0


class HealthRecord(NamedTuple):
    """The content of the file."""

    node: str
    pid: int
    flags: int
    started_at: float
    turned_ago_s: float
    talked_ago_s: float
    runs: bool  # its process exists

    @property
    def trouble(self) -> str:
        """Why the worker is not alive, '' when it is."""
        if not self.runs:
            return "its process is gone"
        if self.flags & READY and not self.flags & SOLO and self.turned_ago_s > STUCK_S:
            return f"its main loop has been stuck for {self.turned_ago_s:.0f} s"
        if self.flags == READY and self.talked_ago_s > STUCK_S:
            return f"it has not claimed from its broker for {self.talked_ago_s:.0f} s"
        return ""

    @property
    def starting(self) -> str:
        """Why the worker has not started; empty when it has."""
        return self.trouble or ("" if self.flags & READY else "it is still starting")

    @property
    def unready(self) -> str:
        """Why it accepts no tasks, '' when it does."""
        if self.trouble:
            return self.trouble
        if not self.flags & READY:
            return "it is still starting"
        if self.flags & STOPPING:
            return "it is stopping"
        return "its broker is unreachable" if self.flags & AWAY else ""


def folder() -> str:
    """The folder of the health files of this user's workers."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return f"{base}/qctl" if base else f"/tmp/qctl-{os.getuid()}"


def started_mark(pid: int) -> int:
    """When a process started, as a number; tells it from a later one with the same id. 0: not there."""
    start = process_facts.started(pid)
    if start is None:
        return 0
    if start.isdecimal():
        return int(start) & 0xFFFFFFFF
    import zlib  # only where there is no /proc

    return zlib.crc32(start.encode())


def read_all() -> list[HealthRecord]:
    """The health files of this user's workers on this host."""
    found = []
    try:
        if os.stat(folder()).st_uid != os.getuid():  # noqa: PTH116 - as below
            return []  # in /tmp somebody else may have made it before us
        names = sorted(os.listdir(folder()))  # noqa: PTH208 - pathlib takes longer to import than all the rest
    except OSError:
        return []
    for name in names:
        if not name.endswith(".pulse"):
            continue
        try:
            with open(f"{folder()}/{name}", "rb") as file:
                pulse = decode(file.read(LAYOUT.size))
        except (OSError, ValueError):
            continue
        found.append(pulse)
    return found


def decode(raw: bytes) -> HealthRecord:
    """The record in `raw`; raises ValueError when it has another format."""
    if len(raw) != LAYOUT.size:
        raise ValueError("too short for a pulse")
    magic, pid, flags, started, turned, talked, mark, node = LAYOUT.unpack(raw)
    if magic != MAGIC:
        raise ValueError("no pulse")
    now = time.monotonic()
    return HealthRecord(
        node.rstrip(b"\0").decode("utf-8", "replace"),
        pid,
        flags,
        started,
        max(now - turned, 0.0),
        max(now - talked, 0.0),
        started_mark(pid) == mark and mark != 0,
    )


def encode(node: str, pid: int, started_at: float) -> bytes:
    """The record of a worker that is just starting."""
    now = time.monotonic()
    name = node.encode()[:255]
    return LAYOUT.pack(MAGIC, pid, 0, started_at, now, now, started_mark(pid), name)
