"""A project for the eventlet pool: it writes down the signals of the pool and what surrounds them.

EVENTED_BY says which package it is written for, EVENTED_TO where the lines go.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

PACKAGE = os.environ["EVENTED_BY"]
package: Any = importlib.import_module(PACKAGE)
signals: Any = importlib.import_module(f"{PACKAGE}.signals")

url = os.environ["EVENTED_URL"]
app: Any = (package.App if PACKAGE == "qcore" else package.Celery)("evented", broker=url, backend=url)
senders: list[Any] = []


def write(*words: Any) -> None:
    with open(os.environ["EVENTED_TO"], "a") as out:
        out.write(" ".join(map(str, words)) + "\n")


def note(signal: Any, sender: Any, **arguments: Any) -> None:
    """A line for a signal; those of the pool have the pool as sender, always the same."""
    if not signal.name.startswith("eventlet_pool"):
        write(signal.name)
        return
    senders.append(sender)
    words = [sender is senders[0], callable(getattr(sender, "grow", None)), sorted(arguments)]
    if "args" in arguments:
        name, task_id, headers, body, *kinds = arguments["args"]
        same = headers["id"] == task_id and headers["task"] == name
        words += [name, same, type(body).__name__, *kinds, arguments["kwargs"], callable(arguments["target"])]
    write(signal.name, *words)


NAMES = [
    *("eventlet_pool_started", "eventlet_pool_apply", "eventlet_pool_preshutdown"),
    *("eventlet_pool_postshutdown", "worker_init", "worker_ready", "worker_shutting_down", "worker_shutdown"),
    *("task_prerun", "task_postrun"),
]
for each in NAMES:
    getattr(signals, each).connect(note)


@app.task(name="evented.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="evented.hold")
def hold(path: str) -> str:
    """Waits until there is a file of this name."""
    write("holds")
    while not os.path.exists(path):
        time.sleep(0.02)
    return "let go"


@app.task(name="evented.compute")
def compute(seconds: float) -> str:
    """Does not let others run."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "computed"
