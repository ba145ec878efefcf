"""`election`: accepted for Celery's workers, which elect among themselves; answers nothing."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Name, WorkerView, command


@command("election", kind="control", visible=False)
def election(worker: WorkerView, id: Name, topic: Name, action: Any = None, **_: Any) -> Any:
    """Accepted for Celery's workers, which elect among themselves; answers nothing."""
    return None
