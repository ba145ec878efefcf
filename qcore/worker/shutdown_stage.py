"""The stages of a worker's shutdown."""

from __future__ import annotations

import enum


class ShutdownStage(enum.IntEnum):
    """A stage of the loop; it only increases."""

    RUNNING = 0
    WARM = 1  # claims nothing; running tasks finish
    COLD = 2  # running tasks are killed and returned
    DONE = 3
