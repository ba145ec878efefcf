"""What holds at a broker with its settings, as far as it can be seen: for `qctl doctor --guarantees`."""

from __future__ import annotations

import msgspec

YES, NO, PARTLY, UNKNOWN = "yes", "no", "partly", "unknown"


class Promise(msgspec.Struct, frozen=True):
    """One promise of docs/guarantees.md."""

    name: str  # a stable word: 'durable-publish'
    holds: str  # yes, no, partly, unknown
    what: str  # one sentence: what holds, or what comes of it that it does not
    setting: str = ""  # what decides it


DURABLE = "durable-publish"
CONFIRMED = "confirmed-publish"


ERROR, WARNING = "error", "warning"


class Symptom(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    name: str  # a stable word: 'reply-queues'
    level: str  # error: it costs tasks or memory; warning: it may
    what: str  # one sentence: what is wrong, and what comes of it
    fix: str  # the command line that mends it
    about: str = ""  # the queue, worker or task it is about
