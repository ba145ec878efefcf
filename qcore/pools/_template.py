"""The template: a single-threaded process that has imported the app and forks the pool's children.

In:  requests from the worker's parent on a socket (fork a child for a slot, signal a child).
Out: reports (born, died with what status). No fork ever happens in a process that has threads or
broker connections, and every child dies with the template, which dies with the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from qcore.errors import PoolBroken
from qcore.wire.outcome import Frames, anything

REQUEST = struct.Struct("<cii")
FORK, SIGNAL = b"F", b"S"
_PR_SET_PDEATHSIG = 1


class Template:
    """The parent's handle on the template process."""

    def __init__(self, child_main: Callable[[int, list[int]], None]) -> None:
        """Fork it, now; child_main(slot, descriptors) is what each child runs."""
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()  # what is alive now is never written by a child's collector: the pages stay shared
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                ours.close()
                _serve(theirs, child_main, parent)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        gc.unfreeze()
        theirs.close()
        self._sock = ours
        self._frames = Frames()

    def fileno(self) -> int:
        return self._sock.fileno()

    def fork(self, slot: int, descriptors: list[int]) -> None:
        """Ask for a child for `slot` that gets these descriptors."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reports() will tell
            socket.send_fds(self._sock, [REQUEST.pack(FORK, slot, 0)], descriptors)

    def signal(self, pid: int, signum: int) -> None:
        """Signal a child; nothing happens when it is gone, whoever has its pid now."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(REQUEST.pack(SIGNAL, pid, signum))

    def reports(self) -> list[list[Any]]:
        """What has been reported: ['born', slot, pid] and ['died', pid, status]. Raises PoolBroken when
        the template itself is gone, and every child with it."""
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise PoolBroken(f"the process that forks the pool's children (pid {self.pid}) has died")
        return [msgspec.msgpack.decode(f) for f in self._frames.feed(data)]

    def close(self) -> None:
        """End it and every child."""
        self._sock.close()
        with contextlib.suppress(ChildProcessError):
            for _ in range(200):
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.01)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def die_with(parent: int) -> None:
    """Be killed when `parent` dies (Linux); elsewhere the closed socket ends an idle process."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def _serve(sock: socket.socket, child_main: Callable[[int, list[int]], None], parent: int) -> None:
    die_with(parent)
    # The parent decides about shutdown; a signal to the whole group must not end running tasks.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
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
