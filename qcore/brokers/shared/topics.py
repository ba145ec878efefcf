"""AMQP topic patterns: which routing keys a subscription receives.

In:  a pattern such as 'task.#' and a routing key.  Out: yes or no.
"""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=512)
def _topic(pattern: str) -> re.Pattern[str]:
    """`*` stands for one word, `#` for any number of words, none included.

    Every word includes the dot in front of it, so that 'task.#' also matches 'task'.
    """
    parts = {"*": r"\.[^.]*", "#": r"(?:\.[^.]*)*"}
    return re.compile("".join(parts.get(word) or r"\." + re.escape(word) for word in pattern.split(".")))


def hears(pattern: str, routing_key: str) -> bool:
    """Whether a subscription with this pattern receives this key; '' is the bare exchange."""
    if not pattern:
        return not routing_key
    return _topic(pattern).fullmatch("." + routing_key) is not None
