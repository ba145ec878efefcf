"""How numbers went over time, in fixed memory: 15 minutes by the second, 6 hours by 15 s, 48 by 2 minutes.

In:  a sample a second.  Out: the last values of a length of time, and a line of blocks for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: (seconds of one value, how many are kept)
RINGS = ((1, 900), (15, 1440), (120, 1440))
BLOCKS, PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
#: more seconds without a sample than this are a gap, not a line of zeros
LONGEST_GAP = 900


class Series:
    """One number: its samples and the means of longer times."""

    def __init__(self) -> None:
        self._rings: list[deque[float]] = [deque(maxlen=size) for _, size in RINGS]
        self._sums = [0.0] * len(RINGS)
        self._counts = [0] * len(RINGS)

    def add(self, value: float) -> None:
        """The value of the next second."""
        for number, (seconds, _) in enumerate(RINGS):
            self._sums[number] += value
            self._counts[number] += 1
            if self._counts[number] == seconds:
                self._rings[number].append(self._sums[number] / seconds)
                self._sums[number], self._counts[number] = 0.0, 0

    def last(self, count: int, ring: int = 0) -> list[float]:
        """At most so many of the newest values, the oldest first."""
        values = self._rings[ring]
        return list(values)[-count:] if count > 0 else []

    def copy(self) -> Series:
        """The same values, which stay as they are."""
        made = Series()
        made._rings = [ring.copy() for ring in self._rings]
        made._sums, made._counts = list(self._sums), list(self._counts)
        return made

    @property
    def now(self) -> float:
        return self._rings[0][-1] if self._rings[0] else 0.0


class Charts:
    """The four of the overview: tasks that came in, were done and failed, each a second, and how long
    they waited (95th percentile, seconds)."""

    NAMES = ("in", "done", "failed", "wait")

    def __init__(self) -> None:
        self.series = {name: Series() for name in self.NAMES}
        self._second: int | None = None
        self._totals: dict[str, int] = {}
        self.waits: list[float] = []  # seconds, of the tasks that began in this second

    def sample(self, now: float, totals: dict[str, int]) -> None:
        """Totals of `in`, `done` and `failed` as they are now (epoch seconds); call it several times a
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
        """What is to be drawn of them; it does not go on."""
        made = Charts()
        made.series = {name: series.copy() for name, series in self.series.items()}
        return made


def percentile(values: Sequence[float], share: float) -> float:
    """0.0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def bar(part: int | None, whole: int | None, plain: bool = False, width: int = 8) -> str:
    """How much of a whole is taken; empty when that is not known."""
    if part is None or not whole:
        return ""
    full = min(round(part / whole * width) or min(part, 1), width)
    return ("#" if plain else "█") * full + ("." if plain else "░") * (width - full)


def sparkline(values: Sequence[float], width: int, plain: bool = False) -> str:
    """Values as blocks, the newest at the right; the highest is a full block."""
    blocks = PLAIN_BLOCKS if plain else BLOCKS
    top = max(values, default=0.0)
    steps = len(blocks) - 1
    line = "".join(
        blocks[0] if v <= 0 or top <= 0 else blocks[max(1, round(v / top * steps))] for v in values[-width:]
    )
    return line.rjust(width)
