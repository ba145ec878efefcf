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
