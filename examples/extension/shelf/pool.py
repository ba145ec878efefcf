"""A pool: tasks run one after the other, in a process that lets all others go first."""

from __future__ import annotations

import os

from qcore.pools.solo import SoloPool


class PolitePool(SoloPool):
    """A pool of qcore's kind has give() and collect(); this one inherits them."""

    name = "polite"

    def start(self) -> None:
        os.nice(10)
        super().start()
