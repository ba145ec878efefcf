"""The names of all keys and channels of qcore in Redis, and of the keys it shares with Celery.

In:  transport options.  Out: key and channel names, all with `global_keyprefix` in front.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from qcore.wire.result import GROUP_PREFIX, KEY_PREFIX

CONTROL_EXCHANGE = "celery.pidbox"


class Keys:
    def __init__(self, db: int, options: dict[str, Any]) -> None:
        self.prefix = p = str(options.get("global_keyprefix") or "")
        self.control = str(options.get("control_exchange") or CONTROL_EXCHANGE)
        self.sep = str(options.get("sep") or "\x06\x16")
        self.steps = tuple(sorted(int(s) for s in options.get("priority_steps") or (0, 3, 6, 9)))
        fanout = options.get("fanout_prefix", True)
        # Channels are not separated by database, so the number is part of their names.
        self._fanout = p + ("/{db}." if fanout is True else str(fanout or "")).replace("{db}", str(db))
        self._fanout_keys = bool(options.get("fanout_patterns", True))
        self._bell = f"{p}qcore.bell.{db}."
        self.result_prefix = _result_prefix(str(options.get("result_prefix") or ""))
        self._group_prefix = self.result_prefix.removesuffix(KEY_PREFIX) + GROUP_PREFIX
        self.lease, self.ledger = f"{p}qcore.lease.", f"{p}qcore.ledger."
        self.claim, self.watched = f"{p}qcore.claim.", f"{p}qcore.watched."
        self.owners, self.reaped = f"{p}qcore.owners", f"{p}qcore.reaped"
        self._places = f"{p}qcore.owners.on."
        self.queues, self.sequence = f"{p}qcore.queues", f"{p}qcore.sequence"
        self.quarantine, self.revoked = f"{p}qcore.quarantine", f"{p}qcore.revoked"
        self.audit = f"{p}qcore.audit"
        self.lined, self.line = f"{p}qcore.lines", f"{p}qcore.lines."
        self.paused, self._once = f"{p}qcore.paused", f"{p}qcore.once."
        self.paused_until, self.pause_notes = f"{p}qcore.paused.until", f"{p}qcore.paused.notes"
        self.unacked = f"{p}unacked"  # messages that Celery's workers hold
        self.delayed_prefix = f"{p}qcore.delayed."
        self.failures = f"{p}qcore.failed."  # failed_task_scripts.py lists the suffixes
        self.schedules = f"{p}qcore.schedules."  # schedules.py lists the suffixes
        self.members, self.infos = f"{p}qcore.members", f"{p}qcore.members.info"
        self.inboxes, self.deadlines = f"{p}qcore.inboxes", f"{p}_kombu.binding_deadlines"

    def places(self, host: str) -> str:
        """Where the owners of one host run."""
        return f"{self._places}{zlib.crc32(host.encode()):08x}"

    def lists(self, queue: str) -> list[str]:
        """The queue's lists, in the order in which they are served."""
        return [self._list(queue, step) for step in self.steps]

    def list_for(self, queue: str, priority: int) -> str:
        """The list of the largest priority step that is not above the priority."""
        chosen = self.steps[0]
        for step in self.steps:
            if step <= priority:
                chosen = step
        return self._list(queue, chosen)

    def _list(self, queue: str, step: int) -> str:
        return f"{self.prefix}{queue}{self.sep}{step}" if step else self.prefix + queue

    def queue_of(self, list_key: str) -> str:
        return list_key.removeprefix(self.prefix).rpartition(self.sep)[0] or list_key.removeprefix(
            self.prefix
        )

    def is_base(self, list_key: str) -> bool:
        """Whether consumers always watch this list; the others need a wake-up notification."""
        return self.sep not in list_key

    def delayed(self, queue: str) -> str:
        return self.delayed_prefix + queue

    def once(self, key: str) -> str:
        """The key that holds the task id of an idempotency key."""
        return self._once + key

    def said(self, key: str) -> str:
        """Where it is noted that a signed control request was received."""
        return f"{self.prefix}qcore.said.{key}"

    def bell(self, queue: str) -> str:
        return self._bell + queue

    def binding(self, exchange: str) -> str:
        return f"{self.prefix}_kombu.binding.{exchange}"

    def permanent(self, exchange: str) -> str:
        return f"{self.prefix}_kombu.binding_permanent.{exchange}"

    def member(self, routing_key: str, pattern: str, queue: str) -> str:
        return self.sep.join((routing_key, pattern, queue))

    def channel(self, exchange: str, routing_key: str) -> str:
        tail = f"/{routing_key}" if routing_key and self._fanout_keys else ""
        return self._fanout + exchange + tail

    def group(self, group_id: str) -> str:
        """The prefix of a chord's keys; each suffix holds another part of the count."""
        return self._group_prefix + group_id

    def result(self, task_id: str) -> str:
        return self.result_prefix + task_id


def _result_prefix(prefix: str) -> str:
    """Celery's rule: `global_keyprefix` of the result backend gets '_' unless it ends in : _ - or ."""
    if prefix and not prefix.endswith((":", "_", "-", ".")):
        prefix += "_"
    return prefix + KEY_PREFIX


def glob_safe(text: str) -> str:
    """A text as a pattern that matches only itself."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
