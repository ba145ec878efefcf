"""Owners of deliveries in other processes of this host: whether such a process has ended.

In:  where each owner runs, as it says itself.  Out: the owners whose process is gone, so that nobody needs to
wait for the end of their leases.
A process id means something only within one process table; a process that may not be looked at is not gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache

from qcore.base.process_facts import is_zombie, process_table, started


@cache
def this_host() -> str:
    """Names the process table that our process ids belong to; empty when that cannot be determined."""
    table = process_table()
    return f"{os.uname().nodename} {table}" if table else ""


def this_process() -> str:
    """The process id and its start, as is_gone() reads them."""
    pid = os.getpid()
    return f"{pid} {started(pid) or ''}"


def is_gone(pid: int, since: str) -> bool:
    """Whether the process with this id that was started then has ended. pid and since are of this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's, whose start may be hidden
    seen = started(pid)
    return is_zombie(pid) if seen is None else seen != since


class Neighbours:
    """The other owners of this host, as of the last answer of the server."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, places: Mapping[str, str], own: str) -> None:
        """places: what this_process() says, by owner; own: our owner."""
        known = {}
        for owner, place in places.items():
            pid, _, since = place.partition(" ")
            if owner != own and pid.isdecimal() and since:
                known[owner] = int(pid), since
        self._known = known

    def forget(self, owners: Sequence[str]) -> None:
        self._known = {owner: place for owner, place in self._known.items() if owner not in owners}

    def ended(self) -> list[str]:
        """The owners whose process is gone."""
        return [owner for owner, place in self._known.items() if is_gone(*place)]
