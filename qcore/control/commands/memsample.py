"""`memsample`: resident memory of the worker."""

from __future__ import annotations

import os
from typing import Any

from qcore.control.commands.base import WorkerView, command
from qcore.process_facts import resident_kib


@command("memsample", kind="inspect")
def memsample(worker: WorkerView, **_: Any) -> Any:
    """Resident memory of the worker."""
    return f"{resident_kib(os.getpid()) / 1024:.1f}MB"
