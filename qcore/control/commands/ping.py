"""`ping`: say that the worker lives."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("ping", kind="inspect")
def ping(worker: WorkerView, **_: Any) -> Any:
    """Say that the worker lives."""
    return {"ok": "pong"}
