"""A project that says which process has loaded it. SPAWNED_BY says which package it is written for."""

from __future__ import annotations

import importlib
import os
import signal
import time
from typing import Any

PACKAGE = os.environ["SPAWNED_BY"]
package: Any = importlib.import_module(PACKAGE)

url = os.environ["SPAWNED_URL"]
app: Any = (package.App if PACKAGE == "qcore" else package.Celery)("spawned", broker=url, backend=url)
LOADED_BY = os.getpid()
if os.environ.get("SPAWNED_METHOD"):
    app.conf.worker_pool_start_method = os.environ["SPAWNED_METHOD"]
begun: list[int] = []


def begin(**_: Any) -> None:
    begun.append(os.getpid())


importlib.import_module(f"{PACKAGE}.signals").worker_process_init.connect(begin)


@app.task(name="spawned.about")
def about() -> list[Any]:
    """Whether this process has loaded the project, whether worker_process_init was sent here, and once; what
    is in the environment."""
    here = os.getpid()
    return [here == LOADED_BY, begun == [here], os.environ.get("FORKED_BY_MULTIPROCESSING")]


@app.task(name="spawned.leave")
def leave() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="spawned.nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)
