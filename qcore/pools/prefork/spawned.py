"""Processes of the pool that are fresh interpreters: children (worker_pool_start_method=spawn), and a fork
server that follows one that died.

In:  the command line of the worker, and what a forked process would have inherited.  Out: a process that runs
the command again, loads the app anew, and serves its slot, or as a fork server, instead of being a worker.
A child is still one of the fork server (fork_server.py), which reports its end. Next: child.py.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import msgspec

from qcore.errors import PoolBroken
from qcore.execution.run import RunContext
from qcore.pools.base import PoolSetup
from qcore.pools.prefork.child import load_sent, serve
from qcore.pools.prefork.fork_server import serve_forks
from qcore.pools.prefork.slot import SLOTS_BYTES, Slot

#: the environment variable in which a fresh interpreter finds its Place
PLACE = "QCORE_POOL_CHILD"
#: what Celery sets in such processes
MARK = "FORKED_BY_MULTIPROCESSING"


#: the slot of a fork server
NO_SLOT = -1


class Place(NamedTuple):
    """What it inherits: the pid of its parent, the worker's name, the number of its slot, and descriptors: of
    the slots' memory, and those that a forked child gets, or a fork server's socket."""

    parent: int
    node: str
    slot: int
    memory: int
    descriptors: list[int]


def _written(place: Place) -> str:
    return msgspec.json.encode(place).decode()


def _read(text: str) -> Place:
    return msgspec.json.decode(text, type=Place)


def memory_file() -> int:
    """A descriptor of the slots' memory, which other programs can map."""
    if sys.platform == "linux":
        found = os.memfd_create("qcore-slots")
    else:
        import tempfile  # every worker imports this file, and few spawn

        with tempfile.TemporaryFile() as file:
            found = os.dup(file.fileno())
    os.ftruncate(found, SLOTS_BYTES)
    return found


def child_main(setup: PoolSetup, file: int, memory: mmap.mmap) -> Callable[[int, list[int]], None]:
    """What a child does that the fork server has forked, with its slot's number and its descriptors: serve
    the slot in this memory, or become a fresh interpreter that does. file: the memory's descriptor."""
    tools = _tools(setup)

    def main(index: int, descriptors: list[int]) -> None:
        if setup.spawns:
            become(setup.command, setup.node, index, file, descriptors)
        sock = socket.socket(fileno=descriptors[0])
        slot = Slot(memory, index, descriptors[1], descriptors[2])
        load_sent(setup.app, descriptors[4:])
        serve(sock, slot, tools, setup.before_run, descriptors[3])

    return main


def _tools(setup: PoolSetup) -> RunContext:
    return RunContext(setup.app, setup.node, setup.accept, None, setup.extended)


def become(command: Sequence[str], node: str, slot: int, memory: int, descriptors: Sequence[int]) -> NoReturn:
    """Replace this process, just forked, by a fresh interpreter."""
    for descriptor in (memory, *descriptors):
        os.set_inheritable(descriptor, True)
    place = Place(os.getppid(), node, slot, memory, list(descriptors))
    os.execve(command[0], list(command), {**os.environ, MARK: "1", PLACE: _written(place)})


def start_fork_server(command: Sequence[str], node: str, memory: int, line: int) -> int:
    """Start a fork server that serves the socket `line`; returns its pid. Raises PoolBroken."""
    if not command:
        raise PoolBroken(
            "the fork server died, and only a worker of a command or script can start another one"
        )
    place = Place(os.getpid(), node, NO_SLOT, memory, [line])
    for descriptor in (memory, line):
        os.set_inheritable(descriptor, True)
    try:
        return os.posix_spawn(command[0], list(command), {**os.environ, PLACE: _written(place)})
    except OSError as exc:
        raise PoolBroken(f"the fork server died, and another one does not start: {exc}") from exc
    finally:
        os.set_inheritable(memory, False)


def is_spawned() -> bool:
    """Whether this process is to serve a place, instead of what its command line says. It is known by the
    descriptors: a program that it starts has the variable only, and its parent may have died."""
    if (text := os.environ.get(PLACE)) is None:
        return False
    place = _read(text)
    try:
        is_line = stat.S_ISSOCK(os.fstat(place.descriptors[0]).st_mode)
        return is_line and os.fstat(place.memory).st_size == SLOTS_BYTES
    except OSError:
        return False


def serve_place(setup: PoolSetup) -> NoReturn:
    """Serve the place of this process until the worker closes its socket, and end."""
    place, code = _read(os.environ.pop(PLACE)), 1
    memory = mmap.mmap(place.memory, SLOTS_BYTES)
    if place.slot == NO_SLOT:
        line = socket.socket(fileno=place.descriptors[0])
        serve_forks(line, child_main(setup, place.memory, memory), place.parent)
    sock = socket.socket(fileno=place.descriptors[0])
    slot = Slot(memory, place.slot, *place.descriptors[1:3])

    try:
        load_sent(setup.app, place.descriptors[4:])
        serve(sock, slot, _tools(setup), setup.before_run, place.descriptors[3])
        code = 0
    except ConnectionError:
        pass  # the worker has ended
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
        os._exit(code)
