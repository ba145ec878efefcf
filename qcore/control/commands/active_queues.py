"""`active_queues`: queues the worker takes tasks from."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from qcore.control.commands.base import WorkerView, command


@command("active_queues", kind="inspect")
def active_queues(worker: WorkerView, **_: Any) -> Any:
    """Queues the worker takes tasks from."""
    pauses = {pause.queue: pause for pause in worker.app.broker.pauses()}
    return [
        {
            "name": name,
            "exchange": {
                "name": name,
                "type": "direct",
                "arguments": None,
                "durable": True,
                "passive": False,
                "auto_delete": False,
                "delivery_mode": None,
                "no_declare": False,
            },
            "routing_key": name,
            "queue_arguments": None,
            "binding_arguments": None,
            "consumer_arguments": None,
            "durable": True,
            "exclusive": False,
            "auto_delete": False,
            "no_ack": False,
            "alias": None,
            "bindings": [],
            "no_declare": None,
            "expires": None,
            "message_ttl": None,
            "max_length": None,
            "max_length_bytes": None,
            "max_priority": None,
            "paused": name in pauses,
            "pause": to_builtins(pauses[name]) if name in pauses else None,
        }
        for name in worker.queues()
    ]
