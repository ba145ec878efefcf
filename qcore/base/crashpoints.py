"""Named places where a process can be made to kill itself, for crash tests.

In:  QCORE_CRASHPOINT=name or name:n in the environment, read once, at import.
Out: SIGKILL to this process when the named place is reached for the n-th time, counted together with its
forks, so that the replacement of a killed child is not killed as well. Without the variable a place
costs one empty call.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "QCORE_CRASHPOINT"


def _pass(name: str) -> None:
    """Used when no crash point is armed."""


def armed(spec: str) -> Callable[[str], None]:
    """The function `crashpoint` for a value of the variable."""
    import mmap

    wanted, _, nth = spec.partition(":")
    fatal = int(nth or 1)
    seen = memoryview(mmap.mmap(-1, 8)).cast("q")  # shared with every process forked from this one

    def count(name: str) -> None:
        if name != wanted:
            return
        seen[0] += 1
        if seen[0] == fatal:
            os.write(2, f"crashpoint {name} reached in {os.getpid()}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    return count


crashpoint: Callable[[str], None] = armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _pass
