"""What the worker holds: one record for each delivery, and how they are shown to operators."""

from __future__ import annotations

from typing import Any

import msgspec

from qcore.base.times import epoch_of
from qcore.brokers.contract.records import Delivery
from qcore.errors import Malformed
from qcore.tasks.task import Task
from qcore.wire import task as task_wire
from qcore.wire.task import TaskMessage


class InFlight(msgspec.Struct):
    """A delivery on its way through the worker."""

    delivery: Delivery
    message: TaskMessage
    task: Task
    late: bool  # acknowledged after the run
    acked: bool = False
    hard_s: float | None = None
    received_at: float = 0.0  # epoch seconds, for display
    came_at: float = 0.0  # monotonic seconds
    said_received: bool = False
    said_started: bool = False
    killing: bool = False
    deaths: int = 0  # processes of this worker that died running it, this time included

    def info(self, node: str, since: float | None, pid: int | None) -> dict[str, Any]:
        """Celery's TASK_INFO of this delivery; `since` is monotonic, None: it does not run."""
        message = self.message
        try:
            body = task_wire.read_body(message)
            args: Any = body.args
            kwargs: Any = body.kwargs
        except Malformed:
            args, kwargs = message.headers.get("argsrepr"), message.headers.get("kwargsrepr")
        return {
            "id": message.id,
            "name": message.shown_name,
            "args": args,
            "kwargs": kwargs,
            "type": message.task,
            "hostname": node,
            "time_start": epoch_of(since) if since is not None else None,
            "acknowledged": self.acked,
            "delivery_info": {
                "exchange": (message.envelope.properties.delivery_info or {}).get("exchange", ""),
                "routing_key": self.delivery.queue,
                "priority": message.priority,
                "redelivered": self.delivery.redelivered,
            },
            "worker_pid": pid,
        }
