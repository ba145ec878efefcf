"""Children that are fresh interpreters (worker_pool_start_method=spawn): no memory of the worker is shared.

In:  the command line of the worker, and what a forked child would have inherited.  Out: a process that runs
the command again, loads the app anew, and serves its slot instead of being a worker. It is still a child of
the fork server (fork_server.py), which reports its end. Next: child.py.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from qcore.execution.run import RunContext
from qcore.pools.base import PoolSetup
from qcore.pools.prefork.child import load_sent, serve
from qcore.pools.prefork.slot import SLOTS_BYTES, Slot

#: the environment variable in which a fresh interpreter finds its Place
PLACE = "QCORE_POOL_CHILD"
#: what Celery sets in such processes
MARK = "FORKED_BY_MULTIPROCESSING"
#: an empty frame: the child takes jobs now
READY = b"\0\0\0\0"


class Place(NamedTuple):
    """What a child inherits: the numbers of its process and its slot, and descriptors: of the slots' memory,
    and those that a forked child gets."""

    pid: int
    node: str
    slot: int
    memory: int
    descriptors: list[int]


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


def become(command: Sequence[str], node: str, slot: int, memory: int, descriptors: Sequence[int]) -> NoReturn:
    """Replace this process, just forked, by a fresh interpreter."""
    for descriptor in (memory, *descriptors):
        os.set_inheritable(descriptor, True)
    place = Place(os.getpid(), node, slot, memory, list(descriptors))
    os.execve(command[0], list(command), {**os.environ, MARK: "1", PLACE: json.dumps(place)})


def is_spawned() -> bool:
    """Whether this process is to serve a slot, instead of what its command line says."""
    text = os.environ.get(PLACE)
    return text is not None and bool(json.loads(text)[0] == os.getpid())


def serve_place(setup: PoolSetup) -> NoReturn:
    """Serve the slot of this process until the worker closes its socket, and end."""
    place, code = Place(*json.loads(os.environ.pop(PLACE))), 1
    sock = socket.socket(fileno=place.descriptors[0])
    slot = Slot(mmap.mmap(place.memory, SLOTS_BYTES), place.slot, *place.descriptors[1:3])

    def before_run() -> None:
        if setup.before_run is not None:
            setup.before_run()
        slot.begin()
        sock.sendall(READY)

    try:
        load_sent(setup.app, place.descriptors[4:])
        tools = RunContext(setup.app, place.node, setup.accept, None, setup.extended)
        serve(sock, slot, tools, before_run, place.descriptors[3])
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
