"""Notice another worker that goes by our name.

In:  what each of our announcements replaced.  Out: a warning, and who the other one is, for `qctl status`.
Two workers of one name answer each request twice and hide each other's news; both must say so.
Before this: worker/keeper.py.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("qcore.worker")

FORGET_AFTER = 3  # announcements without news of the other one


class Twin:
    """Of one worker, which is told apart by its instance: an id that each start makes anew."""

    def __init__(self, node: str, instance: str) -> None:
        self._node, self._instance = node, instance
        self._announced = False
        self._warned: set[str] = set()
        self._unseen = 0
        self.facts: dict[str, Any] = {}  # pid and host of the other one; empty when there is none

    def look(self, replaced: dict[str, Any] | None) -> None:
        """To be called after each announcement with what it replaced."""
        first, self._announced = not self._announced, True
        other = str((replaced or {}).get("instance") or "")
        if not other or other == self._instance:
            self._unseen += 1
            if self._unseen >= FORGET_AFTER:
                self.facts = {}
            return
        if first:
            return  # perhaps of a worker that was killed, and ours is its successor
        assert replaced is not None
        self._unseen = 0
        self.facts = {"pid": replaced.get("pid"), "host": replaced.get("host")}
        if other not in self._warned:
            self._warned.add(other)
            log.warning(
                "another worker is called %s too (process %s on %s): give each a name of its own with -n; "
                "until then questions are answered twice and news of one hides the other",
                self._node,
                replaced.get("pid"),
                replaced.get("host"),
            )
