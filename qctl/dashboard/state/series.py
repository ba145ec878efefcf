"""Time series in fixed memory: 15 minutes by the second, 6 hours by 15 s, 48 hours by 2 minutes.

In:  one sample per second.  Out: the newest values, and a sparkline of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: (seconds per value, number of values)
RINGS = ((1, 900), (15, 1440), (120, 1440))
BLOCKS, PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
#: seconds without a sample beyond which there is a gap, not a line of zeros
LONGEST_GAP = 900


class Series:
    """One number: its samples, and their means over longer periods."""

    def __init__(self) -> None:
        self._rings: list[deque[float]] = [deque(maxlen=size) for _, size in RINGS]
        self._sums = [0.0] * len(RINGS)
        self._counts = [0] * len(RINGS)

    def add(self, value: float) -> None:
        """Add the value of the next second."""
        for number, (seconds, _) in enumerate(RINGS):
            self._sums[number] += value
            self._counts[number] += 1
            if self._counts[number] == seconds:
                self._rings[number].append(self._sums[number] / seconds)
                self._sums[number], self._counts[number] = 0.0, 0

    def last(self, count: int, ring: int = 0) -> list[float]:
        """At most `count` of the newest values, oldest first."""
        values = self._rings[ring]
        return list(values)[-count:] if count > 0 else []

    def copy(self) -> Series:
        """A copy that later samples do not change."""
        made = Series()
        made._rings = [ring.copy() for ring in self._rings]
        made._sums, made._counts = list(self._sums), list(self._counts)
        return made

    @property
    def now(self) -> float:
        return self._rings[0][-1] if self._rings[0] else 0.0


class Charts:
    """The charts of the overview: tasks received, done and failed per second, and their waiting time
    (95th percentile, seconds)."""

    NAMES = ("in", "done", "failed", "wait")

    def __init__(self) -> None:
        self.series = {name: Series() for name in self.NAMES}
        self._second: int | None = None
        self._totals: dict[str, int] = {}
        self.waits: list[float] = []  # seconds, of the tasks that started in the current second

    def sample(self, now: float, totals: dict[str, int]) -> None:
        """Add the current totals of `in`, `done` and `failed`; now: epoch seconds. Call it several times per
        second."""
        second = int(now)
        if self._second is None or second - self._second > LONGEST_GAP or second < self._second:
            self._second, self._totals = second, totals
            return
        passed = second - self._second
        if not passed:
            return
        wait = percentile(self.waits, 0.95)
        self.waits = []
        for name, series in self.series.items():
            value = wait if name == "wait" else (totals[name] - self._totals.get(name, 0)) / passed
            for _ in range(passed):
                series.add(value)
        self._second, self._totals = second, totals

    def copy(self) -> Charts:
        """A copy for drawing that later samples do not change."""
        made = Charts()
        made.series = {name: series.copy() for name, series in self.series.items()}
        return made


def percentile(values: Sequence[float], share: float) -> float:
    """The value at `share` (0 to 1) of the sorted values; 0.0 without values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def bar(part: int | None, whole: int | None, plain: bool = False, width: int = 8) -> str:
    """A bar for the used part of a whole; empty if one is unknown."""
    if part is None or not whole:
        return ""
    full = min(round(part / whole * width) or min(part, 1), width)
    return ("#" if plain else "█") * full + ("." if plain else "░") * (width - full)


def sparkline(values: Sequence[float], width: int, plain: bool = False) -> str:
    """Values as block characters, newest at the right; the maximum is a full block."""
    blocks = PLAIN_BLOCKS if plain else BLOCKS
    top = max(values, default=0.0)
    steps = len(blocks) - 1
    line = "".join(
        blocks[0] if v <= 0 or top <= 0 else blocks[max(1, round(v / top * steps))] for v in values[-width:]
    )
    return line.rjust(width)
