"""The stacks of the tasks in child processes: asked for with a signal, answered through a pipe.

In:  children that run a task.  Out: a Stack for each, within ANSWER_S + 2 * CHECK_S.
faulthandler answers in the signal handler itself, so it tells the stack of a task in a C call too, whether
that call has released the interpreter lock or not. It writes to a pipe that never blocks, and takes some
microseconds for each frame. A child registers at its birth; nothing is done when a task starts, runs or ends.

System calls that the signal interrupts are restarted, except those that the kernel never restarts (sleeps,
poll and select): Python repeats them itself, C code that does not will see one end early.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from qcore.base.process_facts import kernel_wait, thread_activity
from qcore.pools.stacks import C_COMPUTE, C_WAIT, PYTHON, WATCH_S, Stack, frames, of_text

if TYPE_CHECKING:
    from qcore.pools.prefork.child_handle import ChildHandle

#: the signals that ask a child for its stack, and whether it executes Python code; 0: the system has none
DUMP = int(getattr(signal, "SIGRTMAX", 7)) - 7
ALIVE = int(getattr(signal, "SIGRTMAX", 6)) - 6 if DUMP else 0
#: how long a child may take to write its stack, seconds
ANSWER_S = 0.4
#: how long it may take to execute one Python instruction
CHECK_S = 0.1
#: after this time without more bytes a stack counts as whole, although it does not end as most do
QUIET_S = 0.03
_READ = 65_536


def ignore_requests() -> None:
    """In processes that fork children: a signal that comes before tell_when_asked() must not end a child."""
    for signum in filter(None, (DUMP, ALIVE)):
        signal.signal(signum, signal.SIG_IGN)


def tell_when_asked(pipe: int) -> None:
    """In a child: have it tell its stack through this pipe whenever it gets the signal."""
    if not DUMP:
        return
    os.set_blocking(pipe, False)

    def on_alive(signum: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(pipe, b"\0")

    signal.signal(ALIVE, on_alive)
    signal.siginterrupt(ALIVE, False)
    # Of this thread only: frames of other threads may change while the handler reads them.
    faulthandler.register(DUMP, file=pipe, all_threads=False, chain=False)


class ChildStacks:
    """Asks children for their stacks; for one request at a time, from any thread."""

    def __init__(self, signal_child: Callable[[ChildHandle, int], None]) -> None:
        """signal_child: sends a signal to a child; it is called in the loop's thread."""
        self._signal = signal_child
        self._lock = threading.Lock()

    def ask(self, children: Sequence[ChildHandle], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        """The stacks of the tasks that these children run. soon: calls a function in the loop's thread."""
        with self._lock:
            asked = [_Asked(child, *job) for child in children if (job := _running(child)) is not None]
            if not DUMP:
                return [Stack(one.number, problem="this system has no signals for it") for one in asked]
            try:
                self._send([one for one in asked if one.drain()], DUMP, soon)
                _read(asked, lambda one: one.is_whole(), ANSWER_S)
                self._watch([one for one in asked if b"File" in one.text], soon)
                return [one.stack() for one in asked]
            finally:
                for one in asked:
                    one.close()

    def _watch(self, told: list[_Asked], soon: Callable[[Callable[[], None]], None]) -> None:
        """What those do that have told their stacks."""
        before = {one: thread_activity(one.child.pid, one.child.pid) for one in told}
        time.sleep(WATCH_S if told else 0.0)
        busy = []
        for one in told:
            was, now = before[one], thread_activity(one.child.pid, one.child.pid)
            if was is not None and now is not None and now.is_blocked_since(was):
                one.doing = C_WAIT
            else:
                busy.append(one)
        self._check(busy, soon)

    def _check(self, busy: list[_Asked], soon: Callable[[Callable[[], None]], None]) -> None:
        """Whether those that compute execute Python code."""
        began = {one: thread_activity(one.child.pid, one.child.pid) for one in busy}
        self._send(busy, ALIVE, soon)
        _read(busy, lambda one: one.alive, CHECK_S)
        for one in busy:
            was, now = began[one], thread_activity(one.child.pid, one.child.pid)
            if one.alive:
                one.doing = PYTHON
            elif was is not None and now is not None and now.cpu_s - was.cpu_s > CHECK_S / 10:
                one.doing = C_COMPUTE

    def _send(self, asked: list[_Asked], signum: int, soon: Callable[[Callable[[], None]], None]) -> None:
        def send() -> None:
            for one in asked:
                if one.still_runs():
                    self._signal(one.child, signum)

        if asked:
            soon(send)


def _running(child: ChildHandle) -> tuple[int, int] | None:
    """The sequence number and the number of the job that a child runs."""
    for _ in range(2):
        try:
            now = child.running()
            return None if now is None or not child.pid else (now[0].seq, now[0].number)
        except RuntimeError:  # the loop's thread changed the deque meanwhile: try again
            continue
    return None


class _Asked:
    """One request to one child."""

    def __init__(self, child: ChildHandle, seq: int, number: int) -> None:
        self.child, self.seq, self.number = child, seq, number
        self.text = bytearray()
        self.pipe = child.stack_pipe.duplicate()
        self.alive, self.gone = False, self.pipe is None
        self.heard_at = 0.0
        self.doing = "unknown"

    def still_runs(self) -> bool:
        seq, since = self.child.slot.current()
        return bool(since) and seq == self.seq and not self.child.dead

    def drain(self) -> bool:
        """Drop what an earlier request has left. False when the child is gone."""
        while self.take():
            pass
        self.text.clear()
        self.alive = False
        return not self.gone

    def take(self) -> bool:
        """Read what has come; whether there was something."""
        if self.pipe is None:
            return False
        try:
            data = os.read(self.pipe, _READ)
        except BlockingIOError:
            return False
        if not data:
            self.gone = True
            return False
        self.alive = self.alive or b"\0" in data
        self.text += data.replace(b"\0", b"")
        self.heard_at = time.monotonic()
        return True

    def close(self) -> None:
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None

    def is_whole(self) -> bool:
        if self.text.endswith((b" in <module>\n", b"  ...\n")):
            return True
        return bool(self.text) and time.monotonic() - self.heard_at > QUIET_S

    def stack(self) -> Stack:
        pid = self.child.pid
        if self.gone or not self.still_runs():
            return Stack(self.number, problem="it has ended meanwhile")
        if b"File" not in self.text:
            now = thread_activity(pid, pid)
            state = f"its state is {now.state}" if now is not None else "its state is unknown"
            return Stack(self.number, problem=f"the process {pid} did not tell its stack ({state})")
        found = frames(of_text(self.text.decode("ascii", "replace")))
        waits_in = kernel_wait(pid, pid) if self.doing == C_WAIT else ""
        return Stack(self.number, self.doing, found, waits_in)


def _read(asked: Sequence[_Asked], is_done: Callable[[_Asked], bool], patience_s: float) -> None:
    """Read from these children until each is done or gone, at most so long."""
    until = time.monotonic() + patience_s
    while open_ones := [one for one in asked if not one.gone and not is_done(one)]:
        left = until - time.monotonic()
        if left <= 0:
            return
        poll = select.poll()
        by_fd = {one.pipe: one for one in open_ones if one.pipe is not None}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(min(left, QUIET_S) * 1000):
            if fd in by_fd:
                by_fd[fd].take()
