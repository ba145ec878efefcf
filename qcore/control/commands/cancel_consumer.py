"""`cancel_consumer`: take no more tasks from a queue."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, QueueName, WorkerView, command


@command("cancel_consumer", kind="control", args=(Arg("queue"),), signature="<queue>")
def cancel_consumer(worker: WorkerView, queue: QueueName, **_: Any) -> Any:
    """Take no more tasks from a queue."""
    return {"ok": worker.call("cancel_consumer", queue=queue)}
