"""A child of the prefork pool, and the slot of shared memory through which it is observed.

In:  frames of jobs on a socket.  Out: one frame for each outcome, sent at once.
The slot records which job runs since when, so that `inspect active`, time limits and crash reports
need no message; and which range of jobs the parent took back.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import msgspec

from qcore.app.sources import load_modules
from qcore.base.crashpoints import crashpoint
from qcore.errors import SoftTimeLimitExceeded
from qcore.execution.run import RunContext, run
from qcore.execution.soft_limits import alarm_limit
from qcore.pools.prefork.child_stacks import tell_when_asked
from qcore.pools.prefork.slot import NOT_YET, Slot
from qcore.signals import worker_process_shutdown
from qcore.tasks.request import current_request
from qcore.wire.outcome import RECV_BYTES, Frames, pack_outcome, unpack_jobs

#: an empty frame: the child takes jobs now
READY = b"\0\0\0\0"

log = logging.getLogger("qcore.worker")


def _take_soft_signals(slot: Slot) -> None:
    """SIGUSR1 raises SoftTimeLimitExceeded in the task that runs, and does nothing when none does."""

    def on_signal(signum: int, frame: FrameType | None) -> None:
        seq, since = slot.current()
        if current_request() is not None:
            raise SoftTimeLimitExceeded()
        if since:  # it is entered as running, and has not come as far as the task's code
            threading.Timer(0.01, again, (seq,)).start()

    def again(seq: int) -> None:
        if slot.current()[0] == seq:
            os.kill(os.getpid(), signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, on_signal)


def serve(
    sock: socket.socket,
    slot: Slot,
    tools: RunContext,
    before_run: Callable[[], None] | None,
    stack_w: int,
) -> None:
    """Run jobs until the parent closes the socket. stack_w: the pipe through which it tells its stack."""
    _take_soft_signals(slot)
    tell_when_asked(stack_w)
    if before_run is not None:
        before_run()
    if slot.seen() == NOT_YET:
        slot.begin()
        sock.sendall(READY)
    crashpoint("child_born")
    frames = Frames()
    limits = tools._replace(limit=alarm_limit)
    while True:
        data = sock.recv(RECV_BYTES)
        if not data:
            worker_process_shutdown.send(tools.node, pid=os.getpid(), exitcode=0)
            return
        for frame in frames.feed(data):
            for job in unpack_jobs(frame):
                if not slot.start(job.seq):
                    continue
                crashpoint("child_start")
                outcome = run(job, limits)
                crashpoint("child_ran")
                slot.finish()
                # At once: delayed, a finished result would wait for the next task.
                sock.sendall(pack_outcome(outcome))
                crashpoint("child_sent")


# --- modules that were loaded since the fork server was started


def modules_pipe(modules: Mapping[str, bool]) -> list[int]:
    """The reading end of a pipe with these modules for load_sent(); none for no modules."""
    if not modules:
        return []
    r, w = os.pipe()
    with open(w, "wb") as file:
        file.write(msgspec.json.encode(modules))
    return [r]


def load_sent(app: Any, descriptors: Sequence[int]) -> None:
    """Load what the parent has loaded before. An error is logged, and the child works with what it has."""
    for descriptor in descriptors:
        with open(descriptor, "rb") as file:
            modules: dict[str, bool] = msgspec.json.decode(file.read())
        for name, reload in modules.items():
            try:
                load_modules(app, [name], reload)
            except Exception:
                log.exception("the module %s was not loaded in this process", name)
