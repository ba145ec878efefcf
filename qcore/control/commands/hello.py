"""`hello`: handshake of a worker that starts: exchange revoked ids and clocks."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Name, WorkerView, command


@command("hello", kind="inspect", visible=False)
def hello(
    worker: WorkerView, from_node: Name, revoked: list[Name] | dict[str, Any] | None = None, **_: Any
) -> Any:
    """Handshake of a worker that starts: exchange revoked ids and clocks."""
    if from_node == worker.node:
        return None
    if revoked:
        worker.call("revoke", task_ids=[str(i) for i in revoked], store=False)
    return {"revoked": worker.revoked(), "clock": worker.clock()}
