"""`memsample`: resident memory of the worker."""

from __future__ import annotations

import os
from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("memsample", kind="inspect")
def memsample(worker: WorkerView, **_: Any) -> Any:
    """Resident memory of the worker."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 1024 / 1024:.1f}MB"
