"""What waits for its time on the worker's queues: it is in the broker, so the broker is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcore.brokers.base import Broker, Delivery
from qcore.errors import Malformed
from qcore.task import Task
from qcore.times import iso
from qcore.wire import task as task_wire
from qcore.worker.held import Held

SHOWN_MOST = 1000


def scheduled(broker: Broker, queues: Sequence[str], node: str) -> list[dict[str, Any]]:
    """Celery's answer to `inspect scheduled`, nearest first, at most 1,000 a queue."""
    found = []
    for queue in queues:
        for due_at, raw in broker.delayed(queue, SHOWN_MOST):
            try:
                message = task_wire.read(raw)
            except Malformed:
                continue
            held = Held(Delivery(0, queue, raw), message, Task(), late=True)
            found.append({"eta": iso(due_at), "priority": 6, "request": held.info(node, None, None)})
    return sorted(found, key=lambda entry: str(entry["eta"]))
