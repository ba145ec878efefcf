"""The fork server: a single-threaded process that has imported the app and forks the children.

In:  requests from the worker's parent on a socket (fork a child for a slot, signal a child).
Out: reports (born, died with what status). No fork ever happens in a process that has threads or broker
connections, and every child dies with the fork server, which dies with the parent. When a task or the kernel
has ended it, the next one is a fresh interpreter, which loads the app anew (spawned.py).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
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
from functools import cache
from typing import Any, NoReturn

import msgspec

from qcore.errors import PoolBroken
from qcore.pools.prefork.child_stacks import ignore_requests
from qcore.wire.outcome import RECV_BYTES, Frames, anything

REQUEST = struct.Struct("<cii")
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
    #: whether it has loaded the app, and forks children at once
    is_loaded = True

    def __init__(self, child_main: Callable[[int, list[int]], None], again: Callable[[int], int]) -> None:
        """Fork the fork server now; child_main(slot, descriptors) runs in each child. again(descriptor)
        starts another one that serves this socket, after the first has died, and returns its pid; it raises
        PoolBroken if it cannot."""
        self._deaths: list[float] = []  # when fork servers died lately, monotonic
        self._again = again
        theirs = self._open()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # objects that exist now are never written by a child's collector: the pages stay shared
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._line.close()
            serve_forks(theirs, child_main, parent)
        gc.unfreeze()
        theirs.close()

    def start(self) -> None:
        """Start a fork server after the last one died. Raises PoolBroken if none can start."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)  # whoever asks for another one has lost this one
            os.waitpid(self.pid, 0)
        with self._open() as theirs:
            self.pid, self.is_loaded = self._again(theirs.fileno()), False

    def _open(self) -> socket.socket:
        """A new line to a fork server; returns the other end."""
        ours, theirs = socket.socketpair()
        if self._sock is not None:
            self._sock.close()
        self._sock, self._frames = ours, Frames()
        self._early = b""  # reports that were read while a request was sent
        return theirs

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
        early, self._early, self.is_loaded = self._early, b"", True
        if not data and not early:
            raise PoolBroken(f"the fork server (pid {self.pid}) died")
        return [msgspec.msgpack.decode(f) for f in self._frames.feed(early + data)]

    def close(self) -> None:
        """End it and every child."""
        self._line.close()
        with contextlib.suppress(ChildProcessError):
            if not _ended(self.pid, END_S):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def _ended(pid: int, patience_s: float) -> bool:
    """Whether a child process of this one ends in that time. Raises ChildProcessError when it has."""
    until = time.monotonic() + patience_s
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def serve_forks(sock: socket.socket, child_main: Callable[[int, list[int]], None], parent: int) -> NoReturn:
    """Be the fork server of the worker `parent`, until it closes the socket, and end this process."""
    code = 1
    try:
        _serve(sock, child_main, parent)
        code = 0
    except ConnectionError:
        pass  # the worker closed its end in the middle of its start, and reports why
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _ignore_signals() -> None:
    """The worker decides about shutdown; a signal to the whole group must not end running tasks."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    ignore_requests()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies (Linux); else its socket ends it when idle."""
    with contextlib.suppress(OSError, AttributeError):
        _prctl()(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the request


@cache  # a child finds it made: to make it costs memory
def _prctl() -> Callable[..., object]:
    """The C library's function. By the C half of ctypes, where it has what it takes: to import the other
    half costs each worker a quarter of a MiB. Raises OSError where there is no such function."""
    half: Any = importlib.import_module("_ctypes")  # here, while the worker goes on with its start
    if not hasattr(half, "call_function"):
        found: Callable[..., object] = importlib.import_module("ctypes").CDLL(None).prctl
        return found
    address = half.dlsym(half.dlopen(None, 0), "prctl")
    return lambda *arguments: half.call_function(address, arguments)


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
