"""A monitor's work, in a contestant's process: events folded into what it remembers. Part of client.py.

In:  a contestant with `watcher(most)`, which gives a function that takes a batch, and `overhear(watch)`; a
file of batches, one JSON list a line.  Out: events a second of CPU time, bytes a task.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Batch = list[dict[str, Any]]


class Done(Exception):
    """All events have come."""


def take_in(side: Any, path: str, most: str) -> dict[str, float]:
    """Events a second of CPU time, handed over as objects."""
    with Path(path).open() as file:
        batches = [json.loads(line) for line in file]
    watch = side.watcher(int(most))
    gc.collect()
    gc.freeze()  # what waits here is no part of what is measured
    begin = time.process_time()
    for batch in batches:
        watch(batch)
    return {"rate": sum(map(len, batches)) / (time.process_time() - begin)}


def remember(side: Any, path: str, most: str) -> dict[str, float]:
    """Bytes of resident memory a task. The first line has been seen before, and with it all modules."""
    watch = side.watcher(int(most))
    with Path(path).open() as file:
        watch(json.loads(file.readline()))
        before = _resident()
        for line in file:
            watch(json.loads(line))
    return {"bytes": (_resident() - before) / int(most)}


def overhear(side: Any, events: str, most: str) -> dict[str, float]:
    """Events a second of CPU time, from the broker; the clock runs from the first to the last one."""
    watch, seen, begin = side.watcher(int(most)), 0, 0.0

    def count(batch: Batch) -> None:
        nonlocal seen, begin
        if not seen:
            begin = time.process_time()
        watch(batch)
        seen += len(batch)
        if seen >= int(events):
            raise Done

    try:
        listen: Callable[[Callable[[Batch], None]], None] = side.overhear
        listen(count)
    except Done:
        pass
    return {"rate": seen / (time.process_time() - begin)}


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
