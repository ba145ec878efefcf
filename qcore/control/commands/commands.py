"""`commands`: which commands of the user's the worker knows; the command line asks it, people need not."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command, described, of_users


@command("commands", kind="inspect", visible=False)
def commands(worker: WorkerView, **_: Any) -> Any:
    """List the control commands that the app of this worker brings."""
    return [described(found) for found in of_users()]
