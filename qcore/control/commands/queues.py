"""Commands that change which queues a worker consumes from."""

from __future__ import annotations

from typing import Any, Literal

from qcore.control.commands.base import Arg, Name, QueueName, WorkerView, command


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
def add_consumer(
    worker: WorkerView,
    queue: QueueName,
    exchange: QueueName | Literal[""] | None = None,
    exchange_type: Name | None = None,
    routing_key: Name | None = None,
    **_: Any,
) -> Any:
    """Consume from another queue too, bound to an exchange if one is given."""
    kind = exchange_type or "direct"
    if kind not in ("direct", "topic", "fanout"):
        raise ValueError(f"exchange_type of add_consumer takes direct, topic or fanout, not {kind!r:.60}")
    bound = (exchange or queue, kind, routing_key or queue)
    binding = None if bound == (queue, "direct", queue) else bound
    return {"ok": worker.add_consumer(queue=queue, binding=binding)}


@command("cancel_consumer", kind="control", args=(Arg("queue"),), signature="<queue>")
def cancel_consumer(worker: WorkerView, queue: QueueName, **_: Any) -> Any:
    """Stop consuming from a queue."""
    return {"ok": worker.cancel_consumer(queue=queue)}


@command("drain", kind="control")
def drain(worker: WorkerView, **_: Any) -> Any:
    """Stop consuming, return what has not started, finish the rest."""
    return {"ok": worker.start_drain()}


@command("resume", kind="control")
def resume(worker: WorkerView, **_: Any) -> Any:
    """Consume again after a drain."""
    return {"ok": worker.resume()}
