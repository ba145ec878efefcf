"""Tasks of a project whose settings are in the environment, as JSON."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from qcore import App

app = App("served", **json.loads(os.environ.get("SERVED_SETTINGS", "{}")))


@app.task(name="served.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="served.total")
def total(numbers: list[Any]) -> Any:
    return sum(numbers)


@app.task(name="served.nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="served.spin")
def spin(seconds: float) -> None:
    """Use a processor for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
