"""How much is done for each figure."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """The full sizes; QUICK shows that everything runs."""

    tasks: int | None = None  # of publish, bulk and drains; None: as the contestant's file says
    trips: int = 1000
    trips_s: float = 8.0  # no longer than that
    idle_s: float = 10.0
    later: int = 1000  # countdowns whose lateness is measured
    paced_s: float = 3.0  # of calls at fixed times, for each share of what is possible
    held: int = 20_000  # countdowns of an hour
    members: int = 1000  # of a group and a chord
    links: int = 100  # of a chain
    first: int = 20_000  # whose results are waited for with a backlog
    backlog: int = 1_000_000  # queued in all
    crowd: int = 200  # idle workers
    remembered: int = 1_000_000  # tasks of a history
    watched: float = 20.0  # seconds of a fleet's events, 10,000 each


QUICK = Sizes(
    tasks=300, trips=50, trips_s=3.0, idle_s=1.0, later=100, held=300, members=50, links=10, first=300,
    backlog=5000, crowd=20, remembered=20_000,
    watched=1.0, paced_s=1.0,
)  # fmt: skip
