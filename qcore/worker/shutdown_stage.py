"""How far a worker is on its way out."""

from __future__ import annotations

import enum


class ShutdownStage(enum.IntEnum):
    """Of the loop; only ever upwards."""

    RUNNING = 0
    WARM = 1  # nothing new; what runs may finish
    COLD = 2  # what runs is killed and returned
    DONE = 3
