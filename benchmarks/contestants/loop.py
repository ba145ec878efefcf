"""The event loop in which the asyncio contestants' clients live; it runs until the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_loop = asyncio.new_event_loop()
asyncio.set_event_loop(_loop)


def run(work: Coroutine[Any, Any, T]) -> T:
    return _loop.run_until_complete(work)
