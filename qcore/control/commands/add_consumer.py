"""`add_consumer`: take tasks from another queue too."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, QueueName, WorkerView, command


@command(
    "add_consumer",
    kind="control",
    args=(
        Arg("queue"),
        Arg("exchange", str, False),
        Arg("exchange_type", str, False),
        Arg("routing_key", str, False),
    ),
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(worker: WorkerView, queue: QueueName, **_: Any) -> Any:
    """Take tasks from another queue too."""
    return {"ok": worker.call("add_consumer", queue=queue)}
