"""Deliveries in flight: one record for each, and its form in the replies of `inspect`."""

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
    """A delivery that the worker holds, from admission to its settlement."""

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
    request: Any = None  # of a task with a Request class of its own (services/requests.py)
    deaths: int = 0  # processes of this worker that crashed running it, the last one included

    def info(self, node: str, since: float | None, pid: int | None) -> dict[str, Any]:
        """This delivery in the format of Celery's `inspect active`. `since` is the start of the run in
        monotonic seconds, None before it; `pid` is the process that runs it."""
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
