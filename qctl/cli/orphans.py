"""Child processes that end with their parent, even if the parent is killed.

In:  the environment of a child that a qctl command starts.  Out: the child ends at most two seconds after its
parent: by a signal first, by SIGKILL if that is not enough. On Linux the kernel sends the signal; everywhere
the child polls its parent's pid. Before this: demo, bench, --reload, events --serve.
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
#: seconds between the signal and SIGKILL
GRACE_S = 1.2
_PR_SET_PDEATHSIG = 1


def with_us(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a child `qctl` ends with this process."""
    return {**env, MARK: str(os.getpid())}


def end_with_parent(words: list[str]) -> None:
    """Watch the parent if the environment requests it; to be called first of all. words: the command line."""
    parent = int(os.environ.pop(MARK))  # removed: it does not apply to our own children
    if "worker" in words:
        # A worker forks before it starts threads, so its watch is one of its services. SIGQUIT returns
        # running tasks: a warm shutdown would wait for them.
        _ask_kernel(signal.SIGQUIT)
        _register(parent)
    else:
        _ask_kernel(signal.SIGTERM)
        Watch(parent, signal.SIGTERM).start()
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before prctl()


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
    """A service: when `parent` is gone, send `number` to this process, then SIGKILL after GRACE_S."""

    def __init__(self, parent: int, number: signal.Signals) -> None:
        self._parent, self._number = parent, number

    def start(self) -> None:
        threading.Thread(target=self._look, name="parent", daemon=True).start()

    def stop(self) -> None:
        """Do nothing: the watch runs until the process ends, since a shutdown may hang too."""

    def _look(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(LOOK_S)
        os.kill(os.getpid(), self._number)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)
