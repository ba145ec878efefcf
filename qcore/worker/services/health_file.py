"""The health file of a worker: every iteration of the loop writes its time to a mapped file (wire/pulse.py).

A probe reads the file alone: it needs no broker, no import of the app and no reply of the worker. The same
iteration reports to systemd, if that started the worker (base/service_manager.py).
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import struct
import time
import zlib
from pathlib import Path

from qcore.base.private_files import create
from qcore.base.service_manager import ServiceManager
from qcore.wire import pulse as wire
from qcore.worker.services.base import ShutdownStage

log = logging.getLogger("qcore.worker")

_turn = struct.Struct("<d")
_flags = struct.Struct("<I")
_looked_at: float | None = None  # for the files of killed workers, in monotonic seconds


class HealthFile:
    """A service. If the file cannot be written, the worker runs without one."""

    def __init__(self, node: str, solo: bool) -> None:
        self._node, self._kind = node, wire.SOLO if solo else 0
        self._page: mmap.mmap | None = None
        self._path = Path(wire.folder()) / f"{zlib.crc32(node.encode()):08x}-{os.getpid()}.pulse"
        self._said = 0
        self.manager = ServiceManager()

    def start(self) -> None:
        if self._kind == wire.SOLO and self.manager.every_s != math.inf:
            log.warning(
                "the watchdog of systemd ends this worker when a task runs for %g s: the solo pool runs "
                "tasks in the loop that reports to it; remove WatchdogSec= or use another pool",
                self.manager.every_s * 2,
            )
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.stat().st_uid != os.getuid():
                return  # the directory belongs to another user
            self._forget_the_dead()
            file = create(self._path, os.O_RDWR)
            os.write(file, wire.encode(self._node, os.getpid(), time.time()))
            self._page = mmap.mmap(file, wire.LAYOUT.size)
            os.close(file)
        except OSError:
            self._page = None

    def beat(self, stage: ShutdownStage, away: bool, idle: bool, talked_at: float) -> None:
        """Record an iteration of the loop. away: the broker or the result store is unavailable; talked_at:
        the last successful exchange with the broker, in monotonic seconds."""
        self._report(stage, away)
        if self._page is None:
            return
        flags = wire.READY | self._kind
        if stage > ShutdownStage.RUNNING:
            flags |= wire.STOPPING
        if away:
            flags |= wire.AWAY
        if not idle:
            flags |= wire.BUSY
        _turn.pack_into(self._page, wire.TURN_AT, time.monotonic())
        _turn.pack_into(self._page, wire.TALK_AT, talked_at)
        if flags != self._said:
            _flags.pack_into(self._page, wire.FLAGS_AT, flags)
            self._said = flags

    def _report(self, stage: ShutdownStage, away: bool) -> None:
        if stage > ShutdownStage.RUNNING:
            cold = stage >= ShutdownStage.COLD
            self.manager.stopping("running tasks are returned" if cold else "running tasks finish")
        else:
            self.manager.ready("the broker or the result store is unavailable" if away else "ready for tasks")
        self.manager.alive()

    def trouble(self, probe: str) -> str:
        """What is wrong for a probe: live, ready or startup; empty if nothing is."""
        if self._page is None:
            return "there is no health file"
        found = wire.decode(self._page[:])
        return found.unready if probe == "ready" else found.starting if probe == "startup" else found.trouble

    def stop(self) -> None:
        if self._page is not None:
            self._page.close()
            self._page = None
            self._path.unlink(missing_ok=True)

    def _forget_the_dead(self) -> None:
        """Remove the files of killed workers; many workers of one process look once a minute."""
        global _looked_at
        now = time.monotonic()
        if _looked_at is not None and now < _looked_at + 60.0:
            return
        _looked_at = now
        for path in self._path.parent.glob("*.pulse"):
            try:
                gone = not wire.decode(path.read_bytes()).runs
            except ValueError:
                gone = True
            if gone:
                path.unlink(missing_ok=True)
