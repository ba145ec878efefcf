"""Faults on purpose: processes killed, connections cut, servers restarted; and what must hold then.

Sizes for CI by default; QCORE_FAULTS=full (make faults) runs the full ones.
"""

from __future__ import annotations

import os

FULL = os.environ.get("QCORE_FAULTS", "") == "full"
SEED = int(os.environ.get("QCORE_FAULTS_SEED", "7"))


def size(ci: int, full: int) -> int:
    """How many: a number for CI, or the full one."""
    return full if FULL else ci
