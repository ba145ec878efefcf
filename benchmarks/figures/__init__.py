"""What is measured: one file a figure, all with the same contract, each checks its own runs."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from benchmarks.arena import Arena
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes


class Figure(Protocol):
    """A module that measures. ROUNDS and ROUNDS_OF_PEERS, where it has them, are the most rounds that
    make sense: of a figure that does not vary, or takes long."""

    SECONDS: float  # about how long one contestant takes, for the plan

    def takes(self, side: Side) -> bool:
        """Whether this contestant can be measured."""

    def measure(self, arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
        """Values by the names of goals.py. Raises Invalid for a run that means nothing."""


#: in the order of the report
NAMES = (
    "publish bulk drain drain_off drain_events roundtrip open_loop cold stop idle recovery late held flows "
    "sqlite rabbit backlog crowd operators history events"
).split()
#: the ones that `--quick` takes without `--only`
QUICK = ("publish", "bulk", "drain", "roundtrip", "operators")


def figure(name: str) -> Figure:
    return cast(Figure, importlib.import_module(f"benchmarks.figures.{name}"))


def rounds_of(found: Figure, side: Side, rounds: int) -> int:
    """In how many of the rounds this contestant is measured."""
    most = getattr(found, "ROUNDS", rounds)
    if not side.is_both:
        most = min(most, getattr(found, "ROUNDS_OF_PEERS", rounds))
    return min(rounds, most)
