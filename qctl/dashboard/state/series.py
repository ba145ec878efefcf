"""Time series in fixed memory: 15 minutes by the second, 6 hours by 15 s, 48 hours by 2 minutes.

In:  one sample per second.  Out: the newest values, and a sparkline of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: (seconds per value, number of values)
RINGS = ((1, 900), (15, 1440), (120, 1440))
BLOCKS, PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
#: seconds that one sample may stand for; beyond, nobody looked and the values are unknown
LONGEST_SAMPLE_S = 5
#: seconds that the longest ring covers
LONGEST_S = RINGS[-1][0] * RINGS[-1][1]


class Series:
    """One number: its samples, and their means over longer periods; None: unknown."""

    def __init__(self) -> None:
        self._rings: list[deque[float | None]] = [deque(maxlen=size) for _, size in RINGS]
        self._sums = [0.0] * len(RINGS)
        self._counts = [0] * len(RINGS)
        self._known = [0] * len(RINGS)

    def add(self, value: float | None) -> None:
        """Add the value of the next second."""
        for number, (seconds, _) in enumerate(RINGS):
            if value is not None:
                self._sums[number] += value
                self._known[number] += 1
            self._counts[number] += 1
            if self._counts[number] == seconds:
                known = self._known[number]
                self._rings[number].append(self._sums[number] / known if known else None)
                self._sums[number], self._counts[number], self._known[number] = 0.0, 0, 0

    def last(self, count: int, ring: int = 0) -> list[float | None]:
        """At most `count` of the newest values, oldest first."""
        values = self._rings[ring]
        return list(values)[-count:] if count > 0 else []

    def copy(self) -> Series:
        """A copy that later samples do not change."""
        made = Series()
        made._rings = [ring.copy() for ring in self._rings]
        made._sums, made._counts, made._known = list(self._sums), list(self._counts), list(self._known)
        return made

    @property
    def now(self) -> float | None:
        return self._rings[0][-1] if self._rings[0] else None


class Charts:
    """The charts of the overview: tasks published, done and failed per second, and their time in a queue
    after they were due (95th percentile, seconds)."""

    NAMES = ("in", "done", "failed", "wait")

    def __init__(self) -> None:
        self.series = {name: Series() for name in self.NAMES}
        self._second: int | None = None
        self._totals: dict[str, int | None] = {}
        self.waits: list[float] = []  # seconds, of the tasks that started in the current second

    def sample(
        self, now: float, totals: dict[str, int | None], rates: dict[str, float | None] | None = None
    ) -> None:
        """Add the current totals of `in`, `done` and `failed`, None: unknown; or the `rates` that are known
        otherwise. now: epoch seconds. Call it several times per second."""
        second = int(now)
        if self._second is None or second < self._second:
            self._second, self._totals = second, totals
            return
        passed = second - self._second
        if not passed:
            return
        values: dict[str, float | None] = {"wait": percentile(self.waits, 0.95)}
        for name, total in totals.items():
            before = self._totals.get(name)
            values[name] = None if total is None or before is None else (total - before) / passed
        values |= rates or {}
        self.waits = []
        known = passed <= LONGEST_SAMPLE_S
        for name, series in self.series.items():
            for _ in range(min(passed, LONGEST_S)):
                series.add(values[name] if known else None)
        self._second, self._totals = second, totals

    def copy(self) -> Charts:
        """A copy for drawing that later samples do not change."""
        made = Charts()
        made.series = {name: series.copy() for name, series in self.series.items()}
        return made


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value at `share` (0 to 1) of the sorted values; None without values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def bar(part: int | None, whole: int | None, plain: bool = False, width: int = 8) -> str:
    """A bar for the used part of a whole; empty if one is unknown."""
    if part is None or not whole:
        return ""
    full = min(round(part / whole * width) or min(part, 1), width)
    return ("#" if plain else "█") * full + ("." if plain else "░") * (width - full)


def sparkline(values: Sequence[float | None], width: int, plain: bool = False) -> str:
    """Values as block characters, newest at the right; the maximum is a full block, and a dot unknown."""
    blocks, unknown = (PLAIN_BLOCKS, "?") if plain else (BLOCKS, "·")
    top = max((v for v in values if v is not None), default=0.0)
    steps = len(blocks) - 1
    line = "".join(
        unknown if v is None else blocks[0] if v <= 0 or top <= 0 else blocks[max(1, round(v / top * steps))]
        for v in values[-width:]
    )
    return line.rjust(width)
