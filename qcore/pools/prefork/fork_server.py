"""The fork server: a single-threaded process that has imported the app and forks the children.

In:  requests from the worker's parent on a socket (fork a child for a slot, signal a child).
Out: reports (born, died with what status). No fork ever happens in a process that has threads or broker
connections, and every child dies with the fork server. The fork server is itself forked by a *launcher*,
which does nothing else, so that there can be another one when a task or the kernel has ended it; the
launcher dies with the parent, and the fork server with the launcher.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import msgspec

from qcore.errors import PoolBroken
from qcore.pools.prefork.child_stacks import ignore_requests
from qcore.wire.outcome import RECV_BYTES, Frames, anything

REQUEST = struct.Struct("<cii")
PID = struct.Struct("<i")
#: so many fork servers may die within this time, more than a task that kills its own is tried; the worker
#: stops after that
DEATHS_MOST, DEATHS_WITHIN_S = 5, 60.0
#: how long a fork server may take to end its children and itself
END_S = 1.0
FORK, SIGNAL = b"F", b"S"
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """The parent's handle of the fork server."""

    _sock: socket.socket | None = None
    _pid: int | None = None  # None: not read yet

    def __init__(self, child_main: Callable[[int, list[int]], None]) -> None:
        """Fork the fork server now; child_main(slot, descriptors) runs in each child."""
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # objects that exist now are never written by a child's collector: the pages stay shared
        parent = os.getpid()
        self._launcher_pid = os.fork()
        if self._launcher_pid == 0:
            ours.close()
            _guarded(partial(_run_launcher, theirs, child_main, parent))
        gc.unfreeze()
        theirs.close()
        self._launcher = ours
        self._deaths: list[float] = []  # when fork servers died lately, monotonic
        self._start()

    @property
    def pid(self) -> int:
        """Its process; 0: it did not start."""
        if self._pid is None:
            try:
                answer = self._launcher.recv(PID.size)
            except OSError:
                answer = b""
            self._pid = PID.unpack(answer)[0] if len(answer) == PID.size else 0
        return self._pid

    def start(self) -> None:
        """Start a fork server after the last one died. Raises PoolBroken if none can start."""
        if self.pid:  # else the launcher is dead
            self._start()
        if not self.pid:
            raise PoolBroken("the fork server died")

    def _start(self) -> None:
        """Ask for one; the worker need not wait for the answer."""
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError):  # reports() will raise
            socket.send_fds(self._launcher, [b"T"], [theirs.fileno()])
        theirs.close()
        self._pid = None
        if self._sock is not None:
            self._sock.close()
        self._sock, self._frames = ours, Frames()
        self._early = b""  # reports that were read while a request was sent

    def count_death(self, exc: PoolBroken) -> None:
        """The fork server has died, as `exc` says; raises PoolBroken when too many did lately."""
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < DEATHS_WITHIN_S] + [now]
        if len(self._deaths) > DEATHS_MOST:
            raise PoolBroken(
                f"{exc}, {len(self._deaths)} times within {DEATHS_WITHIN_S:.0f} s; look for a task that "
                "signals its parent, or for a lack of memory"
            ) from exc

    @property
    def _line(self) -> socket.socket:
        assert self._sock is not None
        return self._sock

    def fileno(self) -> int:
        return self._line.fileno()

    def fork(self, slot: int, descriptors: list[int]) -> None:
        """Ask for a child for `slot` that gets these descriptors."""
        self._send(REQUEST.pack(FORK, slot, 0), descriptors)

    def signal(self, pid: int, signum: int) -> None:
        """Signal a child; nothing happens when it is gone, whoever has its pid now. reports() says when
        that has been done."""
        self._send(REQUEST.pack(SIGNAL, pid, signum), [])

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        """Send a request. While it must wait for space it reads reports: the fork server may be waiting for
        space as well, and would read no request until then."""
        line = self._line
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reports() will raise
            while True:
                try:
                    line.sendmsg([request], rights, socket.MSG_DONTWAIT)
                    return
                except BlockingIOError:
                    if line in select.select([line], [line], [])[0]:
                        self._early += line.recv(RECV_BYTES)

    def reports(self) -> list[list[Any]]:
        """What has been reported: ['born', slot, pid], ['signalled', pid, signum], ['died', pid, status].
        Raises PoolBroken when the fork server itself is gone, and every child with it."""
        try:
            data = self._line.recv(RECV_BYTES)
        except ConnectionResetError:
            data = b""
        early, self._early = self._early, b""
        if not data and not early:
            raise PoolBroken(f"the fork server (pid {self.pid}) died")
        return [msgspec.msgpack.decode(f) for f in self._frames.feed(early + data)]

    def close(self) -> None:
        """End it and every child."""
        self._line.close()
        self._launcher.close()
        with contextlib.suppress(ChildProcessError):
            if not _ended(self._launcher_pid, 2 * END_S):
                os.kill(self._launcher_pid, signal.SIGKILL)
                os.waitpid(self._launcher_pid, 0)


