"""What a forked child must not inherit: locks in an unknown state, connections of its parent.

An owner of such resources registers here; its `after_fork()` runs in every child.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol


class Forked(Protocol):
    def after_fork(self) -> None:
        """Runs in the child: create new locks, drop connections without writing to them."""


_known: weakref.WeakSet[Any] = weakref.WeakSet()


def tell_after_fork(owner: Forked) -> None:
    """Call `owner.after_fork()` in every child process, for as long as `owner` lives."""
    _known.add(owner)


def _tell() -> None:
    for owner in list(_known):
        owner.after_fork()


os.register_at_fork(after_in_child=_tell)
