"""`revoked`: ids of tasks that will not be run."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("revoked", kind="inspect", alias="dump_revoked")
def revoked(worker: WorkerView, **_: Any) -> Any:
    """Ids of tasks that will not be run."""
    return worker.revoked()