def _ended(pid: int, patience_s: float) -> bool:
    """Whether a child process of this one ends in that time. Raises ChildProcessError when it has."""
    until = time.monotonic() + patience_s
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _guarded(serve: Callable[[], object]) -> NoReturn:
    """Serve in a process that was just forked, and end it."""
    code = 1
    try:
        serve()
        code = 0
    except ConnectionError:
        pass  # the worker closed its end in the middle of its start, and reports why
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _run_launcher(sock: socket.socket, child_main: Callable[[int, list[int]], None], parent: int) -> None:
    """The launcher: a copy of the worker from before it had threads. It forks a fork server for each
    request, and ends the last one when the worker closes its socket."""
    die_with(parent)
    _ignore_signals()
    me, pid = os.getpid(), 0
    while True:
        data, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        with contextlib.suppress(ChildProcessError):
            if not data:
                if pid and not _ended(pid, END_S):
                    os.kill(pid, signal.SIGKILL)
                return
            if pid:
                os.kill(pid, signal.SIGKILL)  # whoever asks for another one has lost this one
                os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            sock.close()
            _guarded(partial(_serve, socket.socket(fileno=descriptors[0]), child_main, me))
        os.close(descriptors[0])
        sock.sendall(PID.pack(pid))


def _ignore_signals() -> None:
    """The worker decides about shutdown; a signal to the whole group must not end running tasks."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    ignore_requests()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies (Linux); else its socket ends it when idle."""
    import ctypes  # here, while the worker goes on with its start

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the request


def _serve(sock: socket.socket, child_main: Callable[[int, list[int]], None], parent: int) -> None:
    die_with(parent)
    _ignore_signals()
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_r, False)
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    alive: set[int] = set()
    me = os.getpid()
    while True:
        readable = select.select([sock.fileno(), wake_r], [], [])[0]
        if wake_r in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_r, 4096)
            _reap(sock, alive)
        if sock.fileno() not in readable:
            continue
        data, descriptors, _, _ = socket.recv_fds(sock, REQUEST.size, 8)
        while data and len(data) < REQUEST.size:
            data += sock.recv(REQUEST.size - len(data))
        if not data:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return
        verb, one, two = REQUEST.unpack(data)
        if verb == SIGNAL:
            if one in alive:
                try:
                    os.kill(one, two)
                except OSError as exc:  # all children would die with us
                    print(f"worker: signal {two} was not sent to process {one}: {exc}", file=sys.stderr)
            sock.sendall(anything(["signalled", one, two]))
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                sock.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(wake_r)
                os.close(wake_w)
                die_with(me)
                child_main(one, descriptors)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                    logging.shutdown()
                os._exit(code)
        for descriptor in descriptors:
            os.close(descriptor)
        alive.add(pid)
        sock.sendall(anything(["born", one, pid]))


def _reap(sock: socket.socket, alive: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        alive.discard(pid)
        sock.sendall(anything(["died", pid, status]))
