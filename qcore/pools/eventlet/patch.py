"""Make the standard library cooperative with eventlet, before any user code is imported.

In:  the environment variable EVENTLET_NOBLOCK.  Out: a patched process.
After this: pool.py. Locks and threads are patched too, as Celery does: the services of the worker become
greenlets beside those of the tasks.
"""

from __future__ import annotations

import importlib
import os
import select
import selectors
import sys
from typing import Any

from qcore.errors import ConfigError

#: seconds after which a greenlet that does not let others run gets a RuntimeError; 0: never
NOBLOCK = "EVENTLET_NOBLOCK"


def patch() -> None:
    """Patch once, as early as possible. Raises ConfigError when eventlet is not installed, and for an
    EVENTLET_NOBLOCK that is no number of seconds."""
    blocked_s = _blocked_s()
    try:
        eventlet: Any = importlib.import_module("eventlet")
    except ImportError:
        raise ConfigError("the eventlet pool needs eventlet: pip install 'qctl[eventlet]'") from None
    debug: Any = importlib.import_module("eventlet.debug")
    if not is_patched():
        by_poll: Any = selectors.PollSelector
        eventlet.monkey_patch()
        green: Any = importlib.import_module("qcore.pools.eventlet.poll").GreenPoll
        vars(select)["poll"] = by_poll._selector_cls = green
        vars(selectors)["PollSelector"] = by_poll
        # The worker's loop waits for a reply on the connection on which another greenlet asks.
        debug.hub_prevent_multiple_readers(False)
    if blocked_s:
        debug.hub_blocking_detection(blocked_s, blocked_s)


def is_patched() -> bool:
    """Whether patch() was called, or the user has patched the process."""
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and all(patcher.is_monkey_patched(part) for part in ("time", "thread"))


def _blocked_s() -> float:
    text = os.environ.get(NOBLOCK) or "0"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{NOBLOCK} is '{text}'; it is a number of seconds") from None
