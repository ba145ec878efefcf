"""An app that brings control commands of its own."""

from __future__ import annotations

from typing import Any

from qcore import App, control_command, inspect_command

app = App("brings")
app.conf.task_default_queue = "mails"


@app.task(name="brings.add")
def add(x: int, y: int) -> int:
    return x + y


@inspect_command
def stock(worker: Any) -> Any:
    """Count what is in stock."""
    return {"apples": 3}


@control_command(args=[("n", int)], signature="<n>")
def refill(worker: Any, n: int) -> Any:
    """Put n apples into stock."""
    return {"ok": f"{n} apples"}
