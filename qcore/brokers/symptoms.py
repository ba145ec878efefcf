"""What is wrong at a broker, as far as it can be seen there: for `qctl doctor`."""

from __future__ import annotations

import msgspec

ERROR, WARNING = "error", "warning"


class Symptom(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    name: str  # a stable word: 'reply-queues'
    level: str  # error: it costs tasks or memory; warning: it may
    what: str  # one sentence: what is wrong, and what comes of it
    fix: str  # the command line that mends it
    about: str = ""  # the queue, worker or task it is about
