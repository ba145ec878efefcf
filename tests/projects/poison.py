"""Tasks that take their process with them."""

from __future__ import annotations

import os
import signal

from qcore import App

app = App("poison")


@app.task(name="poison.die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="poison.add")
def add(x: int, y: int) -> int:
    return x + y
