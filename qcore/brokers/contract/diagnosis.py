"""Guarantees and problems of a broker with its settings, for `qctl doctor --guarantees`."""

from __future__ import annotations

import msgspec

YES, NO, PARTLY, UNKNOWN = "yes", "no", "partly", "unknown"


class Guarantee(msgspec.Struct, frozen=True):
    """One guarantee of docs/guarantees.md."""

    name: str  # a stable word: 'durable-publish'
    holds: str  # yes, no, partly, unknown
    what: str  # one sentence: what holds, or the consequence of it not holding
    setting: str = ""  # the setting that decides it


DURABLE = "durable-publish"
CONFIRMED = "confirmed-publish"


ERROR, WARNING = "error", "warning"


class Symptom(msgspec.Struct, frozen=True):
    """One problem at the broker."""

    name: str  # a stable word: 'reply-queues'
    level: str  # error: loses tasks or leaks memory; warning: may do so
    what: str  # one sentence: what is wrong, and its consequence
    fix: str  # the command line that fixes it
    about: str = ""  # the queue, worker or task concerned
