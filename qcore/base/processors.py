"""How many processors this process may use: what its affinity, and the quota of its control groups, allow.

In:  the system's files.  Out: a number, at least 1. A container with a quota of 1.5 processors has 2: a share
of one is worth a slot.
Source: the kernel's cgroup-v2 (cpu.max) and cgroup-v1 (cpu.cfs_quota_us) documentation.
"""

from __future__ import annotations

import math
import os

ROOT = ""
_V2, _V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/cpu"


def usable_processors() -> int:
    """The processors of this process; where the system does not say, as many as there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    share = quota()
    return count if share is None else max(1, min(count, math.ceil(share)))


def quota() -> float | None:
    """The processors that the quotas of the control groups of this process allow; None: no limit is known."""
    shares = []
    for line in _text("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            shares += [_share(*_text(f"{place}/cpu.max").split()) for place in _upwards(_V2, path)]
        elif "cpu" in controllers.split(","):
            for place in _upwards(_V1, path):
                shares.append(_share(_text(f"{place}/cpu.cfs_quota_us"), _text(f"{place}/cpu.cfs_period_us")))
    limits = [share for share in shares if share is not None]
    return min(limits, default=None)


def _upwards(base: str, path: str) -> list[str]:
    """The folder of a group and of those around it. In a container the outermost one is all that is seen."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return [base + "".join(f"/{part}" for part in parts[:length]) for length in range(len(parts), -1, -1)]


def _share(quota_us: str = "", period_us: str = "100000") -> float | None:
    try:
        share = int(quota_us) / int(period_us)
    except (ValueError, ZeroDivisionError):
        return None  # `max`, or no such file
    return share if share > 0 else None


def _text(path: str) -> str:
    try:
        with open(ROOT + path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
