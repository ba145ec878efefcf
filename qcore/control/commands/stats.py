"""`stats`: numbers of the worker, its pool, its broker and its resources."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("stats", kind="inspect")
def stats(worker: WorkerView, **_: Any) -> Any:
    """Numbers of the worker, its pool, its broker and its resources."""
    return worker.stats()
