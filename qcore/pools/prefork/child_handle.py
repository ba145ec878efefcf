"""The parent's handle of one child of the prefork pool: its jobs, and whether it is responsive.

In:  frames to send, received bytes.  Out: nothing ever blocks: bytes that the socket does not accept stay in
the backlog until it is writable. A child that neither reads nor runs nor answers for HAND_OVER_S is
silent: jobs it has not started go elsewhere, and after REPLACE_S more it is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from qcore.base.times import epoch_of
from qcore.pools.base import RuntimeEstimate
from qcore.pools.prefork.slot import NOT_YET, Slot, StackPipe
from qcore.wire.outcome import RECV_BYTES, End, Frames, Job, Outcome

#: how long a child may take to read its jobs, seconds
HAND_OVER_S = 1.0
#: how long a silent child may take to respond, seconds
REPLACE_S = 4.0
#: the pause before a child that has run nothing is replaced: of the first one, doubled for each that follows,
#: and the longest
PAUSE_S, MOST_PAUSE_S = 0.1, 10.0

log = logging.getLogger("qcore.worker")


class ChildHandle:
    """One child, as seen by its parent."""

    __slots__ = (
        "_moved_at",
        "_sign",
        "backlog",
        "dead",
        "eof",
        "frames",
        "given",
        "heard",
        "index",
        "killed",
        "outstanding",
        "pace",
        "pid",
        "retiring",
        "sent",
        "seq",
        "signals",
        "silent_at",
        "slot",
        "sock",
        "stack_pipe",
        "status",
    )

    def __init__(
        self, index: int, sock: socket.socket, slot: Slot, pace: RuntimeEstimate, stack_pipe: StackPipe
    ) -> None:
        """stack_pipe: through it the child tells its stack."""
        self.index, self.sock, self.slot, self.pace = index, sock, slot, pace
        self.stack_pipe = stack_pipe
        self.pid = 0
        self.seq = 0
        self.given = 0
        self.frames = Frames()
        self.backlog = bytearray()  # bytes that the socket did not take yet
        self.outstanding: deque[Job] = deque()  # in the order they were given
        self.killed: tuple[int, End] | None = None  # the sequence number we signalled it for
        self.signals = 0  # that the fork server has not sent yet
        self.retiring = self.eof = self.dead = False
        self.status: int | None = None
        self.sent = self.heard = 0  # successful writes, reads that returned data
        self.silent_at: float | None = None  # monotonic; None while it is responsive
        self._sign = (0, 0, 0)
        self._moved_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it takes jobs: it has been started, does not end, and is not silent."""
        ends = self.retiring or self.eof
        return not ends and self.silent_at is None and self.slot.seen() != NOT_YET

    def running(self) -> tuple[Job, float] | None:
        """The job that runs, and since when (monotonic seconds)."""
        seq, since = self.slot.current()
        if since:
            for job in self.outstanding:
                if job.seq == seq:
                    return job, since
        return None

    def lost(self, job: Job, since: float) -> Outcome:
        """The outcome of a job that this process ran when it ended. since: monotonic seconds; 0: unknown."""
        now = time.monotonic()
        end = self.killed[1] if self.killed is not None and self.killed[0] == job.seq else End.LOST
        began, runtime_s = epoch_of(since or now), now - (since or now)
        return Outcome(job.number, end, began, runtime_s, self.pid, text=exit_text(self.status))

    def spare(self) -> None:
        """Let it start jobs again once the one it was signalled for is over, and no signal is on its way."""
        if self.killed is None or self.signals:
            return
        if not self.outstanding or self.outstanding[0].seq > self.killed[0]:
            self.killed = None
            self.slot.release()

    def close(self) -> None:
        """Close what leads to it."""
        self.sock.close()
        for descriptor in self.slot.tokens():
            os.close(descriptor)
        self.stack_pipe.close()

    def write(self, data: bytes) -> None:
        """Send without blocking; bytes that the socket does not accept stay in the backlog."""
        sent = 0
        if not self.backlog:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return  # it is dying; its end of file follows
            self.sent += 1
            if sent == len(data):
                return
        self.backlog += memoryview(data)[sent:]

    def flush(self) -> None:
        """Send more of the backlog."""
        try:
            sent = self.sock.send(self.backlog)
        except OSError:
            return  # not yet, or it is dying
        self.sent += 1
        del self.backlog[:sent]

    def is_responsive(self, now: float) -> bool:
        """Whether it reads its jobs; `now` is monotonic. Must be called a few times a second."""
        sign = (self.slot.seen(), self.sent, self.heard)
        if sign != self._sign or not self.outstanding or self.slot.current()[1]:
            self._sign, self._moved_at = sign, now
        if self.silent_at is not None:
            if sign[0] >= self.seq and not self.backlog:
                self.silent_at = None  # it has read every job it was given
        elif now - self._moved_at > HAND_OVER_S:
            self.silent_at = now
        return self.silent_at is None

    def is_gone(self, now: float) -> bool:
        """Whether it has been silent for so long that it must be replaced."""
        return self.silent_at is not None and now - self.silent_at > REPLACE_S and not self.slot.current()[1]


class ReplacementPace:
    """When processes that have ended are replaced: at once, and later and later while they run nothing.

    at: not before this moment (monotonic seconds).
    """

    def __init__(self) -> None:
        self.at = 0.0
        self._rounds = 0

    def ended(self, child: ChildHandle) -> None:
        """It has ended; one that was not to end and has run nothing is logged, as the first of its round."""
        if child.heard or child.retiring or child.slot.current()[0]:
            self._rounds = 0
            return
        now = time.monotonic()
        if now < self.at:
            return
        self._rounds += 1
        pause_s = min(PAUSE_S * 2 ** (self._rounds - 1), MOST_PAUSE_S)
        self.at = now + pause_s
        log.error(
            "the child process with pid %d ended before it ran a task: %s; another one starts in %.1f s",
            child.pid,
            exit_text(child.status),
            pause_s,
        )


def end_idle(children: Iterable[ChildHandle], patience_s: float) -> None:
    """Have the children without a task exit by themselves, and wait for it at most so long."""
    idle = [c for c in children if not c.outstanding and not c.eof]
    for child in idle:
        with contextlib.suppress(OSError):
            child.sock.shutdown(socket.SHUT_WR)
    until = time.monotonic() + patience_s
    while idle and (left := until - time.monotonic()) > 0:
        readable = select.select([c.sock for c in idle], [], [], left)[0]
        idle = [c for c in idle if c.sock not in readable or c.sock.recv(RECV_BYTES)]


def exit_text(status: int | None) -> str:
    """A wait status as text."""
    if status is None:
        return "it is gone"
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)} ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def write_stats(children: Sequence[ChildHandle]) -> dict[str, Any]:
    """How the jobs were spread over the children, with Celery's keys of `inspect stats`."""
    given = [child.given for child in children]
    total = sum(given)
    shares = [number / total if total else 0.0 for number in given]
    return {
        "total": total,
        "avg": f"{sum(shares) / len(shares) if shares else 0:.2f}",
        "all": ", ".join(f"{share:.2f}" for share in shares),
        "raw": ", ".join(map(str, given)),
        "strategy": "fair",
        "inqueues": {"total": len(children), "active": sum(bool(child.backlog) for child in children)},
    }
