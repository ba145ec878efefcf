"""Task ids that say when they were made.

In:  nothing, or an id.  Out: an id, or its time.
Format: UUID version 8 (RFC 9562, section 5.8) with 74 random bits first, so that the first characters, which
people see, tell tasks apart, and the Unix time in milliseconds in the last 48 bits. Celery's format has no
time of sending; to everybody else such an id is a UUID like any other.
"""

from __future__ import annotations

import os
import re
import time

#: the digit with the two bits of the variant, for a random one
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_MADE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-([0-9a-f]{12})\Z")


def make() -> str:
    """A new id, for a task that is sent now; what is sent later takes times.new_id, which says nothing."""
    text = os.urandom(10).hex()
    made_ms = time.time_ns() // 1_000_000
    return f"{text[:8]}-{text[8:12]}-8{text[12:15]}-{_VARIANT[text[18]]}{text[15:18]}-{made_ms:012x}"


def sent_at(task_id: str) -> float | None:
    """Epoch seconds at which make() made it; None for ids of any other kind."""
    found = _MADE.match(task_id)
    return int(found[1], 16) / 1000 if found else None
