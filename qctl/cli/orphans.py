"""Processes that end with the one that started them, however that ends.

In:  the environment of a process that one of our commands starts for itself.  Out: it is gone at most two
seconds after its parent: asked first, and ended when it does not listen. On Linux the kernel asks; a look at
who the parent is does the same everywhere. Before this: demo, bench, --reload, events --serve.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

MARK = "QCTL_PARENT_PID"
LOOK_S = 0.25
#: what a process gets to end by itself before it is killed, seconds
GRACE_S = 1.2
_PR_SET_PDEATHSIG = 1


def with_us(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which `qctl` ends with this process."""
    return {**env, MARK: str(os.getpid())}


def end_with_parent(words: list[str]) -> None:
    """Do as the environment asks; to be called once, before anything else. words: the command line."""
    parent = int(os.environ.pop(MARK))  # what we start ourselves is not meant
    if "worker" in words:
        # A worker forks before it has threads, so its watch is one of its services. Running tasks are
        # returned: a warm stop would wait for them.
        _ask_kernel(signal.SIGQUIT)
        _register(parent)
    else:
        _ask_kernel(signal.SIGTERM)
        Watch(parent, signal.SIGTERM).start()
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def _ask_kernel(number: signal.Signals) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def _register(parent: int) -> None:
    from qcore.worker.services.base import services

    def watch(worker: Any) -> Watch:
        return Watch(parent, signal.SIGQUIT)

    services.register("parent", watch)


class Watch:
    """A service: once `parent` is gone this process gets `number`, and is killed when that does not help."""

    def __init__(self, parent: int, number: signal.Signals) -> None:
        self._parent, self._number = parent, number

    def start(self) -> None:
        threading.Thread(target=self._look, name="parent", daemon=True).start()

    def stop(self) -> None:
        """It looks until the end: leaving may hang too."""

    def _look(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(LOOK_S)
        os.kill(os.getpid(), self._number)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)
